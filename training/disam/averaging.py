# SPDX-License-Identifier: Apache-2.0
"""Averages of start and trained weights, by domain, chosen on validation data.

Fine-tuning forgets what the start could do; weights between the two keep most of either (Wortsman
et al., Robust fine-tuning of zero-shot models, CVPR 2022). Among shares that validate about equally
well the smallest is taken: the start has seen more of the world than the validation data show.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.engine.networks import State

log = logging.getLogger(__name__)

Recalls = dict[str, float]

EQUAL = 1.0  # percent: recalls that differ by less are equal


@dataclass(frozen=True)
class Average:
    """An average that was chosen, and what was tried."""

    state: State  # the averaged weights
    shares: dict[str, float]  # of the trained weights, by domain
    # Recall@1 [%] by common share ('0': the start, '1': the trained weights), and of the 'chosen'
    recall: dict[str, Recalls]

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as the model's provenance holds it."""
        return {"shares": self.shares, "recall": self.recall}


def interpolated(start: State, trained: State, shares: Mapping[str, float]) -> State:
    """Averages weights, (1 − share) · start + share · trained, by `encoders/<domain>/<parameter>`.

    Domains without a share keep the trained weights.
    """
    share_of = {name: shares.get(name.split("/")[1], 1.0) for name in trained}
    return {
        name: start[name].lerp(value.to(start[name]), share_of[name])
        for name, value in trained.items()
    }


def choose_average(
    start: State,
    trained: State,
    shares: Sequence[float],
    domains: Sequence[str],
    reference: str,
    measure: Callable[[State], Recalls],
) -> Average:
    """Choose the share of each domain: the smallest whose recall is within EQUAL of the best.

    The map's domain `reference` comes first, by the mean recall with one share for all `domains`;
    then each other domain by its own recall. Warns where the result is worse than the start.
    """
    tried = sorted({0.0, 1.0, *shares})

    def measured(of: Mapping[str, float]) -> Recalls:
        return measure(interpolated(start, trained, of))

    common = {share: measured(dict.fromkeys(domains, share)) for share in tried}
    best = _smallest({share: common[share]["mean"] for share in tried})
    choice = dict.fromkeys(domains, best)
    rows = {share: measured({**dict.fromkeys(domains, share), reference: best}) for share in tried}
    for domain in domains:
        if domain != reference:
            choice[domain] = _smallest({share: _of(domain, rows[share]) for share in tried})
    chosen = measured(choice)
    if chosen["mean"] < common[0.0]["mean"]:
        log.warning(
            "THE TRAINED MODEL IS WORSE THAN ITS START: recall@1 %.1f %%, the start has %.1f %%",
            chosen["mean"],
            common[0.0]["mean"],
        )
    state = interpolated(start, trained, choice)
    return Average(state, choice, {**{f"{s:g}": r for s, r in common.items()}, "chosen": chosen})


def _smallest(recalls: Mapping[float, float]) -> float:
    """Finds the smallest share whose recall is at most EQUAL below the best."""
    highest = max(recalls.values())
    return min(share for share, recall in recalls.items() if recall >= highest - EQUAL)


def _of(domain: str, recalls: Recalls) -> float:
    """Averages the recall of a domain's entries: its name, or its name with the kind of views."""
    values = [value for name, value in recalls.items() if name.split(" ")[0] == domain]
    return sum(values) / max(1, len(values))
