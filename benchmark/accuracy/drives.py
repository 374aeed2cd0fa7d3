# SPDX-License-Identifier: Apache-2.0
"""Drives of the test town, their maps, and the calls of localizer and tracker on them.

Every section of this page that localizes offline does so by the functions here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.single_images import describe, single_pipeline
from demo.make_data import JPEG_QUALITY, LENGTH, TOWN_SEED
from disam_ros.config import LocalizerConfig, MapBuilderConfig, VerifyConfig
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.demo.drives import CONDITIONS as SHIPPED
from disam_ros.demo.drives import DATA
from disam_ros.errors import BlindError
from disam_ros.features.learned.weights import installed
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Shot
from disam_ros.localization.query import Answer, Frame, Query
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import Tracker
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from season_town import CONDITIONS, DriveConfig, RenderError, write_drive

RENDERED = Path("runs/town_test")
DRIVE_SEEDS = {"summer_day": 3, "autumn_rain": 4, "spring_morning": 5, "dusk": 6}  # 0–2: the demo's
EVERY_IMAGE = MapBuilderConfig(keypoints=0, keyframe_distance=0.0)
KEYPOINTS = MapBuilderConfig().keypoints  # of a map image
NOTHING, SIFT, XFEAT = "–", "sift", "xfeat"  # local features; rows of XFeat need its extra

Maps = dict[str, tuple[Path, Path]]  # by local features: directories of map and model

log = logging.getLogger(__name__)


def rendered_once(config: DriveConfig, directory: Path) -> Path:
    """Renders a drive into a directory, unless it is there. Raises RenderError without OpenGL."""
    if not (directory / "images.csv").exists():
        write_drive(config, directory, JPEG_QUALITY)
    return directory


def town_drives(rendered: Path = RENDERED) -> Iterator[tuple[str, Path]]:
    """Condition and dataset or bag of every drive through the demo's town.

    The demo's are shipped; the others are rendered once, and left out where there is no OpenGL.
    """
    for condition in CONDITIONS:
        path = DATA / condition if condition in SHIPPED else rendered / condition
        if condition not in SHIPPED:
            seed = DRIVE_SEEDS[condition]
            config = DriveConfig(condition, TOWN_SEED, seed, rate_hz=2.5, length_m=LENGTH)
            try:
                rendered_once(config, path)
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
    """Maps of all images by their local features; XFeat only where its weights are installed."""
    maps, model = {}, load_model(model_dir)
    for kind in kinds:
        if kind == XFEAT and not installed(XFEAT):
            continue
        settings = EVERY_IMAGE
        if kind != NOTHING:
            settings = replace(settings, keypoints=KEYPOINTS, local_features=kind)
        build_map(source, model, directory / kind, settings)
        maps[kind] = (directory / kind, model_dir)
    return maps


def opened(
    maps: Maps, kind: str = NOTHING, max_speed: float = LocalizerConfig().max_speed
) -> Localizer:
    """The localizer of the map with those local features. max_speed: of the vehicle [m/s]."""
    when = "never" if kind == NOTHING else "always"
    verify = VerifyConfig(when=when)
    config = LocalizerConfig(device="cpu", max_speed=max_speed, verify=verify)
    config.sequence.enabled = True
    return Localizer.open(*maps[kind], config)


def frame_of(item: PosedImage, camera: str, domain: str | None = None) -> Frame:
    """The frame of a drive's image. domain: the query's; None: the chooser's."""
    latitude, longitude = item.place or (None, None)
    return Frame(
        image=item.load(),
        camera=camera,
        stamp_ns=item.record.stamp_ns,
        weather=item.weather,
        domain=domain,
        latitude=latitude,
        longitude=longitude,
    )


def localized(
    localizer: Localizer, items: Iterable[PosedImage], domain: str | None = None
) -> Iterator[Answer | None]:
    """Answers to single images; None: nothing is visible. domain: None: the chooser's."""
    pipeline, camera = single_pipeline(localizer), localizer.map.main_camera()
    for item in items:
        (result,) = pipeline.process([Shot(frame_of(item, camera, domain))])
        yield None if isinstance(result.outcome, BlindError) else result.answer


def queries(localizer: Localizer, items: Iterable[PosedImage]) -> Iterator[Query]:
    """Descriptors of the images, to be tracked more than once."""
    camera = localizer.map.main_camera()
    for item in items:
        yield describe(localizer, frame_of(item, camera))


def tracked(
    localizer: Localizer, steps: Iterable[tuple[Query, int, Transform | None]]
) -> Iterator[Answer]:
    """Answers of a tracker to a sequence of (query, stamp [ns], odom_from_base)."""
    tracker, config = Tracker(localizer), localizer.config
    for query, stamp_ns, odom_from_base in steps:
        moment = replace(query, frame=replace(query.frame, stamp_ns=stamp_ns))
        odometry = None if odom_from_base is None else Reading(odom_from_base, 0.0, 0)
        candidates = localizer.rerank(moment, localizer.search(moment, config))
        yield tracker.predict(moment, odometry, config).update(candidates).answer(config)
