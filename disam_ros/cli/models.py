# SPDX-License-Identifier: Apache-2.0
"""Making model directories."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Model directories."""
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

    export = command("export", export_command, "write a model's encoders as ONNX files")
    export.add_argument("--model", required=True, help="model directory")
    export.add_argument(
        "--output", help="directory to write; default: MODEL/onnx, where localizers look"
    )
    export.add_argument("--domain", nargs="+", metavar="NAME", help="only these; default: all")
    export.add_argument("--onnx", action="store_true", help="the format; so far the only one")

    calibrate = command(
        "calibrate", calibrate_command, "learn how sure answers may be, from drives with poses"
    )
    calibrate.add_argument("drives", nargs="+", help="datasets or bags that nothing was trained on")
    calibrate.add_argument("--map", required=True, help="map directory")
    calibrate.add_argument("--model", required=True, help="model directory; gets calibration.json")


def create_model_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.model import create_model, save_model
    from disam_ros.models.networks import PRESETS

    domains = _domains(arguments)
    model = create_model(PRESETS[arguments.preset], domains, seed=arguments.seed)
    print(f"UNTRAINED model written to {save_model(model, arguments.output)}")


def import_checkpoint_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.import_checkpoint import import_checkpoint
    from disam_ros.models.model import save_model

    size = (arguments.image_size[0], arguments.image_size[1])
    model = import_checkpoint(arguments.coarse, _domains(arguments), arguments.fine, size)
    save_model(model, arguments.output)
    network = model.network
    print(f"width {network.width}, {network.encoder_blocks} blocks → {arguments.output}")


def export_command(arguments: argparse.Namespace) -> None:
    from disam_ros.models.backend import EXPORT_FOLDER
    from disam_ros.models.export import export_onnx
    from disam_ros.models.model import load_model

    output = Path(arguments.output or Path(arguments.model) / EXPORT_FOLDER)
    errors = export_onnx(load_model(arguments.model), output, arguments.domain or ())
    for domain, error in errors.items():
        print(f"{output / domain}.onnx: differs from torch by {error:.1e} of the largest feature")


def _domains(arguments: argparse.Namespace) -> list:
    from disam_ros.domains.rules import domains_named, load_rules

    return domains_named(arguments.domains.split(","), load_rules(arguments.rules or None))


def calibrate_command(arguments: argparse.Namespace) -> None:
    from disam_ros.config import LocalizerConfig
    from disam_ros.datasets.sources import open_images
    from disam_ros.localization.calibrate import calibrate
    from disam_ros.localization.calibration import save_calibration
    from disam_ros.localization.localizer import Localizer

    localizer = Localizer.open(arguments.map, arguments.model, LocalizerConfig())
    frame, mapped = localizer.map.header.map_frame, localizer.map.header.cameras
    drives = [open_images(path, frame, mapped=mapped) for path in arguments.drives]
    found = calibrate(localizer, drives)
    path = save_calibration(found, arguments.model)
    print(
        f"log ratio {found.intercept:.2f} + {found.slope:.2f} z, at most {found.high:.2f}; right "
        f"answers are off by {found.horizontal:.2f} m, {found.vertical:.2f} m up, "
        f"{found.tilt:.2f}° tilt, {found.yaw:.2f}° yaw (1 sigma) → {path}"
    )
