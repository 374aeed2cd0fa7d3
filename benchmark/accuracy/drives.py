# SPDX-License-Identifier: Apache-2.0
"""Drives of the test town, their maps, and the calls of localizer and tracker on them.

Every section of this page that localizes offline does so by the functions here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from disam_ros.localization.result import Localization

from demo.drives import CONDITIONS as SHIPPED
from demo.drives import DATA
from demo.make_data import JPEG_QUALITY, LENGTH, TOWN_SEED
from disam_ros.config import FilterConfig, LocalizerConfig, MapBuilderConfig, VerifyConfig
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.tracker import Tracker
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from disam_ros.synthetic import CONDITIONS, DriveConfig, RenderError, write_drive

RENDERED = Path("runs/town_test")
DRIVE_SEEDS = {"summer_day": 3, "autumn_rain": 4, "spring_morning": 5, "dusk": 6}  # 0–2: the demo's
EVERY_IMAGE = MapBuilderConfig(keyframe_distance=0.0)
KEYPOINTS = 512  # of a map image
WEIGHTS = Path("data/weights/xfeat_640x640.onnx")  # of XFeat; its rows are left out without it
NOTHING, SIFT, XFEAT = "–", "sift", "xfeat"  # local features of a map
UNLIMITED_MS = 10_000.0  # so that figures do not depend on the machine

Maps = dict[str, tuple[Path, Path]]  # by local features: directories of map and model
Step = tuple[Localization, int | None, Transform | None, np.ndarray | None]

log = logging.getLogger(__name__)


def town_drives(rendered: Path = RENDERED) -> Iterator[tuple[str, Path]]:
    """Condition and dataset or bag of every drive through the demo's town.

    The demo's are shipped; the others are rendered once, and left out where there is no OpenGL.
    """
    for condition in CONDITIONS:
        path = DATA / condition if condition in SHIPPED else rendered / condition
        if condition not in SHIPPED and not (path / "images.csv").exists():
            seed = DRIVE_SEEDS[condition]
            config = DriveConfig(condition, TOWN_SEED, seed, rate_hz=2.5, length_m=LENGTH)
            try:
                write_drive(config, path, JPEG_QUALITY)
            except RenderError as error:
                log.warning("%s left out: %s", condition, error)
                continue
        yield condition, path


def maps_of(
    source: ImageSource,
    model_dir: Path,
    directory: Path,
    kinds: Sequence[str] = (NOTHING, SIFT, XFEAT),
) -> Maps:
    """Maps of all images by their local features; XFeat only where its weights are."""
    maps, model = {}, load_model(model_dir)
    for kind in kinds:
        if kind == XFEAT and not WEIGHTS.is_file():
            continue
        settings = EVERY_IMAGE
        if kind != NOTHING:
            xfeat = str(WEIGHTS) if kind == XFEAT else ""
            settings = replace(settings, keypoints=KEYPOINTS, local_features=kind, xfeat=xfeat)
        build_map(source, model, directory / kind, settings)
        maps[kind] = (directory / kind, model_dir)
    return maps


def opened(
    maps: Maps, kind: str = NOTHING, max_speed: float = FilterConfig().max_speed
) -> Localizer:
    """The localizer of the map with those local features. max_speed: of the tracker [m/s]."""
    weights = str(WEIGHTS) if kind == XFEAT else ""
    when = "never" if kind == NOTHING else "always"
    verify = VerifyConfig(when=when, xfeat=weights, budget_ms=UNLIMITED_MS)
    config = LocalizerConfig(device="cpu", verify=verify)
    config.sequence = replace(config.sequence, max_speed=max_speed)
    return Localizer.open(*maps[kind], config)


def localized(
    localizer: Localizer, items: Iterable[PosedImage], domain: str | None = None
) -> Iterator[Localization]:
    """Answers to single images. domain: the query's; None: the chooser's."""
    for item in items:
        latitude, longitude = item.place or (None, None)
        yield localizer.localize(
            item.load(),
            item.record.stamp_ns,
            weather=item.weather,
            latitude=latitude,
            longitude=longitude,
            domain=domain,
        )


def tracked(localizer: Localizer, steps: Iterable[Step]) -> Iterator[Localization]:
    """Answers of a tracker to a sequence of (single answer, stamp, odometry, image)."""
    tracker = Tracker(localizer)
    for found, stamp_ns, odom_from_base, picture in steps:
        yield tracker.follow(found, stamp_ns, odom_from_base, image=picture)
