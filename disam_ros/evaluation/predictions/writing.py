# SPDX-License-Identifier: Apache-2.0
"""Writes rankings as pairs in the format of hloc, which `disam compare --against` reads as well."""

from __future__ import annotations

import re
from pathlib import Path

from disam_ros.evaluation.judge import Evaluation
from disam_ros.evaluation.predictions.names import name_of


def write_pairs(directory: Path, evaluation: Evaluation) -> None:
    """Writes NAME.txt per condition with lines `query map_image`, best first.

    Images have the names of `name_of`, in which blanks become _.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, condition in evaluation.conditions.items():
        lines: list[str] = []
        for frame in condition.frames:
            query = _word(name_of(frame.answer.record))
            ranking = frame.answer.ranking
            lines += [f"{query} {_word(name_of(image))}\n" for image in ranking]
        stem = re.sub(r"[^\w.-]+", "_", name)
        (directory / f"{stem}.txt").write_text("".join(lines))


def _word(name: str) -> str:
    return re.sub(r"\s", "_", name)
