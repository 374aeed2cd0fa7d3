# SPDX-License-Identifier: Apache-2.0
"""A vehicle with four cameras in the town: one belief of all of them against the best one alone.

Mapped in summer, driven in snow and at night, there and back in the other lane; with the map of all
cameras, and with that of the front camera alone. Nothing was chosen on these drives.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.accuracy.drives import EVERY_IMAGE
from benchmark.accuracy.rig_drives import CAMERAS, DRIVES, MAPPED, rig_drive
from benchmark.single_images import describe
from benchmark.truth import bases
from disam_ros.config import LocalizerConfig, SequenceConfig
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.demo.drives import MODEL
from disam_ros.geometry import Transform, distance
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Answer, Candidates, Frame, Query
from disam_ros.localization.sequence.odometry import OdometryTrack, Reading
from disam_ros.localization.sequence.tracker import Tracker
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from disam_ros.pose_buffer import NANOSECONDS

NEAR, TURNED = 5.0, 30.0  # of a right answer [m], [deg]
RIG = "rig"
EVERY = 3  # a trial of the first fix begins at one of so many sets
PATIENCE = 20  # sets after which it ends
HOUR = 3600 * NANOSECONDS
FAULTY = "front"
FAULTS = ("none", "missing", "covered", "frozen", "late", "other clock")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """An image of a drive with its descriptors."""

    query: Query
    candidates: Candidates
    odometry: Reading  # at its stamp
    truth: Transform  # map_from_base

    @property
    def stamp_ns(self) -> int:
        """Stamp of the image; every image of a drive has one."""
        stamp_ns = self.query.frame.stamp_ns
        assert stamp_ns is not None
        return stamp_ns


Set = Sequence[Moment]


def measure() -> dict[str, Any]:
    """Figures by map, drive, odometry and cameras; of faults of the front camera."""
    results: dict[str, Any] = {"near": NEAR, "turned": TURNED, "cameras": list(CAMERAS)}
    with tempfile.TemporaryDirectory() as scratch:
        for title, cameras in (("all", tuple(CAMERAS)), (FAULTY, (FAULTY,))):
            localizer = mapped(Path(scratch) / title, cameras)
            results["model"], rows = localizer.model.label, []
            for (condition, way), config in DRIVES.items():
                sets = list(moments(localizer, rig_drive(config), condition))
                for odometry in (True, False) if title == "all" else (True,):
                    row = {"condition": condition, "way": way, "odometry": odometry}
                    rows.append(row | {"sets": len(sets)} | by_cameras(localizer, sets, odometry))
                    log.warning("%s %s", title, rows[-1])
                if title == "all" and way == "there":
                    faults = results.setdefault("faults", {})
                    faults[condition] = {
                        fault: figures(localizer, faulty(localizer, sets, fault))
                        for fault in FAULTS
                    }
                    log.warning("%s", faults[condition])
            results[f"map_{title}"] = {"images": len(localizer.map), "rows": rows}
    return results


def mapped(directory: Path, cameras: Sequence[str]) -> Localizer:
    """On the map of some cameras' images, without keypoints."""
    model = load_model(MODEL)
    settings = replace(EVERY_IMAGE, domain=MAPPED.condition)
    source = rig_drive(MAPPED, cameras)
    place_map = build_map(source, model, directory, settings, show_progress=False)
    config = LocalizerConfig(device="cpu", sequence=SequenceConfig(enabled=True))
    return Localizer(model, place_map, config, MODEL)


def moments(localizer: Localizer, source: ImageSource, domain: str) -> Iterator[list[Moment]]:
    """The sets of a drive."""
    assert source.odometry is not None
    track = OdometryTrack.of(*source.odometry, NANOSECONDS)
    items = list(source.images)
    for first in range(0, len(items), len(CAMERAS)):
        yield [
            _moment(localizer, source, track, item, domain)
            for item in items[first : first + len(CAMERAS)]
        ]


def _moment(
    localizer: Localizer, source: ImageSource, track: OdometryTrack, item: PosedImage, domain: str
) -> Moment:
    record = item.record
    lens, reading = source.info.cameras[record.camera], track.reading(record.stamp_ns)
    frame = Frame(item.load(), record.camera, record.stamp_ns, lens=lens, domain=domain)
    query = describe(localizer, frame)
    assert reading is not None
    (truth,) = bases([record], lens)
    return Moment(query, _candidates(localizer, query), reading, truth)


def _candidates(localizer: Localizer, query: Query) -> Candidates:
    return localizer.rerank(query, localizer.search(query, localizer.config))


