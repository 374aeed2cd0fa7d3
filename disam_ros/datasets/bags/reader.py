# SPDX-License-Identifier: Apache-2.0
"""Reads a recording of ROS 2 (mcap or sqlite3) or of ROS 1 (.bag) without ROS."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat, Qos
from rosbags.interfaces.typing import Typesdict
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from disam_ros.datasets.bags.messages import TYPESTORE, set_stamp
from disam_ros.datasets.bags.storage import Part, explained, open_parts
from disam_ros.errors import BagError

logger = logging.getLogger(__name__)

LISTED = 10  # names of topics in a line
LONGEST = 80  # characters of the reason why a topic cannot be read


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
    """An open bag: a rosbag2 directory, or one .mcap, .db3 or .bag file, by zstd or not.

    Use as a context manager. Messages come in the order of their log times. The files of a split
    bag are read one after the other, as they were recorded; those missing are left out with a
    warning. Types without definition in the bag are those of ROS 2 Jazzy; messages of ROS 1 become
    those of Jazzy with the same name. Topics that cannot be read (JSON, Protobuf, definitions at
    fault) are left out with a line.

    recorded_stamps: give messages the time at which they were recorded as their stamp.

    Raises BagError for a bag that is absent or damaged, and for topics it lacks or leaves out.
    """

    def __init__(self, path: Path | str, recorded_stamps: bool = False) -> None:
        self.path, self.recorded_stamps = Path(path), recorded_stamps
        self.left_out: dict[str, str] = {}  # why a topic cannot be read, by its name
        self._definitions: dict[str, Typesdict] = {}  # by message type
        self._stores: dict[str, Typestore] = {}  # by message type
        with ExitStack() as stack:
            self._parts = open_parts(self.path, stack)
            self._connections = [self._readable(part) for part in self._parts]
            self._stack = stack.pop_all()
        if self.left_out:
            listed = [f"{topic} ({why})" for topic, why in list(self.left_out.items())[:LISTED]]
            more = len(self.left_out) - len(listed)
            text = ", ".join(listed) + (f" and {more} more" if more else "")
            _report(f"bag {self.path}: {len(self.left_out)} unreadable topics left out: {text}")

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Closing twice does no harm."""
        self._stack.close()

    @property
    def start_ns(self) -> int:
        """Log time of the first message."""
        return min(part.reader.start_time for part in self._parts)

    @property
    def end_ns(self) -> int:
        """Log time of the last message."""
        return max(part.reader.end_time for part in self._parts) - 1

    def topics(self) -> dict[str, TopicSummary]:
        """Topic name → type and number of messages, by name."""
        topics: dict[str, TopicSummary] = {}
        connections = [connection for part in self._connections for connection in part]
        for connection in sorted(connections, key=lambda c: c.topic):
            before = topics[connection.topic].count if connection.topic in topics else 0
            count = before + connection.msgcount
            topics[connection.topic] = TopicSummary(connection.msgtype, count)
        return topics

    def listing(self, remarks: Mapping[str, str] | None = None) -> str:
        """Name all topics with their types, or with what is remarked on one, for a message."""
        held = {name: summary.type for name, summary in self.topics().items()}
        rows = [f"{name} ({text})" for name, text in (held | dict(remarks or {})).items()]
        rows += [f"{name} (unreadable: {why})" for name, why in self.left_out.items()]
        return ", ".join(rows) or "nothing"

    def topics_of(self, *types: str) -> list[str]:
        """Names of the non-empty topics of these message types, those with most messages first."""
        counts = {t: s.count for t, s in self.topics().items() if s.type in types and s.count}
        return sorted(counts, key=lambda topic: -counts[topic])

    def qos(self, topic: str) -> list[Qos]:
        """Quality of service the recorded publishers offered; empty where it was not recorded."""
        profiles = [
            profile
            for _, connections in self._selected([topic])
            for connection in connections
            if isinstance(connection.ext, ConnectionExtRosbag2)
            for profile in connection.ext.offered_qos_profiles
        ]
        return list(dict.fromkeys(profiles))  # each file of a split bag repeats them

    def raw(self, topics: Sequence[str] | None = None) -> Iterator[RawMessage]:
        """Serialized messages of the named topics (None: all) in time order."""
        for part, connections in self._selected(topics):
            with explained(part.path):
                for connection, stamp_ns, data in part.messages(connections):
                    if self._is_ros1:
                        data = bytes(TYPESTORE.ros1_to_cdr(data, connection.msgtype))
                    yield RawMessage(connection.topic, connection.msgtype, stamp_ns, data)

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[RawMessage, Any]]:
        """Messages of the named topics (None: all) in time order, serialized and decoded."""
        for raw in self.raw(topics):
            yield raw, self.decode(raw)

    def first(self, topic: str) -> Any | None:
        """The first message of a topic; None: it has none."""
        return next((message for _, message in self.messages([topic])), None)

    def decode(self, raw: RawMessage) -> Any:
        """A serialized message as an object with the fields of its ROS type."""
        with explained(self.path, f"a message of {raw.topic} at {raw.stamp_ns} ns"):
            message = self._store(raw.type).deserialize_cdr(raw.data, raw.type)
        if self.recorded_stamps:
            set_stamp(message, raw.stamp_ns)
        return message

    @property
    def _is_ros1(self) -> bool:
        return not isinstance(self._parts[0].reader, Ros2Reader)

    def _readable(self, part: Part) -> list[Connection]:
        """Find the connections of a file that can be read, and note why others cannot."""
        connections = []
        for connection in part.reader.connections:
            if fault := self._fault(connection):
                self.left_out[connection.topic] = fault
            else:
                connections.append(connection)
        return connections

    def _fault(self, connection: Connection) -> str:
        """Why the messages of a connection cannot be read; empty: they can."""
        kind, extra = connection.msgtype, connection.ext
        if not isinstance(extra, ConnectionExtRosbag2):  # ROS 1
            return "" if kind in TYPESTORE.types else f"{kind}, which ROS 2 Jazzy does not have"
        if extra.serialization_format != "cdr":
            return extra.serialization_format or "unknown encoding"
        if kind in self._definitions:
            return ""
        if connection.msgdef.format == MessageDefinitionFormat.NONE:
            return "" if kind in TYPESTORE.types else f"{kind}, whose definition is not recorded"
        try:
            self._definitions[kind] = _parse(connection)
        except Exception as error:  # of the library's parsers
            reason = " ".join(str(error).split())[:LONGEST]
            return f"{kind}, whose definition cannot be parsed: {reason}"
        return "" if kind in self._definitions[kind] else f"{kind}, which its definition lacks"

    def _store(self, kind: str) -> Typestore:
        """The store that decodes a message type. Each has its own: definitions of others differ."""
        if kind not in self._definitions:
            return TYPESTORE
        if kind not in self._stores:
            store = get_typestore(Stores.EMPTY)
            store.register(self._definitions[kind])
            self._stores[kind] = store
        return self._stores[kind]

    def _selected(self, topics: Sequence[str] | None) -> list[tuple[Part, list[Connection]]]:
        """Files and their connections of topics (None: all). Raises BagError for other topics."""
        for topic in topics or ():
            self._require(topic)
        return [
            (part, chosen)
            for part, connections in zip(self._parts, self._connections, strict=True)
            if (chosen := [c for c in connections if topics is None or c.topic in topics])
        ]

    def _require(self, topic: str) -> None:
        """Raise BagError for an unknown topic, and for one that cannot be read."""
        topics = self.topics()
        if topic in topics:
            return
        if topic in self.left_out:
            raise BagError(
                f"bag {self.path}: {topic} cannot be read: {self.left_out[topic]}; expected "
                "messages of ROS with their definition: record it so, or name another topic"
            )
        near = get_close_matches(topic, topics, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        listed = ", ".join(f"{name} ({s.type}, {s.count})" for name, s in topics.items())
        raise BagError(
            f"bag {self.path} has no topic {topic}; {hint}it holds: {listed or 'nothing'}"
        )


def _parse(connection: Connection) -> Typesdict:
    """Parse the definition of a connection's message type and of those that it uses."""
    kind, (form, text) = connection.msgtype, connection.msgdef
    if form == MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, kind)
    types: Typesdict = {}
    separator = "=" * 80 + "\n"
    for section in filter(None, text.split(separator)):
        head, _, body = section.partition("\n")
        types.update(get_types_from_idl(body if head.startswith("IDL: ") else section))
    return types


@lru_cache(maxsize=256)
def _report(text: str) -> None:
    """Log a line once, however often a bag is opened."""
    logger.info(text)
