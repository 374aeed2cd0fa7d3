# SPDX-License-Identifier: Apache-2.0
"""The worst wrong answers of a model on its validation data, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from disam_ros.files.html import data_uri
from disam_ros.image import encode_jpeg
from training.data.image_store import to_pixels
from training.engine.validate import Compared, ValidationSet

WORST = 6  # pairs that are shown


@dataclass(frozen=True)
class Mistake:
    """A query answered wrongly; images are data URLs."""

    name: str  # condition, as in the validation
    lead: float  # similarity of the answer minus that of the best right map image
    query: str  # the image
    answer: str  # the map image of another place
    right: str  # the best map image of its place


def worst(entries: Sequence[Compared], validation: ValidationSet, count: int) -> list[Mistake]:
    """Finds the wrong answers with the greatest lead, of queries that have a right map image."""
    ranked = []
    for entry in entries:
        has = entry.right.any(1) & ~entry.answered_right()
        best_right = np.where(entry.right, entry.scores, -np.inf)
        leads = entry.scores.max(1) - best_right.max(1)
        ranked += [
            (float(leads[row]), entry, row) for row in np.flatnonzero(has & (leads < np.inf))
        ]
    ranked.sort(key=lambda item: -item[0])
    mapped = validation.images[validation.reference]
    return [
        Mistake(
            name=entry.name,
            lead=lead,
            query=_picture(validation.images[entry.domain][entry.queries[row]]),
            answer=_picture(mapped[entry.mapped[entry.scores[row].argmax()]]),
            right=_picture(
                mapped[
                    entry.mapped[np.where(entry.right[row], entry.scores[row], -np.inf).argmax()]
                ]
            ),
        )
        for lead, entry, row in ranked[:count]
    ]


def _picture(image: Tensor) -> str:
    """Encodes an image [3, H, W] in [−1, 1] as a data URL."""
    return data_uri(encode_jpeg(to_pixels(image)))
