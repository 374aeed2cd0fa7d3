# SPDX-License-Identifier: Apache-2.0
"""Tables of the results of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from disam_ros.evaluation.judge import OVERALL, PERCENTILES, Condition, Evaluation
from disam_ros.evaluation.metrics import DEFAULTS, Criteria, Metrics
from disam_ros.evaluation.result_table import BOUND, Column, ResultTable, number, percent, plain

TRACKED = (
    " Here the first is the place that the sequence tells, the others are the image's own "
    "candidates: where one of those is right the sequence mostly is, too, so R@5 may equal R@1."
)


def table(title: str, rows: Mapping[str, Metrics], criteria: Criteria = DEFAULTS) -> ResultTable:
    """Tabulates pose thresholds, recall@1 and errors with a row per method or condition."""
    columns = [
        Column("queries", lambda m: [str(m.queries)]),
        _share("answered", lambda m: m.answered),
        *(_share(name, _entry("within", name)) for name in criteria.names()),
        _share(f"R@1 {criteria.recall_distance:g} m", lambda m: m.recall_at_1),
        _error("median error", "median", lambda m: m),
    ]
    return ResultTable(title, columns, list(rows.items()))


def tables(evaluation: Evaluation) -> list[ResultTable]:
    """Returns all tables of an evaluation that have any figures."""
    conditions, criteria = dict(evaluation.conditions), evaluation.criteria
    if len(conditions) > 1:
        conditions[OVERALL] = evaluation.overall
    result = [_poses(conditions, criteria)]
    if evaluation.overall.metrics.judged:
        tracked = is_tracked(evaluation.setup)
        result += [
            _coverage(conditions, criteria),
            _places(conditions, criteria, tracked),
            _confidence(conditions),
        ]
    if evaluation.overall.domains:
        result.append(_domains(conditions))
    if any(c.latency_ms for c in conditions.values()):
        result.append(_latency(conditions))
    if any(evaluation.runs.values()):
        result.append(runs_table(evaluation.runs))
    return result


def runs_table(runs: Mapping[str, Mapping[str, object]]) -> ResultTable:
    """Tabulates rates and counts of the runs with a column per drive."""

    def column(drive: str) -> Column:
        return Column(drive, lambda key: [plain(runs[drive].get(key)) or "–"])

    keys = dict.fromkeys(key for run in runs.values() for key in run)
    return ResultTable("Runs", [column(drive) for drive in runs], [(key, key) for key in keys])


def _poses(conditions: Mapping[str, Condition], criteria: Criteria) -> ResultTable:
    columns = [
        Column("queries", lambda c: [str(c.metrics.queries)]),
        _share("answered", lambda c: c.metrics.answered),
    ]
    if not any(c.metrics.judged for c in conditions.values()):
        return ResultTable("Answers", columns, list(conditions.items()))
    columns += [
        Column("wrong", lambda c: [percent(c.judged.wrong_share)], ("%",)),
        Column("worst", lambda c: [number(c.judged.worst_m, 1)], ("m",)),
        *(_bounded(name, _entry("within", name)) for name in criteria.names()),
        _error("median error", "median", lambda c: c.metrics),
        _error("90 % of errors below", "p90", lambda c: c.metrics),
    ]
    example = criteria.names()[-1] if criteria.thresholds else "5 m 10°"
    terms = {
        "answered": "Share of the queries whose place counts as known: a pose was given, right or "
        "wrong. The others are unanswered.",
        "wrong, worst": "Share of the queries that were answered, but more than "
        f"{criteria.recall_distance:g} m from the true position, and the farthest of them.",
        example: "Share of the queries answered within that distance and angle of the true pose. "
        "An unanswered query counts as a miss.",
        BOUND: "Score of the map image nearest to the true pose: the best that retrieval without "
        "pose refinement can do.",
        "median error, 90 % of errors below": "Percentiles over the answered queries.",
    }
    return ResultTable("Poses", columns, list(conditions.items()), terms)


def _coverage(conditions: Mapping[str, Condition], criteria: Criteria) -> ResultTable:
    columns = [
        Column("on the map", lambda c: [str(c.on_map.images)], ("images",)),
        _share("known", lambda c: c.on_map.known_share),
        _share("wrong", lambda c: c.on_map.wrong_share),
        Column("off the map", lambda c: [str(c.off_map.images)], ("images",)),
        _share("known", lambda c: c.off_map.known_share),
        _share("wrong", lambda c: c.off_map.wrong_share),
    ]
    terms = {
        "on, off the map": "Whether a map image lies within "
        f"{criteria.on_map_distance:g} m of the true position, the largest of the distances above.",
        "known": "Share of these images whose place counts as known. Off the map none should.",
        "wrong": "Share of these images with an answer more than "
        f"{criteria.recall_distance:g} m from the true position.",
    }
    return ResultTable("On and off the map", columns, list(conditions.items()), terms)


def is_tracked(setup: Mapping[str, Any]) -> bool:
    """Returns whether an evaluation with this setup tracked sequences."""
    settings = setup.get("settings")
    sequence = settings.get("sequence") if isinstance(settings, Mapping) else None
    return bool(isinstance(sequence, Mapping) and sequence.get("enabled"))


def _places(conditions: Mapping[str, Condition], criteria: Criteria, tracked: bool) -> ResultTable:
    ranks = dict.fromkeys(k for c in conditions.values() for k in c.metrics.recall)
    limits = dict.fromkeys(k for c in conditions.values() for k in c.metrics.accuracy)
    columns = [
        *(_share(rank, _entry("metrics.recall", rank)) for rank in ranks),
        *(_bounded(f"within {limit}", _entry("accuracy", limit)) for limit in limits),
    ]
    near = f"{criteria.recall_distance:g} m"
    terms = {
        "R@N": f"Recall@N: share of the queries with a map image within {near} of the true "
        "position among the first N retrieved." + (TRACKED if tracked else ""),
        "within a distance": "Share of the queries whose answer is closer than that to the true "
        "position, whatever its heading.",
    }
    return ResultTable("Places", columns, list(conditions.items()), terms)


def _confidence(conditions: Mapping[str, Condition]) -> ResultTable:
    columns = [
        _share("recall at 100 % precision", lambda c: c.curve and c.curve.recall_at_full_precision),
        _share("area under PR", lambda c: c.curve and c.curve.area),
        _nees("position NEES", "position"),
        _nees("pose NEES", "pose"),
        _share("inside the 95 % ellipsoid", lambda c: c.consistency and c.consistency.covered),
    ]
    terms = {
        "recall at 100 % precision": "Share of the possible correct answers whose probability is "
        "above that of the best wrong one: what an ideal threshold keeps.",
        "area under PR": "Average precision; 100 % if every correct answer is more probable than "
        "every wrong one.",
        "NEES": "Normalized estimation error squared over its expectation: 1 is consistent, above "
        "1 overconfident, below 1 conservative.",
        "95 % ellipsoid": "Share of the true positions inside that ellipsoid of the covariance.",
    }
    return ResultTable("Confidence", columns, list(conditions.items()), terms)


def _domains(conditions: Mapping[str, Condition]) -> ResultTable:
    def column(domain: str) -> Column:
        return Column(domain, lambda c: [str(c.domains.get(domain, 0))], ("images",))

    chosen = dict.fromkeys(domain for c in conditions.values() for domain in c.domains)
    return ResultTable("Domains chosen", [column(d) for d in chosen], list(conditions.items()))


def _latency(conditions: Mapping[str, Condition]) -> ResultTable:
    """Tabulates the latency of each stage over all images, and the total by condition."""
    whole = conditions.get(OVERALL, next(iter(conditions.values())))
    subjects = [(stage, (whole, stage)) for stage in whole.latency_ms]
    if len(conditions) > 1:
        named = ((name, c) for name, c in conditions.items() if name != OVERALL)
        subjects += [(f"total, {name}", (c, "total")) for name, c in named]
    columns = [
        Column("images", lambda s: [str(sum(s[1] in f.answer.timings_ms for f in s[0].frames))]),
        *(_percentile(f"p{p}") for p in PERCENTILES),
        Column("images/s", lambda s: [_rate(*s)]),
    ]
    terms = {
        "p50, p90, p99": "Percentiles over the images that needed the stage. Keypoints are "
        "verified where the place is in doubt.",
        "total": "With the node's settings and all stages, geometric verification included.",
        "images/s": "Throughput of one image after the other, without reading and decoding.",
    }
    return ResultTable("Latency (ms)", columns, subjects, terms)


def _rate(condition: Condition, stage: str) -> str:
    return number(condition.images_per_second, 1) if stage == "total" else ""


def _percentile(name: str) -> Column:
    """A percentile of the latency [ms]; subjects are pairs of condition and stage."""

    def cells(subject: tuple[Condition, str]) -> list[str]:
        condition, stage = subject
        value = condition.latency_ms.get(stage, {}).get(name)
        return [number(value, 0 if value is not None and value >= 100 else 1)]

    return Column(name, cells)


def _entry(path: str, key: str) -> Callable[[Any], float | None]:
    """Returns a function that looks up a key in the mapping at a dotted path of its argument."""
    mapping = attrgetter(path)
    return lambda subject: mapping(subject).get(key)


def _share(name: str, value: Callable[[Any], float | None]) -> Column:
    return Column(name, lambda subject: [percent(value(subject))], ("%",))


def _bounded(name: str, value: Callable[[Metrics], float | None]) -> Column:
    """A share of a condition's answers, and of its nearest map images."""
    return Column(
        name, lambda c: [percent(value(c.metrics)), percent(value(c.bound))], ("%", BOUND)
    )


def _error(name: str, statistic: str, metrics_of: Callable[[Any], Metrics]) -> Column:
    def cells(subject: object) -> list[str]:
        metrics = metrics_of(subject)
        metres = number(getattr(metrics, f"{statistic}_error_m"))
        return [metres, number(getattr(metrics, f"{statistic}_error_deg"), 1)]

    return Column(name, cells, ("m", "°"))


def _nees(name: str, quantity: str) -> Column:
    parts = ("mean", "median")

    def cells(condition: Condition) -> list[str]:
        values = [getattr(condition.consistency, f"{quantity}_{part}", None) for part in parts]
        return [number(v, 2 if v is None or v < 100 else 0) for v in values]

    return Column(name, cells, parts)
