# SPDX-License-Identifier: Apache-2.0
"""Small files that unpack to much, or name much: refused. Bounds are lowered, memory is spared."""

from __future__ import annotations

import bz2
import io
import struct
import zipfile

import lz4.frame
import pytest
import torch

from disam_ros.datasets.bags import storage, unpacking
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.errors import BagError, MapError, ModelError
from disam_ros.files import reading
from disam_ros.models.state_files import read_state

BOUND = 10_000
ZEROS = bytes(100 * BOUND)


@pytest.fixture(autouse=True)
def lower(monkeypatch):
    monkeypatch.setattr(unpacking, "MOST", BOUND)
    monkeypatch.setattr(storage, "MOST", BOUND)
    monkeypatch.setattr(reading, "MAX_VALUES", 1000)


def compressors(tmp_path):
    zstd = unpacking.zstd(tmp_path)
    return {
        "bz2": (bz2.compress, bz2.BZ2Decompressor),
        "lz4": (lz4.frame.compress, lz4.frame.LZ4FrameDecompressor),
        "zstd": (zstd.compress, zstd.ZstdDecompressor),
    }


@pytest.mark.parametrize("kind", ["bz2", "lz4", "zstd"])
def test_packed_data_are_unpacked_up_to_a_bound(kind, tmp_path):
    pack, make = compressors(tmp_path)[kind]
    assert unpacking.unpacked(make(), pack(ZEROS[:BOUND])) == ZEROS[:BOUND]
    with pytest.raises(ValueError, match=f"hold more than {BOUND} bytes"):
        unpacking.unpacked(make(), pack(ZEROS))
    with pytest.raises((ValueError, EOFError, RuntimeError), match=r"cut off|"):
        unpacking.unpacked(make(), pack(ZEROS)[:-5])


def test_a_packed_bag_that_grows_beyond_all_measure_is_refused(tmp_path):
    path = tmp_path / "drive.mcap.zstd"
    path.write_bytes(unpacking.zstd(tmp_path).compress(bytes(2**24)))
    with pytest.raises(BagError, match=r"drive\.mcap\.zstd is refused: it is packed more than"):
        BagReader(path).__enter__()


@pytest.mark.parametrize("kind", ["lz4", "zstd"])
def test_a_chunk_of_an_mcap_that_unpacks_to_much_is_refused(kind, tmp_path):
    packed = compressors(tmp_path)[kind][0](ZEROS)
    body = struct.pack("<QQQI", 1, 2, len(ZEROS), 0) + struct.pack("<I", len(kind)) + kind.encode()
    body += struct.pack("<Q", len(packed)) + packed
    header = struct.pack("<I4sI", 4, b"ros2", 0)
    records = [(1, header), (6, body), (15, bytes(4)), (2, bytes(20))]
    content = b"".join(struct.pack("<BQ", code, len(data)) + data for code, data in records)
    magic = b"\x89MCAP0\r\n"
    path = tmp_path / "drive.mcap"
    path.write_bytes(magic + content + magic)
    with pytest.raises(BagError, match=r"drive\.mcap"):
        BagReader(path).__enter__()


def test_packed_weights_and_views_larger_than_their_file_are_refused(tmp_path):
    buffer, path = io.BytesIO(), tmp_path / "w.pth"
    torch.save({"a": torch.zeros(2**21)}, buffer)
    with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in stored.infolist():
            new.writestr(member.filename, stored.read(member))
    with pytest.raises(ModelError, match="it is packed, and larger than the file"):
        read_state(path)
    torch.save({"a": torch.zeros(1).expand(2**30)}, path)
    with pytest.raises(ModelError, match="its weights are larger than the file"):
        read_state(path)


@pytest.mark.parametrize("value", [[1], "x", 5, {1: torch.ones(1)}, None])
def test_a_file_that_is_no_state_dictionary_is_refused_by_name(value, tmp_path):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("text", [b"[" + b"[]," * 999 + b"0]", b"[" + b'{"a":1},' * 400 + b"0]"])
def test_a_json_file_of_too_many_values_is_refused_before_they_are_made(text):
    with pytest.raises(MapError, match=r"map\.json holds more than 1000 values"):
        reading.parse_json(text, "map.json", MapError)
