# SPDX-License-Identifier: Apache-2.0
"""Value of a position prior: images localized alone with the true position plus Gaussian noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import mount
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource
from disam_ros.evaluation import RECALL_DISTANCE, errors
from disam_ros.geometry import Transform
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Localized, Pipeline, Shot
from disam_ros.localization.prior import OFF_MAP, OVERRULED, PositionPrior
from disam_ros.localization.query import Answer

LOCAL_RADIUS = 50.0  # radius of the local search [m] (Xia et al., RA-L 2021)
MIN_DEVIATION = 0.01  # standard deviation of a prior without noise [m]
SEED = 0


@dataclass(frozen=True)
class Trial:
    """Answers to one image with a simulated prior."""

    # map_from_camera; None where the place is unknown.
    answer: Transform | None = None
    # map_from_camera of the most similar map image within LOCAL_RADIUS of the prior's mean, or
    # without a prior of all; None where no map image is that near.
    local: Transform | None = None
    # What the prior did (localization/prior.py); empty without one.
    effect: str = ""


@dataclass(frozen=True)
class PriorFigures:
    """Figures of a drive with priors of one error. Shares are of images with a true pose."""

    noise_m: float | None  # standard deviation in x and in y; None: no prior
    queries: int  # number of images with a true pose
    recall_at_1: float  # share of answers within the recall distance
    median_error_m: float  # of the answers; nan without any
    local_recall_at_1: float  # share of local answers within the recall distance
    overruled: float  # share of the priors with that effect
    off_map: float  # share of the priors with that effect

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def prior_figures(
    localizer: Localizer, source: ImageSource, noises: Sequence[float]
) -> list[PriorFigures]:
    """Figures of a drive without a prior, then by the noise of the prior [m].

    The error of a prior is drawn once per image, seeded by the record's id, and scaled by each
    noise, so that noises are compared on the same draws. Sequences would carry a prior on to the
    next image: each image is localized alone.
    """
    sequence = replace(localizer.config.sequence, enabled=False)
    pipeline = Pipeline(localizer, replace(localizer.config, sequence=sequence))
    records: list[ImageRecord] = []
    rows: list[list[Trial]] = []
    for record, localized in localize_drive(pipeline, source):
        if record.map_from_camera is None:
            continue
        records.append(record)
        if localized is None:
            rows.append([Trial()] * (1 + len(noises)))
        else:
            rows.append(list(_trials(pipeline, record, localized, noises)))
    columns = zip(*rows, strict=True)
    return [
        _figures(noise, source, records, trials)
        for noise, trials in zip((None, *noises), columns, strict=False)
    ]


def _trials(
    pipeline: Pipeline, record: ImageRecord, plain: Localized, noises: Sequence[float]
) -> Iterator[Trial]:
    """One image without a prior, then with each noise [m]."""
    query, localizer = plain.query, pipeline.localizer
    assert query is not None and record.map_from_camera is not None
    poses = [r.map_from_camera for r in localizer.map.records if r.map_from_camera is not None]
    scores = localizer.fine_scores(query, np.arange(len(poses)))
    places = np.array([pose.translation[:2] for pose in poses])
    yield Trial(_known(plain.answer), poses[int(scores.argmax())])
    frame = replace(query.frame, domain=query.domain.name)
    draw = np.random.default_rng([SEED, record.id]).standard_normal(2)
    for noise in noises:
        mean = record.map_from_camera.translation[:2] + noise * draw
        prior = PositionPrior(mean, max(noise, MIN_DEVIATION) ** 2 * np.eye(2))
        (localized,) = pipeline.process([Shot(frame, prior=prior)])
        near = np.linalg.norm(places - mean, axis=1) <= LOCAL_RADIUS
        local = poses[int(np.where(near, scores, -np.inf).argmax())] if near.any() else None
        yield Trial(_known(localized.answer), local, localized.answer.prior)


def _known(answer: Answer) -> Transform | None:
    return answer.map_from_camera if answer.known else None


def _figures(
    noise: float | None,
    source: ImageSource,
    records: Sequence[ImageRecord],
    trials: Sequence[Trial],
) -> PriorFigures:
    """Figures of all images with one noise."""
    best = _errors(source, records, [trial.answer for trial in trials])
    local = _errors(source, records, [trial.local for trial in trials])
    effects = [trial.effect for trial in trials]
    finite = best[np.isfinite(best)]
    return PriorFigures(
        noise_m=noise,
        queries=len(records),
        recall_at_1=float(np.mean(best <= RECALL_DISTANCE)),
        median_error_m=float(np.median(finite)) if len(finite) else float("nan"),
        local_recall_at_1=float(np.mean(local <= RECALL_DISTANCE)),
        overruled=effects.count(OVERRULED) / len(records),
        off_map=effects.count(OFF_MAP) / len(records),
    )


def _errors(
    source: ImageSource, records: Sequence[ImageRecord], poses: Sequence[Transform | None]
) -> NDArray[np.float64]:
    """Position errors [N] of the vehicle [m]; infinite where there is no answer."""
    camera_from_base = [mount(source.info.cameras, r.camera).inverse() for r in records]
    truth = [
        r.map_from_camera and r.map_from_camera @ camera
        for r, camera in zip(records, camera_from_base, strict=True)
    ]
    answers = [pose and pose @ camera for pose, camera in zip(poses, camera_from_base, strict=True)]
    return errors(truth, answers)[0]
