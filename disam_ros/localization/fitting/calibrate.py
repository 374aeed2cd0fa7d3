# SPDX-License-Identifier: Apache-2.0
"""Fits a calibration (calibration.py) to drives with ground-truth poses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import ConfigError, ModelError
from disam_ros.features.inlier_evidence import MODELS, PoseErrors
from disam_ros.features.inlier_evidence import fit_errors as fit_pose_errors
from disam_ros.files.printable import printable
from disam_ros.geometry import Transform, offset
from disam_ros.localization.calibration import (
    DEFAULT,
    LOW,
    MIN_MATCHES,
    Calibration,
    ScoreScale,
    fit_ratio,
    highest_ratio,
    z_scores,
)
from disam_ros.localization.candidates import WIDEST, place_lead
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.fitting.error_fit import ACCURACY, fit_errors
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.pose import AXES, RELATIVE, expected_angle
from disam_ros.localization.query import Answer, Query
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.verification import Verifier
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.spacing import neighbour_steps, spacings

NEAR_M, NEAR_DEG = 2.5, 20.0  # pose difference up to which a map image is a positive
NEAR_STEPS = 0.75  # at least, in local spacings of the map
FAR_M, FAR_STEPS = 10.0, 2.0  # distance from which it is a negative, the larger one
CORRECT_M = 5.0  # error up to which an answer is correct: the covariance describes these
THINNING, SPARSEST = (2, 4), 8.0  # one image in so many, up to this spacing of the map [m]
OTHERS = 100  # negatives sampled per image
DOMAIN_IMAGES = 100  # of a domain, from which on it has a calibration of its own
DOMAIN_ANSWERS = 50  # correct ones of a domain, from which on its errors are its own
LEAST_ANGLE = 0.1  # of the angle between two views, its standard deviation at least [deg]
ON_MAP = FilterModel(alike=0.0)  # where the drives are


@dataclass(frozen=True, eq=False)
class _Scores:
    """z of fine and coarse scores [n, 2] of an image's positives and of sampled negatives."""

    domain: str
    matches: NDArray[np.float64]
    others: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Lead:
    """The lead of an image over the other places of the map."""

    lead: float
    right: bool  # whether its best candidate shows its place
    off_map: float  # the lead that it has without the candidates of its place


@dataclass(frozen=True, eq=False)
class _Error:
    """A correct answer."""

    domain: str
    offset: NDArray[np.float64]  # its error [6]
    spread: NDArray[np.float64]  # [6, 6] (query.py)
    steps: NDArray[np.float64]  # [6, 6] (query.py)
    # Between its view and that of its map image, sideways and upright [2] [rad]; nan where unknown.
    angles: NDArray[np.float64]
    angle_errors: NDArray[np.float64]  # of these [2] [rad]


@dataclass(frozen=True, eq=False)
class _PoseError:
    """A verified pose: its error [6], PnP's covariance [6, 6], its inliers of known depth and its
    distance from the map image [m]."""

    features: str
    offset: NDArray[np.float64]
    covariance: NDArray[np.float64]
    inliers: int
    distance: float


