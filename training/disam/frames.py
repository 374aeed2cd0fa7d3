# SPDX-License-Identifier: Apache-2.0
"""True pairs should look alike: if no more than by chance, their poses lie in different frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.check import Partners
from training.data.image_store import ImageStore
from training.data.places import SAME_VIEW, WHOLE, same_place
from training.disam.matching import Similarity

PAIRS = 48  # compared pairs of two domains, at most
FEWEST = 12  # pairs below which the comparison says nothing


@torch.inference_mode()
def check_frames(
    encoders: Mapping[str, Callable[[Tensor], Tensor]],
    similarity: Similarity,
    store: ImageStore,
    partners: Partners,
    negative_radius: float,
    device: torch.device,
) -> list[str]:
    """Names each two domains whose true pairs are no more alike than images of other places.

    Poses make the pairs, so images of a pair that do not resemble each other were not taken at one
    place. encoders: those of the start; untrained ones will do.
    """
    faults = []
    for (a, b), pairs in partners.items():
        rows = [row for row in pairs if not store.photos[row].tiled]
        if a == b or len(rows) < FEWEST:
            continue
        chosen = np.linspace(0, len(rows) - 1, min(PAIRS, len(rows))).round().astype(int)
        rows_a = [rows[k] for k in chosen]
        rows_b = [int(pairs[row][0]) for row in rows_a]
        z_a, z_b = (
            torch.cat([encoders[d](store.crop(r, WHOLE)[None].to(device)).float() for r in of])
            for d, of in ((a, rows_a), (b, rows_b))
        )
        places_a, places_b = (
            np.stack([store.place(r, WHOLE) for r in of]) for of in (rows_a, rows_b)
        )
        different = ~same_place(
            places_a, places_b, radius=negative_radius, angle=180.0, overlap=SAME_VIEW
        )
        better, counted = rank_of_pairs(similarity(z_a, z_b).cpu().numpy(), different)
        if counted >= FEWEST and better < 0.5 + chance_of_rank(counted):
            faults.append(
                f"images of '{a}' and '{b}' that poses put at one place are no more alike than "
                f"those of other places (the true one is ahead of {100 * better:.0f} % of "
                f"them, chance is 50 %): the drives' poses lie in different map frames, or one "
                f"drive's poses are delayed. Bring them into one frame, or leave one out"
            )
    return faults


def rank_of_pairs(similarities: NDArray[Any], different: NDArray[Any]) -> tuple[float, int]:
    """Measures how often image a_k is more similar to its own b_k than to one of another place.

    similarities: [N, N]. different: bool [N, N]. Returns the mean share, and the number of images.
    """
    of_pairs = np.diag(similarities)[:, None]
    counts = different.sum(1)
    counted = counts > 0
    if not counted.any():
        return 1.0, 0
    ahead = ((of_pairs > similarities) & different).sum(1)[counted] / counts[counted]
    return float(ahead.mean()), int(counted.sum())


def chance_of_rank(count: int) -> float:
    """Bounds the mean share of `count` random ranks: two sigma above a half."""
    return 2.0 * float(np.sqrt(1.0 / (12.0 * count)))
