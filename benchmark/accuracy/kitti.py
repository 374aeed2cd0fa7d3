# SPDX-License-Identifier: Apache-2.0
"""Real driving on maps of different spacing: KITTI odometry 00, map and queries of one drive.

The map has every 2nd, 4th or 8th image, the queries lie halfway between its images. Frames from
END on come back to an earlier stretch, where the ground truth of the two passes differs by 0.9 m:
they are for loop closures (kitti_loop.py). The calibration is the shipped one, which knows
none of these; the figures are those of the second half of the queries.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy.drives import EVERY_IMAGE, frame_of
from benchmark.accuracy.gardens_point import SHIPPED, domain_of
from benchmark.accuracy.kitti_loop import loop_figures
from benchmark.truth import bases
from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig, SequenceConfig, VerifyConfig
from disam_ros.datasets.formats.kitti_odometry import KittiOdometry
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.evaluation.confidence import consistency
from disam_ros.geometry import Transform, distance, interpolate, offset
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.pose import Curve
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from disam_ros.pose_buffer import NANOSECONDS

DATA = Path("data/kitti")
MODEL = SHIPPED / "outdoor"
SEQUENCE, END = "00", 1560  # frames used
STEPS = (2, 4, 8)  # one map image in so many frames
MIDDLE = 4  # of the map of loop closures
KEYPOINTS = 1024  # SIFT
DRIFT = 1.01  # odometry's over the true displacement
WRONG_M = 5.0
WITHIN = ((0.25, 2.0), (0.5, 5.0))  # [m], [deg]
FIRST, SINGLE = "pose of the first candidate", "single image"
ROWS = {  # odometry; which keypoints are compared (VerifyConfig.when); None: a single image
    SINGLE: (False, None),
    "sequence": (False, "never"),
    "sequence, odometry": (True, "never"),
    "sequence, keypoints": (False, "unsure"),
    "sequence, odometry, keypoints": (True, "unsure"),
    "sequence, keypoints of every image": (False, "always"),
}


def measure(data: Path = DATA, model_dir: Path = MODEL) -> dict[str, Any]:
    """Figures by spacing and row. Raises DatasetError without the data."""
    whole = drive(data)
    images = list(whole.images)
    frames = images[:END]
    truth = bases((item.record for item in images), only_lens(whole))
    model = load_model(model_dir)
    domain = domain_of(model, "day")
    config = LocalizerConfig(device="cpu", verify=VerifyConfig("never"))
    config.sequence.enabled, config.domain.override = True, domain
    spacings: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        localizers = {}
        for step in STEPS:
            settings = replace(
                EVERY_IMAGE, keypoints=KEYPOINTS, local_features="sift", domain=domain
            )
            chosen = part(whole, frames[::step])
            place_map = build_map(chosen, model, Path(scratch) / str(step), settings)
            localizers[step] = Localizer(model, place_map, config, model_dir)
        for step, localizer in localizers.items():
            queries = frames[step // 2 : -step : step]  # the last would be beyond the map
            queries = queries[len(queries) // 2 :]
            rows = {name: figures(localizer, queries, *row) for name, row in ROWS.items()}
            spacings[f"{localizer.map.spacing():.1f}"] = {
                "map_images": len(localizer.map),
                "queries": len(queries),
                "rows": {FIRST: rows[SINGLE].pop(FIRST), **rows},
            }
        loops = loop_figures(localizers[MIDDLE], images, drifting(truth))
    curve = curve_figures(truth[:END])
    return {"model": model.label, "frames": END, "spacings": spacings, "curve": curve, **loops}


def drive(data: Path) -> ImageSource:
    """All frames, in order; stamps begin at one second."""
    items = KittiOdometry(SEQUENCE, "", camera=0).read(data)
    images = [
        PosedImage(
            ImageRecord(
                number,
                item.stamp_ns + NANOSECONDS,
                item.camera,
                "",
                item.source,
                item.map_from_camera,
            ),
            partial(image.read, items.directory / item.source),
        )
        for number, item in enumerate(items.images)
    ]
    return ImageSource(images, items.info, items.info.name, len(images))


def only_lens(source: ImageSource) -> Camera:
    """The camera of a source that has one."""
    (lens,) = source.info.cameras.values()
    return lens


def part(source: ImageSource, images: Sequence[PosedImage]) -> ImageSource:
    """Some images of a source."""
    return replace(source, images=images, total=len(images))


def figures(
    localizer: Localizer, queries: Sequence[PosedImage], odometry: bool, when: str | None
) -> dict[str, Any]:
    """Shares in 0…1: known and wrong ones, poses within WITHIN; median error [m]; NEES of the known
    ones over its expectation. Of single images also those of the FIRST candidate's pose."""
    config = replace(localizer.config, verify=VerifyConfig(when or "never"))
    config = replace(config, sequence=SequenceConfig(enabled=when is not None))
    pipeline, camera = Pipeline(localizer, config), localizer.map.main_camera()
    lens = localizer.map.header.cameras[camera]
    truth = bases((item.record for item in queries), lens)
    stamps = np.array([item.record.stamp_ns for item in queries])
    track = OdometryTrack.of(stamps, drifting(truth), NANOSECONDS)
    answers = []
    for item in queries:
        frame = frame_of(item, camera)
        reading = track.reading(item.record.stamp_ns) if odometry else None
        (localized,) = pipeline.process([Shot(frame, reading)])
        answers.append(localized.answer)
    accepted = [
        (t, a.map_from_base, a.covariance) for t, a in zip(truth, answers, strict=True) if a.known
    ]
    nees = consistency(accepted)
    wrong = sum(distance(true, pose)[0] > WRONG_M for true, pose, _ in accepted)
    results: dict[str, Any] = {
        "known": len(accepted) / len(queries),
        "wrong": wrong / len(queries),
        "nees": nees.pose_mean if nees else float("nan"),
    } | _errors(truth, [answer.map_from_base for answer in answers])
    if when is None:
        first = bases((answer.best.record for answer in answers), lens)
        results[FIRST] = _errors(truth, first)
    return results


