# SPDX-License-Identifier: Apache-2.0
"""Commands that evaluate drives and compare evaluations."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disam_ros.cli.arguments import (
    add,
    add_image_limit,
    add_localizer_settings,
    add_shared,
    configured,
    number,
)
from disam_ros.cli.bag_options import add_bag_options, bag_options_of
from disam_ros.cli.outputs import Outputs, add_overwrite
from disam_ros.cli.view import add_page
from disam_ros.config import LocalizerConfig
from disam_ros.entry import signal_of
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import BAG, EVALUATION
from disam_ros.files.paths import real
from disam_ros.nodes import require_middleware

if TYPE_CHECKING:
    from disam_ros.evaluation import Criteria, Drive
    from disam_ros.evaluation.results import Results
    from disam_ros.localization.localizer import Localizer


METRES = number(0.0, 1e6)


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands that evaluate and compare."""
    evaluate = command(
        "evaluate", evaluate_command, "evaluate drives against a map: figures and a report"
    )
    add(evaluate, "drives", "dataset directories or bags", nargs="+")
    node = evaluate.add_argument_group("through the running node (bags only)")
    add(node, "--through-node", "replay the bag to the localizer node over DDS", bool)
    text = "speed relative to the recording; 0: each image after the answer to the last one"
    add(node, "--rate", text, METRES, default=0.0)
    _add_judgement(evaluate)

    text = "play a bag to the running node with its page, then evaluate what it answered"
    running = command("run", run_command, text)
    text = "rosbag2 directories or files"
    add(running, "--bag", text, nargs="+", required=True, dest="drives", metavar="BAG")
    text = "speed relative to the recording"
    add(running, "--rate", text, number(0.01, 100.0), default=1.0)
    add_page(running)
    _add_judgement(running)
    running.set_defaults(through_node=True)

    compare = command(
        "compare", compare_command, "compare two evaluations, or one with predictions"
    )
    text = "two output directories of disam evaluate, or one with --against"
    add(compare, "evaluations", text, nargs="+")
    text = (
        "another method's answers to the same queries: pairs (hloc), a table, a folder of "
        "VPR-methods-evaluation, or poses (TUM)"
    )
    add(compare, "--against", text, metavar="PREDICTIONS")
    add(compare, "--map", "map of the predictions; default: that of the evaluation")
    add(compare, "--json", "print the differences as JSON, shares in 0…1", bool)


def _add_judgement(evaluate: argparse.ArgumentParser) -> None:
    """Adds the options of a command that evaluates."""
    add_shared(evaluate, "--map", "--model", "--pose-topic", "--dataset-domains")
    add(evaluate, "--output", "directory to write", default="evaluation")
    add_overwrite(evaluate, _evaluate_outputs)
    add_image_limit(evaluate)
    add_bag_options(evaluate)
    text = "dataset or bag that the map was built from, for images in the report"
    add(evaluate, "--map-images", text)
    add_localizer_settings(evaluate)
    text = "judge each image alone instead of tracking the sequence of images and odometry"
    add(evaluate, "--single", text, bool)
    text = "pose threshold [m] [°], repeatable; default: 0.25 2, 0.5 5 and 5 10"
    names = ("METRES", "DEGREES")
    add(evaluate, "--threshold", text, METRES, nargs=2, action="append", metavar=names)
    text = "distance of a correct place for recall@N [m]; default: 5"
    add(evaluate, "--recall-distance", text, METRES)
    add(evaluate, "--distances", "distances for accuracy [m]; default: 5 10 15", METRES, nargs="+")
    text = (
        "what every condition has to reach, else the exit status is 1, such as "
        "'r1@5m>=85, wrong<=1%%, p99<=60ms' (docs/evaluation.md)"
    )
    add(evaluate, "--require", text, metavar="FIGURES")
    add(evaluate, "--camera", "camera of the bag, or its image topic; default: its only camera")
    add(evaluate, "--record", "directory for a bag of the node's answers per drive")


def _evaluate_outputs(arguments: argparse.Namespace) -> Outputs:
    outputs = {Path(arguments.output): EVALUATION}
    for path in arguments.drives if arguments.record else ():
        bag = Path(arguments.record) / _name_of(path)
        if bag in outputs:
            raise ConfigError(f"{bag} would hold the answers to two drives: rename one of them")
        outputs[bag] = BAG
    return outputs


def _name_of(drive: str) -> str:
    """Returns the name of a drive in the results."""
    return real(drive).stem


def evaluate_command(arguments: argparse.Namespace) -> None:
    _evaluate(arguments, nullcontext())


def _evaluate(arguments: argparse.Namespace, page: AbstractContextManager[object]) -> None:
    """Evaluates drives. page: is open from when nothing can be said against the arguments."""
    from disam_ros.datasets.sources import open_images
    from disam_ros.evaluation.requirements import parse_requirements, require
    from disam_ros.evaluation.write import describe_setup, finish, mode_of_node
    from disam_ros.localization.localizer import Localizer

    criteria = _criteria(arguments)
    requirements = parse_requirements(arguments.require, criteria)
    if arguments.record and not arguments.through_node:
        raise ConfigError("--record keeps the running node's answers: add --through-node")
    for path in arguments.drives if arguments.through_node else ():
        if (Path(path) / "dataset.json").exists():
            raise ConfigError(
                f"{path} is a dataset directory: make a bag of it with 'disam to-bag', or "
                f"evaluate it without the node by 'disam evaluate'"
            )
    localizer = Localizer.open(arguments.map, arguments.model, _config(arguments))
    frame = localizer.map.header.map_frame
    references = open_images(arguments.map_images, frame) if arguments.map_images else None
    with page:
        drives, signum = _drives(arguments, localizer)
        mode = mode_of_node(arguments.rate) if arguments.through_node else "offline"
        setup = describe_setup(localizer, arguments.drives[: len(drives)], mode)
        output, overwrite = arguments.output, arguments.overwrite
        evaluation = finish(output, drives, localizer, setup, criteria, references, overwrite)
    if signum:
        raise KeyboardInterrupt(signum)
    require(evaluation, requirements)


