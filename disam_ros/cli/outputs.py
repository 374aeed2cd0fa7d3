# SPDX-License-Identifier: Apache-2.0
"""Outputs of the commands: one rule for all, applied before the work begins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from disam_ros.files.outputs import FILE, is_output, require_output, require_outside

Outputs = Mapping[Path, str]  # kinds of output, see files/outputs.py
INPUTS = (  # options and arguments that name what a command reads
    *("bag", "dataset", "drives", "images", "input", "map", "maps", "model", "poses", "tiles"),
    "to",  # of map align
)


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
    if "outputs" not in arguments:
        return
    for path, kind in arguments.outputs(arguments).items():
        for source in _inputs(arguments) if "output" in arguments else ():
            if kind != FILE or is_output(source):  # files may lie in a folder of images
                require_outside(path, source)
        require_output(path, kind, arguments.overwrite)


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    """Returns the directories that a command reads."""
    values = [getattr(arguments, name, None) for name in INPUTS]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    paths = [Path(text) for text in texts if text and isinstance(text, (str, Path))]
    return [path for path in paths if path.is_dir()]
