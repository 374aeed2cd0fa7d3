# SPDX-License-Identifier: Apache-2.0
"""Reads YAML with limits: plain values of bounded size, depth and number; every key once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from disam_ros.errors import DisamError
from disam_ros.files.reading import read_bytes

MAX_BYTES = 1 << 18  # of a file
MAX_DEPTH = 32  # lists and mappings in each other
NODE_BYTES = 4  # of a value on average, where those of an alias count each time it is used
PLAIN = "numbers, words, true or false, lists and 'key: value' pairs"
_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


def read_yaml(path: Path | str, error: type[DisamError], largest: int = MAX_BYTES) -> Any:
    """Return the values of a YAML file of at most `largest` bytes; None: it is empty.

    Raises `error`, naming the file, the line, what was expected and what to do.
    """
    path = Path(path)
    return parse_yaml(read_bytes(path, error, largest), str(path), error, largest)


def parse_yaml(text: bytes, where: str, error: type[DisamError], largest: int = MAX_BYTES) -> Any:
    """Return the values of a YAML text. Raises `error` as `read_yaml`, naming `where`."""
    with _explained(where, error):
        loader = _Loader(text, largest // NODE_BYTES)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()


@contextmanager
def _explained(where: str, error: type[DisamError]) -> Iterator[None]:
    """Turn errors of PyYAML into `error`."""
    try:
        yield
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line, problem = mark.line + 1 if mark else 1, fault.problem or fault.context
        if isinstance(fault, _Refusal):
            raise error(f"{where}, line {line}: {problem}") from fault
        raise error(
            f"{where} is not valid YAML: {problem} in line {line}; expected {PLAIN}"
        ) from fault
    except yaml.YAMLError as fault:  # of a reader: bytes that are no text
        reason = " ".join(str(fault).split())
        raise error(f"{where} is not valid YAML: {reason}; save it as UTF-8 text") from fault


class _Refusal(ConstructorError):
    """Valid YAML that is refused."""

    def __init__(self, problem: str, at: Any) -> None:
        super().__init__(None, None, problem, at.start_mark)


class _Loader(yaml.SafeLoader):
    """Refuses YAML that no settings need, before any value is built."""

    def __init__(self, text: bytes, most: int) -> None:
        super().__init__(text)
        self._depth, self._nodes, self._most = 0, 0, most
        self._sizes: dict[str, int] = {}  # values below an anchor

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """As in PyYAML, and count."""
        event, before = self.peek_event(), self._nodes  # type: ignore[no-untyped-call]
        alias, anchor = isinstance(event, yaml.AliasEvent), event.anchor
        self._depth += 1
        self._nodes += self._sizes.get(anchor, 0) if alias else 1
        if alias and anchor in self.anchors and anchor not in self._sizes:
            raise _Refusal(f"'*{anchor}' stands inside of its own anchor; write it out", event)
        if self._depth > MAX_DEPTH:
            raise _Refusal(f"expected at most {MAX_DEPTH} levels in each other; flatten it", event)
        if self._nodes > self._most:
            limit = f"expected at most {self._most} values, with aliases written out"
            raise _Refusal(f"{limit}; remove some", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor and not alias:
            self._sizes[anchor] = self._nodes - before
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """As in PyYAML, and refuse doubled keys."""
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
            if (name := (key.tag, key.value)) in seen:
                text = f"{brief(key.value)} stands twice, first in line {seen[name]}; remove one"
                raise _Refusal(text, key)
            seen[name] = key.start_mark.line + 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """As in PyYAML; other tags and texts that their tag does not fit are refused."""
        if node.tag not in _PLAIN:
            tag = node.tag.replace(_TAG, "!!")
            raise _Refusal(f"expected {PLAIN}; got the tag {brief(tag)}, put texts in quotes", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as fault:
            tag = node.tag.replace(_TAG, "!!")
            text = f"expected a value of {brief(tag)}, got {brief(node.value)}"
            raise _Refusal(text, node) from fault
