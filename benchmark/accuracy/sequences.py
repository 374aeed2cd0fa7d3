# SPDX-License-Identifier: Apache-2.0
"""What following the sequence and a look at points gain, each alone and both.

Offline, no look-ahead. The calibration was learned on another town (models/*/calibration.json);
nothing was chosen on the drives below.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import numpy as np

from benchmark.accuracy.rides import (
    KEYPOINTS,
    NOTHING,
    RIGHT_M,
    SIFT,
    WEIGHTS,
    XFEAT,
    Maps,
    Ride,
    gardens,
    town,
    train,
)
from benchmark.peers.table import markdown, percent
from disam_ros.config import FilterConfig, LocalizerConfig, VerifyConfig
from disam_ros.evaluation.confidence import consistency
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.tracker import Tracker
from disam_ros.localization.verification import MAX_CANDIDATES

ALONE, BLIND, ODOMETRY = "each image alone", "sequence, no odometry", "sequence, odometry"
# What is followed, and what points are looked at.
ROWS = tuple(product((ALONE, BLIND, ODOMETRY), (NOTHING, SIFT, XFEAT)))
UNLIMITED = 10_000.0  # milliseconds, so that figures do not depend on the machine


def measure() -> dict:
    """Figures by ride and row."""
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for maps, ride in chain(town(root), gardens(root), train(root)):
            found[ride.name] = {
                f"{followed}/{points}": figures(opened(maps, points), ride, followed, points)
                for followed, points in ROWS
                if points in maps
            }
    return {"rides": found, "least": FilterConfig().least_probability}


def render(results: dict) -> str:
    """The figures as a section of a page."""
    rows = []
    for name, ride in results["rides"].items():
        for number, (row, values) in enumerate(ride.items()):
            followed, points = row.split("/")
            cells = [percent(values["right"]), percent(values["half"]), f"{values['median']:.2f}"]
            told = followed != ALONE
            cells += [percent(values["answered"]), percent(values["wrong"])] if told else ["", ""]
            metric = told and name.startswith("town")
            cells += [f"{values[key]:.2f}" if metric else "" for key in ("pose", "plane")]
            cells.append(f"{values['ms']:.1f}" if told or points != NOTHING else "")
            rows.append(["" if number else name, followed, points, *cells])
    header = ["queries", "answer", "points", "right", "within 0.5", "median error", "answered"]
    header += ["wrong of these", "NEES", "NEES x y yaw", "ms"]
    return (
        "## Following the sequence, and a look at points\n\n"
        "`python -m benchmark.accuracy sequences`: the best answer to every image, with default "
        "settings, alone or by the filter over all images so far (online). Right: town "
        f"within {RIGHT_M:g} m, the model choosing its domain; Gardens Point ±2, Nordland ±1 "
        "frames. Median error in metres or frames. Answered: probability of the place at least "
        f"{results['least']:g}; wrong: share of those answers farther off than a place reaches, "
        f"{FilterConfig().radius:g} m or frames. Without odometry the filter knows the largest "
        "speed alone: 20 m/s in the town, two frames an image elsewhere. Odometry of the town is "
        "that of wheels (1 % scale error, drifting); Gardens Point and Nordland have none: there "
        "it is one frame an image, which is how both sets were aligned, so these rows are the best "
        f"case. Points: the map keeps {KEYPOINTS} of an image, and the "
        f"{MAX_CANDIDATES} images that decide are matched with the query, without a "
        "limit of time. In the town they are triangulated and give poses between map images; "
        "Gardens Point and Nordland have neither intrinsics nor metric poses: there the number of "
        "points that agree with one rigid scene chooses among map images. NEES: normalized error "
        "squared of answered poses over its expectation, 1 for a right covariance, of all six "
        "degrees of freedom (the town is flat: its height is never wrong, so that 5/6 is right "
        "for the others) and of x, y and yaw. ms: what following and points add to an image, with "
        "whatever else ran.\n\n" + markdown(header, rows)
    )


def opened(maps: Maps, points: str) -> Localizer:
    """The localizer of a map with those points. maps: by points, map and model directory."""
    weights = str(WEIGHTS) if points == XFEAT else ""
    when = "never" if points == NOTHING else "always"
    verify = VerifyConfig(when=when, xfeat=weights, budget_ms=UNLIMITED)
    return Localizer.open(*maps[points], LocalizerConfig(device="cpu", verify=verify))


def figures(localizer: Localizer, ride: Ride, followed: str, points: str) -> dict[str, float]:
    """Shares in 0…1, the median error and milliseconds of the filter."""
    localizer.config.sequence = replace(localizer.config.sequence, max_speed=ride.max_speed)
    tracker = Tracker(localizer)
    errors, sure, laps, gaps = [], [], [], []
    for item, truth in zip(ride.items, ride.truth, strict=True):
        record = item.record
        place = item.place or (None, None)
        picture = item.load()
        found = localizer.localize(
            picture,
            record.stamp_ns,
            weather=item.weather,
            latitude=place[0],
            longitude=place[1],
            domain=ride.domain,
        )
        if (followed, points) != (ALONE, NOTHING):
            at = ride.odometry.at(record.stamp_ns) if followed == ODOMETRY else None
            stamp_ns = None if followed == ALONE else record.stamp_ns
            found = tracker.follow(found, stamp_ns, at and at[0], image=picture)
            laps.append(found.timings_ms["sequence"])
        mount = localizer.map.header.cameras[found.camera].base_from_camera
        answer = found.map_from_base(mount)
        errors.append(float(np.linalg.norm(answer.translation - truth.translation)))
        sure.append(found.known)
        if found.known and followed != ALONE:
            gaps.append((truth, answer, found.covariance(mount)))
    far, answered = np.array(errors), np.array(sure)
    told = consistency(*zip(*gaps, strict=True)) if gaps else None
    return {
        "right": float((far <= ride.right).mean()),
        "half": float((far <= 0.5).mean()),
        "pose": told.pose_mean if told else float("nan"),
        "plane": told.plane_mean if told else float("nan"),
        "median": float(np.median(far)),
        "answered": float(answered.mean()),
        "wrong": float((far[answered] > FilterConfig().radius).mean()) if answered.any() else 0.0,
        "ms": float(np.median(laps)) if laps else 0.0,
    }
