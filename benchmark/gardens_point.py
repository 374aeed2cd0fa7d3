# SPDX-License-Identifier: Apache-2.0
"""Gardens Point through the running node: python -m benchmark.gardens_point --data DIR --model DIR

DIR holds day_left, day_right and night_right, one image per place; frame i is place i. The map is
made from day_left, bags from the other two, all by the package's own tools. An answer is right
within ±2 frames. This set is for testing only: nothing is trained, tuned or chosen on it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.hog import hog_descriptors, hog_matches
from disam_ros import image
from disam_ros.bags import dataset_to_bag
from disam_ros.checkpoint import load_model
from disam_ros.config import MapBuilderConfig
from disam_ros.dataset import Camera, Dataset, DatasetInfo, DatasetWriter
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.map_builder import build_map
from disam_ros.nodes.node_run import run_node_on_bag
from disam_ros.sources import open_dataset

TOLERANCE = 2  # frames
PERIOD_NS = 200_000_000  # 5 Hz
START_NS = 1_000_000_000
BASE_FROM_CAMERA = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


def main() -> None:
    """Print and optionally write R@1 of the node and of HOG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the three drives")
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--map-domain", default="day", help="domain of the map's images")
    parser.add_argument("--night-domain", default="night", help="domain of the night images")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    domains = {"day_right": arguments.map_domain, "night_right": arguments.night_domain}
    table = Table(title="Gardens Point, map day_left: R@1 within ±2 frames, percent")
    for name in ("queries", "frames", "node", "HOG", "chance"):
        table.add_column(name, justify="right")
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        reference = aligned_dataset(
            arguments.data / "day_left", root / "day_left", arguments.map_domain
        )
        build_map(
            open_dataset(reference.directory),
            load_model(arguments.model),
            root / "map",
            MapBuilderConfig(keyframe_distance=0.0),
        )
        for name, domain in domains.items():
            queries = aligned_dataset(arguments.data / name, root / name, domain)
            dataset_to_bag(queries, root / f"{name}_bag")
            run = run_node_on_bag(
                root / f"{name}_bag",
                root / "map",
                arguments.model,
                parameters={"localizer.domain.override": domain},
            )
            results[name] = figures(reference, queries, run.poses)
            row = results[name]
            table.add_row(
                name, str(row["frames"]), *(f"{row[k]:.1f}" for k in ("node", "HOG", "chance"))
            )
    Console().print(table)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def aligned_dataset(folder: Path, directory: Path, domain: str) -> Dataset:
    """A folder of images in order → dataset directory with frame i at x = i metres."""
    files = sorted(folder.glob("*.jpg"))
    height, width = image.read(files[0]).shape[:2]
    camera = Camera(width, height, width, width, width / 2, height / 2, (), BASE_FROM_CAMERA)
    with DatasetWriter(directory, DatasetInfo(folder.name, {"front": camera})) as writer:
        for index, file in enumerate(files):
            base = Transform(np.array([index, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
            stamp_ns = START_NS + index * PERIOD_NS
            writer.add(
                file.read_bytes(), stamp_ns, "front", domain, base @ BASE_FROM_CAMERA, file.name
            )
    return Dataset(directory)


def figures(reference: Dataset, queries: Dataset, poses: dict[int, Transform]) -> dict[str, float]:
    """Percent of queries right: the node's answers, HOG's, and drawing a map image at random."""
    truth = np.arange(len(queries))
    node = [
        poses[r.stamp_ns].translation[0] if r.stamp_ns in poses else np.inf for r in queries.records
    ]
    hog = hog_matches(_hog(queries), _hog(reference))
    places = np.arange(len(reference))
    near = np.abs(truth[:, None] - places[None]) <= TOLERANCE
    return {
        "frames": len(queries),
        "node": _right(np.array(node), truth),
        "HOG": _right(hog, truth),
        "chance": 100 * float(near.mean()),
    }


def _right(found: np.ndarray, truth: np.ndarray) -> float:
    return 100 * float(np.mean(np.abs(found - truth) <= TOLERANCE + 1e-6))


def _hog(dataset: Dataset) -> np.ndarray:
    return hog_descriptors(image.read(dataset.path(record)) for record in dataset.records)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
