# SPDX-License-Identifier: Apache-2.0
"""Damaged images and files for the fault catalogue, and a sound copy of everything to damage."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from disam_ros.cli import main
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.aerial.tiles import TileInfo, TileSet, TileWriter
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import DatasetError
from disam_ros.files.reading import HeldFile
from disam_ros.files.writing import file_sha256
from disam_ros.image import MEGAPIXELS, encode_jpeg, limit_megapixels
from disam_ros.mapping.builder import MapBuilder
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.rows import RecordTable
from disam_ros.models.model import load_model
from support.data import DESCRIPTOR, save_tiny_model, texture, write_dataset
from support.maps import save_tiny_map

NOBODY = 65534
BUILD = MapBuilderConfig(keypoints=0, batch_size=2, checkpoint_every=4, descriptor=DESCRIPTOR)
Change = Callable[[Any], object]


def png_of(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG of few bytes whose header names any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header names any size."""
    data = bytearray(encode_jpeg(texture(0)))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def webp_of(width: int, height: int, kind: bytes) -> bytes:
    """The header of a WebP of any size: VP8X, VP8L or VP8 with a blank."""
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(20)
    else:
        body = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(20)
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    image = cv2.cvtColor(texture(0), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def write_world(root: Path) -> Path:
    """A data set, a model, a map and tiles, all small and sound, in folders of these names."""
    write_dataset(root / "dataset", 3)
    save_tiny_model(root / "model")
    save_tiny_map(root / "map", load_model(root / "model"), 3)
    with TileWriter(root / "tiles", TileInfo(0.5, 16)) as tiles:
        tiles.add(0, 0, np.ascontiguousarray(texture(1)[:16, :16]))
    return root


def write_half_built(root: Path) -> Path:
    """A data set of eight images, a model and their map by BUILD, killed after four."""
    source = open_dataset(write_dataset(root / "dataset", 8).directory)
    model = save_tiny_model(root / "model")
    with MapBuilder(source.info, model, root / "map", BUILD, source=source.identity) as builder:
        for item in list(source.images)[:4]:
            builder.add(item)
        builder.commit()
    return root


def tree(root: Path) -> dict[str, bytes | str]:
    """All that lies below a folder: contents of files, targets of links."""
    result: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            result[name] = f"→ {path.readlink()}"
        else:
            result[name] = path.read_bytes() if path.is_file() else "folder"
    return result


def fault_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The one line with which a command ends in status 1, its last on stderr."""
    capsys.readouterr()
    assert main(words) == 1
    text = capsys.readouterr().err
    lines = text.rstrip("\n").splitlines()
    assert "Traceback" not in text and "Exception ignored" not in text, text
    assert [line for line in lines if line.startswith("disam: ")] == lines[-1:], text
    return lines[-1]


def record_table(path: Path) -> RecordTable:
    """The table of the images of a map."""
    return RecordTable(HeldFile(path, DatasetError))


HEADERS: dict[str, Callable[[Path], object]] = {  # of a world, and what reads them
    "dataset/dataset.json": lambda root: Dataset(root / "dataset"),
    "tiles/tiles.json": lambda root: TileSet(root / "tiles"),
    "map/map.json": lambda root: PlaceMap(root / "map"),
    "model/model.json": lambda root: load_model(root / "model"),
}


def edit_json(path: Path, change: Change) -> None:
    """Change the values of a JSON file in place."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def fill_weights(model: Path, value: float) -> None:
    """Weights of one value in every file, with right checksums."""
    digests = {}
    for stage in ("coarse", "fine"):
        path = model / f"{stage}.safetensors"
        save_file({k: torch.full_like(v, value) for k, v in load_file(path).items()}, path)
        digests[stage] = file_sha256(path)
    edit_json(model / "model.json", lambda values: values["sha256"].update(digests))


@contextmanager
def limited_pixels(most: int) -> Iterator[None]:
    """Images of more pixels are refused."""
    limit_megapixels(most / 1e6)
    try:
        yield
    finally:
        limit_megapixels(MEGAPIXELS)


@contextmanager
def as_nobody(*readable: Path) -> Iterator[None]:
    """Without the rights of root; folders above `readable` may be entered."""
    for path in readable:
        for folder in (path, *path.parents):
            if Path(tempfile.gettempdir()) in folder.parents:
                folder.chmod(folder.stat().st_mode | 0o055)
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)
