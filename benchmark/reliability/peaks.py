# SPDX-License-Identifier: Apache-2.0
"""Peaks: memory that a command takes to refuse a file made to take much, in a process of its own.

`python -m benchmark.reliability peaks`. Each file is small and names, or unpacks to, gigabytes.
Passed: one line, no traceback, and a peak of resident memory of at most MOST.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from benchmark.machine import load
from benchmark.reliability.commands import World, new_world, tail
from disam_ros.files.writing import file_sha256

MOST = 600.0  # peak of a process [MiB]
BOMB = 2**31  # bytes that a packed file unpacks to
PATIENCE = 300.0  # longest time of a process [s]
HUGE = 10**9  # rows that a header names

# Not getrusage: its peak begins at that of the parent process.
PROGRAM = """
import atexit, pathlib, sys
from disam_ros import entry
target = pathlib.Path(sys.argv.pop(1))
def keep():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    target.write_text(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
atexit.register(keep)
sys.argv[0] = "disam"
sys.exit(entry.start("disam"))
"""
Make = Callable[[World, Path], list[str]]  # writes into a folder; returns the command's words


def _png(width: int, height: int) -> bytes:
    """A PNG of a size whose rows, all black, are there: a bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    rows = b"".join(packer.compress(row) for _ in range(min(height, 4000))) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _with_image(world: World, folder: Path, data: bytes) -> list[str]:
    """Photos, of which all are an image."""
    photos = folder / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(data)
    return f"doctor {photos}".split()


def _huge_image(world: World, folder: Path) -> list[str]:
    return _with_image(world, folder, _png(30_000, 30_000))


def _dataset(folder: Path, values: dict[str, Any]) -> Path:
    directory = folder / "dataset"
    directory.mkdir()
    (directory / "dataset.json").write_text(json.dumps(values))
    columns = "id,stamp_ns,camera,domain,path,source,x,y,z,qx,qy,qz,qw"
    (directory / "images.csv").write_text(
        f"{columns}\n0,1,front,summer_day,a.png,a,0,0,0,0,0,0,1\n"
    )
    (directory / "a.png").write_bytes(_png(64, 48))
    return directory


def _wide_camera(world: World, folder: Path) -> list[str]:
    mount = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    camera: dict[str, Any] = {
        "width": 32766,
        "height": 32766,
        "fx": 9000.0,
        "fy": 9000.0,
        "cx": 16000.0,
    }
    camera |= {"cy": 16000.0, "distortion": [0.1, 0.0, 0.0, 0.0], "base_from_camera": mount}
    values = {"format_version": 1, "name": "x", "cameras": {"front": camera}, "map_frame": "map"}
    dataset = _dataset(folder, values)
    line = f"build-map --dataset {dataset} --model {world.folder}/model --output {folder}/out"
    return line.split()


def _copied_map(world: World, folder: Path) -> Path:
    return Path(shutil.copytree(world.folder / "map", folder / "map"))


def _sealed(map_dir: Path, name: str) -> None:
    """Let the header of a map name the checksum that a file has."""
    values = json.loads((map_dir / "map.json").read_text())
    if name in values["sha256"]:
        values["sha256"][name] = file_sha256(map_dir / name)
    (map_dir / "map.json").write_text(json.dumps(values))


def _huge_array(name: str) -> Make:
    """A map whose array names HUGE rows."""

    def make(world: World, folder: Path) -> list[str]:
        map_dir = _copied_map(world, folder)
        array, header = np.load(map_dir / name), io.BytesIO()
        shape = (HUGE, *array.shape[1:]) if array.ndim > 1 else (HUGE,)
        values = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(header, values)  # type: ignore[no-untyped-call]
        (map_dir / name).write_bytes(header.getvalue() + array.tobytes())
        _sealed(map_dir, name)
        return f"map check {map_dir}".split()

    return make


def _sparse(name: str) -> Make:
    """A map one of whose files has 4 GiB of nothing."""

    def make(world: World, folder: Path) -> list[str]:
        map_dir = _copied_map(world, folder)
        with (map_dir / name).open("r+b") as file:
            file.truncate(2**32)
        return f"map check {map_dir}".split()

    return make


def _json(name: str, text: bytes) -> Make:
    """A JSON file of a map that has many small values."""

    def make(world: World, folder: Path) -> list[str]:
        map_dir = _copied_map(world, folder)
        (map_dir / name).write_bytes(b'{"format_version": 3, "x": [' + text + b"0]}")
        return f"map info {map_dir}".split()

    return make


def _packed_weights(world: World, folder: Path) -> list[str]:
    path = folder / "300_net_G0.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w") as file:
            file.write(b"\x80\x02}q\x00.")
        with archive.open("archive/data/0", "w", force_zip64=True) as file:
            for _ in range(BOMB >> 20):
                file.write(bytes(2**20))
    line = f"import-checkpoint --coarse {folder}/300_net_G --domains summer_day --output {folder}/o"
    return line.split()


