# SPDX-License-Identifier: Apache-2.0
"""Map a summer drive, replay a winter and a night drive through the real node, score its answers.

Ends with a table, demo_output/results.json and demo_output/demo.png.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.peers.hog import hog_descriptors, hog_matches
from demo.figure import Shown, draw
from disam_ros import image
from disam_ros.bags import BagReader, decode_image, read_poses
from disam_ros.checkpoint import load_model
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.dataset import Dataset
from disam_ros.evaluation import Metrics, chance, score, table, upper_bound
from disam_ros.geometry import Transform
from disam_ros.localizer import Localizer
from disam_ros.map_builder import build_map
from disam_ros.nodes.node_run import NodeRun, run_node_on_bag
from disam_ros.place_map import PlaceMap
from disam_ros.sources import open_dataset

HERE = Path(__file__).parent
DATA, MODEL = HERE / "data", HERE.parent / "models" / "town-lite"
CONDITIONS = ("winter_snow", "night")
BAG_HZ = 2.5  # images a second in the bags
IMAGES = "/camera/front/image_raw/compressed"


@dataclass(frozen=True)
class Drive:
    """The frames of a bag: stamps, images and true poses."""

    stamps_ns: list[int]
    images: list[np.ndarray]
    truth: list[Transform]  # map_from_base


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5.0, help="images a second sent to the node")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="replaced")
    arguments = parser.parse_args(argv)
    output: Path = arguments.output
    logging.basicConfig(level=logging.WARNING)
    started = time.monotonic()
    console = Console(width=120)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    reference = Dataset(DATA / "reference")
    place_map = make_map(output / "map")
    model = load_model(MODEL)
    label = model.label
    console.print(f"[bold]Model:[/bold] {label}\n[bold]Map:[/bold] {len(place_map)} images")

    references = [image.read(reference.path(r)) for r in reference.records]
    reference_hog = hog_descriptors(references)
    results, shown = {}, {}
    for condition in CONDITIONS:
        drive = read_drive(DATA / condition)
        run = run_node_on_bag(DATA / condition, output / "map", MODEL, arguments.rate / BAG_HZ)
        results[condition] = evaluate(place_map, reference, reference_hog, drive, run.poses)
        results[condition]["node"] = node_figures(len(drive.truth), run)
        shown[condition] = Shown(drive.stamps_ns, drive.images, drive.truth, run.poses)

    for condition, result in results.items():
        rows = {name: m for name, m in result.items() if isinstance(m, Metrics)}
        console.print(table(f"{condition}: answers of the node, percent of all frames", rows))
    console.print(node_table({c: r["node"] for c, r in results.items()}))
    summary = {"model": label, "map_images": len(place_map), "rate_hz": arguments.rate}
    write_results(output / "results.json", summary, results)
    localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
    draw(output / "demo.png", localizer, references, shown, label)
    console.print(
        f"Figures: {output / 'results.json'}   picture: {output / 'demo.png'}   "
        f"({time.monotonic() - started:.0f} s)"
    )
    return 0


def make_map(output: Path) -> PlaceMap:
    """Build the map of the summer drive."""
    config = MapBuilderConfig(keyframe_distance=0.0)
    return build_map(open_dataset(DATA / "reference"), load_model(MODEL), output, config)


def read_drive(bag: Path) -> Drive:
    """Frames of a bag that have a true pose."""
    with BagReader(bag) as reader:
        stamps, poses = read_poses(reader)
        truth = dict(zip(stamps.tolist(), poses, strict=True))
        frames = [(raw.stamp_ns, decode_image(m)) for raw, m in reader.messages([IMAGES])]
    frames = [frame for frame in frames if frame[0] in truth]
    return Drive([s for s, _ in frames], [i for _, i in frames], [truth[s] for s, _ in frames])


def evaluate(
    place_map: PlaceMap,
    reference: Dataset,
    reference_hog: np.ndarray,
    drive: Drive,
    answers: dict[int, Transform],
) -> dict:
    """Metrics of the node, HOG, chance and the nearest map image on the same frames."""
    camera_from_base = reference.info.cameras["front"].base_from_camera.inverse()
    bases = [r.map_from_camera @ camera_from_base for r in place_map.records]
    matches = hog_matches(hog_descriptors(drive.images), reference_hog)
    return {
        "disam_ros": score(drive.truth, [answers.get(s) for s in drive.stamps_ns]),
        "HOG": score(drive.truth, [bases[i] for i in matches]),
        "chance": chance(drive.truth, bases),
        "nearest map image": upper_bound(drive.truth, bases),
    }


def node_figures(frames: int, run: NodeRun) -> dict[str, object]:
    """What the node said of itself."""
    diagnostics = run.diagnostics
    return {
        "frames": frames,
        "poses_published": len(run.poses),
        "images_dropped": int(diagnostics.get("images dropped", 0)),
        "domain": diagnostics.get("domain", ""),
        "domain_reason": diagnostics.get("domain reason", ""),
        "latency_p50_ms": float(diagnostics.get("callback to published p50 (ms)", "nan")),
        "latency_p99_ms": float(diagnostics.get("callback to published p99 (ms)", "nan")),
        "device": diagnostics.get("device", ""),
    }


def node_table(rows: dict[str, dict]) -> Table:
    """Latency and domain choice, one row per condition."""
    result = Table(title="the node", title_justify="left")
    for name in ("", "poses / frames", "dropped", "latency p50", "p99", "domain chosen because"):
        result.add_column(name)
    for condition, row in rows.items():
        result.add_row(
            condition,
            f"{row['poses_published']} / {row['frames']}",
            str(row["images_dropped"]),
            f"{row['latency_p50_ms']:.0f} ms",
            f"{row['latency_p99_ms']:.0f} ms",
            str(row["domain_reason"]),
        )
    return result


def write_results(path: Path, summary: dict, results: dict[str, dict]) -> None:
    """results.json: the summary and, per condition, the figures of the tables."""
    conditions = {
        condition: {
            name: value.to_json() if isinstance(value, Metrics) else value
            for name, value in result.items()
        }
        for condition, result in results.items()
    }
    path.write_text(json.dumps({**summary, "conditions": conditions}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
