# SPDX-License-Identifier: Apache-2.0
"""A video file with a trajectory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.formats.foreign import LOOKS_AHEAD, ForeignDataset, pinhole
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.datasets.pyav import import_av
from disam_ros.datasets.text_rows import nanoseconds
from disam_ros.datasets.trajectories.reader import read_trajectory
from disam_ros.errors import DatasetError, ImageError
from disam_ros.geometry import Transform
from disam_ros.image import require_pixels
from disam_ros.pose_buffer import PoseBuffer

logger = logging.getLogger(__name__)

CAMERA = "front"
FRAMES = ("base", "camera")


def read(
    path: Path | str,
    *,
    domain: str,
    trajectory: str,
    start: str = "",
    trajectory_frame: str = FRAMES[0],
    intrinsics: Sequence[float] = (),
    max_gap: float = 0.5,
    keyframe_distance: float = 0.0,
) -> ForeignDataset:
    """Frames with poses interpolated to their time stamps, whatever the frame rate.

    trajectory: a file, see `read_trajectory`, on one clock with `start`, the time of the first
    frame: seconds, or ISO 8601 (UTC unless it has an offset); empty: what the file says of its
    creation. trajectory_frame: whose poses they are. max_gap: longest time [s] between two poses
    across which is interpolated. Frames without a pose are left out, as are those nearer than
    keyframe_distance [m] to the last. Raises DatasetError.
    """
    path = Path(path)
    video = VideoFile(path)
    first_ns = _start(path, start, video.created)
    track = read_trajectory(trajectory)
    mount = LOOKS_AHEAD if trajectory_frame == "camera" else Transform.identity()
    track = track.for_base(mount)
    poses = PoseBuffer.of(track.stamps, track.poses, round(max_gap * 1e9))
    keyframes = KeyframeSelector(keyframe_distance, 0.0)
    records = []
    for since_ns in video.times_ns:
        base = poses.at(first_ns + since_ns)
        if base is not None and keyframes.keeps(CAMERA, base @ LOOKS_AHEAD):
            source = f"{path.name} {since_ns / 1e9:.3f} s"
            stamp_ns = first_ns + since_ns
            records.append(ImageRecord(0, stamp_ns, CAMERA, domain, source, base @ LOOKS_AHEAD))
    if not records:
        a, b, c, d = (
            value / 1e9
            for value in (*track.stamps[[0, -1]], first_ns, first_ns + video.times_ns[-1])
        )
        raise DatasetError(
            f"{trajectory} has poses at {a:.3f} to {b:.3f} s, which give none to the frames of "
            f"{path} at {c:.3f} to {d:.3f} s: are both on one clock (--start), and poses closer "
            f"than {max_gap:g} s?"
        )
    place = track.origin
    info = DatasetInfo(
        path.stem,
        {CAMERA: pinhole(video.size, intrinsics, "intrinsics")},
        latitude=None if place is None else place.latitude,
        longitude=None if place is None else place.longitude,
        origin=f"video {path.name}, poses of {Path(trajectory).name}",
    )
    return ForeignDataset(path, info, records, video.reader(first_ns))


class VideoFile:
    """The first video stream of a file. times_ns: of its frames [ns] from the first, increasing.
    size: width and height [px]. created: metadata of the container."""

    def __init__(self, path: Path) -> None:
        self._path = path
        av = import_av(DatasetError)
        try:
            with av.open(str(path)) as container:
                stream = self._stream(container)
                self.size = stream.codec_context.width, stream.codec_context.height
                self.created = container.metadata.get("creation_time", "")
                base = stream.time_base
                stamps = {packet.pts for packet in container.demux(stream) if packet.size}
        except (av.error.FFmpegError, OSError) as error:
            raise DatasetError(f"{path} cannot be read as a video: {error}") from error
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if not known:
            raise DatasetError(f"{path}: its video has no frames with time stamps")
        self._first = known[0]
        self.times_ns = [self._since(stamp, base) for stamp in known]

    def reader(self, first_ns: int) -> Any:
        """A function record → uint8 RGB [H, W, 3]; records in the order of their stamps. It raises
        ImageError for a frame that cannot be decoded."""
        frames = self._frames()
        held: list[tuple[int, Any]] = []

        def pixels(record: ImageRecord) -> np.ndarray:
            wanted = record.stamp_ns - first_ns
            while not held or held[0][0] < wanted:
                found = next(frames, None)
                if found is None:
                    raise ImageError(f"{record.source} is damaged")
                held[:] = [found]
            since_ns, frame = held[0]
            if since_ns != wanted:
                raise ImageError(f"{record.source} is damaged")
            require_pixels(frame.height, frame.width, record.source)
            return np.asarray(frame.to_ndarray(format="rgb24"))

        return pixels

    def _frames(self) -> Iterator[tuple[int, Any]]:
        """Time from the first frame [ns] and frame, in the order they are shown."""
        av = import_av(DatasetError)
        with av.open(str(self._path)) as container:
            stream = self._stream(container)
            stream.codec_context.options = {"err_detect": "explode"}
            for packet in container.demux(stream):
                try:
                    for frame in packet.decode():
                        if frame.pts is not None and not frame.is_corrupt:
                            yield self._since(frame.pts, stream.time_base), frame
                except av.error.InvalidDataError as error:
                    logger.warning("%s: %s; on from the next key frame", self._path, error)

    def _stream(self, container: Any) -> Any:
        if not container.streams.video:
            raise DatasetError(f"{self._path} holds no video")
        return container.streams.video[0]

    def _since(self, stamp: int, base: Any) -> int:
        return round((stamp - self._first) * base * 10**9)


def _start(path: Path, text: str, created: str) -> int:
    """Unix time [ns] of the first frame."""
    if not text and created:
        logger.warning("%s: its clock is that of its metadata, %s, to a second", path, created)
    moment = text or created
    if not moment:
        raise DatasetError(f"{path} does not say when it begins: give --start, seconds or ISO 8601")
    try:
        found = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return nanoseconds("--start", moment)
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    since = found - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
