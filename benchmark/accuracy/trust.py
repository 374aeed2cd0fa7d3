# SPDX-License-Identifier: Apache-2.0
"""May a SLAM stack trust what the node publishes? The town through the running node, over DDS.

Every condition, each image once the last was answered: alone, by the sequence, and by the sequence
with points. The calibration was learned on another town.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmark.accuracy.rides import KEYPOINTS
from benchmark.accuracy.wrong_domain import RENDERED, drive_of
from benchmark.peers.table import markdown, percent
from demo.drives import CONDITIONS as SHIPPED
from demo.drives import DATA, MODEL, REFERENCE
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.bags import dataset_to_bag
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.evaluation import judge
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.nodes.replay.replay_drive import replay_drive
from disam_ros.synthetic import CONDITIONS

WRONG_M = 5.0
WRONG, ANSWERED = 0.01, 0.8  # at most, at least
ROWS = {  # parameters of the node
    "each image alone": {"localizer.verify.when": "never"},
    "sequence": {"localizer.sequence.enabled": True, "localizer.verify.when": "never"},
    "sequence, points": {
        "localizer.sequence.enabled": True,
        "localizer.verify.when": "always",
        "localizer.verify.budget_ms": 1000.0,
    },
}


def measure() -> dict:
    """Figures by condition and row."""
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        settings = MapBuilderConfig(keyframe_distance=0.0, keypoints=KEYPOINTS)
        place_map = build_map(open_dataset(REFERENCE), load_model(MODEL), root / "map", settings)
        for condition in CONDITIONS:
            if drive_of(condition, RENDERED) is None:
                continue
            bag = DATA / condition
            if condition not in SHIPPED:
                bag = root / condition
                weather = CONDITIONS[condition].weather
                drive = RENDERED / condition
                dataset_to_bag(drive, bag, weather=weather, show_progress=False)
            found[condition] = {
                name: figures(place_map, bag, condition, parameters)
                for name, parameters in ROWS.items()
            }
    return {"map_images": len(place_map), "conditions": found}


def figures(place_map: PlaceMap, bag: Path, name: str, parameters: dict) -> dict[str, float]:
    """What the node published for the images of a bag."""
    source = open_images(bag, place_map.header.map_frame)
    drive = replay_drive(place_map, MODEL, bag, source, name, parameters=parameters)
    judged = judge(place_map, [drive], {}).overall
    given = [frame for frame in judged.frames if frame.given is not None]
    wrong = [frame.error_m > WRONG_M for frame in given]
    return {
        "queries": len(judged.frames),
        "answered": judged.metrics.answered,
        "wrong": float(np.mean(wrong)) if given else 0.0,
        "full_precision": judged.curve.recall_at_full_precision,
        "within": list(judged.metrics.within.values()),
        "median_m": judged.metrics.median_error_m,
        "nees": judged.consistency.pose_mean,
        "covered": judged.consistency.covered,
        "latency": drive.run.get("latency p50 (ms)", float("nan")),
    }


def render(results: dict) -> str:
    """The figures as a section of a page."""
    header = ["condition", "answer", "answered", f"wrong by > {WRONG_M:g} m", "recall at full"]
    header += ["0.25 m 2°", "0.5 m 5°", "5 m 10°", "median", "NEES", "in 95 %", "p50 ms"]
    rows = []
    for condition, both in results["conditions"].items():
        for name, f in both.items():
            shares = [f["answered"], f["wrong"], f["full_precision"], *f["within"]]
            cells = [percent(share) for share in shares]
            cells += [f"{f['median_m']:.2f} m", f"{f['nees']:.2f}", percent(f["covered"])]
            rows.append([condition, name, *cells, f"{f['latency']:.0f}"])
    verdicts = []
    for name in list(ROWS)[1:]:
        rows_of = [both[name] for both in results["conditions"].values()]
        worst, least = max(f["wrong"] for f in rows_of), min(f["answered"] for f in rows_of)
        met = worst <= WRONG and least >= ANSWERED
        verdicts.append(
            f"{name}: {'met' if met else 'missed'} ({percent(worst)} % wrong at most, "
            f"{percent(least)} % answered at least)"
        )
    return (
        "## What a SLAM stack gets, over DDS\n\n"
        "`python -m benchmark.accuracy trust`: the demo's town through the running node, summer "
        f"map of {results['map_images']} images with {KEYPOINTS} points each (SIFT, triangulated). "
        "Wrong: share of the poses published. Recall at full: share of all queries that a "
        "threshold on the score (alone) or probability (sequence) answers without one wrong "
        "answer. NEES: normalized error squared of the pose over its expectation, 1 for a right "
        "covariance; in 95 %: positions inside the ellipsoid that should hold so many. Alone, the "
        "score has no threshold and the covariance is not calibrated.\n\n"
        f"{markdown(header, rows)}\n"
        f"Target: at most {percent(WRONG)} % of published poses wrong at {percent(ANSWERED)} % "
        f"answered or more, in every condition. {'; '.join(verdicts)}.\n"
    )
