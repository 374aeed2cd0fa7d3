# SPDX-License-Identifier: Apache-2.0
"""Commands that create, import, export and calibrate models."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from disam_ros.cli.arguments import (
    LARGEST_SIDE,
    MODEL_HELP,
    SEED,
    add,
    add_image_limit,
    add_shared,
    number,
    whole,
)
from disam_ros.cli.bag_options import add_bag_options, bag_options_of
from disam_ros.cli.outputs import Outputs, add_output, add_overwrite
from disam_ros.errors import OutputError
from disam_ros.files.outputs import FILE, MODEL
from disam_ros.files.paths import find_model, real, shipped_models
from disam_ros.files.printable import say

if TYPE_CHECKING:
    from disam_ros.datasets.sources import PosedImage
    from disam_ros.domains.domain import Domain

logger = logging.getLogger(__name__)


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands that make, export and calibrate models."""
    create = command("create-model", create_model_command, "write an UNTRAINED model directory")
    sizes = ("full", "lite", "mobile")
    add(create, "--preset", "network size", choices=sizes, default="lite")
    add(create, "--seed", "seed of the random weights", whole(0, SEED), default=0)

    imported = command(
        "import-checkpoint",
        import_checkpoint_command,
        "convert checkpoints of the public DISAM implementation",
    )
    text = "prefix of the coarse encoders' files, such as …/300_net_G"
    add(imported, "--coarse", text, required=True)
    text = "prefix of the fine encoders' files; default: the coarse ones"
    add(imported, "--fine", text, default=None)
    text, side = "height and width of the network input [pixels]", whole(1, LARGEST_SIDE)
    add(imported, "--image-size", text, side, nargs=2, default=(256, 256))

    network = command(
        "import-model",
        import_model_command,
        "import an ONNX network that maps images to descriptors or feature maps",
    )
    add(
        network, "file", "ONNX file: images [B, 3, H, W] to a descriptor [B, D] or map [B, C, h, w]"
    )
    add(network, "--name", "name of the model", required=True)
    text = "licence of the weights: SPDX identifier or text"
    add(network, "--licence", text, required=True)
    add(network, "--source", "where the weights are from, such as a URL")
    text = "height and width of the network input [pixels], such as 322x322"
    add(network, "--input", text, _image_size, required=True, metavar="HxW")
    colours = {"nargs": 3, "required": True, "metavar": ("R", "G", "B")}
    text = "subtracted from red, green and blue in [0, 1]"
    add(network, "--mean", text, number(0.0, 1e3), **colours)
    text = "by which red, green and blue are divided then"
    add(network, "--std", text, number(0.0, 1e3), **colours)
    add(network, "--output-name", "the output to use, if the file has several")
    text = "domain names, which share the network; default: one for all conditions"
    add(network, "--domains", text, default="any")
    text = "domain names in the order of the encoders: day,night,…"
    for sub in (create, imported):
        add(sub, "--domains", text, required=True)
    for sub in (create, imported, network):
        add(sub, "--rules", "YAML file of further domain rules")
        add_output(sub, MODEL, "model directory to write")

    export = command("export", export_command, "write the ONNX files of a model, one per domain")
    add_shared(export, "--model")

    calibrate = command(
        "calibrate",
        calibrate_command,
        "estimate probabilities and covariances of sequences from drives with poses",
    )
    add(calibrate, "drives", "datasets or bags that were not used in training", nargs="+")
    add_shared(calibrate, "--map")
    text = f"{MODEL_HELP}; calibration.json is written there"
    add(calibrate, "--model", text, find_model, required=True)
    add_overwrite(calibrate, _calibrate_outputs)
    add_image_limit(calibrate)
    add_bag_options(calibrate)
    text = "of the drives' poses: no answer is taken for more exact; without: 0.05 m, 0.25°"
    add(calibrate, "--accuracy", text, number(0.0, 1e3), nargs=2, metavar=("M", "DEG"))


def create_model_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.model import create_model, save_model
    from disam_ros.models.network_config import PRESETS

    domains = _domains(arguments)
    model = create_model(PRESETS[arguments.preset], domains, seed=arguments.seed)
    save_model(model, arguments.output, overwrite=arguments.overwrite)
    say(f"UNTRAINED model written to {arguments.output}")


