# SPDX-License-Identifier: Apache-2.0
"""Making model directories."""

from __future__ import annotations

import argparse
from collections.abc import Callable


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


def _domains(arguments: argparse.Namespace) -> list:
    from disam_ros.domain_rules import domains_named, load_rules

    return domains_named(arguments.domains.split(","), load_rules(arguments.rules or None))
