# SPDX-License-Identifier: Apache-2.0
"""Learns a calibration (calibration.py) from drives with true poses against a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from disam_ros.answers import MAX_AGE_NS
from disam_ros.calibration import Calibration, ScoreScale, fit_errors, fit_ratio
from disam_ros.errors import ImageError, ModelError
from disam_ros.geometry import Transform
from disam_ros.localization import Localization
from disam_ros.localizer import Localizer
from disam_ros.odometry import OdometryTrack
from disam_ros.sequence import SPREAD, Tracker
from disam_ros.sources import ImageSource

NEAR_M, NEAR_DEG = 2.5, 20.0  # map images so near show the query's place
FAR_M = 10.0  # those farther show another
RIGHT_M = 5.0  # answers farther off are wrong: their error is no matter of the covariance
OTHERS = 200  # other places taken of an image


@dataclass
class _Sample:
    """What the images of the drives taught."""

    matches: list[np.ndarray] = field(default_factory=list)
    others: list[np.ndarray] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    spreads: list[np.ndarray] = field(default_factory=list)


def calibrate(
    localizer: Localizer, drives: Sequence[ImageSource], show_progress: bool = True
) -> Calibration:
    """Ratio of scores and errors of right answers, over drives in the order of their images.

    Give drives that nothing was trained on, under the conditions that are expected. Raises
    ModelError where they teach too little.
    """
    sample = _Sample()
    for number, drive in enumerate(drives):
        _follow(localizer, drive, sample, np.random.default_rng(number), show_progress)
    if not sample.matches or not sample.offsets:
        raise ModelError(
            "no image of the drives has a true pose on the map: are they of its frame and place?"
        )
    intercept, slope, high = fit_ratio(
        np.concatenate(sample.matches), np.concatenate(sample.others)
    )
    horizontal, vertical, tilt, yaw = fit_errors(
        np.stack(sample.offsets), SPREAD * np.stack(sample.spreads)
    )
    return Calibration(
        intercept=intercept,
        slope=slope,
        low=localizer.calibration.low,
        high=high,
        horizontal=horizontal,
        vertical=vertical,
        tilt=tilt,
        yaw=yaw,
        learned_on=[drive.info.name for drive in drives],
    )


def _follow(
    localizer: Localizer,
    drive: ImageSource,
    sample: _Sample,
    rng: np.random.Generator,
    show_progress: bool,
) -> None:
    tracker = Tracker(localizer)
    track = OdometryTrack.of(*drive.odometry, MAX_AGE_NS) if drive.odometry else None
    bar = {"total": drive.total, "desc": drive.info.name, "disable": not show_progress}
    scales: dict[str, ScoreScale] = {}
    for item in tqdm(drive.images, unit="img", **bar):
        record = item.record
        try:
            picture = item.load()
        except ImageError:
            continue
        latitude, longitude = item.place or (drive.info.latitude, drive.info.longitude)
        told = {"weather": item.weather, "latitude": latitude, "longitude": longitude}
        found = localizer.localize(picture, record.stamp_ns, record.camera or None, **told)
        at = track.at(record.stamp_ns) if track else None
        found = tracker.follow(found, record.stamp_ns or None, at and at[0])
        if record.map_from_camera is None:
            continue
        _scores(localizer, found, record.map_from_camera, sample, rng, scales)
        camera = drive.info.cameras.get(record.camera)
        mount = camera.base_from_camera if camera else Transform.identity()
        truth = record.map_from_camera @ mount.inverse()
        offset = _offset(truth, found.map_from_base(mount))
        if found.estimate.known and np.linalg.norm(offset[:3]) <= RIGHT_M:
            sample.offsets.append(offset)
            sample.spreads.append(found.estimate.spread.diagonal())


def _scores(
    localizer: Localizer,
    found: Localization,
    truth: Transform,
    sample: _Sample,
    rng: np.random.Generator,
    scales: dict[str, ScoreScale],
) -> None:
    """z of the map images at the true place, and of some elsewhere."""
    place_map = localizer.map
    rows = place_map.rows_of(found.camera)
    if found.camera not in scales:
        codes, steps = place_map.coarse[rows], place_map.projection.steps
        scales[found.camera] = ScoreScale.of_codes(codes, steps)
    gaps = np.linalg.norm(place_map.poses[rows, :3] - truth.translation, axis=1)
    turns = Rotation.from_quat(truth.quaternion).inv() * Rotation.from_quat(
        place_map.poses[rows, 3:]
    )
    near = np.flatnonzero((gaps <= NEAR_M) & (np.degrees(turns.magnitude()) <= NEAR_DEG))
    far = np.flatnonzero(gaps > FAR_M)
    if not len(near) or not len(far):
        return
    far = rng.choice(far, min(OTHERS, len(far)), replace=False)
    for some, kept in ((near, sample.matches), (far, sample.others)):
        found_rows, scores = localizer.scores(found, some, 1)
        wanted = np.isin(found_rows, some)
        kept.append(scales[found.camera].z(found.coarse, scores[wanted]))


def _offset(truth: Transform, answer: Transform) -> np.ndarray:
    """Translation and rotation vector [6] from the answer to the truth, about the map's axes."""
    turn = Rotation.from_quat(truth.quaternion) * Rotation.from_quat(answer.quaternion).inv()
    return np.concatenate([truth.translation - answer.translation, turn.as_rotvec()])
