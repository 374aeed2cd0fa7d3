# SPDX-License-Identifier: Apache-2.0
"""Recall with the encoders of a wrong domain: every domain on every town condition.

Offline, on the demo's summer map. The town is for testing only: nothing is trained, tuned or chosen
on it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.accuracy.drives import NOTHING, localized, opened
from benchmark.accuracy.rides import Ride, town
from disam_ros.evaluation import THRESHOLDS, errors
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer

RECALL_M = 5.0  # metres
HALF_M, HALF_DEG = THRESHOLDS[1]
CHOOSER = "chooser"


def measure() -> dict[str, Any]:
    """Shares by condition and domain, and what a wrong domain costs."""
    conditions = {}
    with tempfile.TemporaryDirectory() as scratch:
        for maps, ride in town(Path(scratch), (NOTHING,)):
            localizer = opened(maps)
            conditions[ride.name.removeprefix("town, ")] = row(localizer, ride)
    if not conditions:
        return {}
    return {
        "model": localizer.model.label,
        "map_images": len(localizer.map),
        "map_domain": localizer.map.records[0].domain,
        "conditions": conditions,
        "summary": summary(conditions),
    }


def row(localizer: Localizer, ride: Ride) -> dict[str, Any]:
    """Scores of a drive with each domain of the model, and with the chooser's."""
    answers = {
        domain: [
            answer.map_from_base if answer else None
            for answer in localized(localizer, ride.items, domain)
        ]
        for domain in localizer.model.domain_names()
    }
    chosen = [answer.domain.name if answer else None for answer in localized(localizer, ride.items)]
    return scores(ride.truth, answers, chosen)


def scores(
    truth: Sequence[Transform],
    answers: Mapping[str, Sequence[Transform | None]],
    chosen: Sequence[str | None],
) -> dict[str, Any]:
    """Shares right by domain and for the `chosen` domain of each query.

    truth, answers: map_from_base; None: nothing was visible. Gives by domain
    [within 5 m, within 0.5 m 5°].
    """
    picked = [answers[name][i] if name else None for i, name in enumerate(chosen)]
    return {
        "queries": len(truth),
        "chosen": dict(Counter(filter(None, chosen)).most_common()),
        "shares": {name: _shares(truth, poses) for name, poses in answers.items()}
        | {CHOOSER: _shares(truth, picked)},
    }


def _shares(truth: Sequence[Transform], answers: Sequence[Transform | None]) -> list[float]:
    metres, degrees = errors(truth, answers)
    near = (metres <= HALF_M) & (degrees <= HALF_DEG)
    return [float(np.mean(metres <= RECALL_M)), float(np.mean(near))]


def summary(conditions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over conditions, the best fixed domain, and where the chooser's is not the best.

    better: for both shares [domain, gain over the chooser, condition]. worst: [loss of R@1,
    domain, condition].
    """
    shares = {condition: result["shares"] for condition, result in conditions.items()}
    names = list(next(iter(shares.values())))
    domains = [name for name in names if name != CHOOSER]
    mean = {name: np.mean([rows[name] for rows in shares.values()], 0).tolist() for name in names}
    better: list[list[Any]] = [[], []]
    for k, entry in enumerate(better):
        for condition, rows in shares.items():
            by_domain = {name: rows[name][k] for name in domains}
            best = max(by_domain, key=by_domain.__getitem__)
            if rows[best][k] > rows[CHOOSER][k]:
                entry.append([best, rows[best][k] - rows[CHOOSER][k], condition])
    worst = max(
        [rows[CHOOSER][0] - rows[name][0], name, condition]
        for condition, rows in shares.items()
        for name in domains
    )
    fixed = max(domains, key=mean.__getitem__)
    return {"mean": mean, "fixed": fixed, "better": better, "worst": worst}
