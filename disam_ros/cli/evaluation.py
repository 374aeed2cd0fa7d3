# SPDX-License-Identifier: Apache-2.0
"""Evaluating drives, and evaluations beside each other."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from disam_ros.config import LocalizerConfig, from_yaml
from disam_ros.errors import ConfigError

WIDTH = 140  # characters of a table that is not shown on a terminal

if TYPE_CHECKING:
    from rich.console import Console

    from disam_ros.evaluation import Criteria, Drive
    from disam_ros.localizer import Localizer


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Figures, reports, comparisons."""
    evaluate = command("evaluate", evaluate_command, "drives against a map: figures and a report")
    evaluate.add_argument("drives", nargs="+", help="dataset directories or bags, in any mixture")
    evaluate.add_argument("--map", required=True, help="map directory")
    evaluate.add_argument("--model", required=True, help="model directory")
    evaluate.add_argument("--output", default="evaluation", help="directory to write")
    evaluate.add_argument(
        "--map-images", default="", help="dataset or bag of the map, to show matches in the report"
    )
    evaluate.add_argument("--config", default="", help="YAML of localizer settings")
    evaluate.add_argument("--domain", default="", help="fixed domain instead of clock and sun")
    evaluate.add_argument("--weather", default="", help="weather word where a bag tells none")
    evaluate.add_argument(
        "--dataset-domains", action="store_true", help="believe a dataset's domain names"
    )
    evaluate.add_argument("--pose-topic", default="", help="true poses in a bag; default: best")
    evaluate.add_argument("--device", default="", help="auto, cpu, cuda or cuda:N")
    evaluate.add_argument(
        "--threshold",
        type=float,
        nargs=2,
        action="append",
        metavar=("METRES", "DEGREES"),
        help="pose threshold, may be repeated; default: 0.25 2, 0.5 5 and 5 10",
    )
    evaluate.add_argument(
        "--recall-distance", type=float, default=5.0, help="metres within which a place is right"
    )
    evaluate.add_argument(
        "--distances", type=float, nargs="+", default=[5.0, 10.0, 15.0], help="of accuracy, metres"
    )
    node = evaluate.add_argument_group("through the running node (bags only)")
    node.add_argument("--through-node", action="store_true", help="replay to the node over DDS")
    node.add_argument(
        "--rate", type=float, default=0.0, help="speed; 0: as fast as the node answers"
    )
    node.add_argument("--camera", default="", help="which camera, if there are several")
    node.add_argument("--record", default="", help="directory that gets a bag of answers per drive")

    compare = command("compare", compare_command, "two evaluations beside each other")
    compare.add_argument("evaluations", nargs=2, help="directories that evaluate wrote")


def evaluate_command(arguments: argparse.Namespace) -> None:
    from disam_ros.evaluation import judge, tables
    from disam_ros.evaluation.write import REPORT, refuse_foreign, write_evaluation
    from disam_ros.localizer import Localizer
    from disam_ros.sources import open_images

    refuse_foreign(arguments.output)
    localizer = Localizer.open(arguments.map, arguments.model, _config(arguments))
    frame = localizer.map.header.map_frame
    references = open_images(arguments.map_images, frame) if arguments.map_images else None
    drives = []
    for path in arguments.drives:
        drives.append(_drive(arguments, localizer, path))
        if drives[-1].interrupted:
            break
    evaluation = judge(localizer.map, drives, _setup(arguments, localizer), _criteria(arguments))
    write_evaluation(arguments.output, evaluation, localizer, references)
    console = _console()
    for table in tables(evaluation):
        console.print(table)
    for note in evaluation.notes:
        console.print(f"[yellow]mind:[/yellow] {note}", highlight=False)
    console.print(f"report: {Path(arguments.output) / REPORT}")


def compare_command(arguments: argparse.Namespace) -> None:
    from disam_ros.evaluation import read_results
    from disam_ros.evaluation.compare import comparison_table

    a, b = (read_results(path) for path in arguments.evaluations)
    _console().print(comparison_table(a, b, tuple(arguments.evaluations)))


def _console() -> Console:
    """The terminal; wide enough for the tables where the output is a file or a pipe."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def _drive(arguments: argparse.Namespace, localizer: Localizer, path: str) -> Drive:
    from disam_ros.evaluation import localize_drive
    from disam_ros.sources import open_images

    name = Path(path).resolve().stem
    source = open_images(path, localizer.map.header.map_frame, arguments.pose_topic)
    if not arguments.through_node:
        return localize_drive(localizer, source, name, arguments.dataset_domains)
    if (Path(path) / "dataset.json").exists():
        raise ConfigError(f"{path} is a dataset directory: make a bag of it with 'disam to-bag'")
    try:
        from disam_ros.nodes.replay_evaluation import replay_drive
    except ImportError as error:
        raise ConfigError(f"--through-node needs ROS 2, which is not installed: {error}") from error
    return replay_drive(
        localizer.map,
        arguments.model,
        path,
        source,
        name,
        rate=arguments.rate,
        camera=arguments.camera,
        parameters=_changed(asdict(localizer.config), asdict(LocalizerConfig())),
        record_to=Path(arguments.record) / name if arguments.record else None,
    )


def _config(arguments: argparse.Namespace) -> LocalizerConfig:
    """The settings file, with what was said on the command line."""
    config = LocalizerConfig()
    if arguments.config:
        config = from_yaml(LocalizerConfig, arguments.config)
    config.device = arguments.device or config.device
    config.domain.override = arguments.domain or config.domain.override
    config.domain.weather = arguments.weather or config.domain.weather
    return config


def _criteria(arguments: argparse.Namespace) -> Criteria:
    from disam_ros.evaluation import THRESHOLDS, Criteria

    thresholds = tuple((m, d) for m, d in arguments.threshold or THRESHOLDS)
    return Criteria(thresholds, arguments.recall_distance, tuple(arguments.distances))


def _setup(arguments: argparse.Namespace, localizer: Localizer) -> dict[str, object]:
    """What is evaluated and under what circumstances, for the report."""
    import torch

    from disam_ros.device import describe_device, processor_name

    speed = f"{arguments.rate:g} times" if arguments.rate else "as fast as the node answers"
    return {
        "model": localizer.model.label,
        "map": str(arguments.map),
        "map_images": len(localizer.map),
        "drives": [str(path) for path in arguments.drives],
        "mode": f"through the running node, {speed}" if arguments.through_node else "offline",
        "settings": asdict(localizer.config),
        "device": describe_device(localizer.device),
        "processor": f"{processor_name()}, {torch.get_num_threads()} threads",
        "version": f"disam_ros {version('disam_ros')}, torch {torch.__version__}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["disam", *sys.argv[1:]]),
    }


def _changed(values: dict, defaults: dict, prefix: str = "localizer.") -> dict[str, object]:
    """Node parameters that differ from their defaults."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _changed(value, defaults[key], f"{prefix}{key}.")
        elif value != defaults[key] and value == value:  # nan: not set
            found[prefix + key] = value
    return found
