# SPDX-License-Identifier: Apache-2.0
"""Outputs of the commands: one rule for all, applied before the work begins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from disam_ros.files.outputs import require_output

Outputs = Mapping[Path, str]  # kinds of output, see files/outputs.py


def add_output(command: argparse.ArgumentParser, kind: str, text: str, default: str = "") -> None:
    """The options --output, required unless it has a default, and --overwrite."""
    command.add_argument("--output", required=not default, default=default or None, help=text)
    add_overwrite(command, lambda arguments: {Path(arguments.output): kind})


def add_overwrite(
    command: argparse.ArgumentParser, outputs: Callable[[argparse.Namespace], Outputs]
) -> None:
    """The option --overwrite, for all that a command is going to write."""
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what this command wrote there before; other files stay",
    )
    command.set_defaults(outputs=outputs)


def require_outputs(arguments: argparse.Namespace) -> None:
    """Raise OutputError unless all that a command is going to write can be written."""
    if "outputs" in arguments:
        for path, kind in arguments.outputs(arguments).items():
            require_output(path, kind, arguments.overwrite)


def in_words(counts: Any) -> str:
    """Counts by outcome, such as "9 images: 7 kept, 2 without pose"; the first is the total."""
    (what, total), *outcomes = ((name.replace("_", " "), n) for name, n in asdict(counts).items())
    parts = ", ".join(f"{n} {name}" for name, n in outcomes)
    return f"{total} {what}: {parts}"
