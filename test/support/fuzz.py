# SPDX-License-Identifier: Apache-2.0
"""Draws damaged files: the same few in every run, or FUZZ times as many new ones (`make fuzz`)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from disam_ros.errors import DisamError

TIMES = int(os.environ.get("FUZZ", "1"))
TOKEN = re.compile(r"[^\s,:;\[\]{}\"']+")
TOKENS = [
    *("", "0", "-1", "-0.0", "1.5", "nan", "inf", "1e400", "-1e308", "1e99999999999999999999"),
    *("9" * 5000, "1" + "0" * 25, str(2**63), str(-(2**63) - 1), str(2**64), "1_000", "0x10"),
    *("\0", "\x1b[31m", "é", "\ud800", "²", "١", '"', "null", "true", "[]", "{}", "[[]]", "[1]"),
    *("..", "/", "x" * 300, "a b c", ",", "\n", "%", "-", "2024-99-99T99:99:99Z", "#"),
]


def few(examples: int) -> settings:
    """Settings of a test that draws `examples`, or FUZZ times as many, then new ones."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw: Callable[..., Any], whole: bytes) -> bytes:
    """Bytes of which some are changed, cut off or appended."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        new = draw(st.binary(min_size=1, max_size=4))
        data[at : at + len(new)] = new
    end = draw(st.sampled_from([len(data), len(data), draw(st.integers(0, len(data)))]))
    return bytes(data[:end]) + draw(st.sampled_from([b"", b"", b"\0" * 100, b"\xff" * 100]))


@st.composite
def edited(draw: Callable[..., Any], whole: str) -> bytes:
    """A text of which some words are others, and some lines are missing or twice there."""
    text = whole
    for _ in range(draw(st.integers(1, 3))):
        words = list(TOKEN.finditer(text))
        if words and draw(st.integers(0, 4)):
            word = draw(st.sampled_from(words))
            text = text[: word.start()] + draw(st.sampled_from(TOKENS)) + text[word.end() :]
            continue
        lines = text.splitlines(keepends=True) or [""]
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = lines[at : at + 1] * draw(st.sampled_from([0, 2]))
        text = "".join(lines)
    return text.encode("utf-8", "surrogatepass")


def read_or_refuse(read: Callable[[], object], names: Path | None = None) -> None:
    """Read, or expect an error of the package, which names a file below `names`."""
    try:
        read()
    except DisamError as error:
        assert str(error)
        assert names is None or str(names) in str(error), error
