# SPDX-License-Identifier: Apache-2.0
"""Paths as users write them, and the models that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from disam_ros.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]
FAST_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")  # names of ROS's Fast DDS layers
LARGE_IMAGES, DISCOVERY = "fastdds_large_images.xml", "fastdds_discovery.xml"  # its profiles
# Where Fast DDS looks for a profile: up to version 2, ROS 2 Jazzy; from version 3.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
MODEL_FILE = "model.json"  # what makes a directory a model


def expand(text: str) -> str:
    """A path with its `~` replaced by the home directory; unchanged where that is unknown."""
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        return text


def share() -> Path | None:
    """The folder with models/, config/ and launch/: the source tree or PREFIX/share/disam_ros.

    None for a copy of the package alone.
    """
    installed = (folder / "share" / PACKAGE.name for folder in PACKAGE.parents)
    candidates = (PACKAGE.parent, *installed)
    return next((folder for folder in candidates if (folder / "package.xml").is_file()), None)


def shipped_models() -> dict[str, Path]:
    """The models that come with the package: name → directory, by name."""
    folder = share()
    found = sorted((folder / "models").glob(f"*/{MODEL_FILE}")) if folder else ()
    return {path.parent.name: path.parent for path in found}


def find_model(text: str) -> str:
    """The directory of a model given by its path or by the name of a shipped one.

    `~` is expanded. What exists as a path is that path; an unknown name is returned as it is, and
    opening it lists the known ones.
    """
    path = expand(text)
    shipped = shipped_models().get(text)
    return path if shipped is None or Path(path, MODEL_FILE).exists() else str(shipped)


def find_config(text: str) -> str:
    """A parameter file given by its path, or by the name of a shipped one such as cpu_robot.

    Raises ConfigError where it does not exist, with the known names.
    """
    path, folder = Path(expand(text)), share()
    shipped = folder / "config" if folder else Path()
    names = (text, f"{text}.yaml") if path.name == text else ()
    for found in (path, *(shipped / name for name in names)):
        if text and found.is_file():
            return str(found)
    known = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml") if p.stem[:6] != "train_"))
    raise ConfigError(
        f"the parameter file '{text}' does not exist; expected a path, or one of {known or 'none'}"
    )


def profile(file: str) -> dict[str, str]:
    """Environment that makes a program read one of the shipped profiles of Fast DDS.

    Empty for a copy of the package alone.
    """
    folder = share()
    path = str(folder / "config" / file) if folder else ""
    return dict.fromkeys(PROFILE_VARIABLES, path) if path else {}


def missing_profile(environment: Mapping[str, str], file: str = LARGE_IMAGES) -> dict[str, str]:
    """The same, empty where an environment has another middleware or a profile of its own.

    DISCOVERY, which all nodes of this package take by themselves, gives way to another.
    """
    given = {environment.get(name, "") for name in PROFILE_VARIABLES}
    other = environment.get("RMW_IMPLEMENTATION") or FAST_DDS[0]
    if other not in FAST_DDS or given - {"", *profile(DISCOVERY).values()}:
        return {}
    return profile(file)
