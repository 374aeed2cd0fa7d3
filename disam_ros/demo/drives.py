# SPDX-License-Identifier: Apache-2.0
"""The shipped drives: a summer one to map, a winter and a night one to localize."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.poses import GROUND_TRUTH, read_topic
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError
from disam_ros.files.paths import PACKAGE, share
from disam_ros.geometry import Transform
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model

SHARE = share() or PACKAGE.parent  # a copy of the package alone has no drives
DATA, MODEL = SHARE / "demo" / "data", SHARE / "models" / "outdoor"
REFERENCE = DATA / "reference"
CONDITIONS = ("winter_snow", "night")
BAG_HZ = 2.5  # images a second in the bags
IMAGES = "/camera/front/image_raw/compressed"


@dataclass(frozen=True)
class Drive:
    """The frames of a bag that have a true pose."""

    stamps_ns: list[int]
    images: list[NDArray[np.uint8]]  # RGB [H, W, 3]
    truth: list[Transform]  # map_from_base


def make_map(output: Path) -> PlaceMap:
    """Builds the map of the summer drive. Raises ConfigError where the drives are missing."""
    if not REFERENCE.is_dir():
        raise ConfigError(
            f"expected the demo's drives in {DATA}, where nothing is: install disam_ros from its "
            "wheel, with colcon or with 'pip install -e' in a checkout"
        )
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0)
    return build_map(open_dataset(REFERENCE), load_model(MODEL), output, config)


def read_drive(bag: Path) -> Drive:
    """Reads the frames of a bag that have a true pose."""
    with BagReader(bag) as reader:
        stamps, poses = read_topic(reader, GROUND_TRUTH)
        truth = dict(zip(stamps.tolist(), poses, strict=True))
        frames = [(raw.stamp_ns, decode_image(m)) for raw, m in reader.messages([IMAGES])]
    frames = [frame for frame in frames if frame[0] in truth]
    return Drive([s for s, _ in frames], [i for _, i in frames], [truth[s] for s, _ in frames])
