# SPDX-License-Identifier: Apache-2.0
"""Opens the files of a recording, each by itself: parts of a split bag, zstd, schemas of others."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader

from disam_ros.datasets.bags.unpacking import MOST, bound_chunks, unpacked, zstd
from disam_ros.errors import BagError, DisamError
from disam_ros.files.checking import check_entries
from disam_ros.files.reading import reading
from disam_ros.files.yaml_files import read_yaml

logger = logging.getLogger(__name__)

SUFFIXES = (".mcap", ".db3", ".bag")
ZSTD = ".zstd"  # of a file that rosbag2 compressed
MAX_METADATA = 1 << 23  # bytes of metadata.yaml: 250 of each file of a split bag
MOST_RATIO = 500  # of the sizes of a file without and with compression
BLOCK = 1 << 20  # bytes decompressed at once
LONGEST = 300  # characters of an error of the library
NANOSECONDS = 10**9

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA = 0x01, 0x02, 0x03  # records of an mcap: opcode, u64 length, body
FOOTER_BYTES = 9 + 20 + len(MAGIC)
ENCODINGS = (b"ros2msg", b"ros2idl", b"omgidl", b"")  # of schemas that rosbags knows
MAX_SCHEMA = 1 << 24  # bytes

Recorded = tuple[Connection, int, bytes]  # log time [ns], serialized message


@dataclass(frozen=True)
class Part:
    """An open file of a recording."""

    path: Path  # as it is stored
    reader: Ros1Reader | Ros2Reader
    packed: bool = False  # whether each message is compressed by itself

    def messages(
        self, connections: Sequence[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, log time [ns] and bytes of the messages of its connections."""
        module = zstd(self.path) if self.packed else None
        for connection, stamp_ns, data in self.reader.messages(connections):
            yield (
                connection,
                stamp_ns,
                unpacked(module.ZstdDecompressor(), data) if module else data,
            )


def open_parts(path: Path, stack: ExitStack) -> list[Part]:
    """Open the files of a recording in their order; the stack closes them.

    A split bag's files that are absent are left out with a warning. Raises BagError.
    """
    _check_path(path)
    packed, files = False, [path]
    if path.is_dir():
        packed, files = _listed_files(path)
    return [_open_part(file, packed, stack) for file in files]


