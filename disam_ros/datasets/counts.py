# SPDX-License-Identifier: Apache-2.0
"""Says how many images were used, and why others were not."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)
MANY = 0.1  # share of images that are left out from which it is warned


def in_words(counts: DataclassInstance) -> str:
    """Formats counts by outcome: "9 images: 7 kept, 2 without pose"; the total comes first.

    None stands for an outcome that cannot be.
    """
    (subject, total), *outcomes = asdict(counts).items()
    parts = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in outcomes if number is not None
    )
    return f"{total} {subject.replace('_', ' ')}: {parts}"


def warn_of_losses(where: object, lost: int, total: int, why: str) -> None:
    """Warn where more than a tenth of images are left out. why: the causes and what to do."""
    if lost > MANY * total:
        logger.warning("%s: %d of %d images are left out: %s", where, lost, total, why)
