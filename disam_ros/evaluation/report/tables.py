# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation as tables for the report's template."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from disam_ros.evaluation.judge import PERCENTILES, Condition
from disam_ros.evaluation.metrics import Criteria
from disam_ros.evaluation.prior_trials import LOCAL_RADIUS
from disam_ros.evaluation.tables import number, percent

BOUND = "bound"  # part of a column: what the nearest map image scores
SHARE = ("%",)
BOUNDED = ("%", BOUND)
ERROR = ("m", "°")


@dataclass(frozen=True)
class Column:
    """A heading over one or more parts, which have a unit or a name each."""

    name: str
    parts: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class HtmlTable:
    """rows: name and cells, as many as the columns have parts. terms: what the words mean."""

    title: str
    columns: list[Column]
    rows: list[tuple[str, list[str]]]
    terms: dict[str, str]

    @property
    def parts(self) -> list[str]:
        return [part for column in self.columns for part in column.parts]

    @property
    def firsts(self) -> list[bool]:
        """Whether a cell begins a column."""
        return [i == 0 for column in self.columns for i in range(len(column.parts))]


def poses_table(conditions: Mapping[str, Condition], criteria: Criteria) -> HtmlTable:
    """Shares within the pose thresholds, and errors."""
    columns = [Column("queries"), Column("answered", SHARE)]
    columns += [Column(name, BOUNDED) for name in criteria.names()]
    columns += [Column("median error", ERROR), Column("90 % below", ERROR)]
    rows = []
    for name, condition in conditions.items():
        m, bound = condition.metrics, condition.bound
        shares = [percent(of.within[key]) for key in m.within for of in (m, bound)]
        cells = [f"{m.queries}", percent(m.answered), *shares]
        cells += [number(m.median_error_m), number(m.median_error_deg, 1)]
        cells += [number(m.p90_error_m), number(m.p90_error_deg, 1)]
        rows.append((name, cells))
    example = criteria.names()[-1] if criteria.thresholds else "5 m 10°"
    terms = {
        example: "Share of queries answered within that distance and angle of the true pose; a "
        "query without an answer counts as a miss.",
        BOUND: "What answering with the map image nearest to the true pose would score; retrieval "
        "can hardly do better.",
        "median error, 90 % below": "Of the answered queries: half of their errors are smaller, "
        "and nine in ten.",
    }
    return HtmlTable("Poses", columns, rows, terms)


def places_table(conditions: Mapping[str, Condition], criteria: Criteria) -> HtmlTable:
    """Recall at ranks and accuracy at distances."""
    ranks = list(dict.fromkeys(k for c in conditions.values() for k in c.metrics.recall))
    limits = list(dict.fromkeys(k for c in conditions.values() for k in c.metrics.accuracy))
    columns = [Column("on the map", SHARE), *(Column(rank, SHARE) for rank in ranks)]
    columns += [Column(f"within {limit}", BOUNDED) for limit in limits]
    rows = []
    for name, condition in conditions.items():
        m, bound = condition.metrics, condition.bound
        cells = [percent(condition.on_map), *(percent(m.recall.get(rank)) for rank in ranks)]
        cells += [percent(of.accuracy[limit]) for limit in limits for of in (m, bound)]
        rows.append((name, cells))
    near = f"{criteria.recall_distance:g} m"
    terms = {
        "on the map": f"Share of queries with any map image within {near}: nothing can be found "
        "of the others.",
        "R@N": f"Share of queries with a map image within {near} of the true place among the "
        "first N found.",
        "within a distance": "Share of queries whose answer lies nearer than that to the true "
        "place, whichever way it looks.",
    }
    return HtmlTable("Places", columns, rows, terms)


