# SPDX-License-Identifier: Apache-2.0
"""Datasets: rendering, conversion, benchmark submission."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from types import ModuleType

from disam_ros.cli.arguments import SIDE, add_image_limit, number, whole
from disam_ros.cli.help import HelpFormatter, Parser
from disam_ros.cli.outputs import add_output, in_words
from disam_ros.errors import ConfigError
from disam_ros.files.outputs import DATASET, FILE

SEASON_TOWN = "season_town"  # imported by name: the package works without it


def add_commands(command: Callable[..., Parser]) -> None:
    """Datasets."""
    synth = command("synth", synth_command, "render drives of the season town")
    synth.fill = _add_synth_arguments

    aerial = command("aerial", aerial_command, "aerial tiles and poses → dataset of polar images")
    aerial.add_argument("--tiles", required=True, help="tile directory")
    aerial.add_argument("--poses", required=True, help="dataset with the poses")
    add_output(aerial, DATASET, "dataset directory to write")
    add_image_limit(aerial)
    aerial.add_argument("--domain", default="aerial", help="domain of the images")
    aerial.add_argument("--camera", default="", help="camera with the poses; default: the only one")
    aerial.add_argument("--pose-domain", default="", help="domain of the poses; default: all")
    aerial.add_argument(
        "--metres", type=number(0.1, 1e5), default=80.0, help="side of the square in view [m]"
    )
    aerial.add_argument(
        "--fov",
        type=number(0.1, 360.0),
        help="horizontal field of view [°]; default: the camera's columns",
    )
    size = "image {} [pixels]; 0: by camera or --fov"
    aerial.add_argument("--width", type=whole(0, SIDE), default=0, help=size.format("width"))
    aerial.add_argument("--height", type=whole(0, SIDE), default=0, help=size.format("height"))
    aerial.add_argument(
        "--spacing", type=number(0.01, 1e6), help="distance along the track [m]; default: each pose"
    )

    convert = command("convert", convert_command, "public dataset → dataset directory")
    formats = convert.add_subparsers(required=True, dest="format", metavar="format")

    def add_format(name: str, text: str, **settings: dict) -> None:
        sub = formats.add_parser(name, help=text, description=text, formatter_class=HelpFormatter)
        sub.add_argument("--input", required=True, help="directory, video or database to read")
        add_output(sub, DATASET, "dataset directory to write")
        add_image_limit(sub)
        if "domain" not in settings:
            sub.add_argument("--domains", nargs="+", help="domains to keep; default: all")
        for setting, details in settings.items():
            option = setting.removesuffix("_number").replace("_", "-")
            sub.add_argument(f"--{option}", dest=setting, **details)
        sub.set_defaults(settings=tuple(settings), domains=())

    intrinsics = {"type": number(-1e6, 1e6), "nargs": "+", "default": [], "metavar": "PIXELS"}
    intrinsics["help"] = "fx fy cx cy [pixels], optionally k1 k2 p1 p2 [k3]"
    domain = {"required": True, "help": "domain of all images"}
    gap = {"type": number(0.0, 3600.0), "help": "longest gap between two poses [s]; default: 0.5"}
    add_format("aligned", "a folder per condition; image i shows place i", intrinsics=intrinsics)
    add_format(
        "cmu-seasons",
        "a slice of CMU-Seasons or Extended CMU-Seasons",
        slice_number={
            "type": whole(0, 10_000),
            "required": True,
            "help": "number of the slice, such as 2",
        },
    )
    add_format(
        "colmap",
        "images with a sparse model of COLMAP",
        domain=domain,
        images={"default": "images", "help": "folder of the images in the input directory"},
        model={
            "default": "",
            "help": "folder of the model in the input directory; default: sparse/0 or sparse",
        },
        scale={
            "type": number(1e-6, 1e6),
            "default": 0.0,
            "metavar": "METRES",
            "help": "per unit of the model; default: a model in Earth-centred metres",
        },
        georegister={
            "action": "store_true",
            "help": "find scale, heading and place by the GPS positions in the images' EXIF",
        },
    )
    add_format(
        "kitti-odometry",
        "a sequence of KITTI odometry",
        sequence={"required": True, "help": "sequence, such as 00"},
        domain=domain,
        camera_number={
            "type": int,
            "choices": range(4),
            "default": 2,
            "help": "number of the camera; 2: left colour",
        },
    )
    add_format(
        "photos",
        "a folder of photos with time and GPS position in their EXIF",
        domain=domain,
        intrinsics=intrinsics,
    )
    add_format("robotcar-seasons", "RobotCar-Seasons, all conditions that are unpacked")
    add_format("rtabmap", "a database of rtabmap with its optimized poses", domain=domain)
    add_format(
        "tum",
        "images with a TUM trajectory",
        domain=domain,
        trajectory={"default": "groundtruth.txt", "help": "file in the input directory"},
        images={
            "default": "",
            "help": "list of images or folder; default: rgb.txt, else the folder rgb",
        },
        intrinsics=intrinsics | {"help": f"{intrinsics['help']}; default: calibration.txt"},
        max_gap=gap,
    )

    add_format(
        "video",
        "a video file with a trajectory",
        domain=domain,
        trajectory={"required": True, "help": "poses, as of --trajectory of disam build-map"},
        start={
            "default": "",
            "metavar": "TIME",
            "help": "of the first frame on the trajectory's clock, seconds or ISO 8601; default: "
            "the file's creation time",
        },
        trajectory_frame={
            "choices": ("base", "camera"),
            "default": "base",
            "help": "whose poses they are; the base is at the camera, x ahead",
        },
        intrinsics=intrinsics,
        max_gap=gap,
        keyframe_distance={
            "type": number(0.0, 1e6),
            "help": "distance between two frames that are kept [m]; default: 0, which keeps all",
        },
    )

    submission = command(
        "submission", submission_command, "answers → file for the visual localization benchmark"
    )
    submission.add_argument(
        "--benchmark", required=True, choices=("cmu-seasons", "robotcar-seasons"), help="dataset"
    )
    submission.add_argument(
        "--answers", required=True, help="answers.csv of disam localize --dataset"
    )
    submission.add_argument("--dataset", required=True, help="dataset directory of the queries")
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


def aerial_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.aerial.polar import AerialConfig, write_aerial_dataset
    from disam_ros.datasets.aerial.tiles import TileSet
    from disam_ros.datasets.dataset import Dataset

    config = AerialConfig(**{f.name: getattr(arguments, f.name) for f in fields(AerialConfig)})
    tiles, poses = TileSet(arguments.tiles), Dataset(arguments.poses)
    output, overwrite = arguments.output, arguments.overwrite
    counts = write_aerial_dataset(tiles, poses, output, config, overwrite)
    print(f"{in_words(counts)} → {output}")


def convert_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.formats import FORMATS, write_dataset

    options = {name: getattr(arguments, name) for name in arguments.settings}
    settings = {name: value for name, value in options.items() if value is not None}
    foreign = FORMATS[arguments.format](arguments.input, **settings)
    counts = write_dataset(
        foreign, arguments.output, arguments.domains, overwrite=arguments.overwrite
    )
    print(f"{in_words(counts)} → {arguments.output}")


def submission_command(arguments: argparse.Namespace) -> None:
    from disam_ros.datasets.dataset import Dataset
    from disam_ros.evaluation.submission import answered_poses, write_submission

    poses = answered_poses(arguments.answers, Dataset(arguments.dataset), arguments.benchmark)
    write_submission(arguments.output, poses, arguments.overwrite)
    print(f"{len(poses)} poses → {arguments.output}")
