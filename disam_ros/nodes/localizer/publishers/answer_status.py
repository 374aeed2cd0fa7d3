# SPDX-License-Identifier: Apache-2.0
"""The outcome of one image as the DiagnosticStatus of ~/answer: written by the localizer, read by
evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from disam_ros.errors import ImageError
from disam_ros.localization.query import KNOWN, UNKNOWN, UNREADABLE, Answer
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, OK, WARN, shorten

NAME = "localizer: answer"
INTERFACE = "1"  # version of the keys (docs/ros.md): of one that goes or changes its meaning
NO_PRIOR = "none"  # effect of a prior where there was none
FAILED = "failed"  # the localizer raised an error; the image is not to blame

LEAST_DOUBT = 0.5  # of a camera that is published
PUBLISHED = "callback to published"  # the stage from the image's arrival to its pose
MILLISECONDS = " (ms)"


def localized(answer: Answer, published_ms: float) -> DiagnosticStatus:
    """Status of an answer, known or unknown. published_ms: from the image's arrival to its pose."""
    best = answer.best
    values = {
        "outcome": KNOWN if answer.known else UNKNOWN,
        "domain": answer.domain.name,
        "domain reason": answer.domain.reason,
        "score": f"{best.fine_score:.6f}",
        "coarse score": f"{best.coarse_score:.6f}",
        "map image": str(answer.record.id),
        "candidates": ",".join(str(c.record.id) for c in answer.candidates),
        "candidate scores": ",".join(f"{c.fine_score:.3f}" for c in answer.candidates),
        "prior": answer.prior or NO_PRIOR,
    }
    if answer.inliers:
        values["verified"] = f"{answer.inliers} keypoints"
    if not answer.informative:
        values["image"] = "repeated: it is no evidence"
    if answer.alone:
        values["not joined"] = answer.alone
    if answer.doubt >= LEAST_DOUBT:
        values["doubt"] = f"{answer.doubt:.3f}"
    values["probability"] = f"{answer.probability:.6f}"
    if answer.tracked:
        values["on map"] = f"{answer.on_map:.6f}"
    stages = {**answer.timings_ms, PUBLISHED: published_ms}
    values |= {f"{stage}{MILLISECONDS}": f"{ms:.3f}" for stage, ms in stages.items()}
    text = f"{values['outcome']}: map image {answer.record.id}, {probability_text(answer)}"
    return _status(answer.camera, OK if answer.known else WARN, text, values)


def probability_text(answer: Answer) -> str:
    """The probability of the place in words."""
    return f"probability {answer.probability:.3f}"


def refused(camera: str, error: Exception) -> DiagnosticStatus:
    """No answer: the image cannot be decoded, or the localizer failed."""
    outcome = UNREADABLE if isinstance(error, ImageError) else FAILED
    reason = shorten(str(error) or type(error).__name__)
    values = {"outcome": outcome, "reason": reason}
    return _status(camera, ERROR, f"{outcome}: {reason}", values)


def outcome(status: DiagnosticStatus) -> str:
    """Outcome of the image: KNOWN, UNKNOWN, UNREADABLE or FAILED."""
    return str(status.values[0].value)


def values_of(message: DiagnosticArray) -> dict[str, str]:
    """The key-values of a message's only status; empty where it has none."""
    return {pair.key: pair.value for status in message.status[:1] for pair in status.values}


def candidate_ids(values: Mapping[str, str]) -> list[int]:
    """Ids of the map images taken into consideration, best first."""
    return [int(word) for word in values.get("candidates", "").split(",") if word]


def candidate_scores(values: Mapping[str, str]) -> list[float | None]:
    """Fine similarities of the candidates, best first; None where one is no number."""
    return [number(word) for word in values.get("candidate scores", "").split(",") if word]


def prior_effect(values: Mapping[str, str]) -> str:
    """Effect of a position prior (prior.py); empty without one."""
    return "" if (effect := values.get("prior", NO_PRIOR)) == NO_PRIOR else effect


def ranked_ids(values: Mapping[str, str]) -> list[int]:
    """Ids of the answer's map image, then of the other candidates."""
    first = int(values["map image"])
    return [first, *(i for i in candidate_ids(values) if i != first)]


def timings_ms(values: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds by stage."""
    return {
        key.removesuffix(MILLISECONDS): float(value)
        for key, value in values.items()
        if key.endswith(MILLISECONDS)
    }


def number(text: str | None) -> float | None:
    """A number of a message; None where it is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _status(camera: str, level: bytes, text: str, values: Mapping[str, str]) -> DiagnosticStatus:
    values = {**values, "interface": INTERFACE}  # the outcome stays the first
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name=NAME, hardware_id=camera, level=level, message=text, values=pairs)
