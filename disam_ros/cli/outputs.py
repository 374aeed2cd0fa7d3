# SPDX-License-Identifier: Apache-2.0
"""Outputs of the commands: one rule for all, applied before the work begins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from disam_ros.files.outputs import require_output

Outputs = Mapping[Path, str]  # kinds of output, see files/outputs.py


def add_output(command: argparse.ArgumentParser, kind: str, text: str, default: str = "") -> None:
    """Adds the options --output, required unless it has a default, and --overwrite."""
    command.add_argument("--output", required=not default, default=default or None, help=text)
    add_overwrite(command, lambda arguments: {Path(arguments.output): kind})


def add_overwrite(
    command: argparse.ArgumentParser, outputs: Callable[[argparse.Namespace], Outputs]
) -> None:
    """Adds the option --overwrite. outputs: all that the command is going to write."""
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what this command wrote there before; other files stay",
    )
    command.set_defaults(outputs=outputs)


def require_outputs(arguments: argparse.Namespace) -> None:
    """Raises OutputError unless all outputs of a command can be written."""
    if "outputs" in arguments:
        for path, kind in arguments.outputs(arguments).items():
            require_output(path, kind, arguments.overwrite)
