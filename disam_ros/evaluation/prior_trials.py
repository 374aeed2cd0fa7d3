# SPDX-License-Identifier: Apache-2.0
"""Localization with simulated position priors: the true position plus Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from disam_ros.datasets.records import ImageRecord
from disam_ros.errors import ConfigError, MapError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.prior import Disc, PositionPrior
from disam_ros.localization.query import Query

LOCAL_RADIUS = 50.0  # of the local search [m] (Xia et al., RA-L 2021)
MIN_DEVIATION = 0.01  # standard deviation of a prior without noise [m]
SEED = 0


@dataclass(frozen=True)
class Trial:
    """One image localized with a simulated prior.

    noise: standard deviation of the prior in x and in y [m]. answer: map_from_camera, None where
    the place is unknown. effect: of the prior (prior.py). local: that of the answer within
    LOCAL_RADIUS of the prior's mean; None where there is no map image.
    """

    noise: float
    answer: Transform | None
    effect: str
    local: Transform | None


def check_noises(noises: Sequence[float]) -> None:
    """Raise ConfigError for one that is negative or not finite."""
    if not all(np.isfinite(noise) and noise >= 0 for noise in noises):
        raise ConfigError(f"noises of a prior expect metres from 0, got {list(noises)}")


def trials(
    localizer: Localizer, query: Query, record: ImageRecord, noises: Sequence[float]
) -> tuple[Trial, ...]:
    """Trials of one image, one per noise; empty without a true pose.

    The error is drawn once per image, seeded by the record's id, and scaled by each noise, so that
    noises are compared on the same draws.
    """
    if record.map_from_camera is None:
        return ()
    error = np.random.default_rng([SEED, record.id]).standard_normal(2)
    truth = record.map_from_camera.translation[:2]
    return tuple(_trial(localizer, query, truth + noise * error, noise) for noise in noises)


def _trial(localizer: Localizer, query: Query, place: np.ndarray, noise: float) -> Trial:
    prior = PositionPrior(place, max(noise, MIN_DEVIATION) ** 2 * np.eye(2))
    answer = localizer.answer(query, prior)
    try:
        local = localizer.answer(query, Disc(*place, LOCAL_RADIUS)).map_from_camera
    except MapError:
        local = None
    return Trial(noise, answer.map_from_camera if answer.known else None, answer.prior, local)
