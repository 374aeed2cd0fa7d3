# SPDX-License-Identifier: Apache-2.0
"""A database of rtabmap of one node with one image, whose camera has no intrinsics."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from support.data import texture

MODEL = struct.pack("<11i", 0, 21, 4, 0, 64, 48, 0, 0, 0, 0, 0)  # a camera without intrinsics
PICTURE = cv2.imencode(".png", texture(0, 48, 64))[1].tobytes()


def packed(values: np.ndarray, kind: int) -> bytes:
    return zlib.compress(values.tobytes()) + struct.pack("<3i", 1, values.size, kind)


def save_rtabmap(path: Path) -> Path:
    """Write the database."""
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE Node (id INTEGER, stamp FLOAT)")
        made.execute("CREATE TABLE Data (id INTEGER, image BLOB, calibration BLOB)")
        made.execute("CREATE TABLE Admin (version TEXT, opt_ids BLOB, opt_poses BLOB)")
        made.execute("INSERT INTO Node VALUES (?, ?)", (1, 1.7e9))
        made.execute("INSERT INTO Data VALUES (1, ?, ?)", (PICTURE, MODEL))
        pose = np.eye(3, 4, dtype="<f4").ravel()
        blobs = packed(np.array([1], "<i4"), 4), packed(pose, 5)
        made.execute("INSERT INTO Admin VALUES ('0.21.4', ?, ?)", blobs)
    made.close()
    return path
