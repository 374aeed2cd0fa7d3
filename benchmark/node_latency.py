# SPDX-License-Identifier: Apache-2.0
"""The running node with raw 640×480 images at 5 Hz over DDS: frames answered, latency."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2

from benchmark.peers.table import markdown
from demo.drives import DATA, MODEL, make_map
from disam_ros import image
from disam_ros.bags import dataset_to_bag
from disam_ros.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.nodes.node_run import run_node_on_bag

FRAMES = 150
PERIOD_NS = 200_000_000
SIZE = (640, 480)


def measure() -> dict:
    """Figures by reliability."""
    return {reliability: node_figures(reliability) for reliability in ("auto", "best_effort")}


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    rows = [[name, *row.values()] for name, row in results.items()]
    return (
        "## The node, raw 640×480 images at 5 Hz over DDS\n\n"
        "Times in ms, told by the node; the replay publishes reliably. Best effort loses raw "
        "images inside Fast DDS (README).\n\n" + markdown(["reliability", *results["auto"]], rows)
    )


def node_figures(reliability: str) -> dict[str, str]:
    """Frames sent, poses published and latencies (ms) as the node tells them."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_map(root / "map")
        dataset_to_bag(_enlarged(root / "drive"), root / "bag", raw=True, show_progress=False)
        parameters = {"image_transport": "raw", "reliability": reliability}
        run = run_node_on_bag(root / "bag", root / "map", MODEL, parameters=parameters)
    told = run.diagnostics
    return {
        "frames sent": str(FRAMES),
        "poses": str(len(run.poses)),
        "dropped by the node": told.get("images dropped", ""),
        "callback to published p50": told.get("callback to published p50 (ms)", ""),
        "p99": told.get("callback to published p99 (ms)", ""),
        "of it encoders p50": told.get("localize encode p50 (ms)", ""),
    }


def _enlarged(directory: Path) -> Dataset:
    """The mapping drive's first frames at 640×480 and 5 Hz."""
    reference = Dataset(DATA / "reference")
    with DatasetWriter(directory, DatasetInfo("enlarged", reference.info.cameras)) as writer:
        for index, record in enumerate(reference.records[:FRAMES]):
            large = cv2.resize(image.read(reference.path(record)), SIZE)
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(large, cv2.COLOR_RGB2BGR))[1].tobytes()
            stamp_ns = reference.records[0].stamp_ns + index * PERIOD_NS
            writer.add(jpeg, stamp_ns, "front", record.domain, record.map_from_camera)
    return Dataset(directory)
