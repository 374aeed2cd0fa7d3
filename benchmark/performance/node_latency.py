# SPDX-License-Identifier: Apache-2.0
"""The running node with raw images over DDS: frames answered, latency, and its start.

`python -m benchmark.performance node_latency`. Images are raw at 5 Hz, played reliably by a process of its
own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmark.machine import load
from benchmark.peers.table import markdown, verdict
from benchmark.performance.opening import IMAGES, write_map
from demo.drives import DATA, MODEL, make_map
from disam_ros import image
from disam_ros.datasets.bags import dataset_to_bag
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.mapping.builder import write_indices
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.localizer.answer_status import PUBLISHED, timings_ms
from disam_ros.nodes.replay.node_run import run_node_on_bag
from disam_ros.nodes.replay.startup_time import seconds_to_first_pose

FRAMES = 100
PERIOD_NS = 200_000_000
CASES = (  # width, height, parameters of the node
    (640, 480, {}),
    (640, 480, {"reliability": "best_effort"}),
    (1280, 720, {}),
    (1280, 720, {"image_transport": "compressed"}),
)
OVERHEAD_MS, START_S = 5.0, 3.0
STARTS = 3


def measure() -> dict:
    """Figures of every case and seconds of every start."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_map(root / "map")
        rows = [node_figures(root / str(k), root / "map", *c) for k, c in enumerate(CASES)]
        write_map(root / "large", IMAGES)
        write_indices(PlaceMap(root / "large", verify=False))
        picture = image.read(next((DATA / "reference").rglob("*.jpg")))
        starts = [seconds_to_first_pose(root / "large", MODEL, picture) for _ in range(STARTS)]
    return {"rows": rows, "images": IMAGES, "starts": starts, "load": load()}


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    rows = results["rows"]
    large = [row for row in rows if row["width"] == 1280 and row["transport"] == "raw"]
    worst = max(row["overhead p50"] for row in large)
    start = float(np.median(results["starts"]))
    lines = [
        [f"{row['width']}×{row['height']} {row['transport']}", row["reliability"]]
        + [str(row[key]) for key in ("sent", "poses", "dropped")]
        + [f"{row[f'published {p}']:.1f}" for p in ("p50", "p99")]
        + [f"{row['localize p50']:.1f}"]
        + [f"{row[f'overhead {p}']:.1f}" for p in ("p50", "p99")]
        for row in rows
    ]
    header = ["images", "reliability", "frames sent", "poses", "dropped by the node"]
    header += ["callback to published p50", "p99", "of it localize() p50", "the rest p50", "p99"]
    verdicts = [
        verdict("the rest at 1280×720, raw, p50", worst, OVERHEAD_MS, "ms"),
        verdict(f"start to first pose, {results['images']:,} map images", start, START_S, "s"),
    ]
    starts = ", ".join(f"{seconds:.2f}" for seconds in sorted(results["starts"]))
    return (
        "## The node over DDS, images at 5 Hz\n\n"
        "`python -m benchmark.performance node_latency`: times in ms, told by the node of every image; "
        "the replay publishes reliably. Best effort loses raw images inside Fast DDS (README). The "
        "rest: conversion of the message, messages made and published; a compressed image is "
        f"decoded there.\n\n{markdown(header, lines)}\n"
        f"From the start of the process to the first pose it published: {starts} s, of which "
        "Python and its packages take the most. Map as in *Opening*, files in the page cache, an "
        f"image is sent every 50 ms. Load {results['load']:.1f}.\n\n"
        f"Targets: {'; '.join(verdicts)}.\n"
    )


def node_figures(scratch: Path, map_dir: Path, width: int, height: int, settings: dict) -> dict:
    """Frames sent, poses published and milliseconds of one case."""
    raw = settings.get("image_transport", "raw") == "raw"
    drive = _enlarged(scratch / "drive", (width, height))
    dataset_to_bag(drive, scratch / "bag", raw=raw, show_progress=False)
    run = run_node_on_bag(scratch / "bag", map_dir, MODEL, parameters=settings)
    laps = [timings_ms(values) for values in run.answers.values()][2:]
    published = np.array([lap[PUBLISHED] for lap in laps])
    inside = np.array([lap["total"] for lap in laps])
    figures = {"published": published, "localize": inside, "overhead": published - inside}
    return {
        "width": width,
        "height": height,
        "transport": settings.get("image_transport", "raw"),
        "reliability": settings.get("reliability", "auto"),
        "sent": len(run.sent),
        "poses": len(run.poses),
        "dropped": run.counts["images dropped"],
    } | {
        f"{name} p{p}": float(np.percentile(values, p))
        for name, values in figures.items()
        for p in (50, 99)
    }


def _enlarged(directory: Path, size: tuple[int, int]) -> Dataset:
    """The mapping drive's first frames in that size (width, height), at 5 Hz."""
    reference = Dataset(DATA / "reference")
    with DatasetWriter(directory, DatasetInfo("enlarged", reference.info.cameras)) as writer:
        for index, record in enumerate(reference.records[:FRAMES]):
            large = cv2.resize(image.read(reference.path(record)), size)
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(large, cv2.COLOR_RGB2BGR))[1].tobytes()
            stamp_ns = reference.records[0].stamp_ns + index * PERIOD_NS
            writer.add(jpeg, stamp_ns, "front", record.domain, record.map_from_camera)
    return Dataset(directory)
