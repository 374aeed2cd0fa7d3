# SPDX-License-Identifier: Apache-2.0
"""Relocalization prior for ROS 2 that survives seasons, weather and night."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in typing, which is not imported before disam_ros.entry heeds signals
if TYPE_CHECKING:
    from typing import Any

    from disam_ros.config import LocalizerConfig, MapBuilderConfig
    from disam_ros.errors import DisamError
    from disam_ros.localization.pipeline import Localized, Pipeline, Shot
    from disam_ros.localization.query import Answer, Frame
    from disam_ros.mapping.place_map import PlaceMap
    from disam_ros.models.model import Model, load_model, save_model

__all__ = [
    "Answer",
    "DisamError",
    "Frame",
    "Localized",
    "LocalizerConfig",
    "MapBuilderConfig",
    "Model",
    "Pipeline",
    "PlaceMap",
    "Shot",
    "load_model",
    "save_model",
]

_MODULES = {  # modules of the names above, imported when they are used
    "config": ("LocalizerConfig", "MapBuilderConfig"),
    "errors": ("DisamError",),
    "localization.pipeline": ("Localized", "Pipeline", "Shot"),
    "localization.query": ("Answer", "Frame"),
    "mapping.place_map": ("PlaceMap",),
    "models.model": ("Model", "load_model", "save_model"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    """The version of the installed package, or of package.xml."""
    from importlib.metadata import PackageNotFoundError, version
    from xml.etree import ElementTree

    from disam_ros.files.paths import share

    try:
        return version(__name__)
    except PackageNotFoundError:  # a source tree that is not installed
        folder = share()
        text = folder and ElementTree.parse(folder / "package.xml").findtext("version")
        return text or "0+unknown"
