# SPDX-License-Identifier: Apache-2.0
"""Single-image localization of the running node and of every peer on the demo's town.

The town is for testing only: nothing is trained, tuned or chosen on it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.peers import peer_similarities
from benchmark.truth import bases
from demo.make_data import QUERIES, REFERENCE
from disam_ros import image
from disam_ros.datasets.dataset import Dataset
from disam_ros.demo.drives import BAG_HZ, CONDITIONS, DATA, MODEL, Drive, make_map, read_drive
from disam_ros.evaluation import Metrics, chance, score, upper_bound
from disam_ros.geometry import Transform
from disam_ros.models.model import load_model
from disam_ros.nodes.localizer.publishers.answer_status import ranked_ids
from disam_ros.nodes.replay.node_run import NodeOptions, run_node_on_bag

SLOWEST, FASTEST = QUERIES[0].speed_m_s  # of every drive
OURS, BOUND = "disam_ros", "nearest map image"
FIRST = "disam_ros, pose of the first candidate"
SINGLE = {"localizer.sequence.enabled": False, "localizer.min_probability": 0.0}


def measure() -> dict[str, Any]:
    """Metrics by condition and method: the node, the peers, chance and the bound."""
    drives = [read_drive(DATA / condition) for condition in CONDITIONS]
    model, reference = load_model(MODEL), Dataset(DATA / "reference")
    poses = bases(reference.records, reference.info.cameras["front"])
    peers = peer_metrics(reference, poses, drives)
    figures = {**node_metrics(drives, poses), **peers}
    figures["chance"] = [chance(drive.truth, poses) for drive in drives]
    figures[BOUND] = [upper_bound(drive.truth, poses) for drive in drives]
    return {
        "model": model.label,
        "map_images": len(reference),
        "conditions": {
            condition: {method: every[k].to_json() for method, every in figures.items()}
            for k, condition in enumerate(CONDITIONS)
        },
    }


def velocities() -> tuple[float, float]:
    """Slowest and fastest of a drive, in map images per query."""
    assert REFERENCE.spacing_m is not None  # the map's images are equally far apart
    pace = BAG_HZ * REFERENCE.spacing_m  # speed at which a drive's images are as far apart [m/s]
    return SLOWEST / pace, FASTEST / pace


def node_metrics(drives: Sequence[Drive], poses: Sequence[Transform]) -> dict[str, list[Metrics]]:
    """The running node's, per condition: of the poses that it publishes, whatever their
    probability, and of those of the map images that they are answered with."""
    with tempfile.TemporaryDirectory() as scratch:
        make_map(Path(scratch) / "map")
        runs = [
            run_node_on_bag(
                DATA / condition, Path(scratch) / "map", MODEL, NodeOptions(parameters=SINGLE)
            )
            for condition in CONDITIONS
        ]
    metrics: dict[str, list[Metrics]] = {OURS: [], FIRST: []}
    for drive, run in zip(drives, runs, strict=True):
        rows = [ranked_ids(run.answers[stamp])[0] for stamp in drive.stamps_ns]
        metrics[OURS].append(score(drive.truth, [run.poses[stamp] for stamp in drive.stamps_ns]))
        metrics[FIRST].append(score(drive.truth, [poses[row] for row in rows]))
    return metrics


def peer_metrics(
    reference: Dataset, poses: Sequence[Transform], drives: Sequence[Drive]
) -> dict[str, list[Metrics]]:
    """Every peer's per condition. poses: map_from_base of the reference's images."""
    map_images = [image.read(reference.path(record)) for record in reference.records]
    queries = [drive.images for drive in drives]
    return {
        name: [
            score(drive.truth, [poses[i] for i in similarities.argmax(1)])
            for drive, similarities in zip(drives, every, strict=True)
        ]
        for name, every in peer_similarities(map_images, queries, velocities())
    }
