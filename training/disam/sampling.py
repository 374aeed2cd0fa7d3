# SPDX-License-Identifier: Apache-2.0
"""Batch sampling: two different domains per step, unpaired or as true pairs of one place.

Every draw comes from a generator made of (seed, stage, step[, process]): nothing to save, and a
resumed run draws what the interrupted one would have drawn. All processes draw the same domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from training.data.augment import photometric
from training.data.check import Partners, require_conditions
from training.data.image_store import ImageStore, random_box
from training.data.places import SAME_VIEW, jittered, same_place
from training.data.sources import Photo
from training.disam.config import AlignedConfig
from training.errors import TrainingError


@dataclass(frozen=True)
class Unpaired:
    """Random images of two domains. One image of each couple is mirrored, so that they differ."""

    domains: tuple[str, str]
    a: Tensor  # images of the first domain [B, 3, H, W] in [−1, 1]
    b: Tensor  # images of the second domain
    more_a: Tensor  # further negatives of the first domain [K, 3, H, W]
    more_b: Tensor  # further negatives of the second domain


@dataclass(frozen=True)
class Aligned:
    """True pairs: a[k] and b[k] show one place, in two domains or twice in one."""

    domains: tuple[str, str]
    a: Tensor  # images of the first domain [B, 3, H, W] in [−1, 1]
    b: Tensor  # their partners in the second domain
    different: Tensor  # bool [B, B], whether a[i] and b[j] surely show two places


@dataclass(frozen=True)
class Batch:
    """The batch of a step; None where the stage has no loss for it."""

    unpaired: Unpaired | None
    aligned: Aligned | None


class Sampler:
    """Draws batches from an image store. Raises TrainingError for fewer than two domains."""

    def __init__(
        self, store: ImageStore, domains: Sequence[str], seed: int = 0, process: int = 0
    ) -> None:
        rows = store.rows()
        require_conditions(domains, {domain: len(members) for domain, members in rows.items()})
        self.store, self.seed, self.process = store, seed, process
        self.rows = {domain: rows[domain] for domain in domains}
        self._pairs: dict[tuple[str, str], dict[int, NDArray[Any]]] = {}

    @property
    def pairs(self) -> Partners:
        """Returns the true pairs by their two domains, as `prepare_pairs` found them."""
        return self._pairs

    def unpaired(self, stage: int, step: int, count: int, more: int = 0) -> Unpaired:
        """Draws `count` random crops of each of two domains and `more` further ones of each."""
        shared, of_stage = self._generators(stage, step)
        a, b = shared.permutation(list(self.rows))[:2].tolist()
        mirrored = of_stage.random(count) < 0.5
        images = []
        for domain, flips in ((a, mirrored), (b, ~mirrored)):
            every = [*flips, *(of_stage.random(more) < 0.5)]
            images.append(
                torch.stack([self._random_crop(domain, bool(f), of_stage) for f in every])
            )
        x, y = images
        return Unpaired((a, b), x[:count], y[:count], x[count:], y[count:])

    def prepare_pairs(self, config: AlignedConfig, frozen: Sequence[str] = ()) -> None:
        """Find all true pairs, without those of two frozen encoders.

        Raises TrainingError when no two domains share a place.
        """
        self._pairs.clear()
        for a, b in [*combinations(self.rows, 2), *((d, d) for d in self.rows)]:
            if a in frozen and b in frozen:
                continue
            partners = find_partners(self.store, self.rows[a], self.rows[b], config)
            if len(partners) > 1:
                self._pairs[a, b] = partners
        if not any(a != b for a, b in self._pairs):
            raise TrainingError(
                f"no true pairs: no two of {', '.join(self.rows)} have posed images within "
                f"{config.radius} m and {config.angle}° of each other; raise aligned.radius, put "
                f"drives of one route into one folder, or turn aligned losses off"
            )

    def aligned(self, stage: int, step: int, count: int, config: AlignedConfig) -> Aligned:
        """Draws `count` random true pairs of two domains or, some of the time, of one."""
        shared, of_stage = self._generators(stage, step)
        alone = shared.random() < config.same_domain
        choices = [pair for pair in self._pairs if (pair[0] == pair[1]) == alone]
        choices = choices or list(self._pairs)
        a, b = choices[shared.integers(len(choices))]
        partners = self._pairs[a, b]
        rows = self._rows_of_batch(list(partners), count, config.neighbourhood, of_stage)
        crops_a, crops_b = [], []
        for row in rows:
            flip = bool(of_stage.random() < 0.5)
            box = random_box(self.store, row, of_stage)
            crops_a.append((row, box, flip))
            partner = int(of_stage.choice(partners[row]))
            crops_b.append((partner, jittered(box, config.jitter, of_stage), flip))
        places_a, places_b = (
            np.stack([self.store.place(r, box) for r, box, _ in c]) for c in (crops_a, crops_b)
        )
        different = ~same_place(
            places_a, places_b, radius=config.negative_radius, angle=180.0, overlap=SAME_VIEW
        )
        strength = self.store.crops.photometric
        x, y = (
            torch.stack([photometric(self.store.crop(*crop), strength, of_stage) for crop in c])
            for c in (crops_a, crops_b)
        )
        return Aligned((a, b), x, y, torch.from_numpy(different))

    def _rows_of_batch(
        self, rows: list[int], count: int, radius: float, random: np.random.Generator
    ) -> list[int]:
        """Draws `count` of the rows, half of them within `radius` of a random one; 0: anywhere."""
        near: list[int] = []
        if radius > 0:
            centre = self.store.photos[rows[random.integers(len(rows))]]
            around = [r for r in rows if _is_near(self.store.photos[r], centre, radius)]
            near = random.permutation(around)[: count // 2].tolist()
        more = count - len(near)
        others = sorted(set(rows) - set(near)) if len(near) else rows
        others = others if len(others) >= more else rows
        return [*near, *random.choice(others, more, replace=more > len(others)).tolist()]

    def _generators(self, stage: int, step: int) -> tuple[np.random.Generator, ...]:
        """Makes a generator that all processes share and one of this process."""
        return tuple(
            np.random.default_rng([self.seed, stage, step, who]) for who in (0, 1 + self.process)
        )

    def _random_crop(self, domain: str, flip: bool, random: np.random.Generator) -> Tensor:
        rows = self.rows[domain]
        row = rows[random.integers(len(rows))]
        return self.store.crop(row, random_box(self.store, row, random), flip)


def _is_near(photo: Photo, centre: Photo, radius: float) -> bool:
    """Tells whether an image lies in the centre's frame, within `radius` m of it."""
    away = np.subtract(photo.position, centre.position)
    return photo.group == centre.group and float(away @ away) <= radius**2


