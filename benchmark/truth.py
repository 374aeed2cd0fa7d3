# SPDX-License-Identifier: Apache-2.0
"""Ground truth of images: poses that a benchmark cannot do without."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from disam_ros.camera import Camera
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform


class Image(Protocol):
    """A record of an image, of a map, a dataset or a public data set."""

    @property
    def source(self) -> str: ...
    @property
    def map_from_camera(self) -> Transform | None: ...


def truth_of(image: Image) -> Transform:
    """Returns map_from_camera of an image. Raises DatasetError where it is unknown."""
    if image.map_from_camera is None:
        raise DatasetError(f"{image.source or 'an image'} has no pose: expected ground truth")
    return image.map_from_camera


def bases(images: Iterable[Image], camera: Camera) -> list[Transform]:
    """Returns map_from_base of images of one camera. Raises DatasetError as `truth_of`."""
    camera_from_base = camera.base_from_camera.inverse()
    return [truth_of(image) @ camera_from_base for image in images]
