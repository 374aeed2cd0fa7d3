# SPDX-License-Identifier: Apache-2.0
"""Times in files of poses: numbers of any unit, seconds beside nanoseconds, and ISO 8601."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from disam_ros.datasets.text_rows import nanoseconds
from disam_ros.errors import DatasetError
from disam_ros.files.checking import MAX_WHOLE
from disam_ros.pose_buffer import NANOSECONDS

logger = logging.getLogger(__name__)

UNITS = {"s": NANOSECONDS, "ms": 1_000_000, "us": 1000, "ns": 1}  # [ns]
MAX_SECONDS = MAX_WHOLE // NANOSECONDS  # in a stamp
DATES = 6.3e8, 4.1e9  # times of recordings: 1990 to 2100 [s]
LEAST_STEP = 1e-3  # between poses on average [s]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d\d-\d\d")
MOMENT = re.compile(
    r"(?P<minute>\d{4}-\d\d-\d\d[T ]\d\d:\d\d):(?P<second>\d\d)(?:[.,](?P<part>\d+))?\s*"
    r"(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?$"
)

Cell = tuple[str, Sequence[str]]  # `FILE line N` and the texts: a time, or seconds and nanoseconds


def to_stamps(path: Path, cells: Sequence[Cell], unit: int = 0) -> list[int]:
    """Convert times to nanoseconds since 1970, exactly.

    unit: of numbers [ns]; 0: unknown, then stamps beyond any number of seconds are of the unit that
    makes them dates, or makes the steps between poses some milliseconds. Raises DatasetError.
    """
    unit = unit or unit_of(path, [texts[0] for _, texts in cells])
    return [_stamp(where, texts, unit) for where, texts in cells]


def unit_of(path: Path, texts: Sequence[str]) -> int:
    """Find the unit of the times of a file [ns], and report any but seconds."""
    numbers = [float(text) for text in texts if NUMBER.match(text)]
    last = max(numbers, default=0.0)
    if last <= MAX_SECONDS:
        return NANOSECONDS
    step = (last - min(numbers)) / max(len(numbers) - 1, 1)
    lengths = {name: unit / NANOSECONDS for name, unit in UNITS.items() if name != "s"}
    dated = [name for name, length in lengths.items() if DATES[0] <= last * length <= DATES[1]]
    spaced = [name for name in ("ns", "us", "ms") if step * lengths[name] >= LEAST_STEP]
    name = next(iter(dated or spaced), "ns")
    logger.info("%s: its times are taken as %s", path, name)
    return UNITS[name]


def _stamp(where: str, texts: Sequence[str], unit: int) -> int:
    """Convert a time, or seconds and nanoseconds. Raises DatasetError."""
    if len(texts) == 2:
        seconds, rest = (_whole(where, text, 1) for text in texts)
        return seconds * NANOSECONDS + rest
    (text,) = texts
    if DATE.match(text):
        return _moment(where, text)
    return nanoseconds(where, text) if unit == NANOSECONDS else _whole(where, text, unit)


def _whole(where: str, text: str, unit: int) -> int:
    """Convert a number in a unit [ns]. Raises DatasetError unless nanoseconds are whole."""
    try:
        value = Decimal(text) * unit
        is_time = 0 <= value < MAX_WHOLE and (unit > 1 or value == int(value))
    except (ArithmeticError, ValueError):
        is_time = False
    if not is_time:
        name = {1: "whole nanoseconds", 1000: "microseconds"}.get(unit, "milliseconds")
        raise DatasetError(f"{where}: expected {name}, got '{text:.40}'")
    return int(value)


def _moment(where: str, text: str) -> int:
    """Convert a time of ISO 8601, of UTC unless it has an offset. Raises DatasetError."""
    match = MOMENT.match(text)
    try:
        if match is None:
            raise ValueError(text)
        minute = datetime.fromisoformat(match["minute"].replace(" ", "T"))
        seconds = round(minute.replace(tzinfo=timezone.utc).timestamp()) + int(match["second"])
        zone = match["zone"] or "Z"
        if zone[0] in "+-":
            ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:])).total_seconds()
            seconds -= round(ahead) * (1 if zone[0] == "+" else -1)
        return seconds * NANOSECONDS + int(f"{match['part'] or '0':0<9.9}")
    except ValueError as error:
        raise DatasetError(
            f"{where}: expected a time such as 2024-05-01T12:00:00.5Z, got '{text:.40}'"
        ) from error
