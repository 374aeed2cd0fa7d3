# SPDX-License-Identifier: Apache-2.0
"""Paths as users write them, and the models that come with the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from disam_ros.errors import ConfigError


def real(path: Path | str) -> Path:
    """The absolute path without symbolic links; of a loop of links, one of them."""
    return Path(os.path.realpath(path))


PACKAGE = Path(__file__).resolve().parents[1]
FAST_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")  # names of ROS's Fast DDS layers
LARGE_IMAGES, DISCOVERY = "fastdds_large_images.xml", "fastdds_discovery.xml"  # its profiles
# Where Fast DDS looks for a profile: up to version 2, ROS 2 Jazzy; from version 3.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
MODEL_FILE = "model.json"  # what makes a directory a model


def expand(text: str) -> str:
    """Replace `~` by the home directory; the path is unchanged where that is unknown.

    Raises ConfigError for what can be no path.
    """
    if "\0" in text:
        raise ConfigError(f"expected a path, got {text!r:.300}")
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        return text


def share() -> Path | None:
    """Find the folder with models/, config/ and launch/: source tree or PREFIX/share/disam_ros.

    None for a copy of the package alone.
    """
    installed = (folder / "share" / PACKAGE.name for folder in PACKAGE.parents)
    candidates = (PACKAGE.parent, *installed)
    return next((folder for folder in candidates if (folder / "package.xml").is_file()), None)


def shipped_models() -> dict[str, Path]:
    """List the models that come with the package: name → directory, by name."""
    folder = share()
    files = sorted((folder / "models").glob(f"*/{MODEL_FILE}")) if folder else ()
    return {path.parent.name: path.parent for path in files}


def find_model(text: str) -> str:
    """Find the directory of a model by its path or by the name of a shipped one.

    `~` is expanded. A path that exists comes first; an unknown name is returned as it is, and
    opening it lists the shipped ones.
    """
    path = expand(text)
    shipped = shipped_models().get(text)
    return path if shipped is None or Path(path, MODEL_FILE).exists() else str(shipped)


def find_config(text: str) -> str:
    """Find a parameter file by its path, or by the name of a shipped one such as cpu_robot.

    Raises ConfigError where it does not exist, with the shipped names.
    """
    path, folder = Path(expand(text)), share()
    shipped = folder / "config" if folder else Path()
    names = (text, f"{text}.yaml") if path.name == text else ()
    for file in (path, *(shipped / name for name in names)):
        if text and file.is_file():
            return str(file)
    stems = sorted(p.stem for p in shipped.glob("*.yaml") if p.stem[:6] != "train_")
    raise ConfigError(
        f"the parameter file '{text}' does not exist; expected a path, or one of "
        f"{', '.join(stems) or 'none'}"
    )


def profile(file: str) -> dict[str, str]:
    """Environment variables that make a program read a shipped profile of Fast DDS.

    Empty for a copy of the package alone.
    """
    folder = share()
    path = str(folder / "config" / file) if folder else ""
    return dict.fromkeys(PROFILE_VARIABLES, path) if path else {}


def missing_profile(environment: Mapping[str, str], file: str = LARGE_IMAGES) -> dict[str, str]:
    """`profile`, empty where an environment has another middleware or a profile of its own.

    A profile replaces DISCOVERY, which all nodes of this package take by themselves.
    """
    profiles = {environment.get(name, "") for name in PROFILE_VARIABLES}
    middleware = environment.get("RMW_IMPLEMENTATION") or FAST_DDS[0]
    if middleware not in FAST_DDS or profiles - {"", *profile(DISCOVERY).values()}:
        return {}
    return profile(file)
