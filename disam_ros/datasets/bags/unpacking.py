# SPDX-License-Identifier: Apache-2.0
"""Decompression of bounded size: a packed megabyte may hold gigabytes of zeros."""

from __future__ import annotations

import bz2
import importlib
from pathlib import Path
from typing import Any

import lz4.frame
from rosbags.rosbag1 import reader as rosbag1
from rosbags.rosbag2 import storage_mcap

from disam_ros.errors import BagError

MOST = 1 << 27  # bytes of a message, or of a chunk of messages


def zstd(path: Path) -> Any:
    """Import the module of Zstandard. Raises BagError, naming a file that needs it."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise BagError(
        f"{path} is compressed by zstd: pip install backports.zstd, or `zstd -d {path}` first"
    )


def unpacked(unpacker: Any, data: bytes) -> bytes:
    """Decompress all data at once. Raises ValueError for more than MOST bytes, or too few.

    unpacker: a new decompressor of bz2, lz4 or zstd.
    """
    result: bytes = unpacker.decompress(data, MOST)
    if not unpacker.eof:
        raise ValueError(f"packed data are cut off, or hold more than {MOST} bytes")
    return result


def bound_chunks() -> None:
    """Let the library of bags decompress chunks as `unpacked` does."""
    rosbag1.decompressors["bz2"] = lambda data: unpacked(bz2.BZ2Decompressor(), data)
    rosbag1.decompressors["lz4"] = _lz4
    storage_mcap.DECOMPRESSORS["lz4"] = lambda data, _: _lz4(data)
    if "zstd" in storage_mcap.DECOMPRESSORS:
        make = zstd(Path("a bag")).ZstdDecompressor
        storage_mcap.DECOMPRESSORS["zstd"] = lambda data, _: unpacked(make(), data)


def _lz4(data: bytes) -> bytes:
    return unpacked(lz4.frame.LZ4FrameDecompressor(), data)
