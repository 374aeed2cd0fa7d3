# SPDX-License-Identifier: Apache-2.0
"""`disam <command>`: each command a few lines over an importable function."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from disam_ros.config import (
    DomainConfig,
    LocalizerConfig,
    LocalizerNodeConfig,
    MapBuilderConfig,
    MapBuilderNodeConfig,
    ReplayNodeConfig,
    from_yaml,
    markdown_table,
)
from disam_ros.errors import DisamError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for an error told, 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except DisamError as error:
        print(f"disam: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("disam: interrupted", file=sys.stderr)
        return 130
    return 0


def create_model_command(arguments: argparse.Namespace) -> None:
    from disam_ros.checkpoint import create_model, save_model
    from disam_ros.networks import PRESETS

    domains = _domains(arguments)
    model = create_model(PRESETS[arguments.preset], domains, seed=arguments.seed)
    print(f"UNTRAINED model written to {save_model(model, arguments.output)}")


def import_checkpoint_command(arguments: argparse.Namespace) -> None:
    from disam_ros.checkpoint import save_model
    from disam_ros.checkpoint_import import import_checkpoint

    size = (arguments.image_size[0], arguments.image_size[1])
    model = import_checkpoint(arguments.coarse, _domains(arguments), arguments.fine, size)
    save_model(model, arguments.output)
    network = model.network
    print(f"width {network.width}, {network.encoder_blocks} blocks → {arguments.output}")


def build_map_command(arguments: argparse.Namespace) -> None:
    from disam_ros.checkpoint import load_model
    from disam_ros.device import select_device
    from disam_ros.map_builder import build_map
    from disam_ros.sources import open_bag, open_dataset

    config = MapBuilderConfig()
    if arguments.config:
        config = from_yaml(MapBuilderConfig, arguments.config)
    if arguments.keyframe_distance is not None:
        config.keyframe_distance = arguments.keyframe_distance
    if arguments.domain:
        config.domain = arguments.domain
    if arguments.dataset:
        source = open_dataset(arguments.dataset)
    else:
        source = open_bag(arguments.bag, arguments.pose_topic)
    place_map = build_map(
        source,
        load_model(arguments.model),
        arguments.output,
        config,
        select_device(arguments.device),
    )
    print(f"{len(place_map)} images → {arguments.output}")


def localize_command(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from disam_ros.answers import localize_all, write_answers
    from disam_ros.localizer import Localizer
    from disam_ros.sources import open_dataset, open_files

    config = LocalizerConfig(
        device=arguments.device,
        candidates=arguments.candidates,
        score_threshold=arguments.score_threshold,
        domain=DomainConfig(override=arguments.domain, weather=arguments.weather),
    )
    localizer = Localizer.open(arguments.map, arguments.model, config)
    if arguments.dataset:
        source = open_dataset(arguments.dataset)
    else:
        source = open_files(arguments.images, arguments.camera)
    images = tqdm(source.images, total=source.total, desc="localize", unit="img")
    answers = localize_all(localizer, source, images, arguments.dataset_domains)
    known = write_answers(arguments.output, answers)
    print(f"{known} of {source.total} images localized → {arguments.output}")


def synth_command(arguments: argparse.Namespace) -> None:
    from disam_ros.bags import dataset_to_bag
    from disam_ros.dataset import Dataset
    from disam_ros.synthetic import CONDITIONS, DriveConfig, write_drive

    numbers = {condition: number for number, condition in enumerate(CONDITIONS)}
    for condition in arguments.conditions or list(CONDITIONS):
        directory = Path(arguments.output) / condition
        config = DriveConfig(
            town_seed=arguments.seed,
            drive_seed=arguments.drive_seed + numbers.get(condition, 0),
            condition=condition,
            width=arguments.width,
            height=arguments.height,
            spacing_m=arguments.spacing,
        )
        write_drive(config, directory)
        if arguments.bag:
            bag = directory.with_name(f"{condition}_bag")
            dataset_to_bag(Dataset(directory), bag, weather=CONDITIONS[condition].weather)
        print(f"{condition} → {directory}")


def extract_command(arguments: argparse.Namespace) -> None:
    from disam_ros.bags import bag_to_dataset

    counts = bag_to_dataset(
        arguments.bag,
        arguments.output,
        arguments.domain,
        pose_topic=arguments.pose_topic or None,
        keyframe_distance=arguments.keyframe_distance,
        keyframe_angle=arguments.keyframe_angle,
    )
    print(f"{counts} → {arguments.output}")


def convert_command(arguments: argparse.Namespace) -> None:
    from disam_ros.adapters import FORMATS, write_dataset

    settings = {name: getattr(arguments, name) for name in arguments.settings}
    foreign = FORMATS[arguments.format](arguments.input, **settings)
    counts = write_dataset(foreign, arguments.output, arguments.domains)
    print(f"{counts} → {arguments.output}")


def submission_command(arguments: argparse.Namespace) -> None:
    from disam_ros.adapters import answered_poses, write_submission
    from disam_ros.dataset import Dataset

    poses = answered_poses(arguments.answers, Dataset(arguments.dataset), arguments.benchmark)
    write_submission(arguments.output, poses)
    print(f"{len(poses)} poses → {arguments.output}")


def to_bag_command(arguments: argparse.Namespace) -> None:
    from disam_ros.bags import dataset_to_bag
    from disam_ros.dataset import Dataset

    dataset_to_bag(
        Dataset(arguments.dataset),
        arguments.output,
        arguments.storage,
        domain=arguments.domain,
        weather=arguments.weather,
    )
    print(f"{arguments.dataset} → {arguments.output}")


def replay_command(arguments: argparse.Namespace) -> None:
    from disam_ros.nodes.replay_node import replay

    replay(
        ReplayNodeConfig(
            bag=arguments.bag,
            rate=arguments.rate,
            start_delay=arguments.start_delay,
            loop=arguments.loop,
            topics=arguments.topics or [""],
            prefix=arguments.prefix,
        )
    )


def parameters_command(arguments: argparse.Namespace) -> None:
    configs = {
        "localizer": LocalizerNodeConfig,
        "map_builder": MapBuilderNodeConfig,
        "replay": ReplayNodeConfig,
    }
    print(f"| name | default | |\n|---|---|---|\n{markdown_table(configs[arguments.node])}")


def _domains(arguments: argparse.Namespace) -> list:
    from disam_ros.domain_rules import domains_named, load_rules

    return domains_named(arguments.domains.split(","), load_rules(arguments.rules or None))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="disam", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        style = argparse.ArgumentDefaultsHelpFormatter
        sub = commands.add_parser(name, help=text, description=text, formatter_class=style)
        sub.set_defaults(run=run)
        return sub

    _add_map_commands(command)
    _add_model_commands(command)
    _add_data_commands(command)
    _add_benchmark_commands(command)
    return parser


def _add_map_commands(command: object) -> None:
    build = command("build-map", build_map_command, "build a map, or finish one that was killed")
    source = build.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", help="dataset directory")
    source.add_argument("--bag", help="rosbag2 directory or .mcap/.db3 file")
    build.add_argument("--model", required=True, help="model directory")
    build.add_argument("--output", required=True, help="map directory to write")
    build.add_argument("--config", default="", help="YAML of map builder settings")
    build.add_argument("--domain", default="", help="domain of all images")
    build.add_argument("--pose-topic", default="", help="topic in the bag that carries poses")
    build.add_argument("--keyframe-distance", type=float, help="metres between map images")
    build.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")

    localize = command("localize", localize_command, "localize images against a map, offline")
    localize.add_argument("images", nargs="*", help="image files")
    localize.add_argument("--dataset", help="dataset directory instead of image files")
    localize.add_argument("--map", required=True, help="map directory")
    localize.add_argument("--model", required=True, help="model directory")
    localize.add_argument("--output", default="answers.csv", help="table to write")
    localize.add_argument("--camera", default="", help="camera whose map images to search")
    localize.add_argument("--domain", default="", help="fixed domain instead of clock and sun")
    localize.add_argument(
        "--dataset-domains", action="store_true", help="believe the dataset's domain names"
    )
    localize.add_argument("--weather", default="", help="weather word")
    localize.add_argument("--candidates", type=int, default=3, help="coarse candidates")
    localize.add_argument("--score-threshold", type=float, default=-1.0, help="unknown below")
    localize.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def _add_model_commands(command: object) -> None:
    create = command("create-model", create_model_command, "write an UNTRAINED model directory")
    create.add_argument(
        "--preset", choices=("full", "lite", "mobile"), default="lite", help="network size"
    )
    create.add_argument("--seed", type=int, default=0, help="of the random weights")

    imported = command(
        "import-checkpoint", import_checkpoint_command, "convert the public DISAM encoders"
    )
    imported.add_argument("--coarse", required=True, help="prefix, such as …/300_net_G")
    imported.add_argument("--fine", help="prefix of the fine model; default: the coarse one")
    imported.add_argument(
        "--image-size", type=int, nargs=2, default=(256, 256), help="height and width in pixels"
    )
    for sub in (create, imported):
        sub.add_argument("--domains", required=True, help="names in encoder order: day,night,…")
        sub.add_argument("--rules", default="", help="YAML of domain rules beside the packaged")
        sub.add_argument("--output", required=True, help="model directory to write")


def _add_data_commands(command: object) -> None:
    synth = command("synth", synth_command, "render drives of the season town")
    synth.add_argument("--output", required=True, help="directory to write, one folder a drive")
    synth.add_argument("--conditions", nargs="*", help="default: all")
    synth.add_argument("--seed", type=int, default=1, help="of the town")
    synth.add_argument(
        "--drive-seed",
        type=int,
        default=1,
        help="of the first condition's offset, cars and pedestrians; the next have the next seeds",
    )
    synth.add_argument("--spacing", type=float, help="metres between frames; default: by speed")
    synth.add_argument("--width", type=int, default=320, help="pixels")
    synth.add_argument("--height", type=int, default=240, help="pixels")
    synth.add_argument("--bag", action="store_true", help="write a bag beside each dataset")

    extract = command("extract", extract_command, "bag → dataset directory of posed images")
    extract.add_argument("--bag", required=True, help="rosbag2 directory or .mcap/.db3 file")
    extract.add_argument("--output", required=True, help="dataset directory to write")
    extract.add_argument("--domain", required=True, help="domain of all images")
    extract.add_argument("--pose-topic", default="", help="default: the best there is")
    extract.add_argument("--keyframe-distance", type=float, default=0.0, help="metres; 0: all")
    extract.add_argument("--keyframe-angle", type=float, default=0.0, help="degrees; 0: ignore")

    to_bag = command("to-bag", to_bag_command, "dataset directory → rosbag2")
    to_bag.add_argument("--dataset", required=True, help="dataset directory")
    to_bag.add_argument("--output", required=True, help="bag directory to write")
    to_bag.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="format")
    to_bag.add_argument("--domain", default=None, help="which drive, if there are several")
    to_bag.add_argument("--weather", default=None, help="word to publish on /weather")

    parameters = command("parameters", parameters_command, "print a node's parameters as a table")
    parameters.add_argument("node", choices=("localizer", "map_builder", "replay"), help="which")

    replay = command("replay", replay_command, "play a bag onto ROS topics with /clock")
    replay.add_argument("bag", help="rosbag2 directory or .mcap/.db3 file")
    replay.add_argument("--rate", type=float, default=1.0, help="speed relative to the recording")
    replay.add_argument("--start-delay", type=float, default=1.0, help="seconds for subscribers")
    replay.add_argument("--loop", action="store_true", help="start again at the end")
    replay.add_argument("--topics", nargs="*", help="default: all")
    replay.add_argument("--prefix", default="", help="put before every topic name")


def _add_benchmark_commands(command: object) -> None:
    convert = command("convert", convert_command, "public data set → dataset directory")
    formats = convert.add_subparsers(required=True, dest="format", metavar="format")

    def add_format(name: str, text: str, **settings: dict) -> None:
        style = argparse.ArgumentDefaultsHelpFormatter
        sub = formats.add_parser(name, help=text, description=text, formatter_class=style)
        sub.add_argument("--input", required=True, help="directory of the data set, unpacked")
        sub.add_argument("--output", required=True, help="dataset directory to write")
        if "domain" not in settings:
            sub.add_argument("--domains", nargs="+", help="keep only these; default: all")
        for setting, details in settings.items():
            option = setting.removesuffix("_number").replace("_", "-")
            sub.add_argument(f"--{option}", dest=setting, **details)
        sub.set_defaults(settings=tuple(settings), domains=())

    intrinsics = {"type": float, "nargs": "+", "default": [], "metavar": "PIXELS"}
    intrinsics["help"] = "fx fy cx cy [k1 k2 p1 p2 [k3]]"
    domain = {"required": True, "help": "domain of all images"}
    add_format("aligned", "a folder per condition, image i shows place i", intrinsics=intrinsics)
    add_format(
        "cmu-seasons",
        "a slice of CMU-Seasons or Extended CMU-Seasons",
        slice_number={"type": int, "required": True, "help": "slice, such as 2"},
    )
    add_format(
        "kitti-odometry",
        "a sequence of KITTI odometry",
        sequence={"required": True, "help": "sequence, such as 00"},
        domain=domain,
        camera_number={"type": int, "choices": range(4), "default": 2, "help": "2: left colour"},
    )
    add_format("robotcar-seasons", "RobotCar-Seasons, all conditions that are unpacked")
    add_format(
        "tum",
        "images beside a TUM trajectory",
        domain=domain,
        trajectory={"default": "groundtruth.txt", "help": "file in the input directory"},
        images={"default": "", "help": "list or folder; default: rgb.txt, else the folder rgb"},
        intrinsics=intrinsics | {"help": f"{intrinsics['help']}; default: calibration.txt"},
        max_gap={"type": float, "default": 0.5, "help": "longest seconds between two poses"},
    )

    submission = command(
        "submission", submission_command, "answers → file for the visual localization benchmark"
    )
    submission.add_argument(
        "--benchmark", required=True, choices=("cmu-seasons", "robotcar-seasons"), help="which"
    )
    submission.add_argument("--answers", required=True, help="table of disam localize --dataset")
    submission.add_argument("--dataset", required=True, help="dataset directory of the queries")
    submission.add_argument("--output", required=True, help="file, such as CMU_eval_disam.txt")


if __name__ == "__main__":
    sys.exit(main())
