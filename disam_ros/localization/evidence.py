# SPDX-License-Identifier: Apache-2.0
"""Evidence of one image: the odds that its best map image shows the right place.

The lead of the best score over those elsewhere on the map tells a right place from a wrong one, and
from an image off the map. On San Francisco's streets over fourteen years, KITTI odometry 00,
Gardens Point by night and rendered towns the lead of images off the map has the same distribution
within 0.03, in any condition; the constants of the logistic regression are those of the first two
(benchmark/accuracy/known.py). Models of other similarities have their own (`disam calibrate`).

How far another place is depends on the map: images of a walk between houses resemble each other up
to 8 m, those of a straight street up to 30 m. That distance is where the map's own images resemble
each other hardly more than any two of them.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from disam_ros.localization.calibration import Calibration
from disam_ros.localization.candidates import Reranker
from disam_ros.mapping.repetition import evenly
from disam_ros.mapping.spacing import neighbour_steps, spacings

logger = logging.getLogger(__name__)

ELSEWHERE = 5  # best images elsewhere whose mean the best score is compared with
UNMAPPED = 0.35  # score that stands for each of them that the map lacks
HIGHEST = 7.0  # log odds: an error in a thousand is the rarest that could be observed

WIDEST = 30.0  # distance from which two map images always show different places [m]
GAPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # distances that are compared, in spacings of the map
SAMPLE = 48  # map images that are compared with others
FALL = 0.2  # share of the similarity of neighbours that is left at another place
MARGIN = 1.25  # of that distance
LEAST_CONTRAST = (
    0.05  # similarity of neighbours less that of any two images, below which all are alike
)


def place_log_odds(lead: float, calibration: Calibration) -> float:
    """Computes the log odds that the candidate with this lead shows the right place."""
    return min(HIGHEST, calibration.lead_slope * lead + calibration.lead_intercept)


def place_lead(scores: NDArray[np.float64], positions: NDArray[np.float64], reach: float) -> float:
    """Computes the lead of the first candidate over other places.

    scores: fine similarities [n], best first; positions: of the candidates [n, 3] [m]; reach:
    distance from which a map image shows another place [m].
    """
    away = np.linalg.norm(positions - positions[0], axis=1) >= reach
    others = scores[away][:ELSEWHERE]
    missing = ELSEWHERE - len(others)
    elsewhere = (float(others.sum()) + UNMAPPED * missing) / ELSEWHERE
    return float(scores[0]) - elsewhere


def place_reach(reranker: Reranker, rows: NDArray[np.int64], poses: NDArray[np.float64]) -> float:
    """Estimates the distance [m] from which map images show different places, at most WIDEST.

    rows: of one camera's images in the map [n]; poses: theirs [n, 7]. A map that is too small or
    too alike for that counts as wide.
    """
    spacing = float(np.median(spacings(neighbour_steps(poses)))) if len(rows) > 1 else 0.0
    positions, extent = poses[:, :3], float(np.ptp(poses[:, :3], axis=0).max(initial=0.0))
    gaps = spacing * np.array(GAPS)
    gaps = gaps[gaps <= min(WIDEST, extent / 2)]
    if len(gaps) < 2 or spacing <= 0.0:
        logger.info("the map is too small to tell how far apart its places are")
        return WIDEST
    tree, ahead, columns = cKDTree(positions), _forward(poses), positions.T.copy()
    far_ranks = evenly(max(1, len(rows) // 4), 4)  # of the farthest quarter
    near = list[NDArray[np.float64]]()
    far = list[float]()
    for query in evenly(len(rows), SAMPLE):
        squares = np.square(columns - columns[:, query, None]).sum(0)
        around = np.array(tree.query_ball_point(positions[query], gaps[-1] + spacing))
        around = around[ahead[around] @ ahead[query] > np.cos(np.pi / 4)]
        nearest = np.abs(np.sqrt(squares[around])[None] - gaps[:, None])  # [gaps, images]
        chosen = around[nearest.argmin(1)]
        missing = np.where(nearest.min(1) <= spacing / 2, 0.0, np.nan)
        others = np.argpartition(-squares, far_ranks)[far_ranks]
        scores = reranker.between(rows[query], rows[np.concatenate([chosen, others])])
        near.append(scores[: len(gaps)] + missing)
        far.append(float(scores[len(gaps) :].mean()))
    level = float(np.mean(far))
    means = np.array([np.nanmean(c) if np.isfinite(c).any() else np.nan for c in np.array(near).T])
    contrast = float(np.nanmax(means)) - level
    if contrast < LEAST_CONTRAST:
        logger.info("the map's images are too alike to tell how far apart its places are")
        return WIDEST
    fallen = np.flatnonzero((means <= level + FALL * contrast) & (gaps >= 2.0 * spacing))
    return min(WIDEST, MARGIN * float(gaps[fallen[0]])) if len(fallen) else WIDEST


def _forward(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Optical axes [n, 3] of cameras with poses [n, 7]."""
    x, y, z, w = poses[:, 3:].T
    return np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=1)
