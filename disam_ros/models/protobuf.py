# SPDX-License-Identifier: Apache-2.0
"""The outline of a file of Protobuf, checked without reading the file.

A parser takes the whole file into memory, and more, before it finds that this is none. The fields
follow each other without gaps, so that a walk along their lengths reads a few bytes of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from disam_ros.errors import ModelError
from disam_ros.files.reading import reading

GRAPH = 7  # field of an ONNX model
VARINT, FIXED_8, LENGTH, FIXED_4 = 0, 1, 2, 5  # wire types
MOST_FIELDS = 1_000_000


class Field(NamedTuple):
    """A field of a message: its number and where its content is in the file [bytes]."""

    number: int
    start: int
    end: int


def require_messages(path: Path, largest: int, field: int) -> None:
    """Raise ModelError unless a file is a message of Protobuf, up to `largest` bytes, whose `field`
    is a message as well."""
    with reading(path, ModelError), path.open("rb") as file:
        size = file.seek(0, 2)
        if size > largest:
            raise ModelError(
                f"{path} has {size / 2**30:.1f} GiB, an ONNX file at most {largest / 2**30:.0f}; "
                "save it again with its weights in a file next to it"
            )
        try:
            inner = [item for item in _fields(file, 0, size) if item.number == field]
            count = sum(1 for item in inner for _ in _fields(file, item.start, item.end))
        except ValueError as error:
            raise ModelError(f"{path} cannot be read as an ONNX file: {error}") from error
    if not count:
        raise ModelError(f"{path} cannot be read as an ONNX file: it holds no graph")


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[Field]:
    """Read the fields of a message in a part of a file. Raises ValueError."""
    for _ in range(MOST_FIELDS):
        if start == end:
            return
        file.seek(start)
        key = _varint(file)
        number, wire = key >> 3, key & 7
        if number == 0 or wire not in (VARINT, FIXED_8, LENGTH, FIXED_4):
            raise ValueError(f"byte {start} begins no field")
        value = _varint(file) if wire in (VARINT, LENGTH) else 0
        content = file.tell()
        after = content + {FIXED_8: 8, FIXED_4: 4, LENGTH: value}.get(wire, 0)
        if after > end:
            raise ValueError(f"the field at byte {start} ends after its message")
        yield Field(number, content, after)
        start = after
    raise ValueError(f"it has more than {MOST_FIELDS} fields")


def _varint(file: BinaryIO) -> int:
    """Read a whole number in groups of seven bits, the lowest first. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number has more than 64 bits")
