# SPDX-License-Identifier: Apache-2.0
"""A video file with a trajectory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.foreign import (
    LOOKS_AHEAD,
    ForeignDataset,
    ForeignImage,
    Format,
    domain_setting,
    gap_setting,
    intrinsics_setting,
    shown_pinhole,
)
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.datasets.pyav import import_av
from disam_ros.datasets.text_rows import nanoseconds
from disam_ros.datasets.trajectories.reader import read_trajectory
from disam_ros.datasets.trajectories.trajectory import clock_hint, span_text
from disam_ros.errors import DatasetError, ImageError
from disam_ros.files.reading import DAMAGE, require_regular
from disam_ros.geometry import Transform
from disam_ros.image import megapixels, require_pixels
from disam_ros.pose_buffer import NANOSECONDS, PoseBuffer
from disam_ros.settings import REQUIRED, setting

logger = logging.getLogger(__name__)

CAMERA = "front"
LONGEST_NS = 86_400 * NANOSECONDS


@dataclass(frozen=True)
class Video(Format):
    """Frames with poses interpolated to their time stamps, whatever the frame rate."""

    TITLE: ClassVar[str] = "a video file with a trajectory"
    domain: str = domain_setting()
    trajectory: str = setting(REQUIRED, "poses, as of --trajectory of disam build-map")
    start: str = setting(
        "",
        "time of the first frame on the trajectory's clock, seconds or ISO 8601 (UTC unless it has "
        "an offset); default: the file's creation time",
    )
    trajectory_frame: str = setting(
        "base",
        "whose poses they are; the base is at the camera, x ahead",
        choices=("base", "camera"),
    )
    intrinsics: tuple[float, ...] = intrinsics_setting()
    max_gap: float = gap_setting()
    keyframe_distance: float = setting(
        0.0, "distance between two frames that are kept [m]; 0: all", minimum=0.0, maximum=1e6
    )

    def _read(self, path: Path) -> ForeignDataset:
        """Read the frames; those without a pose are left out. Raises DatasetError."""
        video = VideoFile(path)
        first_ns = _start(path, self.start, video.created)
        of_camera = self.trajectory_frame == "camera"
        mount = LOOKS_AHEAD if of_camera else Transform.identity()
        trajectory = read_trajectory(self.trajectory).for_base(mount, assumed=of_camera)
        poses = PoseBuffer.of(*trajectory.track, round(self.max_gap * NANOSECONDS))
        keyframes = KeyframeSelector(self.keyframe_distance, 0.0)
        images, left_out = [], Counter(off_trajectory=0, near_keyframe=0)
        for since_ns in video.times_ns:
            stamp_ns = first_ns + since_ns
            base = poses.at(stamp_ns)
            if base is None:
                left_out["off_trajectory"] += 1
            elif not keyframes.keeps(CAMERA, base @ LOOKS_AHEAD):
                left_out["near_keyframe"] += 1
            else:
                source = f"{path.name} {since_ns / NANOSECONDS:.3f} s"
                pose = base @ LOOKS_AHEAD
                images.append(ForeignImage(stamp_ns, CAMERA, self.domain, source, pose))
        if not images:
            frames = span_text([first_ns, first_ns + video.times_ns[-1]])
            raise DatasetError(
                f"{self.trajectory} has poses at {span_text(trajectory.stamps)}, which give none "
                f"to the frames of {path} at {frames}"
                f"{clock_hint(trajectory.stamps, first_ns)}: are both on one clock (--start), and "
                f"poses closer than {self.max_gap:g} s?"
            )
        place = trajectory.origin
        info = DatasetInfo(
            path.stem,
            {CAMERA: shown_pinhole(video.size, video.quarters, self.intrinsics, "intrinsics")},
            latitude=None if place is None else place.latitude,
            longitude=None if place is None else place.longitude,
            origin=f"video {path.name}, poses of {Path(self.trajectory).name}",
        )
        return ForeignDataset(path, info, images, video.reader(first_ns), left_out)


class VideoFile:
    """The first video stream of a file.

    Attributes: times_ns, of its frames [ns] from the first, increasing; size, width and height
    [px] as stored; quarters, clockwise turns with which players show it; created, metadata of the
    container.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as container:
            stream = self._stream(container)
            self.size = stream.codec_context.width, stream.codec_context.height
            self.created = container.metadata.get("creation_time", "")
            self._base: Fraction | None = stream.time_base
            stamps = {packet.pts for packet in container.demux(stream) if packet.size}
        ordered = sorted(stamp for stamp in stamps if stamp is not None)
        if not ordered or self._base is None:
            raise DatasetError(f"{path}: its video has no frames with time stamps")
        first = next(self._decoded(), None)
        self.quarters = round(-getattr(first, "rotation", 0) / 90) % 4
        self._first = ordered[0]
        self.times_ns = [self._since(stamp) for stamp in ordered]
        if self.times_ns[-1] > LONGEST_NS:
            raise DatasetError(f"{path} is malformed: its frames span more than a day")

    def reader(self, first_ns: int) -> Callable[[ForeignImage], NDArray[np.uint8]]:
        """Make the reader of frames in the order of their stamps.

        It raises ImageError for a frame that cannot be decoded.
        """
        frames = self._frames()
        held: list[tuple[int, Any]] = []

        def pixels(item: ForeignImage) -> NDArray[np.uint8]:
            target_ns = item.stamp_ns - first_ns
            while not held or held[0][0] < target_ns:
                decoded = next(frames, None)
                if decoded is None:
                    raise ImageError(f"{item.source} is damaged")
                held[:] = [decoded]
            since_ns, frame = held[0]
            if since_ns != target_ns:
                raise ImageError(f"{item.source} is damaged")
            require_pixels(frame.height, frame.width, item.source)
            shown = np.rot90(frame.to_ndarray(format="rgb24"), -self.quarters)
            return np.ascontiguousarray(shown, np.uint8)

        return pixels

    def _frames(self) -> Iterator[tuple[int, Any]]:
        """Decode frames in the order they are shown, each with its time from the first [ns]."""
        return ((self._since(frame.pts), frame) for frame in self._decoded())

    def _decoded(self) -> Iterator[Any]:
        """Decode the frames that have a time stamp and are whole."""
        av = import_av(DatasetError)
        with self._open() as container:
            stream = self._stream(container)
            most = str(round(megapixels() * 1e6))  # FFmpeg makes no larger frames
            stream.codec_context.options = {"err_detect": "explode", "max_pixels": most}
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        return
                    for frame in packet.decode():
                        if frame.pts is not None and not frame.is_corrupt:
                            yield frame
                except (av.error.FFmpegError, *DAMAGE) as error:
                    logger.warning("%s: %s; on from the next key frame", self._path, error)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open the file for the block. Raises DatasetError where it is damaged."""
        av = import_av(DatasetError)
        try:
            require_regular(self._path, DatasetError)
            with av.open(f"file:{self._path}", metadata_errors="replace") as container:
                yield container
        except (av.error.FFmpegError, OSError, *DAMAGE) as error:
            raise DatasetError(f"{self._path} cannot be read as a video: {error}") from error

    def _stream(self, container: Any) -> Any:
        if not container.streams.video:
            raise DatasetError(f"{self._path} holds no video")
        return container.streams.video[0]

    def _since(self, stamp: int) -> int:
        """The time from the first frame [ns]."""
        assert self._base is not None  # checked when the file was opened
        return round(int(stamp - self._first) * self._base * NANOSECONDS)


def _start(path: Path, text: str, created: str) -> int:
    """Find the Unix time [ns] of the first frame. Raises DatasetError."""
    if not text and created:
        logger.warning("%s: its clock is that of its metadata, %s, to a second", path, created)
    moment = text or created
    if not moment:
        raise DatasetError(f"{path} does not say when it begins: give --start, seconds or ISO 8601")
    try:
        begin = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return nanoseconds("--start", moment)
    if begin.tzinfo is None:
        begin = begin.replace(tzinfo=timezone.utc)
    since = begin - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86400 + since.seconds) * NANOSECONDS + since.microseconds * 1000
