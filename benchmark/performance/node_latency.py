# SPDX-License-Identifier: Apache-2.0
"""Latency and frame loss of the running node over DDS, and its time to the first pose.

`python -m benchmark.performance node_latency`. Images at 5 Hz, published reliably by another
process; beside them the same images in a loop without ROS, one after the other and at 5 Hz, in the
same run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.machine import fresh, load
from benchmark.performance.map_building import PERIOD_NS, enlarged
from benchmark.performance.startup_time import first_pose, kept_bytecode
from benchmark.performance.synthetic_map import large_noise_map
from disam_ros import image
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.dataset import Dataset
from disam_ros.demo.drives import DATA, MODEL, make_map
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.publishers.answer_status import PUBLISHED, timings_ms
from disam_ros.nodes.replay.node_run import NodeOptions, run_node_on_bag

FRAMES = 100
CASES: tuple[tuple[int, int, dict[str, Any]], ...] = (  # width, height, parameters of the node
    (640, 480, {}),
    (640, 480, {"qos_overrides./image.subscription.reliability": "best_effort"}),
    (1280, 720, {}),
    (1280, 720, {"image_transport": "compressed"}),
)
STARTS, IMAGES = 3, 100_000  # images of the map that the node starts with


def measure() -> dict[str, Any]:
    """Figures of every case, seconds of every start, the most memory of any [MiB]."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_map(root / "map")
        loops = [loop_times(root / "map")]
        rows = [node_figures(root / str(k), root / "map", *c) for k, c in enumerate(CASES)]
        loops.append(loop_times(root / "map"))
        large_noise_map(root / "large", IMAGES)
        picture = image.read(next((DATA / "reference").rglob("*.jpg")))
        with kept_bytecode(root / "bytecode"):
            starts = [first_pose(root / "large", MODEL, picture) for _ in range(1 + STARTS)][1:]
    loop, paced = np.mean(loops, axis=0).tolist()
    seconds, mebibytes = zip(*starts, strict=True)
    return {
        "rows": rows,
        "loop": loop,
        "paced": paced,
        "images": IMAGES,
        "starts": list(seconds),
        "mebibytes": max(mebibytes),
        "load": load(),
    }


def node_figures(
    scratch: Path, map_dir: Path, width: int, height: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Frames sent, poses published and milliseconds of one case."""
    raw = settings.get("image_transport", "raw") == "raw"
    drive = enlarged(scratch / "drive", FRAMES, (width, height))
    dataset_to_bag(drive, scratch / "bag", raw=raw, show_progress=False)
    options = NodeOptions(rate=1.0, parameters=settings)
    run = run_node_on_bag(scratch / "bag", map_dir, MODEL, options)
    laps = [timings_ms(values) for values in run.answers.values()][2:]
    published = np.array([lap[PUBLISHED] for lap in laps])
    inside = np.array([lap["total"] for lap in laps])
    figures = {"published": published, "localize": inside, "overhead": published - inside}
    return {
        "width": width,
        "height": height,
        "transport": settings.get("image_transport", "raw"),
        "reliability": settings.get("qos_overrides./image.subscription.reliability", "auto"),
        "sent": len(run.sent),
        "poses": len(run.poses),
        "dropped": run.counts["images dropped"],
    } | {
        f"{name} p{p}": float(np.percentile(values, p))
        for name, values in figures.items()
        for p in (50, 99)
    }


def loop_times(map_dir: Path) -> list[float]:
    """`loop_ms` of images one after the other, and of one in each period."""
    return [fresh(loop_ms, map_dir, paced) for paced in (False, True)]


def loop_ms(map_dir: Path, paced: bool, size: tuple[int, int] = CASES[0][:2]) -> float:
    """Median milliseconds from an image of that size (width, height) to its pose, without ROS.

    paced: one image in each period, as a camera takes them; else one after the other.
    """
    localizer = Localizer.open(map_dir, MODEL, LocalizerNodeConfig().localizer)
    pipeline, camera = Pipeline(localizer), localizer.map.main_camera()
    reference, times, begun = Dataset(DATA / "reference"), [], time.monotonic()
    for index, record in enumerate(reference.records[:FRAMES]):
        picture = np.asarray(cv2.resize(image.read(reference.path(record)), size), np.uint8)
        stamp_ns = reference.records[0].stamp_ns + index * PERIOD_NS
        frame = Frame(picture, camera, stamp_ns)
        if paced:
            time.sleep(max(0.0, begun + 1e-9 * index * PERIOD_NS - time.monotonic()))
        (localized,) = pipeline.process([Shot(frame)])
        times.append(localized.answer.timings_ms["total"])
    return float(np.median(times[2:]))
