# SPDX-License-Identifier: Apache-2.0
"""Commands that make datasets, and submissions to a benchmark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import disam_ros
from disam_ros.cli.arguments import add, add_image_limit, add_settings, settings_of
from disam_ros.cli.help import Parser, add_command
from disam_ros.cli.outputs import add_output
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import DATASET, FILE
from disam_ros.files.printable import say

SEASON_TOWN = "season_town"  # imported by name, as are those below: the package works without
TRAINING = "training.train"  # of the repository


def add_commands(command: Callable[..., Parser]) -> None:
    """Adds the commands that make datasets."""
    synth = command("synth", synth_command, "render drives of the season town")
    synth.fill = _add_synth_arguments

    train = command("train", train_command, "train a model, in a checkout of the repository")
    train.fill = _add_train_arguments

    aerial = command("aerial", aerial_command, "aerial tiles and poses → dataset of polar images")
    add(aerial, "--tiles", "tile directory", required=True)
    add(aerial, "--poses", "dataset with the poses", required=True)
    add_output(aerial, DATASET, "dataset directory to write")
    add_image_limit(aerial)
    aerial.fill = _add_aerial_settings

    convert = command("convert", convert_command, "public dataset → dataset directory")
    convert.fill = _add_formats

    submission = command(
        "submission", submission_command, "answers → file for the visual localization benchmark"
    )
    names = ("cmu-seasons", "robotcar-seasons")
    add(submission, "--benchmark", "dataset", required=True, choices=names)
    add(submission, "--answers", "answers.csv of disam localize --dataset", required=True)
    add(submission, "--dataset", "dataset directory of the queries", required=True)
    add_output(submission, FILE, "file, such as CMU_eval_disam.txt")


def _season_town() -> ModuleType:
    """Returns the commands of the season town, a distribution of its own."""
    try:
        return import_module(f"{SEASON_TOWN}.command")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != SEASON_TOWN:
            raise
        raise ConfigError(
            "disam synth renders the season town, which is not installed: in a checkout of the "
            f"repository of disam_ros run {sys.executable} -m pip install ./season_town"
        ) from error


def _add_synth_arguments(parser: argparse.ArgumentParser) -> None:
    _season_town().add_arguments(parser)


def synth_command(arguments: argparse.Namespace) -> None:
    _season_town().run(arguments)


def _training() -> ModuleType:
    """Returns the training of the repository, of which this package is part or in which the command
    is run."""
    package = Path(disam_ros.__file__).parent
    file = Path(*TRAINING.split(".")).with_suffix(".py")
    for repository in (package.parent, Path.cwd()):
        if (repository / "package.xml").is_file() and (repository / file).is_file():
            if str(repository) not in sys.path:
                sys.path.append(str(repository))
            return import_module(TRAINING)
    raise ConfigError(
        f"disam train needs {file} of the repository of disam_ros: run it in a checkout, as "
        f"this disam_ros is installed without it, in {package}"
    )


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    _training().add_arguments(parser)


def train_command(arguments: argparse.Namespace) -> int:
    status: int = _training().run(arguments)
    return status


def aerial_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.aerial.polar import AerialConfig, write_aerial_dataset
    from disam_ros.datasets.aerial.tiles import TileSet
    from disam_ros.datasets.counts import in_words
    from disam_ros.datasets.dataset import Dataset

    config = settings_of(AerialConfig, arguments)
    tiles, poses = TileSet(arguments.tiles), Dataset(arguments.poses)
    output, overwrite = arguments.output, arguments.overwrite
    counts = write_aerial_dataset(tiles, poses, output, config, overwrite)
    say(f"{in_words(counts)} → {output}")


def _add_aerial_settings(aerial: Parser) -> None:
    """Adds an option for each setting of polar images."""
    from disam_ros.datasets.aerial.polar import AerialConfig

    add_settings(aerial, AerialConfig)


def _add_formats(convert: Parser) -> None:
    """Adds a subcommand for each format; the fields of its class are its options."""
    from disam_ros.datasets.formats import FORMATS

    formats = convert.add_subparsers(required=True, dest="format", metavar="format")
    for name, kind in FORMATS.items():
        sub = add_command(formats, name, convert_command, kind.TITLE)
        add(sub, "--input", "directory, video or database to read", required=True)
        add_output(sub, DATASET, "dataset directory to write")
        add_image_limit(sub)
        if "domain" not in kind.__dataclass_fields__:
            add(sub, "--domains", "domains to keep; default: all", nargs="+")
        add_settings(sub, kind)
        sub.set_defaults(domains=())


def convert_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.counts import in_words
    from disam_ros.datasets.formats import FORMATS
    from disam_ros.datasets.formats.conversion import write_dataset

    foreign = settings_of(FORMATS[arguments.format], arguments).read(arguments.input)
    counts = write_dataset(
        foreign, arguments.output, arguments.domains, overwrite=arguments.overwrite
    )
    say(f"{in_words(counts)} → {arguments.output}")


def submission_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.dataset import Dataset
    from disam_ros.evaluation.submission import answered_poses, write_submission

    poses = answered_poses(arguments.answers, Dataset(arguments.dataset), arguments.benchmark)
    write_submission(arguments.output, poses, arguments.overwrite)
    say(f"{len(poses)} poses → {arguments.output}")