def calibrate(
    localizer: Localizer,
    drives: Sequence[ImageSource],
    accuracy: tuple[float, float] = ACCURACY,
    show_progress: bool = True,
) -> Calibration:
    """Likelihood ratio of scores, and errors of correct answers, over drives in image order.

    The drives are processed without verification: once for the ratios, then with those ratios for
    the errors; both on the map and on thinned copies of it, so that they hold for other spacings.
    Where the map has keypoints, answers are verified for the errors of these poses. Domains with
    DOMAIN_IMAGES have ratios, with DOMAIN_ANSWERS errors of their own. accuracy: of the drives'
    poses [m], [deg]: no error is taken for smaller. The localizer's own calibration has no
    influence. Use validation drives under the expected conditions. Raises ModelError where they are
    too short or of another place, ConfigError for an accuracy that is not positive.
    """
    if not all(math.isfinite(number) and number > 0 for number in accuracy):
        raise ConfigError(
            f"the accuracy of the drives' poses expects metres and degrees above 0, got "
            f"{accuracy[0]:g} m and {accuracy[1]:g}°: give what their source claims"
        )
    sequence = replace(localizer.config.sequence, enabled=True)
    config = replace(localizer.config, sequence=sequence)
    maps = [localizer, *_thinned(localizer)]
    scores, leads = _all_scores(maps, drives, config, show_progress)
    high = highest_ratio(len(scores) // len(maps))
    start = replace(
        DEFAULT, low=LOW, high=high, shift=math.inf, upright=math.inf
    )  # errors without the angles' help
    start = _with_leads(start, leads)
    calibration = _with_ratio(start, scores)
    names = sorted({item.domain for item in scores})
    for domain in names if len(names) > 1 else ():
        shown = [item for item in scores if item.domain == domain]
        if len(shown) >= DOMAIN_IMAGES * len(maps):
            calibration.domains[domain] = _with_ratio(start, shown)
    errors, pose_errors = list[_Error](), list[_PoseError]()
    for thinned in maps:
        of_answers, of_poses = _all_errors(thinned, drives, config, calibration, show_progress)
        errors += of_answers
        pose_errors += of_poses
    if not errors:
        raise ModelError(
            f"no answer to {_named(drives)} is sure and within {CORRECT_M:g} m of its true pose: "
            "are they of the map's place, and is the model trained for them?"
        )
    domains = {}
    for domain, ratios in calibration.domains.items():
        correct = [item for item in errors if item.domain == domain]
        enough = correct if len(correct) >= DOMAIN_ANSWERS else errors
        domains[domain] = _with_errors(ratios, enough, accuracy)
    return replace(
        _with_errors(calibration, errors, accuracy),
        learned_on=[drive.info.name for drive in drives],
        keypoints=_keypoint_errors(pose_errors, accuracy),
        domains=domains,
    )


def _named(drives: Sequence[ImageSource]) -> str:
    return ", ".join(f"'{drive.info.name}'" for drive in drives)


def _with_ratio(calibration: Calibration, scores: Sequence[_Scores]) -> Calibration:
    matches = np.concatenate([item.matches for item in scores])
    others = np.concatenate([item.others for item in scores])
    intercept, slope, coarse = fit_ratio(matches, others)
    ratio = replace(calibration, intercept=intercept, slope=slope, coarse=coarse)
    return replace(ratio, learned_on=[], domains={})


def _with_leads(calibration: Calibration, leads: Sequence[_Lead]) -> Calibration:
    """Logistic regression of the leads at the right place against all others, with one error on
    either side; as it is where there are too few of them."""
    right = [item.lead for item in leads if item.right]
    others = [item.lead for item in leads if not item.right]
    others += [item.off_map for item in leads if math.isfinite(item.off_map)]
    if min(len(right), len(others)) < MIN_MATCHES:
        return calibration
    matches, rest = [*right, np.median(others)], [*others, np.median(right)]
    intercept, slope, _ = fit_ratio(np.array(matches)[:, None], np.array(rest)[:, None])
    return replace(calibration, lead_slope=slope, lead_intercept=intercept)


def _with_errors(
    calibration: Calibration, errors: Sequence[_Error], accuracy: tuple[float, float]
) -> Calibration:
    offsets = np.stack([item.offset for item in errors])
    spreads = np.stack([item.spread for item in errors])
    steps = np.stack([item.steps for item in errors])
    fitted = fit_errors(offsets, spreads, steps, accuracy)
    shift, upright = (_angle_error(errors, axis) for axis in AXES)
    return replace(calibration, **fitted, shift=shift, upright=upright)


def _angle_error(errors: Sequence[_Error], axis: int) -> float:
    """Standard deviation of the angles between views [deg], beside the part in proportion to
    them."""
    angles = np.array([error.angles[axis] for error in errors])
    measured = np.isfinite(angles)
    if not measured.any():
        return (DEFAULT.shift, DEFAULT.upright)[axis]
    angle_errors = np.array([error.angle_errors[axis] for error in errors])[measured]
    squares = np.square(angle_errors) - np.square(RELATIVE * angles[measured])
    return max(LEAST_ANGLE, math.degrees(math.sqrt(max(0.0, float(np.mean(squares))))))


def _keypoint_errors(
    errors: Sequence[_PoseError], accuracy: tuple[float, float]
) -> dict[str, PoseErrors]:
    """Errors of verified poses by local features, but for those of too few poses."""
    fitted = {}
    for features in {item.features for item in errors}:
        poses = [item for item in errors if item.features == features]
        if len(poses) >= DOMAIN_ANSWERS:
            offsets = np.stack([item.offset for item in poses])
            covariances = np.stack([item.covariance for item in poses])
            inliers = np.array([item.inliers for item in poses])
            distances = np.array([item.distance for item in poses])
            fitted[features] = fit_pose_errors(offsets, covariances, inliers, distances, accuracy)
    return fitted


class _ThinnedMap(PlaceMap):
    """A map of which only one image in `step` is used."""

    def __init__(self, directory: Path, step: int) -> None:
        super().__init__(directory, verify=False)
        self._step = step

    def rows_of(self, camera: str) -> NDArray[np.int64]:
        return super().rows_of(camera)[:: self._step]

    def index_path(self, camera: str) -> Path:
        return self.directory / "none"  # the map's is of all images


def _thinned(localizer: Localizer) -> list[Localizer]:
    """Localizers with thinned copies of a map, up to SPARSEST between images."""
    place_map, config = localizer.map, replace(localizer.config, backend="torch")
    maps = [
        _ThinnedMap(place_map.directory, step)
        for step in THINNING
        if step * place_map.spacing() <= SPARSEST
    ]
    return [Localizer(localizer.model, thinned, config) for thinned in maps]


def _all_scores(
    maps: Sequence[Localizer],
    drives: Sequence[ImageSource],
    config: LocalizerConfig,
    show_progress: bool,
) -> tuple[list[_Scores], list[_Lead]]:
    """z-scores of positives and of sampled negatives, image by image and map by map; leads on the
    first map."""
    all_scores, leads = list[_Scores](), list[_Lead]()
    samplers: dict[str, list[_Sampler]] = {}
    for number, drive in enumerate(drives):
        rng, before = np.random.default_rng(number), len(all_scores)
        pipeline = Pipeline(maps[0], config, verify=False)
        for query, answer, truth in _posed(pipeline, drive, "scores", show_progress):
            leads.append(_lead(maps[0], answer, truth))
            if query.camera not in samplers:
                samplers[query.camera] = [_Sampler(thinned, query.camera) for thinned in maps]
            for sampler in samplers[query.camera]:
                scores = sampler.scores(query, truth, rng)
                all_scores += [] if scores is None else [scores]
        if len(all_scores) == before:
            raise ModelError(
                f"drive '{drive.info.name}': no image has a true pose on the map; give drives of "
                "the map's frame and place"
            )
    return all_scores, leads


def _lead(localizer: Localizer, answer: Answer, truth: Transform) -> _Lead:
    """Lead of the candidates of an answer. truth: map_from_camera of its image."""
    rows = np.array([candidate.record.id for candidate in answer.candidates])
    scores = np.array([candidate.fine_score for candidate in answer.candidates])
    positions, reach = localizer.map.poses[rows, :3], localizer.reach
    gaps = np.linalg.norm(positions - truth.translation, axis=1)
    far = gaps >= WIDEST
    off_map = place_lead(scores[far], positions[far], reach) if far.any() else math.nan
    return _Lead(place_lead(scores, positions, reach), bool(gaps[0] < reach), off_map)


def _all_errors(
    localizer: Localizer,
    drives: Sequence[ImageSource],
    config: LocalizerConfig,
    calibration: Calibration,
    show_progress: bool,
) -> tuple[list[_Error], list[_PoseError]]:
    """Errors of the correct answers, and of their poses by keypoints."""
    errors, verified = [], []
    verifier = _open_verifier(localizer)
    for drive in drives:
        pipeline = Pipeline(localizer, config, calibration, ON_MAP, verify=False)
        for query, answer, map_from_camera in _posed(pipeline, drive, "errors", show_progress):
            truth = map_from_camera @ answer.base_from_camera.inverse()
            error = offset(truth, answer.map_from_base)
            correct = answer.known and np.linalg.norm(error[:3]) <= CORRECT_M
            mapped = answer.record.map_from_camera
            if correct and answer.spread is not None and answer.steps is not None and mapped:
                measured = [localizer.view_angle(query, answer.record.id, axis) for axis in AXES]
                angles = np.array([math.nan if a is None else a for a in measured])
                expected = [expected_angle(map_from_camera, mapped, axis) for axis in AXES]
                name, spread, steps = query.domain.name, answer.spread, answer.steps
                errors.append(_Error(name, error, spread, steps, angles, angles - expected))
                verified += [] if verifier is None else _verified(verifier, query, answer, truth)
    return errors, verified


def _open_verifier(localizer: Localizer) -> Verifier | None:
    """Verifier with the covariances of PnP alone; None where the map has no keypoints."""
    if localizer.map.header.keypoints is None:
        return None
    plain = dict.fromkeys(MODELS, PoseErrors(1.0, 0.0, 0.0, 0.0))
    return Verifier(localizer.map, str(localizer.device), plain)


def _verified(
    verifier: Verifier, query: Query, answer: Answer, truth: Transform
) -> list[_PoseError]:
    """The correct pose by the keypoints of an answer's map image, if there is one."""
    (verified,) = verifier.verify(query.frame, np.array([answer.record.id]))
    pose, mapped = verified.map_from_base(answer.base_from_camera), answer.record.map_from_camera
    if pose is None or mapped is None:
        return []
    error = offset(truth, pose.pose)
    if np.linalg.norm(error[:3]) > CORRECT_M:
        return []
    camera = (pose.pose @ answer.base_from_camera).translation
    distance = float(np.linalg.norm(mapped.translation - camera))
    return [_PoseError(verifier.features, error, pose.covariance, verified.metric, distance)]


def _posed(
    pipeline: Pipeline, drive: ImageSource, what: str, show_progress: bool
) -> Iterator[tuple[Query, Answer, Transform]]:
    """Queries, answers and true map_from_camera of the images with ground truth; of a query that
    was warped, that of its view."""
    images = tqdm(
        drive.images,
        unit="img",
        total=drive.total,
        desc=printable(f"{drive.info.name}: {what}"),
        disable=not show_progress,
    )
    for record, localized in localize_drive(pipeline, drive, images):
        truth = record.map_from_camera
        if localized is not None and localized.query is not None and truth is not None:
            query, warp = localized.query, localized.query.frame.warp
            yield query, localized.answer, truth if warp is None else truth @ warp.lens_from_view


class _Sampler:
    """Scores of the map images of one camera that show a query's place, and of others."""

    def __init__(self, localizer: Localizer, camera: str) -> None:
        place_map = localizer.map
        rows = place_map.rows_of(camera)
        self._localizer, self._rows, self._poses = localizer, rows, place_map.poses[rows]
        self._camera = camera
        self._scale = ScoreScale.of_codes(place_map.coarse[rows], place_map.steps)
        spacing = spacings(neighbour_steps(place_map.poses[rows]))
        self._near = np.maximum(NEAR_M, NEAR_STEPS * spacing)
        self._far = np.maximum(FAR_M, FAR_STEPS * spacing)

    def scores(self, query: Query, truth: Transform, rng: np.random.Generator) -> _Scores | None:
        """z-scores of the positives and of sampled negatives; None without either."""
        gaps = np.linalg.norm(self._poses[:, :3] - truth.translation, axis=1)
        turns = Rotation.from_quat(truth.quaternion).inv() * Rotation.from_quat(self._poses[:, 3:])
        same = np.degrees(turns.magnitude()) <= NEAR_DEG
        near, far = np.flatnonzero((gaps <= self._near) & same), np.flatnonzero(gaps > self._far)
        if not len(near) or not len(far):
            return None
        far = rng.choice(far, min(OTHERS, len(far)), replace=False)
        rows = self._rows[np.concatenate([near, far])]
        scores = self._localizer.fine_scores(query, rows)
        z_fine = z_scores(scores, self._localizer.background_scores(query)[self._camera])
        z_coarse = self._scale.z(query.coarse, self._localizer.coarse_scores(query, rows))
        z = np.column_stack([z_fine, z_coarse])
        return _Scores(query.domain.name, z[: len(near)], z[len(near) :])
