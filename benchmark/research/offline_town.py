# SPDX-License-Identifier: Apache-2.0
"""The validation town of seed 50, offline: a map image per metre, queries in other conditions.

The map, `disam synth --output runs/fine/reference --seed 50 --drive-seed 0 --spacing 1 --conditions
summer_day`, and the queries of docs/research/shipped_model.md in runs/validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.truth import truth_of
from disam_ros.datasets.dataset import Dataset
from disam_ros.evaluation import score
from disam_ros.evaluation.baselines import nearest
from disam_ros.geometry import Transform
from disam_ros.image import read, to_tensor

MAP = Path("runs/fine/reference/summer_day")
QUERIES = Path("runs/validation")
REFERENCE = "summer_day"
BATCH = 8  # images that are encoded at once

Shares = dict[str, float]  # within each threshold


@dataclass(frozen=True)
class Town:
    """Images [N, 3, H, W] in [−1, 1] of the map and, by condition, of the queries; true poses."""

    mapped: Tensor
    poses: list[Transform]
    queries: dict[str, Tensor]
    truth: dict[str, list[Transform]]

    @classmethod
    def read(cls, size: tuple[int, int], conditions: Sequence[str]) -> Town:
        """size: height and width. Raises DatasetError where it is not rendered."""
        mapped, poses = _read(MAP, size)
        drives = {condition: _read(QUERIES / condition, size) for condition in conditions}
        queries = {condition: images for condition, (images, _) in drives.items()}
        return cls(mapped, poses, queries, {c: truth for c, (_, truth) in drives.items()})

    def within(self, condition: str, rows: NDArray[Any]) -> Shares:
        """Shares of the answers with these map images [Q]."""
        return score(self.truth[condition], [self.poses[row] for row in rows]).within

    def bound(self) -> dict[str, Shares]:
        """Shares of the nearest map image by condition."""
        return {
            c: score(truth, nearest(truth, self.poses)).within for c, truth in self.truth.items()
        }

    def chance(self) -> dict[str, Shares]:
        """Shares of a map image drawn at random by condition."""
        return {
            condition: _mean([score([pose] * len(self.poses), self.poses).within for pose in truth])
            for condition, truth in self.truth.items()
        }


def _mean(shares: Sequence[Shares]) -> Shares:
    return {name: sum(by[name] for by in shares) / len(shares) for name in shares[0]}


@torch.inference_mode()
def features(encoder: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """[N, C, h, w] of images [N, 3, H, W]."""
    return torch.cat([encoder(part) for part in images.split(BATCH)])


def _read(directory: Path, size: tuple[int, int]) -> tuple[Tensor, list[Transform]]:
    dataset = Dataset(directory)
    images = [to_tensor(read(dataset.path(record)), size) for record in dataset.records]
    return torch.stack(images), [truth_of(record) for record in dataset.records]
