# SPDX-License-Identifier: Apache-2.0
"""Intrinsics and extrinsics of a bag's cameras."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from disam_ros.camera import (
    Camera,
    camera_of_info,
    info_doubts,
    is_calibrated,
    is_rectified,
    same_shape,
)
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.image_topics import ImageTopic, for_camera, info_topic
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.tf import TfTree
from disam_ros.errors import BagError, GeometryError
from disam_ros.files.yaml_files import read_yaml
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform

logger = logging.getLogger(__name__)
YAML = (".yaml", ".yml")
MATRICES = "camera_matrix", "projection_matrix", "distortion_coefficients"


def forward_camera() -> Transform:
    """`base_from_camera` of a camera at the base's origin that looks ahead."""
    return Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


def read_mount(
    tree: TfTree,
    topic: ImageTopic,
    name: str,
    options: BagOptions,
    base_frame: str,
    mapped: Camera | None,
) -> tuple[Transform | None, str]:
    """Read `base_from_camera` of a camera, and where it comes from.

    It is what the options say, else what TF says, else that of `mapped`, the map's camera; where
    none of them knows it, None and what to do.
    """
    if (mount := for_camera(options.mounts, name)) is not None:
        return mount, "--base-from-camera"
    if topic.frame and (mount := tree.fixed(base_frame, topic.frame)) is not None:
        return mount, f"TF {base_frame} ← {topic.frame}"
    if mapped is not None:
        return mapped.base_from_camera, "the map"
    return None, (
        f"TF does not place the frame '{topic.frame}' of {topic.topic} on '{base_frame}': say it "
        f"with --base-from-camera {name}=x,y,z,roll,pitch,yaw in m and rad, or name --base-frame"
    )


def read_camera(
    reader: BagReader,
    topic: ImageTopic,
    mount: Transform,
    described: str = "",
    mapped: Camera | None = None,
) -> tuple[Camera, str]:
    """Read the camera behind an image topic, and where its intrinsics come from.

    described: topic of camera_info or YAML file of a calibration; empty: the topic beside the
    images. Without one that can be used intrinsics are those of `mapped`, the map's camera, else a
    horizontal field of view of 53° is assumed; both are logged as warnings.
    """
    where = described or info_topic(topic.topic)
    info = topic.info
    if described:
        info = read_info_file(where) if where.endswith(YAML) else reader.first(where)
        if info is None or not hasattr(info, "distortion_model"):
            raise BagError(f"bag {reader.path}: {where} holds no camera_info")
    height, width = topic.size
    if info is not None and is_calibrated(info):
        rectified = is_rectified(topic.topic)
        try:
            camera = camera_of_info(info, mount, rectified=rectified, size=(width, height))
            camera.check()
            for doubt in info_doubts(info, rectified=rectified, size=(width, height)):
                logger.warning("%s: %s: %s", reader.path, where, doubt)
            return camera, where
        except GeometryError as fault:
            logger.warning("%s: %s is not used: %s", reader.path, where, fault)
    if mapped is not None and same_shape((mapped.width, mapped.height), (width, height)):
        return replace(mapped, base_from_camera=mount), "the map"
    other = (
        f", and the images, {width}×{height}, have another shape than those of the map's camera, "
        f"{mapped.width}×{mapped.height}"
        if mapped is not None
        else ""
    )
    logger.warning(
        "%s: no calibration on %s%s; assuming a focal length of %d pixels: name one with "
        "--camera-info TOPIC or FILE.yaml",
        reader.path,
        where,
        other,
        width,
    )
    return Camera.assumed(width, height, mount), "assumed: a view of 53° across"


def read_info_file(path: Path | str) -> Any:
    """Read a calibration in the YAML of camera_calibration_parsers, as a sensor_msgs/CameraInfo.

    Raises BagError for a file that is none.
    """
    values = read_yaml(Path(path), BagError)
    data: dict[str, list[float]] = {}
    for name in MATRICES:
        entry = values.get(name) if isinstance(values, dict) else None
        numbers = entry.get("data", []) if isinstance(entry, dict) else []
        is_row = isinstance(numbers, list) and all(isinstance(n, int | float) for n in numbers)
        if not is_row or (name == "camera_matrix" and len(numbers) != 9):
            raise BagError(
                f"{path}: expected a calibration as camera_calibration writes it, with "
                "image_width, image_height, camera_matrix, distortion_model and "
                f"distortion_coefficients; {name} is {entry!r:.60}"
            )
        data[name] = [float(number) for number in numbers]
    try:
        width, height = int(values["image_width"]), int(values["image_height"])
    except (KeyError, TypeError, ValueError) as error:
        raise BagError(f"{path}: expected image_width and image_height in pixels") from error
    projection = data["projection_matrix"]
    return messages.make(
        messages.CAMERA_INFO,
        header=messages.header(0, ""),
        width=width,
        height=height,
        k=np.array(data["camera_matrix"]),
        d=np.array(data["distortion_coefficients"]),
        r=np.eye(3).ravel(),
        p=np.array(projection if len(projection) == 12 else [0.0] * 12),
        distortion_model=str(values.get("distortion_model", "plumb_bob")),
        binning_x=0,
        binning_y=0,
        roi=messages.make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            width=0,
            height=0,
            do_rectify=False,
        ),
    )
