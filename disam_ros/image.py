# SPDX-License-Identifier: Apache-2.0
"""Image decoding and preprocessing, the same in training, mapping and localization."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import ImageError
from disam_ros.files.reading import read_bytes

if TYPE_CHECKING:  # decoding needs no torch
    import torch

MEGAPIXELS = 50.0  # largest image that is decoded (`limit_megapixels`)
LARGE = 12_500_000  # pixels above which an image is decoded at reduced scale
MAX_BYTES = 1 << 29  # of an image file
MAX_SEGMENTS = 1000  # of a JPEG before its pixels
MAX_SCANS = 64  # of a progressive JPEG; each costs as much as decoding the image once

PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # signature and last chunk
_max_pixels = round(MEGAPIXELS * 1e6)
_MARKER = re.compile(rb"\xff([^\xff])", re.DOTALL)
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def limit_megapixels(most: float) -> None:
    """Refuse images of more than so many megapixels from now on, in this process."""
    global _max_pixels
    _max_pixels = round(most * 1e6)


def megapixels() -> float:
    """The largest number of megapixels of an image in this process."""
    return _max_pixels / 1e6


def require_pixels(height: int, width: int, what: str) -> None:
    """Raise ImageError for an image above the limit."""
    if height * width > _max_pixels:
        raise ImageError(
            f"{what} has {width}x{height} pixels, expected at most {_max_pixels}: make it smaller, "
            "or raise max_megapixels (--max-megapixels)"
        )


def network_input(
    image: NDArray[np.uint8], size: tuple[int, int], bicubic: bool = False
) -> NDArray[np.float32]:
    """Resize to `size` (height, width) and scale to [−1, 1].

    image: uint8 RGB [H, W, 3]. bicubic: resize as the paper does. Returns float32 [3, height,
    width]. Raises ImageError.
    """
    check_image(image)
    height, width = size
    if image.shape[:2] != (height, width):
        resize = resized_bicubic if bicubic else resized
        image = resize(image, (width, height))
    scaled = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    scaled /= np.float32(127.5)
    scaled -= np.float32(1.0)
    return scaled


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image [H, W, 3] to a size (width, height)."""
    shrinking = image.shape[0] > size[1] or image.shape[1] > size[0]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def resized_bicubic(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image [H, W, 3] to a size (width, height) as Pillow's bicubic filter does.

    Unlike OpenCV's, the filter (a = −0.5) is as wide as the pixels of the result. Columns first,
    rounded to 8 bits, then rows. Raises ImageError.
    """
    check_image(image)
    columns, rows = (_bicubic(*sides) for sides in zip(image.shape[1::-1], size, strict=True))
    wide = _to_bytes(image.transpose(2, 0, 1).astype(np.float32) @ columns.T)
    return np.ascontiguousarray(_to_bytes(rows @ wide).astype(np.uint8).transpose(1, 2, 0))


@lru_cache(maxsize=8)
def _bicubic(length: int, count: int) -> NDArray[np.float32]:
    """Weights [count, length] of the pixels of a line for those of the resized one."""
    scale = length / count
    centres = (np.arange(count) + 0.5) * scale
    x = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = np.select([x < 1.0, x < 2.0], [near, far], 0.0)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _to_bytes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values rounded to whole ones from 0 to 255, halves upwards."""
    return np.asarray(np.floor(values + np.float32(0.5)).clip(0.0, 255.0), np.float32)


def to_tensor(image: NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
    """`network_input` as a tensor of torch."""
    import torch

    return torch.from_numpy(network_input(image, size))


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ImageError unless `image` is uint8 RGB [H, W, 3] with pixels in it."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", None)
        raise ImageError(f"expected an RGB image [H, W, 3], got shape {shape}")
    if image.dtype != np.uint8:
        raise ImageError(f"expected uint8 pixels, got {image.dtype}; scale to 0…255 first")
    if image.size == 0:
        raise ImageError(f"expected an image with pixels, got {image.shape[1]}x{image.shape[0]}")


def decode(
    data: bytes | memoryview | NDArray[np.uint8],
    what: str = "image",
    whole: bool = False,
    *,
    upright: bool = False,
    to_8_bit: Callable[[NDArray[np.uint16], bool], NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """Decode JPEG, PNG or WebP bytes to uint8 RGB [H, W, 3].

    An image of more than LARGE pixels is reduced to a half, quarter or eighth of its sides unless
    `whole`. Pixels are as stored, or turned as the EXIF orientation says if `upright`. to_8_bit:
    scales 16-bit values, which are grey (True) or colours; None: 65535 is white.
    Raises ImageError, naming `what`, for other bytes, for a truncated JPEG, and before any decoding
    for more pixels than the limit.
    """
    data = bytes(data)
    height, width = check_file(data, what)
    scale = 1 if whole else next((n for n in (1, 2, 4) if height * width <= n * n * LARGE), 8)
    orientation = 0 if upright else cv2.IMREAD_IGNORE_ORIENTATION
    if to_8_bit is None or not holds_16_bits(data):
        image = _decoded(data, _REDUCED[scale] | orientation, what)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    grey = data[25] in (0, 4)  # the header's colour type: without colours, with alpha or not
    kind = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    values = _decoded(data, kind | cv2.IMREAD_ANYDEPTH | orientation, what)
    image = to_8_bit(np.asarray(values, np.uint16), grey)
    if scale > 1:
        size = image.shape[1] // scale, image.shape[0] // scale
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    code = cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _decoded(data: bytes, flags: int, what: str) -> NDArray[Any]:
    """Decode bytes by OpenCV's flags. Raises ImageError."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{what} cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{what} is damaged: it cannot be decoded ({len(data)} bytes)")
    return image


def holds_16_bits(data: bytes) -> bool:
    """Whether bytes are a PNG of 16 bits, by its header."""
    return data.startswith(PNG) and data[24:25] == b"\x10"


def check_file(data: bytes, what: str = "image") -> tuple[int, int]:
    """Check that JPEG, PNG or WebP bytes are complete, undecoded. Returns height and width [px].

    Raises ImageError, naming `what`, as `decode` does before it decodes.
    """
    height, width = size_of(data, what)
    require_pixels(height, width, what)
    if is_jpeg(data):
        _check_scans(data, what)
    if data.startswith(PNG) and PNG_END not in data:
        raise ImageError(f"{what} is a truncated PNG ({len(data)} bytes, no end)")
    return height, width


def read(path: Path | str, whole: bool = False, upright: bool = False) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB [H, W, 3]. whole, upright: see `decode`.

    Raises ImageError, naming the file.
    """
    data = read_bytes(Path(path), ImageError, MAX_BYTES)
    return decode(data, str(path), whole=whole, upright=upright)


def read_size(path: Path | str) -> tuple[int, int]:
    """Height and width [px] of an image file, from its header. Raises ImageError."""
    return size_of(read_bytes(Path(path), ImageError, MAX_BYTES), str(path))


def size_of(data: bytes, what: str = "image") -> tuple[int, int]:
    """Height and width [px] that the header of a JPEG, PNG or WebP names.

    Only the headers that OpenCV's decoders accept are read. Raises ImageError for other bytes.
    """
    if not data:
        raise ImageError(f"{what} is empty (0 bytes)")
    if data[:2] == b"\xff\xd8":
        height, width = _jpeg_size(data, what)
    elif data[:8] == PNG:
        if data[12:16] != b"IHDR" or len(data) < 24:
            raise ImageError(f"{what} is a damaged PNG: its header is missing")
        width, height = struct.unpack_from(">II", data, 16)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        height, width = _webp_size(data, what)
    else:
        raise ImageError(f"{what} is neither JPEG, PNG nor WebP ({len(data)} bytes)")
    if not height or not width:
        raise ImageError(f"expected an image with pixels, {what} has {width}x{height}")
    return height, width


def _jpeg_size(data: bytes, what: str) -> tuple[int, int]:
    """Height and width of the first frame header (ITU-T T.81, B.2.2)."""
    for marker, at in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 7 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return height, width
    raise ImageError(f"{what} is a truncated JPEG ({len(data)} bytes, no frame header)")


def _check_scans(data: bytes, what: str) -> None:
    """Raise ImageError unless the first scan of a JPEG is followed by an end marker.

    What follows the end, such as the padding of a buffer, does not matter.
    """
    begin = next((at for marker, at in _jpeg_segments(data) if marker == 0xDA), len(data))
    end = data.find(b"\xff\xd9", begin)
    if end < 0:
        raise ImageError(f"{what} is a truncated JPEG ({len(data)} bytes, no end marker)")
    if (scans := data.count(b"\xff\xda", begin - 2, end)) > MAX_SCANS:
        raise ImageError(f"{what} is a JPEG of {scans} scans, expected at most {MAX_SCANS}")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Find the markers up to the first scan, and the positions of their segments' lengths."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            return
        marker, at = match[1][0], match.end()
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:  # markers without a length
            continue
        yield marker, at
        if marker in (0xD9, 0xDA) or at + 2 > len(data):
            return
        at += struct.unpack_from(">H", data, at)[0]


def _webp_size(data: bytes, what: str) -> tuple[int, int]:
    """Height and width of the first chunk (RFC 9649): lossy, lossless or extended."""
    kind, header = data[12:16], data[20:30]
    if len(header) == 10 and kind == b"VP8 " and header[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", header, 6)
        return height & 0x3FFF, width & 0x3FFF
    if len(header) == 10 and kind == b"VP8L" and header[0] == 0x2F:
        bits = int.from_bytes(header[1:5], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if len(header) == 10 and kind == b"VP8X":
        width, height = (int.from_bytes(header[i : i + 3], "little") + 1 for i in (4, 7))
        return height, width
    raise ImageError(f"{what} is a damaged WebP: its header is missing")


def is_jpeg(data: bytes | memoryview) -> bool:
    """Whether the bytes start with the JPEG signature."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def encode_jpeg(image: NDArray[np.uint8], quality: int = 95) -> bytes:
    """Encode uint8 RGB [H, W, 3] as JPEG. Raises ImageError."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    ok, buffer = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise ImageError(f"an image of shape {list(image.shape)} cannot be encoded as JPEG")
    return buffer.tobytes()
