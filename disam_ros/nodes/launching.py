# SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments of launch files."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from disam_ros.errors import ConfigError
from disam_ros.files.checking import unknown_name


def refuse_unknown_arguments(file: str, names: Collection[str]) -> None:
    """Raises ConfigError where `ros2 launch` is given an argument that a launch file lacks.

    file: of that launch file. One that is included by another is not checked: it receives the
    arguments of that other file as well.
    """
    words = sys.argv[1:]
    if Path(file).name not in {Path(word).name for word in words}:
        return
    for word in words:
        name, sign, _ = word.partition(":=")
        if sign and name not in names:
            raise ConfigError(f"{Path(file).name}: argument {word}: {unknown_name(name, names)}")
