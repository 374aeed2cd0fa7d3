# SPDX-License-Identifier: Apache-2.0
"""Relocalization prior for ROS 2 that survives seasons, weather and night."""

from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from disam_ros import device, moved  # noqa: F401, device before any other that imports torch
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.errors import DisamError
from disam_ros.localization.answer import Answer
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import Model, load_model, save_model

__all__ = [
    "Answer",
    "DisamError",
    "Localizer",
    "LocalizerConfig",
    "MapBuilderConfig",
    "Model",
    "Pipeline",
    "PlaceMap",
    "load_model",
    "save_model",
]

try:
    __version__ = version("disam_ros")  # that of package.xml
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

moved.install()


def __getattr__(name: str) -> NoReturn:
    if name == "Localization":
        raise ImportError("disam_ros.Localization is disam_ros.Answer since 0.2")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