def _errors(truth: Sequence[Transform], poses: Sequence[Transform]) -> dict[str, float]:
    """Median error [m] and the shares of poses within each of WITHIN."""
    metres, degrees = np.array([distance(a, b) for a, b in zip(truth, poses, strict=True)]).T
    shares = {f"within {m} {d}": float(((metres <= m) & (degrees <= d)).mean()) for m, d in WITHIN}
    return {"median": float(np.median(metres)), **shares}


def curve_figures(truth: Sequence[Transform], step: int = STEPS[-1]) -> dict[str, float]:
    """Root mean square of how far true poses lie aside of the track through each step-th one of
    them [m], and of their difference in yaw [deg]: by the curve of the sequence filter, and by
    straight lines."""
    mapped = [np.concatenate([pose.translation, pose.quaternion]) for pose in truth[::step]]
    curve = Curve(np.array(mapped))
    errors: dict[str, list[NDArray[np.float64]]] = {"curve": [], "chord": []}
    for start, end in pairwise(range(len(mapped))):
        first, last = truth[start * step], truth[end * step]
        for pose in truth[start * step + 1 : end * step]:
            gone, left = (np.linalg.norm(pose.translation - p.translation) for p in (first, last))
            share = float(gone / (gone + left))
            estimate = curve.points([start], [end], [share]).pose(0)
            errors["curve"].append(offset(pose, estimate))
            errors["chord"].append(offset(pose, interpolate(first, last, share)))
    results, between = {}, _between(truth, step)
    for name, rows in errors.items():
        aside = [pose.rotation.T @ error[:3] for pose, error in zip(between, rows, strict=True)]
        results[f"{name}_m"] = float(np.sqrt(np.mean(np.square(aside)[:, 1])))
        results[f"{name}_deg"] = float(np.degrees(np.sqrt(np.mean(np.square(rows)[:, 5]))))
    return results


def _between(truth: Sequence[Transform], step: int) -> list[Transform]:
    """All poses but each step-th one, up to the last of these."""
    last = (len(truth) - 1) // step * step
    return [pose for number, pose in enumerate(truth[:last]) if number % step]


def drifting(truth: Sequence[Transform]) -> list[Transform]:
    """odom_from_base along true poses, with DRIFT in every displacement."""
    poses = [Transform.identity()]
    for before, after in pairwise(truth):
        moved = before.inverse() @ after
        poses.append(poses[-1] @ Transform(DRIFT * moved.translation, moved.quaternion))
    return poses