def import_checkpoint_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.export import add_onnx
    from disam_ros.models.import_checkpoint import import_checkpoint
    from disam_ros.models.model import save_model

    size = (arguments.image_size[0], arguments.image_size[1])
    model = import_checkpoint(arguments.coarse, _domains(arguments), arguments.fine, size)
    save_model(model, arguments.output, overwrite=arguments.overwrite)
    add_onnx(arguments.output)
    say(f"{model.label} → {arguments.output}")
    say("disam build-map --retrieval paper makes maps that are searched as the paper does")


def import_model_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.import_model import import_model

    model = import_model(
        arguments.file,
        arguments.output,
        name=arguments.name,
        licence=arguments.licence,
        image_size=arguments.input,
        mean=tuple(arguments.mean),
        std=tuple(arguments.std),
        domains=_domains(arguments),
        source=arguments.source,
        output_name=arguments.output_name,
        overwrite=arguments.overwrite,
    )
    use = {True: "allows commercial use", False: "FORBIDS COMMERCIAL USE"}
    allowed = use.get(model.training["commercial_use"], "not recognized: read what it allows")
    say(f"licence {arguments.licence}: {allowed}")
    say(f"{model.label} → {arguments.output}")


def _image_size(text: str) -> tuple[int, int]:
    """Parses height and width of "HxW"."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected HxW, such as 322x322, got '{text[:40]}'")
    parse = whole(1, LARGEST_SIDE)
    return parse(height), parse(width)


def export_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.export import export_onnx

    for domain, error in export_onnx(arguments.model).items():
        say(f"{domain}.onnx: differs from torch by {error:.1e} of the largest feature")


def _domains(arguments: argparse.Namespace) -> list[Domain]:
    from disam_ros.domains.domain import domains_named, load_rules

    return domains_named(arguments.domains.split(","), load_rules(arguments.rules or None))


def _calibrate_outputs(arguments: argparse.Namespace) -> Outputs:
    """Returns the calibration; a model that came with the package changes on request only."""
    from disam_ros.localization.calibration import FILE as CALIBRATION

    model = Path(arguments.model)
    if _is_shipped(model):
        if not arguments.overwrite:
            raise OutputError(
                f"{model} came with disam_ros: calibrate a copy of it, or change it with "
                f"--overwrite, which keeps the old calibration beside the new one"
            )
        logger.warning("%s came with disam_ros: its calibration is replaced", model)
    return {model / CALIBRATION: FILE} if model.is_dir() else {}


def _is_shipped(model: Path) -> bool:
    """Returns whether a model came with this installation or another one."""
    place = real(model)
    shipped = [real(path) for path in shipped_models().values()]
    return place in shipped or "share/disam_ros" in place.as_posix()


def calibrate_command(arguments: argparse.Namespace) -> None:
    from disam_ros.config import LocalizerConfig
    from disam_ros.datasets.sources import open_images
    from disam_ros.localization.calibration import save_calibration
    from disam_ros.localization.fitting.calibrate import calibrate
    from disam_ros.localization.fitting.error_fit import ACCURACY
    from disam_ros.localization.localizer import Localizer

    localizer = Localizer.open(arguments.map, arguments.model, LocalizerConfig())
    frame, mapped = localizer.map.header.map_frame, localizer.map.header.cameras
    said = bag_options_of(arguments)
    drives = [open_images(path, frame, mapped=mapped, options=said) for path in arguments.drives]
    total = sum(drive.total for drive in drives)
    posed: set[tuple[str, str, int, int]] = set()

    def noted(item: PosedImage) -> PosedImage:
        record = item.record
        if record.map_from_camera is not None:
            posed.add((record.source, record.camera, record.stamp_ns, record.id))
        return item

    drives = [drive.map(noted) for drive in drives]
    fit = calibrate(localizer, drives, tuple(arguments.accuracy or ACCURACY))
    path = save_calibration(fit, arguments.model)
    say(
        f"log likelihood ratio {fit.intercept:.2f} + {fit.slope:.2f} z_fine + "
        f"{fit.coarse:.2f} z_coarse, at most "
        f"{fit.high:.2f}; errors of correct answers (1 sigma): {fit.horizontal:.2f} m "
        f"horizontal, {fit.vertical:.2f} m vertical, {fit.tilt:.2f}° tilt, {fit.yaw:.2f}° "
        f"yaw, {fit.along:.2f} of the map's spacing along the track; of their own: "
        f"{', '.join(fit.domains) or 'no domains'}; {len(posed)} of {total} images have a pose "
        f"→ {path}"
    )
