# SPDX-License-Identifier: Apache-2.0
"""Writes a rosbag2 recording with the topics of this package, without ROS."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from disam_ros.camera import Camera
from disam_ros.datasets.bags import messages
from disam_ros.errors import BagError, OutputError
from disam_ros.files.outputs import BAG, atomic_directory, require_output
from disam_ros.files.writing import sync
from disam_ros.geometry import Transform
from disam_ros.image import check_image

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
METADATA_VERSION: Final = 9  # what ROS 2 Jazzy writes


def optical_frame(camera: str) -> str:
    """Name of a camera's optical frame."""
    return f"camera_{camera}_optical_frame"


class BagWriter:
    """A rosbag2 directory being written. Use as a context manager.

    The bag appears under its name only after a clean exit. A message's log time is its stamp. The
    chunks of an mcap are not compressed: JPEGs would not shrink. overwrite: a bag that is there.

    Raises BagError for an unknown storage, OutputError.
    """

    def __init__(
        self,
        path: Path | str,
        storage: str = "mcap",
        *,
        map_frame: str = "map",
        odom_frame: str = "odom",
        base_frame: str = "base_link",
        overwrite: bool = False,
    ) -> None:
        require_output(path, BAG, overwrite)
        self.path = Path(path)
        self._overwrite = overwrite
        self._map_frame, self._odom_frame, self._base_frame = map_frame, odom_frame, base_frame
        if storage not in STORAGES:
            raise BagError(f"unknown bag storage '{storage}'; known: {', '.join(STORAGES)}")
        self._storage = STORAGES[storage]
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None

    def __enter__(self) -> BagWriter:
        with ExitStack() as stack:
            output = atomic_directory(self.path, BAG, self._overwrite)
            # The files take the name of the folder they are written in: it bears the final one.
            self._folder = stack.enter_context(output) / self.path.name
            self._writer = Writer(
                self._folder, version=METADATA_VERSION, storage_plugin=self._storage
            )
            stack.callback(self._abort)
            with self._reporting():
                self._writer.open()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None:
            self._stack.callback(self._finish)
        self._stack.__exit__(kind, *rest)

    def compressed_image(self, camera: str, stamp_ns: int, jpeg: bytes) -> None:
        """Write a JPEG on /camera/NAME/image_raw/compressed."""
        message = messages.compressed_image(stamp_ns, optical_frame(camera), jpeg)
        topic = f"/camera/{camera}/image_raw/compressed"
        self.write(topic, message, stamp_ns, messages.SENSOR_QOS)

    def raw_image(self, camera: str, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """Write RGB [H, W, 3] as rgb8 on /camera/NAME/image_raw."""
        check_image(image)
        message = messages.raw_image(stamp_ns, optical_frame(camera), image)
        self.write(f"/camera/{camera}/image_raw", message, stamp_ns, messages.SENSOR_QOS)

    def depth_image(self, camera: str, stamp_ns: int, depth: NDArray[np.floating[Any]]) -> None:
        """Write depth [H, W] [m], NaN unknown, as 32FC1 on /camera/NAME/depth/image_raw."""
        message = messages.depth_image(stamp_ns, optical_frame(camera), depth)
        self.write(f"/camera/{camera}/depth/image_raw", message, stamp_ns, messages.SENSOR_QOS)

    def camera_info(self, camera: str, stamp_ns: int, intrinsics: Camera) -> None:
        """Write intrinsics on /camera/NAME/camera_info."""
        message = messages.camera_info(stamp_ns, optical_frame(camera), intrinsics)
        self.write(f"/camera/{camera}/camera_info", message, stamp_ns, messages.SENSOR_QOS)

    def odom(
        self,
        stamp_ns: int,
        odom_from_base: Transform,
        speed: float = 0.0,
        turn_rate: float = 0.0,
    ) -> None:
        """Write wheel odometry on /odom. speed: forward [m/s]. turn_rate: to the left [rad/s]."""
        message = messages.odometry(
            stamp_ns, self._odom_frame, self._base_frame, odom_from_base, speed, turn_rate
        )
        self.write("/odom", message, stamp_ns, messages.RELIABLE_QOS)

    def fix(
        self,
        stamp_ns: int,
        latitude: float,
        longitude: float,
        altitude: float = 0.0,
        variance: float = math.nan,
    ) -> None:
        """Write a satellite fix on /fix. variance: horizontal [m²]; nan: unknown."""
        frame = self._base_frame
        message = messages.nav_sat_fix(stamp_ns, frame, latitude, longitude, altitude, variance)
        self.write("/fix", message, stamp_ns, messages.SENSOR_QOS)

    def weather(self, stamp_ns: int, word: str) -> None:
        """Write a weather word such as 'snow' on /weather, latched."""
        message = messages.make(messages.STRING, data=word)
        self.write("/weather", message, stamp_ns, messages.LATCHED_QOS)

    def ground_truth(self, stamp_ns: int, map_from_base: Transform) -> None:
        """Write the vehicle's true pose on /ground_truth/pose."""
        message = messages.pose_stamped(stamp_ns, self._map_frame, map_from_base)
        self.write("/ground_truth/pose", message, stamp_ns, messages.RELIABLE_QOS)

    def route(self, stamp_ns: int, map_from_base: Sequence[Transform]) -> None:
        """Write the route of a map on /map/route, latched."""
        message = messages.path(stamp_ns, self._map_frame, map_from_base)
        self.write("/map/route", message, stamp_ns, messages.LATCHED_QOS)

    def tf_static(self, stamp_ns: int, base_from_cameras: Mapping[str, Transform]) -> None:
        """Write extrinsics of the optical camera frames on /tf_static, latched."""
        transforms = [
            messages.transform_stamped(stamp_ns, self._base_frame, optical_frame(camera), pose)
            for camera, pose in base_from_cameras.items()
        ]
        message = messages.make(messages.TF, transforms=transforms)
        self.write("/tf_static", message, stamp_ns, messages.LATCHED_QOS)

    def write(self, topic: str, message: Any, stamp_ns: int, qos: Qos) -> None:
        """Write a rosbags message on any topic; `qos` is recorded with a topic's first message."""
        kind = message.__msgtype__
        data = messages.TYPESTORE.serialize_cdr(message, kind)
        self.write_serialized(topic, kind, data, stamp_ns, qos)

    def write_serialized(
        self, topic: str, kind: str, data: bytes | memoryview, stamp_ns: int, qos: Qos
    ) -> None:
        """Write a message of type `kind` as it travels between ROS nodes (CDR)."""
        if self._writer is None:
            raise BagError(f"bag {self.path} is not open for writing; use `with BagWriter(…)`")
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=messages.TYPESTORE, offered_qos_profiles=[qos]
            )
        with self._reporting():
            self._writer.write(self._connections[topic], int(stamp_ns), data)

    def _finish(self) -> None:
        """Complete the bag and force it to the disk."""
        assert self._writer is not None
        with self._reporting():
            self._writer.close()
        self._writer = None
        for file in self._folder.iterdir():
            with file.open("rb") as opened:
                sync(opened)
            file.rename(self._folder.parent / file.name)
        self._folder.rmdir()

    def _abort(self) -> None:
        """Close the files of an unfinished bag."""
        if self._writer is not None and self._writer.storage is not None:
            with suppress(OSError, ValueError, sqlite3.Error):
                self._writer.abort()
        self._writer = None

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Report a fault of the storage."""
        try:
            yield
        except (sqlite3.Error, WriterError) as error:
            raise OutputError(
                f"bag {self.path} cannot be written: {error}; free space or choose another output, "
                f"then run the same command again"
            ) from error
