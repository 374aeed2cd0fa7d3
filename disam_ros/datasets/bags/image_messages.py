# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs Image and CompressedImage → uint8 RGB [H, W, 3] or depth in metres, without ROS.

Takes the plain fields of a message, so that bags and nodes share the decoder.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.bags.bit_depth import BitDepth, scale_to_8_bit
from disam_ros.errors import ImageError
from disam_ros.image import decode, holds_16_bits, require_pixels, size_of

logger = logging.getLogger(__name__)

# encoding → (channels, bytes per channel, conversion of [H, W(, channels)] uint8 to RGB)
_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerRGGB2RGB,
    "bayer_bggr": cv2.COLOR_BayerBGGR2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGBRG2RGB,
    "bayer_grbg": cv2.COLOR_BayerGRBG2RGB,
}
_BAYER_FORMAT = re.compile(r"(bayer_[a-z]{4})(?:8|16);")  # of a CompressedImage
ROUGHER = 3.0  # than luma, chroma that shows the image
ROUGH = 2.0  # smallest roughness that is more than noise
LITTLE_COLOUR = 3  # difference of channels that compressing a grey image as a coloured one makes
_CODES: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (3, 1, None),
    "bgr8": (3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": (4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, 1, cv2.COLOR_BGR2RGB),  # OpenCV's order
    "8UC4": (4, 1, cv2.COLOR_BGRA2RGB),
    "rgb16": (3, 2, None),
    "bgr16": (3, 2, cv2.COLOR_BGR2RGB),
    "rgba16": (4, 2, cv2.COLOR_RGBA2RGB),
    "bgra16": (4, 2, cv2.COLOR_BGRA2RGB),
    "mono16": (1, 2, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    **{f"{name}8": (1, 1, code) for name, code in _BAYER.items()},
    **{f"{name}16": (1, 2, code) for name, code in _BAYER.items()},
}
# 4:2:2: channel of luma, and the conversion where luma and chroma are in the other order
_ORDERS = {
    cv2.COLOR_YUV2RGB_UYVY: (1, cv2.COLOR_YUV2RGB_YUY2),
    cv2.COLOR_YUV2RGB_YUY2: (0, cv2.COLOR_YUV2RGB_UYVY),
}
# 4:2:0, a plane of luma [H, W] above one of pairs of chroma [H / 2, W]
_PLANES = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
KNOWN_ENCODINGS = (*_CODES, *_PLANES)
DEPTH_ENCODINGS = ("16UC1", "32FC1")  # millimetres, metres (REP 118)


def to_rgb(
    height: int,
    width: int,
    encoding: str,
    step: int,
    is_bigendian: bool,
    data: Any,
    bit_depth: BitDepth | None = None,
) -> NDArray[np.uint8]:
    """Convert the pixels of a sensor_msgs/Image to RGB [height, width, 3].

    step: bytes per row, padding included. data: a bytes-like object of `height * step` bytes, half
    as many again for nv12 and nv21. bit_depth: how many of 16 bits are used; None: all. Alpha is
    dropped; 16-bit values are scaled to 8 bit (the largest → 255, rounded); Bayer images are
    demosaiced (bilinear). An rgb8 image is a view of `data`, without copy: read-only where `data`
    is. 4:2:2 whose luma stands where chroma should is converted as it is, with a warning. Raises
    ImageError for an unknown encoding, for sizes that do not fit each other and for more pixels
    than the limit, before any memory is asked for.
    """
    if encoding in _PLANES:
        if width % 2 or height % 2:
            raise ImageError(f"a {encoding} image needs an even size, got {width}x{height}")
        planes = _rows(height * 3 // 2, width, encoding, step, 1, data)
        require_pixels(height, width, f"raw image ({encoding})")
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(planes), _PLANES[encoding]), np.uint8)
    if encoding not in _CODES:
        raise ImageError(
            f"image encoding '{encoding}' is unknown; known: {', '.join(KNOWN_ENCODINGS)}. "
            "Convert on the robot (image_proc) or choose another image topic"
        )
    channels, value_bytes, code = _CODES[encoding]
    rows = _rows(height, width, encoding, step, channels * value_bytes, data)
    require_pixels(height, width, f"raw image ({encoding})")
    if value_bytes == 2:
        values = rows.view(">u2" if is_bigendian else "<u2")
        grey = encoding == "mono16"
        rows = scale_to_8_bit(values) if bit_depth is None else bit_depth.to_8_bit(values, grey)
    pixels = rows.reshape(height, width, channels) if channels > 1 else rows
    if code is None:
        return pixels
    if code in _ORDERS:
        if width % 2:
            raise ImageError(f"a {encoding} image needs an even width, got {width}")
        luma, swapped = _ORDERS[code]
        if _is_luma(pixels[..., 1 - luma], pixels[..., luma]):
            _report_swapped(encoding)
            code = swapped
    if encoding.startswith("bayer") and (height < 3 or width < 3):
        raise ImageError(f"a Bayer image needs at least 3x3 pixels, got {width}x{height}")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)


