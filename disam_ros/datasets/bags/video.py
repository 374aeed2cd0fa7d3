# SPDX-License-Identifier: Apache-2.0
"""Images of a topic, be they still or packets of a video.

Video: FFMPEGPacket of ffmpeg_image_transport, CompressedVideo of Foxglove, and CompressedImage with
a codec as its format. It is decoded by FFmpeg through PyAV (the extra `video`), in the order of the
packets; each frame has the stamp of its packet. After a packet that cannot be decoded, images are
missing up to the next key frame.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.h264 import FrameNumbers
from disam_ros.datasets.bags.reader import BagReader, RawMessage
from disam_ros.datasets.pyav import import_av
from disam_ros.errors import BagError, ImageError
from disam_ros.image import require_pixels
from disam_ros.pose_buffer import NANOSECONDS

logger = logging.getLogger(__name__)

CODECS = {"h264": "h264", "h265": "hevc", "hevc": "hevc", "vp9": "vp9", "av1": "av1"}
KEY = 1  # AV_PKT_FLAG_KEY
START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)  # Annex B, and the header after it


class Packet(NamedTuple):
    """A compressed frame of a video."""

    codec: str  # FFmpeg's name
    stamp_ns: int
    frame: str  # of TF
    data: bytes
    key: bool | None  # whether decoding can begin with it; None: the codec does not say


class ImageMessages:
    """The images of an open bag, packets decoded. One object reads every topic once, in order."""

    def __init__(self, reader: BagReader) -> None:
        self._reader = reader
        self._streams: dict[str, Stream] = {}

    def of(self, raw: RawMessage) -> list[tuple[Any, int]]:
        """Return the images that a message completes, and their stamps [ns].

        A still image is one, a packet completes none or several. The error stands for an image that
        cannot be read. Raises BagError where PyAV or the codec is missing.
        """
        try:
            message = self._reader.decode(raw)
            packet = packet_of(message)
        except BagError as error:
            return [(error, raw.stamp_ns)]
        if packet is None:
            return [(message, messages.stamp_ns(message))]
        if raw.topic not in self._streams:
            self._streams[raw.topic] = Stream(packet.codec, f"bag {self._reader.path}, {raw.topic}")
        return list(self._streams[raw.topic].feed(packet))

    def rest(self) -> Iterator[tuple[str, Any, int]]:
        """Topic, image and stamp [ns] of the images that the decoders still hold at the end."""
        for topic, stream in self._streams.items():
            yield from ((topic, image, stamp_ns) for image, stamp_ns in stream.flush())


class Stream:
    """A decoder of one video. Every packet yields one image, or an error in its place."""

    def __init__(self, codec: str, where: str) -> None:
        self._where, self._codec = where, codec
        self._open: dict[int, Packet] = {}  # packets by number whose image is yet to come
        self._number = 0
        self._context = self._new()
        self._waits = True  # whether a key frame is waited for
        self._numbers = FrameNumbers()

    def feed(self, packet: Packet) -> Iterator[tuple[Any, int]]:
        """Decode a packet: the images that come out, and their stamps [ns]."""
        if self._waits and packet.key is False:
            yield BagError(f"{self._where}: no image before the next key frame"), packet.stamp_ns
            return
        if self._codec == "h264" and self._numbers.misses(packet.data) and not self._waits:
            yield from self._broken("a packet is missing")
            yield from self.feed(packet)
            return
        av = import_av(BagError)
        part = av.Packet(packet.data)
        part.pts = part.dts = self._number
        part.time_base = Fraction(1, 1000)
        self._open[self._number] = packet
        self._number += 1
        self._waits = False
        try:
            for frame in self._context.decode(part):
                if frame.is_corrupt:
                    raise av.error.InvalidDataError(0, "a packet before it is missing")
                yield self._image(frame)
        except (av.error.FFmpegError, ImageError) as error:
            yield from self._broken(str(error))

    def flush(self) -> Iterator[tuple[Any, int]]:
        """Images that the decoder still holds."""
        av = import_av(BagError)
        try:
            for frame in self._context.decode(None):
                yield self._image(frame)
        except (av.error.FFmpegError, ImageError) as error:
            yield from self._lost(str(error))
        yield from self._lost("the recording ends")

    def _broken(self, why: str) -> Iterator[tuple[Any, int]]:
        """Begin anew: errors for all images that are still to come."""
        logger.warning("%s: %s; on from the next key frame", self._where, why)
        yield from self._lost(why)
        self._context, self._waits = self._new(), True

    def _new(self) -> Any:
        """A decoder. Raises BagError where PyAV has none for the codec."""
        av = import_av(BagError)
        try:
            context = av.CodecContext.create(self._codec, "r")
        except (av.error.FFmpegError, ValueError) as error:
            raise BagError(
                f"{self._where}: PyAV has no decoder of {self._codec}: {error}"
            ) from error
        context.thread_count = 1  # no images are held back
        context.options = {"err_detect": "explode", "flags": "low_delay"}
        return context

    def _image(self, frame: Any) -> tuple[Any, int]:
        """The message of a decoded frame, and its stamp [ns]. Raises ImageError."""
        packet = self._open.pop(frame.pts)
        require_pixels(frame.height, frame.width, f"video ({self._codec})")
        pixels = frame.to_ndarray(format="rgb24")
        return messages.raw_image(packet.stamp_ns, packet.frame, pixels), packet.stamp_ns

    def _lost(self, why: str) -> Iterator[tuple[Any, int]]:
        """Errors for the images that are yet to come."""
        for packet in self._open.values():
            yield BagError(f"{self._where}: an image of the video is lost: {why}"), packet.stamp_ns
        self._open.clear()


def packet_of(message: Any) -> Packet | None:
    """Return the packet of a video in a message; None for a still image.

    Raises BagError for an unknown codec.
    """
    kind = message.__msgtype__
    if kind == messages.FFMPEG_PACKET:
        codec = message.encoding.split(";")[0].removeprefix("lib").split("_")[0].lower()
        codec = {"x264": "h264", "x265": "h265"}.get(codec, codec)
        key: bool | None = bool(message.flags & KEY)
        stamp_ns, frame = messages.stamp_ns(message), message.header.frame_id
    elif kind == messages.COMPRESSED_VIDEO:
        codec, key = message.format.lower(), None
        stamp_ns = message.timestamp.sec * NANOSECONDS + message.timestamp.nanosec
        frame = message.frame_id
    elif kind == messages.COMPRESSED_IMAGE and message.format.lower() in CODECS:
        codec, key = message.format.lower(), None
        stamp_ns, frame = messages.stamp_ns(message), message.header.frame_id
    else:
        return None
    if codec not in CODECS:
        raise BagError(f"the video codec '{codec[:32]}' is none of {', '.join(CODECS)}")
    data = np.asarray(message.data, np.uint8).tobytes()
    if key is None:
        key = _is_key(CODECS[codec], data)
    return Packet(CODECS[codec], stamp_ns, frame, data, key)


def _is_key(codec: str, data: bytes) -> bool | None:
    """Whether an access unit is a random access point, by the types of its NAL units."""
    heads = [match[1][0] for match in START_CODE.finditer(data)]
    if codec == "h264":
        return any(head & 31 in (5, 7) for head in heads)  # a set of parameters before others
    if codec == "hevc":
        return any(16 <= head >> 1 & 63 <= 23 for head in heads)
    return None
