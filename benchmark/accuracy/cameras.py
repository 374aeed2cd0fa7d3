# SPDX-License-Identifier: Apache-2.0
"""A map of one camera, queries of others: lenses and mounts in the town, crops of real driving.

The town's map is the demo's, of a pinhole of 80°; queries of single images, their domain given.
What fills the unseen and whether it counts was chosen on KITTI.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy import kitti
from benchmark.accuracy.drives import DRIVE_SEEDS, EVERY_IMAGE, rendered_once
from benchmark.accuracy.gardens_point import domain_of
from benchmark.accuracy.kitti_loop import LOOP
from benchmark.single_images import localize_alone
from benchmark.truth import truth_of
from demo.make_data import LENGTH, TOWN_SEED
from disam_ros.camera import FISHEYE, Camera, warp_between, warp_into
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import ImageSource, PosedImage, open_dataset
from disam_ros.demo.drives import MODEL, REFERENCE
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from season_town import DriveConfig

RENDERED = Path("runs/cameras")
RATE_HZ = 2.5 / 3  # images a second: every third of the other sections'
NEAR = 5.0  # metres of a right answer
SAME = "80° pinhole"
LENSES: dict[str, dict[str, Any]] = {
    SAME: {"fov_deg": 80.0},
    "60° pinhole": {"fov_deg": 60.0},
    "90° pinhole": {"fov_deg": 90.0},
    "120° pinhole": {"fov_deg": 120.0},
    "180° fisheye": {"lens": FISHEYE, "fov_deg": 180.0, "width": 320, "height": 320},
}
MOUNTS: dict[str, dict[str, float]] = {
    "same": {},
    "turned 20°, 1 m higher": {"mount_yaw_deg": 20.0, "mount_height_m": 2.5},
}
SEEDS = {"summer_day": DRIVE_SEEDS["summer_day"], "winter_snow": 2}
MAP_STEP = 4  # one of so many frames of KITTI is in the map
FISHEYE_PX = 500.0  # pixels per radian of KITTI's

log = logging.getLogger(__name__)


def measure() -> dict[str, Any]:
    """Recall by lens, mount and condition of the town, and by crop of KITTI."""
    model = load_model(MODEL)
    results: dict[str, Any] = {"model": model.label, "near": NEAR, "rate_hz": RATE_HZ}
    with tempfile.TemporaryDirectory() as scratch:
        results["town"] = town(Path(scratch))
        if kitti.DATA.exists():
            results["kitti"] = crops(Path(scratch))
    return results


def town(scratch: Path, rendered: Path = RENDERED) -> list[dict[str, Any]]:
    """A row for each lens and mount."""
    localizer = localizer_of(open_dataset(REFERENCE), scratch / "town")
    mapped = localizer.map.header.cameras["front"]
    rows = []
    for mount, place in MOUNTS.items():
        for lens, settings in LENSES.items():
            conditions = {}
            for condition, seed in SEEDS.items():
                config = DriveConfig(
                    condition, TOWN_SEED, seed, rate_hz=RATE_HZ, length_m=LENGTH, **settings | place
                )
                directory = rendered / f"{lens} {mount} {condition}".replace(" ", "_")
                source = open_dataset(rendered_once(config, directory))
                camera = source.info.cameras["front"]
                conditions[condition] = compared(localizer, list(source.images), camera, condition)
            rows.append(
                {
                    "lens": lens,
                    "mount": mount,
                    "seen": seen(camera, mapped),
                    "conditions": conditions,
                }
            )
            log.warning("%s", rows[-1])
    return rows


def crops(scratch: Path) -> dict[str, Any]:
    """A row for each crop of the frames that come back to the first stretch of KITTI 00."""
    whole = kitti.drive(kitti.DATA)
    frames = list(whole.images)
    chosen = kitti.part(whole, frames[: kitti.END : MAP_STEP])
    model = load_model(MODEL)
    domain = domain_of(model, "day")
    localizer = localizer_of(chosen, scratch / "kitti", domain)
    name = localizer.map.main_camera()
    mapped = localizer.map.header.cameras[name]
    queries = [frames[k] for k in LOOP]
    rows = {}
    for title, lens in kitti_lenses(mapped).items():
        cropped = [cropped_to(item, mapped, lens) for item in queries]
        figures = compared(localizer, cropped, lens, domain)
        rows[title] = {"seen": seen(lens, mapped), **figures}
    return {"map_images": len(localizer.map), "rows": rows}


def kitti_lenses(whole: Camera) -> dict[str, Camera]:
    """Cameras that see a part of what KITTI's does."""
    crops = {"whole": whole}
    for degrees in (60, 45):
        width = round(2 * whole.fx * np.tan(np.radians(degrees) / 2))
        crops[f"{degrees}° pinhole"] = replace(
            whole, width=width, cx=whole.cx - (whole.width - width) // 2
        )
    half = whole.width * 5 // 8
    crops["left five eighths"] = replace(whole, width=half)
    width, height = (round(FISHEYE_PX * a) for a in (np.radians(80.0), np.radians(29.0)))
    crops["80° fisheye"] = Camera(
        width,
        height,
        FISHEYE_PX,
        FISHEYE_PX,
        (width - 1) / 2,
        (height - 1) / 2,
        (0.0,) * 4,
        whole.base_from_camera,
        FISHEYE,
    )
    return crops


def cropped_to(item: PosedImage, whole: Camera, lens: Camera) -> PosedImage:
    """The image as the lens would have taken it."""
    return item if lens == whole else replace(item, load=lambda: _seen_by(item, whole, lens))


def _seen_by(item: PosedImage, whole: Camera, lens: Camera) -> NDArray[Any]:
    return warp_between(whole, lens).apply(item.load())


def localizer_of(source: ImageSource, directory: Path, domain: str = "") -> Localizer:
    """On a map of all images, without keypoints."""
    model = load_model(MODEL)
    settings = replace(EVERY_IMAGE, domain=domain)
    place_map = build_map(source, model, directory, settings, show_progress=False)
    return Localizer(model, place_map, LocalizerConfig(device="cpu"), MODEL)


def compared(
    localizer: Localizer, items: Sequence[PosedImage], lens: Camera, domain: str
) -> dict[str, float]:
    """Queries; shares of right first answers with the warp and without."""
    camera, right = localizer.map.main_camera(), np.zeros((len(items), 2), bool)
    for k, item in enumerate(items):
        image, true = item.load(), truth_of(item.record)
        for column, query_lens in enumerate((lens, None)):
            frame = Frame(image, camera, lens=query_lens, domain=domain)
            answer = localize_alone(localizer, frame).answer
            right[k, column] = near(truth_of(answer.record), true)
    warped, plain = right.mean(0).tolist()
    return {"queries": len(items), "warped": warped, "plain": plain}


def near(estimate: Transform, true: Transform) -> bool:
    """Whether two poses are one place."""
    return bool(np.linalg.norm(estimate.translation - true.translation) <= NEAR)


def seen(lens: Camera, mapped: Camera) -> float:
    """Share of the map's view that a lens sees."""
    warp = warp_into(lens, mapped, (lens.width, lens.height))
    return 1.0 if warp is None else warp.coverage
