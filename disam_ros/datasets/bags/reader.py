# SPDX-License-Identifier: Apache-2.0
"""Reads a recording of ROS 2 (mcap or sqlite3) or of ROS 1 (.bag) without ROS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos

from disam_ros.datasets.bags.messages import TYPESTORE
from disam_ros.errors import BagError, DisamError
from disam_ros.files.reading import reading
from disam_ros.files.yaml_files import read_yaml

MAX_METADATA = 1 << 23  # bytes of metadata.yaml: 250 of each file of a split bag
LONGEST = 300  # characters of an error of the library


@dataclass(frozen=True)
class TopicSummary:
    """Type and number of messages of a topic."""

    type: str  # such as sensor_msgs/msg/Image
    count: int


class RawMessage(NamedTuple):
    """A message as it was recorded."""

    topic: str
    type: str
    stamp_ns: int  # log time
    data: bytes  # CDR, as it travels between ROS nodes


class BagReader:
    """An open bag: a rosbag2 directory, or one .mcap, .db3 or .bag file. Use as a context manager.

    Messages come in the order of their log times. The files of a split bag are read one after the
    other, as they were recorded. Bags without type definitions are read with those of ROS 2 Jazzy;
    messages of ROS 1 become those of Jazzy with the same name.

    Raises BagError for a bag that is absent or damaged, and for topics it lacks.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        _check_path(self.path)
        if self.path.is_dir():  # the library's own reader of YAML has no limits
            read_yaml(self.path / "metadata.yaml", BagError, largest=MAX_METADATA)
        with _explained(self.path):
            self._reader = AnyReader([self.path], default_typestore=TYPESTORE)
            self._reader.open()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Closing twice does no harm."""
        if self._reader.stack is not None:
            self._reader.close()

    @property
    def start_ns(self) -> int:
        """Log time of the first message."""
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """Log time of the last message."""
        return self._reader.end_time - 1

    def topics(self) -> dict[str, TopicSummary]:
        """Topic name → type and number of messages, by name."""
        topics: dict[str, TopicSummary] = {}
        for connection in sorted(self._reader.connections, key=lambda c: c.topic):
            before = topics[connection.topic].count if connection.topic in topics else 0
            count = before + connection.msgcount
            topics[connection.topic] = TopicSummary(connection.msgtype, count)
        return topics

    def topics_of(self, *types: str) -> list[str]:
        """Names of the non-empty topics of these message types, those with most messages first."""
        counts = {t: s.count for t, s in self.topics().items() if s.type in types and s.count}
        return sorted(counts, key=lambda topic: -counts[topic])

    def qos(self, topic: str) -> list[Qos]:
        """Quality of service the recorded publishers offered; empty where it was not recorded."""
        extras = [connection.ext for connection in self._selected([topic])]
        return [
            profile
            for extra in extras
            if isinstance(extra, ConnectionExtRosbag2)
            for profile in extra.offered_qos_profiles
        ]

    def raw(self, topics: Sequence[str] | None = None) -> Iterator[RawMessage]:
        """Serialized messages of the named topics (None: all) in time order."""
        connections = self._selected(topics)
        if not connections:
            return
        with _explained(self.path):
            for connection, stamp_ns, data in self._reader.messages(connections):
                if not self._reader.is2:
                    data = self._from_ros1(connection, data)
                yield RawMessage(connection.topic, connection.msgtype, stamp_ns, data)

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[RawMessage, Any]]:
        """Messages of the named topics (None: all) in time order, serialized and decoded."""
        for raw in self.raw(topics):
            yield raw, self.decode(raw)

    def decode(self, raw: RawMessage) -> Any:
        """A serialized message as an object with the fields of its ROS type."""
        with _explained(self.path, f"a message of {raw.topic} at {raw.stamp_ns} ns"):
            if not self._reader.is2:
                return TYPESTORE.deserialize_cdr(raw.data, raw.type)
            return self._reader.deserialize(raw.data, raw.type)

    def _from_ros1(self, connection: Connection, data: bytes) -> bytes:
        """A serialized message of ROS 1 in CDR."""
        if connection.msgtype not in TYPESTORE.types:
            raise BagError(
                f"bag {self.path}: {connection.topic} carries {connection.msgtype}, which ROS 2 "
                f"Jazzy does not have; name the topics to read"
            )
        return bytes(TYPESTORE.ros1_to_cdr(data, connection.msgtype))

    def _selected(self, topics: Sequence[str] | None) -> list[Connection]:
        """Connections of topics (None: all). Raises BagError for an unknown topic."""
        if topics is None:
            return list(self._reader.connections)
        held = self.topics()
        for topic in topics:
            if topic not in held:
                raise BagError(_unknown_topic(self.path, topic, held))
        return [c for c in self._reader.connections if c.topic in set(topics)]


def _check_path(path: Path) -> None:
    """Raise BagError with what to do about a path that can be no rosbag2."""
    with reading(path, BagError):
        _check_files(path)
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(f.name for f in path.iterdir() if f.suffix in (".mcap", ".db3"))
        hint = f"open {path / files[0]} itself, or " if files else "is it a bag? If so, "
        raise BagError(f"{path} has no metadata.yaml; {hint}run `ros2 bag reindex {path}`")
    if path.is_file() and path.suffix not in (".mcap", ".db3", ".bag"):
        raise BagError(f"{path}: expected a rosbag2 directory, a .mcap, .db3 or .bag file")


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


def _unknown_topic(path: Path, topic: str, topics: dict[str, TopicSummary]) -> str:
    """The message about a topic that a bag does not have."""
    near = get_close_matches(topic, topics, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    held = ", ".join(f"{name} ({s.type}, {s.count})" for name, s in topics.items())
    return f"bag {path} has no topic {topic}; {hint}it holds: {held or 'nothing'}"


@contextmanager
def _explained(path: Path, what: str = "") -> Iterator[None]:
    """Turn exceptions of the library on damaged bytes into a BagError.

    Broken records surface there as TypeError, struct.error, KeyError, zstd or sqlite errors and
    more, so every exception is caught. Only library code may run inside.
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
            f"{what + ' in ' if what else ''}bag {path} cannot be read ({reason}); the file is "
            "damaged or its recording was cut off. Try `ros2 bag reindex` for a directory or "
            "`mcap recover` for an .mcap file, or record it again"
        ) from error