def priors_table(conditions: Mapping[str, Condition], criteria: Criteria) -> HtmlTable:
    """What priors of the place would be worth."""
    near = f"{criteria.recall_distance:g} m"
    columns = [Column("prior"), Column("R@1", SHARE), Column("median error", ("m",))]
    columns += [Column(name, SHARE) for name in ("local R@1", "overruled", "off the map")]
    rows = []
    for name, condition in conditions.items():
        for p in condition.priors:
            shares = (p.local_recall_at_1, p.overruled, p.off_map)
            cells = [p.name, percent(p.recall_at_1), number(p.median_error_m)]
            rows.append((name, [*cells, *map(percent, shares)]))
    terms = {
        "prior": "The true place, moved at random by so many metres (1 σ) in x and in y, and given "
        "with that uncertainty; each image with the same draw.",
        "local R@1": f"Share of queries whose best map image within {LOCAL_RADIUS:g} m of the "
        f"prior's place lies within {near} of the true one; without a prior, of the whole map.",
        "overruled": "The answer lies elsewhere, although the map has images at the prior's place.",
        "off the map": "The map has no image at the prior's place: it was not used.",
    }
    return HtmlTable("Priors of the place", columns, rows, terms)


def confidence_table(conditions: Mapping[str, Condition]) -> HtmlTable:
    """Of scores and covariances."""
    columns = [
        *(Column("recall at 100 % precision", SHARE), Column("area under PR", SHARE)),
        *(Column("position NEES", ("mean", "median")), Column("pose NEES", ("mean", "median"))),
        Column("inside the 95 % ellipsoid", SHARE),
    ]
    rows = []
    for name, condition in conditions.items():
        curve, told = condition.curve, condition.consistency
        cells = ["–"] * 7
        if curve is not None:
            cells[:2] = [percent(curve.recall_at_full_precision), percent(curve.area)]
        if told is not None:
            means = (told.position_mean, told.position_median, told.pose_mean, told.pose_median)
            cells[2:] = [*map(_nees, means), percent(told.covered)]
        rows.append((name, cells))
    terms = {
        "recall at 100 % precision": "Share of the possible right answers above the score of the "
        "first wrong one: what a perfectly chosen threshold keeps.",
        "area under PR": "100 % where every right answer scores higher than every wrong one.",
        "NEES": "Normalized squared error over its expectation: 1 is honest, above 1 is "
        "overconfident, below 1 too cautious.",
        "95 % ellipsoid": "Share of true positions inside the ellipsoid that should hold 95 %.",
    }
    return HtmlTable("Confidence", columns, rows, terms)


def runs_table(runs: Mapping[str, Mapping[str, object]]) -> HtmlTable:
    """What the runs of the drives tell of themselves."""
    names = list(dict.fromkeys(name for run in runs.values() for name in run))
    rows = [(drive, [plain(run.get(name)) or "–" for name in names]) for drive, run in runs.items()]
    return HtmlTable("Runs", [Column(name) for name in names], rows, {})


def plain(value: object) -> str:
    """A value in words; empty where nothing is told."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, Mapping):
        told = {key: plain(item) for key, item in value.items()}
        return ", ".join(f"{key} {text}" for key, text in told.items() if text)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nees(value: float) -> str:
    return number(value, 2 if value < 100 else 0)


def latency_table(conditions: Mapping[str, Condition]) -> HtmlTable:
    """Milliseconds by stage, and images per second."""
    stages = list(dict.fromkeys(stage for c in conditions.values() for stage in c.latency_ms))
    parts = tuple(f"p{p}" for p in PERCENTILES)
    columns = [*(Column(f"{stage} (ms)", parts) for stage in stages), Column("images/s")]
    longest = {
        stage: max(
            c.latency_ms[stage][parts[-1]] for c in conditions.values() if stage in c.latency_ms
        )
        for stage in stages
    }
    rows = []
    for name, condition in conditions.items():
        cells = []
        for stage in stages:
            told = condition.latency_ms.get(stage, {})
            digits = 0 if longest[stage] >= 100 else 1
            cells += [number(told.get(part), digits) for part in parts]
        rows.append((name, [*cells, number(condition.images_per_second, 1)]))
    terms = {
        "p50, p90, p99": "Half, nine in ten and 99 in 100 images take no longer.",
        "images/s": "One image after the other; reading and decoding them is not included.",
    }
    return HtmlTable("Latency", columns, rows, terms)