def run_command(arguments: argparse.Namespace) -> None:
    """Serves the page of the node, plays the bags to it and evaluates its answers."""
    require_middleware()
    from disam_ros.nodes.replay.child import child_process
    from disam_ros.nodes.replay.domain import own_domain

    if (domain := own_domain()) is not None:  # one for the node, the page and the player
        os.environ["ROS_DOMAIN_ID"] = str(domain)
    page = ["view", "--host", arguments.host, "--port", str(arguments.port)]
    _evaluate(arguments, child_process("disam", page))


def compare_command(arguments: argparse.Namespace) -> None:
    from disam_ros.evaluation import read_results
    from disam_ros.evaluation.compare import compare, comparison_table
    from disam_ros.evaluation.write import wide_console

    names = [*arguments.evaluations, *([arguments.against] if arguments.against else [])]
    if len(names) != 2:
        raise ConfigError("compare takes two evaluations, or one and --against PREDICTIONS")
    a = read_results(names[0])
    b = _against(arguments, a) if arguments.against else read_results(names[1])
    if arguments.json:
        print(json.dumps([asdict(difference) for difference in compare(a, b)], indent=1))
        return
    if arguments.against:  # whole paths leave no room for figures
        names = [Path(name).name for name in names]
    wide_console().print(comparison_table(a, b, (names[0], names[1])))


def _against(arguments: argparse.Namespace, ours: Results) -> Results:
    """Converts predictions to results of the evaluation's queries."""
    from disam_ros.evaluation.predictions.against import find_map, results_of
    from disam_ros.evaluation.predictions.files import read_predictions
    from disam_ros.mapping.place_map import PlaceMap

    predictions = read_predictions(arguments.against)
    return results_of(ours, predictions, PlaceMap(find_map(ours, arguments.map)))


def _drives(arguments: argparse.Namespace, localizer: Localizer) -> tuple[list[Drive], int]:
    """Evaluates the drives up to a signal; returns that signal, too, or 0."""
    drives: list[Drive] = []
    for path in arguments.drives:
        try:
            drives.append(_drive(arguments, localizer, path))
        except KeyboardInterrupt as end:
            if not drives:
                raise
            drives[-1].notes.append(f"interrupted before {path}, which is not evaluated")
            return drives, signal_of(end)
        if drives[-1].interrupted:
            break
    return drives, drives[-1].interrupted


def _drive(arguments: argparse.Namespace, localizer: Localizer, path: str) -> Drive:
    from disam_ros.datasets.bags.writer import BagWriter
    from disam_ros.datasets.sources import open_images
    from disam_ros.evaluation import evaluate_drive

    name = _name_of(path)
    header = localizer.map.header
    said = bag_options_of(arguments)
    source = open_images(path, header.map_frame, arguments.pose_topic, header.cameras, said)
    if not arguments.through_node:
        return evaluate_drive(localizer, source, name, arguments.dataset_domains)
    if said.recorded_stamps:
        raise ConfigError(
            "--stamps recorded: the node sees the stamps of messages; drop one option"
        )
    require_middleware()
    try:
        from disam_ros.nodes.replay.node_run import NodeOptions
        from disam_ros.nodes.replay.replay_drive import replay_drive
    except ImportError as error:
        raise ConfigError(f"--through-node needs ROS 2, which is not installed: {error}") from error
    parameters = _changed(asdict(localizer.config), asdict(LocalizerConfig()))
    parameters["max_megapixels"] = arguments.max_megapixels
    options = NodeOptions(arguments.rate, arguments.camera, parameters, said)
    record = None
    if arguments.record:
        output = Path(arguments.record) / name
        record = BagWriter(output, map_frame=header.map_frame, overwrite=arguments.overwrite)
    return replay_drive(localizer.map, arguments.model, path, source, name, options, record)


def _config(arguments: argparse.Namespace) -> LocalizerConfig:
    config = configured(LocalizerConfig, arguments)
    config.sequence.enabled &= not arguments.single
    return config


def _criteria(arguments: argparse.Namespace) -> Criteria:
    from disam_ros.evaluation import DEFAULTS, Criteria

    near = arguments.recall_distance
    return Criteria(
        tuple((m, d) for m, d in arguments.threshold or DEFAULTS.thresholds),
        DEFAULTS.recall_distance if near is None else near,
        tuple(arguments.distances or DEFAULTS.distances),
    )


def _changed(
    values: dict[str, Any], defaults: dict[str, Any], prefix: str = "localizer."
) -> dict[str, object]:
    """Returns node parameters that differ from their defaults."""
    parameters: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            parameters |= _changed(value, defaults[key], f"{prefix}{key}.")
        elif value != defaults[key] and value == value:  # nan: not set
            parameters[prefix + key] = value
    return parameters
