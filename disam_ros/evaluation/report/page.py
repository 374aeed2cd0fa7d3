# SPDX-License-Identifier: Apache-2.0
"""report.html: one file that opens without network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.frames import has_truth, verdict
from disam_ros.evaluation.judge import Condition, Evaluation
from disam_ros.evaluation.metrics import Criteria
from disam_ros.evaluation.report.curves import (
    consistency_plot,
    precision_recall_plot,
    probability_histograms,
)
from disam_ros.evaluation.report.examples import BEST, WORST, Example, overlay
from disam_ros.evaluation.report.plots import along_route, ground, plan
from disam_ros.evaluation.report.svg import COLOURS, LINKED
from disam_ros.evaluation.report.timeline import (
    changes,
    domain_colours,
    known_domains,
    labelled_domains,
    moment,
    strip,
)
from disam_ros.evaluation.result_table import number, percent, plain
from disam_ros.evaluation.tables import tables
from disam_ros.files.html import data_uri, render
from disam_ros.files.writing import atomic_file
from disam_ros.image import encode_jpeg
from disam_ros.mapping.place_map import PlaceMap

MAX_WIDTH = 480  # of an image [pixels]
QUALITY = 80  # of its JPEG
COMMAND = "command"  # key of the setup that is shown in the footer


def write_report(
    path: Path, evaluation: Evaluation, examples: Sequence[Example], place_map: PlaceMap
) -> None:
    """Writes report.html. The file appears when it is complete."""
    contents = _contents(evaluation, examples, place_map)
    text = render("disam_ros.evaluation.report", "page.html.j2", contents)
    with atomic_file(path, encoding="utf-8") as file:
        file.write(text)


def _contents(
    evaluation: Evaluation, examples: Sequence[Example], place_map: PlaceMap
) -> dict[str, object]:
    """Returns the variables of the template."""
    conditions, criteria = evaluation.conditions, evaluation.criteria
    frames = evaluation.overall.frames
    area = ground(place_map, frames)
    anchors = {id(e.frame): f"{LINKED}{number}" for number, e in enumerate(examples)}
    drives = list({id(frame.drive): frame.drive for frame in frames}.values())
    return {
        "colours": COLOURS,
        "names": list(conditions),
        "lead": _lead(evaluation, place_map),
        "setup": {k: plain(v) for k, v in evaluation.setup.items() if k != COMMAND},
        "command": plain(evaluation.setup.get(COMMAND, "")),
        "notes": evaluation.notes,
        "known": has_truth(frames),
        "unposed": [name for name, c in conditions.items() if not has_truth(c.frames)],
        "near": f"{criteria.recall_distance:g} m",
        "danger": _danger(evaluation),
        "cards": [_card(name, evaluation) for name in conditions],
        "tables": tables(evaluation),
        "plans": {name: plan(name, c, area, criteria, anchors) for name, c in conditions.items()},
        "routes": {name: _route(name, c, criteria) for name, c in conditions.items()},
        **_confidence(evaluation),
        "drives": _timelines(drives, place_map),
        "examples": _examples(evaluation, examples, anchors),
    }


def _route(name: str, condition: Condition, criteria: Criteria) -> Markup | None:
    matched = any(frame.best is not None for frame in condition.frames)
    return along_route(name, condition, criteria) if matched else None


def _lead(evaluation: Evaluation, place_map: PlaceMap) -> str:
    """States the main result in a sentence."""
    metrics = evaluation.overall.metrics
    queries = metrics.queries
    what = f"{queries} image{'s' * (queries != 1)}"
    if len(evaluation.conditions) > 1:
        what += f" in {len(evaluation.conditions)} conditions"
    what += f" against a map of {len(place_map)}"
    if not metrics.judged:
        return f"{what}: {percent(metrics.answered)} % answered. No true pose is known."
    name, share = _widest(evaluation.overall, evaluation)
    whose = "" if metrics.judged == queries else f" of the {metrics.judged} with a true pose"
    wrong = evaluation.overall.judged.wrong
    danger = f"{wrong} answer{'s are' if wrong != 1 else ' is'} wrong" if wrong else "none is wrong"
    within = f"{percent(share)} %{whose} are localized within {name} of the true pose"
    return f"{what}: {within}, {danger}."


def _widest(condition: Condition, evaluation: Evaluation) -> tuple[str, float]:
    """Returns the widest pose threshold and the share within it."""
    criteria = evaluation.criteria
    pairs = zip(criteria.thresholds, criteria.names(), strict=True)
    name = max(pairs, default=((), ""))[1]
    return name, condition.metrics.within.get(name, math.nan)


def _danger(evaluation: Evaluation) -> dict[str, object] | None:
    """Counts the wrong answers of all conditions; None where no true pose is known."""
    judged, off_map = evaluation.overall.judged, evaluation.overall.off_map
    if not judged.images:
        return None
    return {
        "wrong": judged.wrong,
        "images": judged.images,
        "figures": {
            "share": f"{percent(judged.wrong_share)} %",
            "worst": _metres(judged.worst_m),
            "known off the map": f"{off_map.known} of {off_map.images}",
        },
    }


def _card(name: str, evaluation: Evaluation) -> dict[str, object]:
    """Returns the main figures of a condition."""
    condition = evaluation.conditions[name]
    m = condition.metrics
    threshold, share = _widest(condition, evaluation)
    latency = condition.latency_ms.get("total", {}).get("p50")
    judged = m.judged > 0
    return {
        "name": name,
        "queries": m.queries,
        "headline": percent(share if judged else m.answered),
        "what": f"within {threshold}" if judged else "answered",
        "bound": percent(condition.bound.within.get(threshold)) if judged else "",
        "figures": {
            "recall@1": f"{percent(m.recall_at_1)} %" if judged else "–",
            "median error": _metres(m.median_error_m),
            "latency p50": f"{number(latency, 0)} ms" if latency is not None else "–",
        },
    }


def _confidence(evaluation: Evaluation) -> dict[str, Markup | None]:
    """Draws probabilities and covariances; None without data."""
    conditions, criteria = evaluation.conditions, evaluation.criteria
    matched = [f for f in evaluation.overall.frames if f.truth is not None and f.best is not None]
    curves = any(condition.curve is not None for condition in conditions.values())
    answered = evaluation.overall.consistency is not None
    return {
        "curves": precision_recall_plot(conditions) if curves else None,
        "consistency": consistency_plot(conditions) if answered else None,
        "histograms": probability_histograms(conditions, criteria) if matched else None,
    }


def _timelines(drives: Sequence[Drive], place_map: PlaceMap) -> list[dict[str, object]]:
    """Draws the domains of each drive over time."""
    domains = known_domains(drives, place_map)
    colours = domain_colours(drives, domains)
    timelines: list[dict[str, object]] = []
    for drive in drives:
        rows, left_out = changes(drive)
        plot = strip(drive, labelled_domains(drive, domains), colours) if rows else None
        start = moment(drive.answers[0].record.stamp_ns)
        timelines.append(
            {"name": drive.name, "start": start, "plot": plot, "rows": rows, "left_out": left_out}
        )
    return timelines


def _examples(
    evaluation: Evaluation, examples: Sequence[Example], anchors: Mapping[int, str]
) -> dict[str, list[tuple[str, list[dict[str, object]]]]]:
    """Returns headings with their rows of images, by condition."""
    groups: dict[str, list[tuple[str, list[dict[str, object]]]]] = {}
    for name, condition in evaluation.conditions.items():
        judged = has_truth(condition.frames)
        headings = {
            WORST: "Wrong answers, the most probable first, each of another place where possible"
            if judged
            else "The least probable answers",
            BEST: "Right and probable answers" if judged else "The most probable answers",
        }
        for kind, heading in headings.items():
            rows = [e for e in examples if e.condition == name and e.kind == kind]
            if rows:
                shown = [
                    _example(row, evaluation) | {"anchor": anchors[id(row.frame)]} for row in rows
                ]
                groups.setdefault(name, []).append((heading, shown))
    return groups


def _example(example: Example, evaluation: Evaluation) -> dict[str, object]:
    """Returns pictures and words of an example."""
    frame, answer = example.frame, example.frame.answer
    assert frame.best is not None  # it has a match
    x, y, _ = frame.best.translation
    heat = None if example.heat is None else overlay(example.query, example.heat)
    details = [f"probability {number(answer.probability, 3)}"]
    details += [f"similarity {number(answer.score, 3)}", f"domain {answer.domain}"]
    details += [part for part in (moment(answer.record.stamp_ns), answer.record.camera) if part]
    if math.isfinite(frame.error_m):
        details.insert(0, f"error {_metres(frame.error_m)}, {number(frame.error_deg, 1)}°")
    return {
        "verdict": verdict(frame, evaluation.criteria),
        "number": answer.record.id,
        "details": details,
        "match": f"map image {example.matched.id} at x {x:.1f} m, y {y:.1f} m".replace("-", "−"),
        "pictures": [_picture(p) for p in (example.query, heat, example.match)],
    }


def _picture(image: NDArray[np.uint8] | None) -> str | None:
    """Encodes an image (uint8 RGB [H, W, 3]) as a data URI of a JPEG."""
    if image is None:
        return None
    height, width = image.shape[:2]
    if width > MAX_WIDTH:
        size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return data_uri(encode_jpeg(image, QUALITY))


def _metres(value: float) -> str:
    """Formats a distance with two decimals below 10 m, else one; a dash for none."""
    return f"{number(value, 2 if value < 10 else 1)} m" if math.isfinite(value) else "–"