def _packed_bag(world: World, folder: Path) -> list[str]:
    from disam_ros.datasets.bags.unpacking import zstd

    packer = zstd(folder).ZstdCompressor()
    with (folder / "drive.mcap.zstd").open("wb") as file:
        for _ in range(BOMB >> 20):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    return f"doctor {folder}/drive.mcap.zstd".split()


def _packed_chunk(world: World, folder: Path) -> list[str]:
    """An mcap with a chunk that unpacks to gigabytes, in the place of a bag's first chunk."""
    from disam_ros.datasets.bags.unpacking import zstd

    packer = zstd(folder).ZstdCompressor()
    parts = [packer.compress(bytes(2**20)) for _ in range(BOMB >> 20)]
    packed = b"".join([*parts, packer.flush()])
    body = struct.pack("<QQQI", 1, 2, BOMB, 0) + struct.pack("<I4s", 4, b"zstd")
    body += struct.pack("<Q", len(packed)) + packed
    header = struct.pack("<I4sI", 4, b"ros2", 0)
    magic = b"\x89MCAP0\r\n"
    records = [(1, header), (6, body), (15, bytes(4)), (2, bytes(20))]
    packed_records = [struct.pack("<BQ", code, len(data)) + data for code, data in records]
    (folder / "drive.mcap").write_bytes(magic + b"".join(packed_records) + magic)
    return f"doctor {folder}/drive.mcap".split()


def _yaml(world: World, folder: Path) -> list[str]:
    lines = ["a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    names = "abcdefgh"
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    (folder / "train.yaml").write_text("\n".join(lines))
    return f"train --config {folder}/train.yaml".split()


def _network(world: World, folder: Path) -> list[str]:
    path = folder / "net.onnx"
    with path.open("wb") as file:
        file.truncate(2**32)
    line = f"import-model {path} --name n --licence MIT --input 48x64 --mean 0 0 0 --std 1 1 1"
    return f"{line} --output {folder}/out".split()


def _wild_trajectory(world: World, folder: Path) -> list[str]:
    rows = [
        f"{number}.0 {1e7 if number % 9 == 5 else number} 0 0 0 0 0 1" for number in range(9000)
    ]
    (folder / "poses.txt").write_text("\n".join(rows))
    line = f"build-map --bag {world.folder}/bag --trajectory {folder}/poses.txt"
    return f"{line} --model {world.folder}/model --output {folder}/out".split()


CASES: dict[str, Make] = {
    "PNG of 30,000 x 30,000 pixels": _huge_image,
    "camera of 32,766 x 32,766 pixels": _wide_camera,
    **{
        f"{name} with a billion rows": _huge_array(name)
        for name in ("coarse.npy", "fine.npy", "poses.npy", "cameras.npy", "steps.npy")
    },
    "keypoints.npy of 4 GiB": _sparse("keypoints.npy"),
    "images.csv of 4 GiB": _sparse("images.csv"),
    "map.json of 60 MB of lists": _json("map.json", b"[]," * 20_000_000),
    "map.json of 60 MB of objects": _json("map.json", b'{"a":1},' * 7_500_000),
    "map.json of 60 MB of texts": _json("map.json", b'"ab",' * 12_000_000),
    "weights that unpack to 2 GiB": _packed_weights,
    "bag that unpacks to 2 GiB": _packed_bag,
    "chunk of an mcap that unpacks to 2 GiB": _packed_chunk,
    "recipe of a billion values": _yaml,
    "ONNX of 4 GiB of nothing": _network,
    "trajectory that leaps": _wild_trajectory,
}


def run(words: Sequence[str], log: Path) -> tuple[int, float]:
    """Run a command of disam. Returns its exit status and the peak of its memory [MiB]."""
    peak = log.with_name("peak")
    peak.unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(peak), *words]
    with log.open("wb") as file:
        status = subprocess.run(command, stdout=file, stderr=file, timeout=PATIENCE).returncode
    return status, float(peak.read_text()) / 2**10 if peak.exists() else float("inf")


def measure(names: Sequence[str] = tuple(CASES)) -> dict[str, Any]:
    """Rows of the page, and what must not be."""
    rows, faults = [], []
    with new_world() as (world, room):
        log = room("logs") / "log"
        for name in names:
            folder = room("case")
            status, peak = run(CASES[name](world, folder), log)
            text = log.read_text(errors="replace")
            rows.append({"name": name, "status": status, "peak": peak, "line": tail(log)[-300:]})
            print(f"{name}: status {status}, {peak:.0f} MiB", flush=True)
            if peak > MOST:
                faults.append(f"{name}: {peak:.0f} MiB")
            if "Traceback" in text or status not in (0, 1):
                faults.append(f"{name}: status {status}: {tail(log)}")
            shutil.rmtree(folder)
    return {"rows": rows, "faults": faults, "most": MOST, "load": load()}
