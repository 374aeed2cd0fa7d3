# SPDX-License-Identifier: Apache-2.0
"""Image decoding and preprocessing, the same in training, mapping and localization."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from disam_ros.errors import ImageError


def to_tensor(image: NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
    """Resize to `size` (height, width) and scale to [−1, 1].

    image: uint8 RGB [H, W, 3]. Returns float32 [3, height, width]. Raises ImageError.
    """
    check_image(image)
    height, width = size
    if image.shape[:2] != (height, width):
        shrinking = image.shape[0] > height or image.shape[1] > width
        method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
        resized = cv2.resize(image, (width, height), interpolation=method)
        image = np.asarray(resized, np.uint8)
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return tensor.float().div_(127.5).sub_(1.0)


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ImageError unless `image` is uint8 RGB [H, W, 3] with pixels in it."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", None)
        raise ImageError(f"expected an RGB image [H, W, 3], got shape {shape}")
    if image.dtype != np.uint8:
        raise ImageError(f"expected uint8 pixels, got {image.dtype}; scale to 0…255 first")
    if image.size == 0:
        raise ImageError(f"expected an image with pixels, got {image.shape[1]}x{image.shape[0]}")


def decode(data: bytes | NDArray[np.uint8], what: str = "image") -> NDArray[np.uint8]:
    """Decode JPEG or PNG bytes to uint8 RGB [H, W, 3].

    Raises ImageError for other bytes and for a truncated JPEG.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    if buffer.size == 0:
        raise ImageError(f"{what} is empty (0 bytes)")
    if buffer[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in buffer[-64:].tobytes():
        raise ImageError(f"{what} is a truncated JPEG ({buffer.size} bytes, no end marker)")
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"{what} cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageError(f"{what} is neither JPEG nor PNG ({buffer.size} bytes)")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read(path: Path | str) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB [H, W, 3]. Raises ImageError naming the file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    return decode(data, str(path))


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
