# SPDX-License-Identifier: Apache-2.0
"""Accuracy, covariance consistency and coverage of the running node's poses, over DDS.

Every condition of the town, each image sent once the last was answered: alone, with the sequence
tracker, and with tracker and geometric verification. The calibration was learned on another town.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.accuracy.drives import EVERY_IMAGE, KEYPOINTS, town_drives
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.demo.drives import MODEL, REFERENCE
from disam_ros.evaluation import judge, score
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.nodes.replay.node_run import NodeOptions
from disam_ros.nodes.replay.replay_drive import replay_drive
from season_town import CONDITIONS

WRONG_M = 5.0
FIRST, ALL = "pose of the first candidate", "each image alone, all"
ALONE = {"localizer.sequence.enabled": False, "localizer.verify.when": "never"}
ROWS: dict[str, dict[str, Any]] = {  # parameters of the node
    ALL: {**ALONE, "localizer.min_probability": 0.0},
    "each image alone": ALONE,
    "sequence": {"localizer.verify.when": "never"},
    "sequence, verified": {"localizer.verify.when": "always"},
}


def measure() -> dict[str, Any]:
    """Figures by condition and row."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        settings = replace(EVERY_IMAGE, keypoints=KEYPOINTS)
        place_map = build_map(open_dataset(REFERENCE), load_model(MODEL), root / "map", settings)
        for condition, bag in town_drives():
            if (bag / "dataset.json").exists():
                weather = CONDITIONS[condition].weather
                drive, bag = bag, root / condition
                dataset_to_bag(drive, bag, weather=weather, show_progress=False)
            rows = {
                name: figures(place_map, bag, condition, parameters)
                for name, parameters in ROWS.items()
            }
            results[condition] = {FIRST: rows[ALL].pop(FIRST), **rows}
    return {"map_images": len(place_map), "conditions": results}


def figures(
    place_map: PlaceMap, bag: Path, name: str, parameters: dict[str, Any]
) -> dict[str, Any]:
    """What the node published for the images of a bag, and the figures of their FIRST candidates'
    poses."""
    source = open_images(bag, place_map.header.map_frame)
    options = NodeOptions(parameters=parameters)
    drive = replay_drive(place_map, MODEL, bag, source, name, options)
    judged = judge(place_map, [drive], {}).overall
    curve, nees = judged.curve, judged.consistency  # None without a pose
    posed = [frame for frame in judged.frames if frame.pose is not None]
    wrong = [frame.error_m > WRONG_M for frame in posed]
    first = score(
        [f.truth for f in judged.frames],
        [f.ranking[0] if f.ranking else None for f in judged.frames],
    )
    return {
        FIRST: {
            "answered": first.answered,
            "wrong": 1.0 - first.recall_at_1,
            "within": list(first.within.values()),
            "median_m": first.median_error_m,
        },
        "queries": len(judged.frames),
        "answered": judged.metrics.answered,
        "wrong": float(np.mean(wrong)) if posed else 0.0,
        "full_precision": curve.recall_at_full_precision if curve else float("nan"),
        "within": list(judged.metrics.within.values()),
        "median_m": judged.metrics.median_error_m,
        "nees": nees.pose_mean if nees else float("nan"),
        "covered": nees.covered if nees else float("nan"),
    }