@contextmanager
def explained(path: Path, what: str = "") -> Iterator[None]:
    """Turn exceptions of the library into a BagError. Only library code may run inside.

    Broken records surface there as TypeError, struct.error, KeyError, zstd or sqlite errors and
    more, so every exception is caught.
    """
    try:
        yield
    except DisamError:
        raise
    except OSError as error:
        raise BagError(f"bag {path} cannot be read: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:LONGEST]  # the library quotes whole definitions
        raise BagError(
            f"{what + ' in ' if what else ''}bag {path} cannot be read ({reason}); "
            f"{_advice(path, reason.lower())}"
        ) from error


def _advice(path: Path, reason: str) -> str:
    """Say what to do about a file that the library cannot read."""
    if path.suffix == ".bag" and "not indexed" in reason:
        return f"its recording was cut off: `rosbag reindex {path}` of ROS 1 completes it"
    if any(word in reason for word in ("support", "indexed")):
        return "`ros2 bag convert` or `mcap sort` rewrite it as a file that can be read"
    tools = (
        "`rosbag reindex`"
        if path.suffix == ".bag"
        else ("`ros2 bag reindex` for a directory or `mcap recover` for an .mcap file")
    )
    return f"the file is damaged or its recording was cut off. Try {tools}, or record it again"


def _check_path(path: Path) -> None:
    """Raise BagError with what to do about a path that can be no recording."""
    with reading(path, BagError):
        _check_files(path)
    if (path / "dataset.json").exists():
        raise BagError(f"{path} is a dataset directory, not a bag: name it with --dataset")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(f.name for f in path.iterdir() if _kind(f) in SUFFIXES)
        hint = f"open {path / files[0]} itself, or " if files else "is it a bag? If so, "
        raise BagError(f"{path} has no metadata.yaml; {hint}run `ros2 bag reindex {path}`")
    if path.is_file() and _kind(path) not in SUFFIXES:
        raise BagError(
            f"{path}: expected a rosbag2 directory, a .mcap, .db3 or .bag file, or one of these "
            f"with {ZSTD}"
        )


def _check_files(path: Path) -> None:
    """Raise BagError for a path that is absent, and for pipes and devices, which may not end."""
    if not path.exists():
        raise BagError(f"bag {path} does not exist")
    files = path.iterdir() if path.is_dir() else [path]
    for file in files:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise BagError(f"{file} is a pipe or device; expected the files of a recording")
        if file.is_file():
            with file.open("rb"):  # the library does not say which file it may not read
                pass


def _kind(path: Path) -> str:
    """Return the suffix of a file without compression."""
    return Path(path.stem).suffix if path.suffix == ZSTD else path.suffix


def _listed_files(folder: Path) -> tuple[bool, list[Path]]:
    """Find the files that metadata.yaml lists; whether their messages are compressed comes first.

    Raises BagError.
    """
    path = folder / "metadata.yaml"
    values = read_yaml(path, BagError, largest=MAX_METADATA)
    key = "rosbag2_bagfile_information"
    values = check_entries(values, {key: dict}, str(path), BagError)[key]
    kinds = {"relative_file_paths": list, "compression_mode": str | None}
    values = check_entries(values, kinds, str(path), BagError)
    names = [PurePath(str(name)).name for name in values["relative_file_paths"]]
    files, absent = [], []
    for name in names:
        forms = (folder / name, folder / name.removesuffix(ZSTD), folder / f"{name}{ZSTD}")
        file = next((form for form in forms if form.is_file()), None)
        files.append(file) if file else absent.append(name)
    if not files:
        others = sorted(file for file in folder.iterdir() if _kind(file) in SUFFIXES)
        hint = f"put them beside it, or open {others[0]} itself" if others else "put them beside it"
        raise BagError(
            f"bag {folder}: of the files that metadata.yaml lists ({', '.join(names) or 'none'}) "
            f"none is there: {hint}"
        )
    if unknown := [file for file in files if _kind(file) not in SUFFIXES]:
        raise BagError(f"{unknown[0]} is no file of a recording; expected .mcap or .db3")
    if absent:
        logger.warning(
            "bag %s: of its %d files %s missing, %s; the rest is read",
            folder, len(names), f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'}",
            _lost_time(values, absent),
        )  # fmt: skip
    return (values["compression_mode"] or "").lower() == "message", files


def _lost_time(values: Mapping[str, Any], absent: Sequence[str]) -> str:
    """Say how much of a recording's time is in the absent files."""
    try:
        durations = {
            PurePath(file["path"]).name: file["duration"]["nanoseconds"] / NANOSECONDS
            for file in values["files"]
        }
        lost, whole = sum(durations[name] for name in absent), sum(durations.values())
        return f"{lost:.1f} of {whole:.1f} s"
    except (KeyError, TypeError):
        return "whose time is not recorded"


def _open_part(path: Path, packed: bool, stack: ExitStack) -> Part:
    """Open a file. Raises BagError."""
    file = _decompressed(path, stack) if path.suffix == ZSTD else path
    bound_chunks()
    with explained(path):
        if file.suffix == ".bag":
            return Part(path, stack.enter_context(Ros1Reader(file)))
        shown = _View(file, patches) if (patches := _foreign_records(file)) else file
        unlisted = BagError(
            f"bag {path} cannot be read: its summary lists no schemas; `mcap recover` rewrites it"
        )
        try:
            reader = stack.enter_context(Ros2Reader(shown))
        except UnicodeDecodeError as error:  # a schema of protobuf in a chunk
            raise unlisted from error
        if {connection.msgtype for connection in reader.connections} == {"__schemaless__"}:
            raise unlisted
    return Part(path, reader, packed)


def _decompressed(path: Path, stack: ExitStack) -> Path:
    """Decompress a file into a folder that the stack removes. Raises BagError."""
    module = zstd(path)
    target = Path(stack.enter_context(TemporaryDirectory(prefix="disam_bag_")), path.stem)
    left = MOST_RATIO * path.stat().st_size + MOST
    with explained(path), module.open(path, "rb") as source, target.open("wb") as copy:
        while block := source.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise BagError(
                    f"bag {path} is refused: it is packed more than {MOST_RATIO} times as small, "
                    f"as no recording is; `zstd -d {path}` unpacks it nevertheless"
                )
            copy.write(block)
    return target


# --- Schemas that the library does not know, which would end the reading of the whole file ---


def _foreign_records(path: Path) -> dict[int, bytes]:
    """Find the bytes of an mcap to blank: schemas of other encodings, and another profile.

    Returns a replacement of equal length by offset. Channels of these schemas keep the encoding
    of their messages. Those in compressed chunks are not found: recorders list them in the summary.
    """
    if path.suffix != ".mcap":
        return {}
    patches: dict[int, bytes] = {}
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        if end < FOOTER_BYTES + 9 or _bytes_at(file, 0, len(MAGIC)) != MAGIC:
            return {}
        footer = _bytes_at(file, end - FOOTER_BYTES, FOOTER_BYTES)
        (summary,) = struct.unpack_from("<Q", footer, 9)
        for code, offset, size in _records(file, len(MAGIC), end):
            if code == HEADER and size >= 8:
                body = _bytes_at(file, offset, min(size, 64))
                if _text(body, 0) != b"ros2":
                    patches[offset] = struct.pack("<I4s", 4, b"ros2")
            break
        for code, offset, size in _records(file, summary or len(MAGIC), end - FOOTER_BYTES):
            if code == SCHEMA and size <= MAX_SCHEMA:
                body = _bytes_at(file, offset, size)
                name = _text(body, 2)
                encoding = None if name is None else _text(body, 6 + len(name))
                if name is not None and encoding is not None and encoding not in ENCODINGS:
                    head = body[: 6 + len(name)] + struct.pack("<I", 0)
                    rest = size - len(head) - 4
                    patches[offset] = head + struct.pack("<I", rest) + b" " * rest
    return patches


def _records(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield opcode, offset of the body and its length [bytes] of the records of a file."""
    while start + 9 <= end:
        code, size = struct.unpack("<BQ", _bytes_at(file, start, 9))
        if start + 9 + size > end:
            return  # damaged: the library says where
        yield code, start + 9, size
        start += 9 + size


def _bytes_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read bytes of a file."""
    file.seek(offset)
    return file.read(size)


def _text(body: bytes, offset: int) -> bytes | None:
    """Return the text at an offset of a record; None: it goes beyond the record."""
    if offset + 4 > len(body):
        return None
    (size,) = struct.unpack_from("<I", body, offset)
    return body[offset + 4 : offset + 4 + size] if offset + 4 + size <= len(body) else None


class _View:
    """A path whose file is read with some bytes replaced, as the library opens paths."""

    def __init__(self, path: Path, patches: Mapping[int, bytes]) -> None:
        self._path, self._patches = path, patches
        self.stem, self.suffix = path.stem, path.suffix

    def __str__(self) -> str:
        return str(self._path)

    def __truediv__(self, key: object) -> _View:
        raise NotADirectoryError(f"{self} is a file")

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self._path.exists()

    def is_dir(self) -> bool:
        """Return False: it is a file."""
        return False

    def open(self, *_: Any, **__: Any) -> BinaryIO:
        """Open the file for reading bytes."""
        return _Patched(io.FileIO(self._path), self._patches)

    def read_text(self, encoding: str | None = None) -> str:
        """Read the file as text."""
        return self._path.read_text(encoding)

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        """Return the status of the file."""
        return self._path.stat()


class _Patched(io.BufferedReader):
    """An open file some bytes of which are replaced."""

    def __init__(self, file: io.FileIO, patches: Mapping[int, bytes]) -> None:
        super().__init__(file)
        self._patches = sorted(patches.items())

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes as `io.BufferedReader.read` does."""
        start = self.tell()
        data = super().read(size)
        for offset, patch in self._patches:
            first, last = max(start, offset), min(start + len(data), offset + len(patch))
            if first < last:
                piece = patch[first - offset : last - offset]
                data = data[: first - start] + piece + data[last - start :]
        return data
