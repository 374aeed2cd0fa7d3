# SPDX-License-Identifier: Apache-2.0
"""Maps a summer drive, replays a winter and a night drive to the node, evaluates its answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from disam_ros import image
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.demo.drives import BAG_HZ, CONDITIONS, DATA, MODEL, REFERENCE, make_map
from disam_ros.demo.figure import draw
from disam_ros.evaluation import Condition, Metrics, chance, judge, score, table
from disam_ros.evaluation.baselines import hog_descriptors, hog_matches
from disam_ros.evaluation.tables import runs_table
from disam_ros.evaluation.write import REPORT, write_evaluation
from disam_ros.files.outputs import atomic_directory
from disam_ros.localization.localizer import Localizer
from disam_ros.nodes.replay.node_run import NodeOptions
from disam_ros.nodes.replay.replay_drive import replay_drive


def run(output: Path, rate: float) -> None:
    """Runs the demonstration, prints its tables and writes `output`, replacing an earlier one.

    rate: images per second sent to the node [Hz].
    """
    started = time.monotonic()
    console = Console(width=120)
    with atomic_directory(output, "demonstration", overwrite=True) as part:
        demonstrate(part, rate, console)
    console.print(
        f"Report: {output / 'evaluation' / REPORT}   picture: {output / 'demo.png'}   "
        f"({time.monotonic() - started:.0f} s)\n"
        "Live: 'disam demo --live' drives through the night again, on http://127.0.0.1:8087/\n"
        "Your own drives: disam build-map, then disam run"
    )


def demonstrate(output: Path, rate: float, console: Console) -> None:
    """Maps, replays, evaluates and draws. rate: images per second sent to the node [Hz]."""
    place_map = make_map(output / "map")
    localizer = Localizer.open(place_map.directory, MODEL, LocalizerConfig(device="cpu"))
    label = localizer.model.label
    console.print(f"[bold]Model:[/bold] {label}\n[bold]Map:[/bold] {len(place_map)} images")
    frame, options = place_map.header.map_frame, NodeOptions(rate / BAG_HZ)
    drives = [
        replay_drive(place_map, MODEL, DATA / name, open_images(DATA / name, frame), name, options)
        for name in CONDITIONS
    ]
    setup = {"model": label, "map_images": len(place_map)}
    setup["mode"] = f"through the running node at {rate:g} Hz"
    evaluation = judge(place_map, drives, setup)
    references = Dataset(REFERENCE)
    pictures = [image.read(references.path(record)) for record in references.records]
    for name, condition in evaluation.conditions.items():
        title = f"{name}: answers of the node"
        console.print(table(title, {"disam_ros": condition.metrics, **peers(condition, pictures)}))
    console.print(runs_table(evaluation.runs))
    write_evaluation(output / "evaluation", evaluation, localizer, open_dataset(REFERENCE))
    draw(output / "demo.png", localizer, pictures, evaluation)


def peers(condition: Condition, map_images: Sequence[NDArray[np.uint8]]) -> dict[str, Metrics]:
    """Computes the metrics of HOG, chance and the nearest map image on the same images."""
    references = Dataset(REFERENCE)
    camera_from_base = references.info.cameras["front"].base_from_camera.inverse()
    poses = [record.map_from_camera for record in references.records]
    bases = [pose @ camera_from_base for pose in poses if pose is not None]
    images = [item.load() for item in condition.frames[0].drive.source.images]
    truth = [frame.truth for frame in condition.frames]
    matches = hog_matches(hog_descriptors(images), hog_descriptors(map_images))
    return {
        "HOG": score(truth, [bases[i] for i in matches]),
        "chance": chance([pose for pose in truth if pose is not None], bases),
        "nearest map image": condition.bound,
    }