def find_partners(
    store: ImageStore, rows_a: Sequence[int], rows_b: Sequence[int], config: AlignedConfig
) -> dict[int, NDArray[Any]]:
    """Finds for images of one domain the nearest image of another, or all that are equally near.

    Images of a fixed camera are all equally near. An image is never its own partner.
    """
    partners: dict[int, NDArray[Any]] = {}
    for group in {store.photos[row].group for row in rows_a} - {""}:
        points, partners_points = (
            np.array([r for r in rows if store.photos[r].group == group], dtype=int)
            for rows in (rows_a, rows_b)
        )
        if not len(partners_points):
            continue
        positions, axes = (
            np.array([getattr(store.photos[r], name) for r in partners_points])
            for name in ("position", "axis")
        )
        tree = cKDTree(positions)
        for row in points:
            photo = store.photos[row]
            near = np.array(tree.query_ball_point(photo.position, config.radius), dtype=int)
            turned = axes[near] @ np.array(photo.axis) < np.cos(np.radians(config.angle)) - 1e-9
            near = near[~turned & (partners_points[near] != row)]
            if len(near):
                gaps = np.linalg.norm(positions[near] - photo.position, axis=1)
                partners[int(row)] = partners_points[near[gaps <= gaps.min() + 1e-6]]
    return dict(sorted(partners.items()))
