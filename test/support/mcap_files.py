# SPDX-License-Identifier: Apache-2.0
"""Small mcap files with any schema, profile and encoding, by the specification of the format."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, INDEX, CHUNK_INDEX, STATISTICS, END = (
    1, 2, 3, 4, 5, 6, 7, 8, 11, 15,
)  # fmt: skip


@dataclass
class Channel:
    """A channel and its messages."""

    topic: str
    type: str
    definition: bytes = b""
    schema: str = "ros2msg"  # encoding
    encoding: str = "cdr"  # of messages
    messages: list[tuple[int, bytes]] = field(default_factory=list)  # log time [ns], bytes


def write_mcap(
    path: Path, channels: list[Channel], profile="ros2", chunked=True, summary=True, repeated=True
):
    """Write a file: its channels and messages in a chunk or beside, with a summary or without."""
    schemas = [
        _record(
            SCHEMA, struct.pack("<H", n) + _text(c.type) + _text(c.schema) + _text(c.definition)
        )
        for n, c in enumerate(channels, 1)
    ]
    tables = [
        _record(CHANNEL, struct.pack("<HH", n, n) + _text(c.topic) + _text(c.encoding) + _text(b""))
        for n, c in enumerate(channels, 1)
    ]
    rows = sorted((at, n, data) for n, c in enumerate(channels, 1) for at, data in c.messages)
    contents = b"".join(schemas + tables)
    places: dict[int, list[tuple[int, int]]] = {}
    for at, n, data in rows:
        places.setdefault(n, []).append((at, len(contents)))
        contents += _record(MESSAGE, struct.pack("<HIQQ", n, 0, at, at) + data)
    first, last = rows[0][0], rows[-1][0]
    out = MAGIC + _record(HEADER, _text(profile) + _text("test"))
    listed = b""
    if chunked:
        begin = len(out)
        body = struct.pack("<QQQI", first, last, len(contents), 0) + _text("")
        out += _record(CHUNK, body + struct.pack("<Q", len(contents)) + contents)
        size, offsets = len(out) - begin, b""
        indices = len(out)
        for n, found in places.items():
            offsets += struct.pack("<HQ", n, len(out))
            table = b"".join(struct.pack("<QQ", *row) for row in found)
            out += _record(INDEX, struct.pack("<HI", n, len(table)) + table)
        body = struct.pack("<QQQQ", first, last, begin, size) + _text(offsets)
        body += struct.pack("<Q", len(out) - indices) + _text("")
        listed = _record(CHUNK_INDEX, body + struct.pack("<QQ", len(contents), len(contents)))
    else:
        out += contents
    out += _record(END, struct.pack("<I", 0))
    start = 0
    if summary:
        start = len(out)
        counts = b"".join(struct.pack("<HQ", n, len(found)) for n, found in places.items())
        numbers = struct.pack("<QHIIIIQQ", len(rows), len(channels), len(channels), 0, 0, chunked,
                              first, last)  # fmt: skip
        out += (
            b"".join(schemas + tables if repeated else tables)
            + listed
            + _record(STATISTICS, numbers + _text(counts))
        )
    path.write_bytes(out + _record(FOOTER, struct.pack("<QQI", start, 0, 0)) + MAGIC)
    return path


def _record(code: int, body: bytes) -> bytes:
    return struct.pack("<BQ", code, len(body)) + body


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(data)) + data
