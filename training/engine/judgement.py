# SPDX-License-Identifier: Apache-2.0
"""What a finished model gained over its start on the validation data, and what that is worth."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from training.engine.mistakes import WORST, Mistake, worst
from training.engine.validate import (
    Encoder,
    Similarity,
    ValidationSet,
    compared,
    query_counts,
    recall,
)

log = logging.getLogger(__name__)

FEW = 50  # queries of a condition, below which a difference says little


@dataclass(frozen=True)
class Judgement:
    """Recall@1 [%] of a model beside its start's, by condition and as their `mean`."""

    start: Mapping[str, float]  # of the weights before any stage
    result: Mapping[str, float]  # of the finished model
    queries: Mapping[str, int]  # number by condition, without the mean
    reference: str  # domain of the map
    kept_start: bool  # whether the model has the weights that it started from
    mistakes: Sequence[Mistake]  # wrong answers of the model, worst first

    @property
    def worse(self) -> bool:
        """Tells whether training did harm."""
        return self.result["mean"] < self.start["mean"]

    @property
    def within_one_query(self) -> bool:
        """Tells whether no condition differs by more than one query."""
        gaps = {name: abs(self.result[name] - self.start[name]) for name in self.queries}
        return all(gap <= self.smallest(name) + 1e-6 for name, gap in gaps.items())

    def smallest(self, name: str) -> float:
        """The smallest difference that a condition can show [points]: one query."""
        return 100.0 / self.queries[name]

    @property
    def verdict(self) -> str:
        """The outcome in one sentence, with its figures."""
        start, result = self.start["mean"], self.result["mean"]
        figures = f"recall@1 {result:.1f} %, the start has {start:.1f} %"
        data = f"of {sum(self.queries.values())} queries in a map of {self.reference}"
        if self.worse:
            return f"THE MODEL IS WORSE THAN ITS START on your validation drives: {figures}, {data}"
        if self.kept_start:
            return (
                f"NO GAIN: THIS IS THE START. No weights of this training validated better than "
                f"those it started from: recall@1 {start:.1f} % {data}"
            )
        if self.within_one_query:
            return f"NO DIFFERENCE THAT THESE QUERIES CAN SHOW: {figures}, {data}"
        return f"Better than its start on your validation drives: {figures}, {data}"

    @property
    def level(self) -> int:
        """Level of the verdict in the log."""
        if self.worse:
            return logging.ERROR
        return logging.WARNING if self.kept_start or self.within_one_query else logging.INFO


def judge(
    start: Mapping[str, Encoder],
    result: Mapping[str, Encoder],
    similarity: Similarity,
    validation: ValidationSet,
    device: torch.device,
    kept_start: bool,
) -> Judgement:
    """Judge a model's encoders beside those it started from."""
    before = recall(start, similarity, validation, device)
    after = recall(result, similarity, validation, device)
    entries = list(compared(result, similarity, validation, device))
    return Judgement(
        start=before,
        result=after,
        queries=query_counts(validation),
        reference=validation.reference,
        kept_start=kept_start,
        mistakes=worst(entries, validation, WORST),
    )


def log_queries(validation: ValidationSet, named: bool) -> None:
    """Log what is mapped and how many queries there are. named: the recipe says what is mapped."""
    counts = query_counts(validation)
    why = "as validation.reference says" if named else "chosen; validation.reference names another"
    log.info(
        "validation: a map of '%s' (%s), queries: %s",
        validation.reference,
        why,
        ", ".join(f"{n} {name}" for name, n in counts.items()),
    )
    few = {name: n for name, n in counts.items() if n < FEW}
    if few:
        listed = ", ".join(f"{n} {name} (one is {100 / n:.1f} points)" for name, n in few.items())
        log.warning(
            "validation: fewer than %d queries say little, and choose the weights: %s. Give more "
            "drives with --validation",
            FEW,
            listed,
        )