def by_cameras(
    localizer: Localizer, sets: Sequence[Set], odometry: bool
) -> dict[str, dict[str, Any]]:
    """Figures of each camera alone, and of all."""
    chosen: dict[str, Sequence[Set]] = {
        name: [[m for m in s if m.query.camera == name] for s in sets] for name in CAMERAS
    }
    chosen[RIG] = sets
    return {
        name: figures(localizer, part, odometry) | first_fixes(localizer, part, odometry)
        for name, part in chosen.items()
    }


def answers(
    localizer: Localizer, sets: Sequence[Set], odometry: bool = True
) -> Iterator[list[tuple[Moment, Answer]]]:
    """Answers set by set, each with the evidence of its whole set."""
    tracker, config = Tracker(localizer), localizer.config
    for moments in sets:
        steps = [
            tracker.predict(m.query, m.odometry if odometry else None, config).update(m.candidates)
            for m in moments
        ]
        yield [(m, step.answer(config)) for m, step in zip(moments, steps, strict=True)]


def figures(localizer: Localizer, sets: Sequence[Set], odometry: bool = True) -> dict[str, float]:
    """Shares of known and of wrong answers among all, and the median error of the known [m]."""
    accepted, wrong, errors = 0, 0, []
    pairs = [pair for moments in answers(localizer, sets, odometry) for pair in moments]
    for moment, answer in pairs:
        accepted += answer.known
        wrong += answer.known and not right(moment, answer)
        if answer.known:
            errors.append(distance(answer.map_from_base, moment.truth)[0])
    count = max(1, len(pairs))
    error = float(np.median(errors)) if errors else float("nan")
    doubt = max((a.doubt for m, a in pairs if m.query.camera == FAULTY), default=0.0)
    return {
        "images": len(pairs),
        "known": accepted / count,
        "wrong": wrong / count,
        "error": error,
        "doubt": doubt,
    }


def first_fixes(
    localizer: Localizer, sets: Sequence[Set], odometry: bool
) -> dict[str, float | int]:
    """Sets and images until the first known and right answer, medians over cold starts, and wrong
    answers before it; `never`: share of trials without one."""
    instants, images, wrong = [], [], 0
    for start in range(0, len(sets) - PATIENCE, EVERY):
        fixed, seen = PATIENCE + 1, 0
        for number, pairs in enumerate(
            answers(localizer, sets[start : start + PATIENCE], odometry)
        ):
            seen += len(pairs)
            if any(a.known and right(m, a) for m, a in pairs):
                fixed = number + 1
                break
            wrong += sum(a.known for _, a in pairs)
        instants.append(fixed)
        images.append(seen)
    never = float((np.array(instants) > PATIENCE).mean())
    return {
        "first": float(np.median(instants)),
        "first_images": float(np.median(images)),
        "first_mean": float(np.mean(instants)),
        "early_wrong": wrong,
        "never": never,
        "trials": len(instants),
    }


def right(moment: Moment, answer: Answer) -> bool:
    """Whether the pose is of the true place and heading."""
    metres, degrees = distance(answer.map_from_base, moment.truth)
    return metres <= NEAR and degrees <= TURNED


def faulty(localizer: Localizer, sets: Sequence[Set], fault: str) -> list[list[Moment]]:
    """The drive with a fault of the front camera from the tenth set on."""
    changed_sets, held = [], None
    first = next(m for m in sets[0] if m.query.camera == FAULTY)
    for number, moments in enumerate(sets):
        if number < 10 or fault == "none":
            changed_sets.append(list(moments))
            continue
        changed: list[Moment] = []
        for moment in moments:
            if moment.query.camera != FAULTY:
                changed.append(moment)
            elif fault == "covered":
                changed.append(_covered(localizer, moment, number))
            elif fault == "frozen":
                changed.append(_with_stamp(first, moment))
            elif fault == "other clock":
                changed.append(_stamped(moment, moment.stamp_ns + HOUR))
        if fault == "late":  # of the set before, after all others
            now = next(m for m in moments if m.query.camera == FAULTY)
            changed, held = changed + ([held] if held else []), now
        changed_sets.append(changed)
    return changed_sets


def _covered(localizer: Localizer, moment: Moment, seed: int) -> Moment:
    """As behind a wet leaf: blotches without the scene, not blank."""
    frame = moment.query.frame
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 90, (6, 8, 3))
    image = np.kron(small, np.ones((40, 40, 1))).astype(np.uint8)
    query = describe(localizer, replace(frame, image=image, domain=moment.query.domain.name))
    return replace(moment, query=query, candidates=_candidates(localizer, query))


def _with_stamp(old: Moment, now: Moment) -> Moment:
    """An old image with the stamp of now."""
    frozen = _stamped(old, now.stamp_ns)
    return replace(frozen, odometry=now.odometry, truth=now.truth)


def _stamped(moment: Moment, stamp_ns: int) -> Moment:
    frame: Frame = replace(moment.query.frame, stamp_ns=stamp_ns)
    return replace(moment, query=replace(moment.query, frame=frame))
