# SPDX-License-Identifier: Apache-2.0
"""Terminal tables of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.table import Table

from disam_ros.evaluation.judge import OVERALL, Condition, Evaluation
from disam_ros.evaluation.metrics import DEFAULTS, Criteria, Metrics
from disam_ros.evaluation.prior_trials import LOCAL_RADIUS


def table(title: str, rows: Mapping[str, Metrics], criteria: Criteria = DEFAULTS) -> Table:
    """Pose thresholds, recall at one and errors: a row per method or condition, in percent."""
    result = _table(title)
    recall = f"R@1 {criteria.recall_distance:g} m"
    for name in ("queries", "answered", *criteria.names(), recall, "median error"):
        result.add_column(name, justify="right")
    for name, m in rows.items():
        shares = [m.answered, *m.within.values(), m.recall["R@1"]]
        error = f"{m.median_error_m:.2f} m {m.median_error_deg:.1f}°"
        result.add_row(name, str(m.queries), *map(percent, shares), error)
    return result


def tables(evaluation: Evaluation) -> list[Table]:
    """Everything a terminal should show of an evaluation."""
    conditions = dict(evaluation.conditions)
    if len(conditions) > 1:
        conditions[OVERALL] = evaluation.overall
    found = [_poses(conditions, evaluation.criteria)]
    if any(c.metrics.judged for c in conditions.values()):
        found += [_places(conditions, evaluation.criteria), _confidence(conditions)]
    if any(c.priors for c in conditions.values()):
        found.append(_priors(conditions, evaluation.criteria))
    return [*found, _speed(conditions), runs_table(evaluation)]


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _poses(conditions: Mapping[str, Condition], criteria: Criteria) -> Table:
    result = _table("poses: percent of the queries, the nearest map image's in brackets")
    for name in ("queries", "answered", *criteria.names(), "median error", "90 % below"):
        result.add_column(name, justify="right")
    for name, condition in conditions.items():
        m, bound = condition.metrics, condition.bound
        shares = [f"{percent(m.within[k])} ({percent(bound.within[k])})" for k in m.within]
        median = f"{number(m.median_error_m)} m {number(m.median_error_deg, 1)}°"
        p90 = f"{number(m.p90_error_m)} m {number(m.p90_error_deg, 1)}°"
        result.add_row(name, str(m.queries), percent(m.answered), *shares, median, p90)
    return result


def _places(conditions: Mapping[str, Condition], criteria: Criteria) -> Table:
    result = _table(
        f"places: percent; R@N within {criteria.recall_distance:g} m; answers nearer than a "
        "distance, the nearest map image's (upper bound) in brackets"
    )
    first = next(iter(conditions.values())).metrics
    ranks = list(dict.fromkeys(k for c in conditions.values() for k in c.metrics.recall))
    for name in ("on the map", *ranks, *first.accuracy):
        result.add_column(name, justify="right")
    for name, condition in conditions.items():
        m, bound = condition.metrics, condition.bound
        recall = [percent(m.recall.get(rank)) for rank in ranks]
        accuracy = [f"{percent(m.accuracy[k])} ({percent(bound.accuracy[k])})" for k in m.accuracy]
        result.add_row(name, percent(condition.on_map), *recall, *accuracy)
    return result


def _confidence(conditions: Mapping[str, Condition]) -> Table:
    result = _table("confidence: of the score (percent) and of the covariance (1: as told)")
    names = ("recall at 100 % precision", "area under PR", "position NEES mean", "median")
    for name in (*names, "inside the 95 % ellipsoid"):
        result.add_column(name, justify="right")
    for name, condition in conditions.items():
        curve, told = condition.curve, condition.consistency
        scores = ["–"] * 2
        if curve is not None:
            scores = [percent(curve.recall_at_full_precision), percent(curve.area)]
        cells = ["–"] * 3
        if told is not None:
            cells = [number(told.position_mean), number(told.position_median)]
            cells += [percent(told.covered)]
        result.add_row(name, *scores, *cells)
    return result


def _priors(conditions: Mapping[str, Condition], criteria: Criteria) -> Table:
    near = f"{criteria.recall_distance:g} m"
    result = _table(f"priors of the place, by their error (1 σ); local: within {LOCAL_RADIUS:g} m")
    names = ("prior", f"R@1 {near}", "median error", f"local R@1 {near}", "overruled")
    for name in (*names, "off the map"):
        result.add_column(name, justify="right")
    for name, condition in conditions.items():
        for p in condition.priors:
            median = f"{number(p.median_error_m)} m"
            shares = (p.local_recall_at_1, p.overruled, p.off_map)
            cells = [percent(p.recall_at_1), median, *map(percent, shares)]
            result.add_row(name if p.noise_m is None else "", p.name, *cells)
    return result


def _speed(conditions: Mapping[str, Condition]) -> Table:
    result = _table("latency: milliseconds, median / 90 % / 99 %")
    stages = list(dict.fromkeys(stage for c in conditions.values() for stage in c.latency_ms))
    for name in (*stages, "images/s", "domains chosen"):
        result.add_column(name, justify="right")
    for name, condition in conditions.items():
        latency = condition.latency_ms
        cells = ["/".join(f"{v:.0f}" for v in latency.get(s, {}).values()) for s in stages]
        chosen = ", ".join(f"{domain} {n}" for domain, n in condition.domains.items())
        result.add_row(name, *cells, number(condition.images_per_second, 1), chosen)
    return result


def runs_table(evaluation: Evaluation) -> Table:
    """What the runs tell of themselves, one column per drive."""
    result = _table("runs")
    runs = evaluation.runs
    for name in runs:
        result.add_column(name, justify="right")
    for key in dict.fromkeys(key for run in runs.values() for key in run):
        result.add_row(key, *(str(run.get(key, "–")) for run in runs.values()))
    return result


def _table(title: str) -> Table:
    result = Table(title=title, title_justify="left")
    result.add_column("")
    return result