def decode_image(
    message: Any, whole: bool = False, bit_depth: BitDepth | None = None
) -> NDArray[np.uint8]:
    """Decode a sensor_msgs Image or CompressedImage, of rosbags or rclpy: RGB [H, W, 3].

    whole: of a compressed image, see `image.decode`. bit_depth: how many of 16 bits the camera
    uses; None: all. Raises ImageError where it cannot be decoded.
    """
    if hasattr(message, "encoding"):
        return to_rgb(
            message.height,
            message.width,
            message.encoding,
            message.step,
            bool(message.is_bigendian),
            message.data,
            bit_depth,
        )
    if "compresseddepth" in message.format.lower():
        raise ImageError("a compressedDepth image holds no colours; choose the colour image topic")
    what = f"compressed image (format '{message.format[:32]}')"
    pattern = _BAYER_FORMAT.match(message.format)
    scale = None if bit_depth is None else bit_depth.to_8_bit
    if pattern is None:
        return decode(memoryview(message.data), what, whole, to_8_bit=scale)
    return _demosaiced(decode(memoryview(message.data), what, True, to_8_bit=scale), pattern[1])


def has_16_bits(message: Any) -> bool:
    """Whether a sensor_msgs Image or CompressedImage holds 16-bit values, as far as it says."""
    if hasattr(message, "encoding"):
        return _CODES.get(message.encoding, (0, 0, None))[1] == 2
    return holds_16_bits(bytes(message.data[:32]))


def _is_luma(channel: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether the first of two channels [H, W] of 4:2:2 is luma.

    Neighbours are alike in luma; where U and V take turns, every second value is, and details are
    few.
    """
    if channel.shape[1] < 4:
        return False
    near, far = _difference(channel, 1), _difference(channel, 2)
    other_near, other_far = _difference(other, 1), _difference(other, 2)
    is_like_luma = near < far and far > ROUGH
    return is_like_luma and (other_near > other_far or far > ROUGHER * other_far)


def _difference(channel: NDArray[np.uint8], columns: int) -> float:
    """Return the mean difference of values that are some columns apart, of every eighth row."""
    rows = channel[::8].astype(np.int16)
    return float(np.abs(rows[:, columns:] - rows[:, :-columns]).mean())


@cache
def _report_swapped(encoding: str) -> None:
    """Warn of a driver that names its images wrongly, once."""
    logger.warning(
        "images called '%s' have luma and chroma in the other order, and are shown in it: set the "
        "camera driver's encoding to what it publishes",
        encoding,
    )


def _demosaiced(image: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """Demosaic a grey image [H, W, 3] of a sensor with a colour filter; one of colours is done."""
    height, width = image.shape[:2]
    mosaic = np.ascontiguousarray(image[..., 1])
    if height < 3 or width < 3 or cv2.absdiff(image, cv2.merge([mosaic] * 3)).max() > LITTLE_COLOUR:
        return image
    return np.asarray(cv2.cvtColor(mosaic, _BAYER[pattern]), np.uint8)


def size_of_image(message: Any) -> tuple[int, int]:
    """Height and width [px] of a sensor_msgs Image or CompressedImage. Raises ImageError."""
    if hasattr(message, "encoding"):
        return message.height, message.width
    return size_of(bytes(message.data), f"compressed image (format '{message.format[:32]}')")


def decode_depth_image(message: Any) -> NDArray[np.float32]:
    """Decode a sensor_msgs/Image of depth: [H, W] metres along the optical axis.

    16UC1 counts millimetres, 32FC1 metres; as REP 118 has it, 0, NaN and −∞ (too near) become NaN,
    unknown, and +∞ stays: out of range. Raises ImageError for another encoding, for sizes that do
    not fit each other and for more pixels than the limit.
    """
    height, width, encoding = message.height, message.width, message.encoding
    if encoding not in DEPTH_ENCODINGS:
        raise ImageError(
            f"image encoding '{encoding}' is no depth; expected {' or '.join(DEPTH_ENCODINGS)}"
        )
    order, number = ">" if message.is_bigendian else "<", "u2" if encoding == "16UC1" else "f4"
    kind = np.dtype(order + number)
    rows = _rows(height, width, encoding, message.step, kind.itemsize, message.data)
    require_pixels(height, width, f"raw depth image ({encoding})")
    values = np.ascontiguousarray(rows).view(kind).astype(np.float32)
    if encoding == "16UC1":
        values /= 1000.0
    with np.errstate(invalid="ignore"):
        return np.where(values > 0, values, np.float32(np.nan))


def _rows(
    height: int, width: int, encoding: str, step: int, pixel_bytes: int, data: Any
) -> NDArray[np.uint8]:
    """View `data` as [height, width * pixel_bytes], the padding of each row cut off."""
    if height <= 0 or width <= 0:
        raise ImageError(f"expected an image with pixels, got {width}x{height}")
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise ImageError(
            f"step {step} is too small: a row of {width} {encoding} pixels has {row_bytes} bytes"
        )
    buffer = np.frombuffer(data, dtype=np.uint8)
    if buffer.size != height * step:
        raise ImageError(
            f"expected {height} rows of {step} bytes = {height * step} bytes, got {buffer.size}; "
            "the camera driver fills in height, step or data wrongly"
        )
    return buffer.reshape(height, step)[:, :row_bytes]
