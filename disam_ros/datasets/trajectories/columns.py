# SPDX-License-Identifier: Apache-2.0
"""Which columns of a file of poses hold what, by the names in its header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from disam_ros.datasets.trajectories.times import DATE, NUMBER, UNITS
from disam_ros.pose_buffer import NANOSECONDS

SPELLINGS = {
    **dict.fromkeys(("sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("msec", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "µs", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nanoseconds"), "ns"),
}
WIDTHS = {"q": "qx qy qz qw", "p": "px py pz", "v": "vx vy vz"}  # groups in headers of OpenVINS
_BEFORE, _FRAMES = r"(?:.*[._ ])?", r"(?:[._ ][a-z]{1,2})*[._ ]?"  # a message's fields; `_RS_R_`
_POSITION = f"{_BEFORE}(?:t|p|pos|position|pose|trans|translation|location){_FRAMES}"
_TURN = f"{_BEFORE}(?:q|quat|quaternion|orientation|rot|rotation){_FRAMES}"
_TIME = re.compile(
    f"{_BEFORE}(?:timestamp|time|stamp|t|seconds|datetime|utc)"
    "(?:[._ ]?(?P<unit>s|secs?|ms|us|ns|nsec))?"
)
_SECONDS = re.compile(r".*stamp[._]secs?")
_NANOSECONDS = re.compile(r".*stamp[._]n(?:ano)?secs?")
_NAME = re.compile(r"(?P<name>[^\[(]*?)\s*(?:[\[(](?P<unit>[^\])]*)[\])])?")


@dataclass(frozen=True)
class Columns:
    """Indices of the columns of a file."""

    time: tuple[int, ...]  # of the time; or of seconds and nanoseconds that are added
    position: tuple[int, ...]  # of x y z
    quaternion: tuple[int, ...]  # of x y z w
    unit: int = 0  # of the time [ns]; 0: unknown
    id: int | None = None  # of rtabmap's ids, which are negative for landmarks


def columns_of(header: str) -> Columns | None:
    """Find the columns by a line of names; None: it names no time, position and quaternion."""
    names, units = header_names(header)
    position = [_find(names, f"{_POSITION}{axis}|{axis}") for axis in "xyz"]
    quaternion = [_find(names, f"{_TURN}{axis}") for axis in "xyzw"]
    time, unit = time_columns(names, units)
    if not time or -1 in position or -1 in quaternion:
        return None
    number = names.index("id") if "id" in names else None
    return Columns(time, tuple(position), tuple(quaternion), unit, number)


def split_row(line: str) -> list[str]:
    """Split a line at commas, semicolons or spaces; a date and a time of day are one field."""
    for separator in ",;":
        if separator in line:
            fields = [field.strip().strip('"') for field in line.split(separator)]
            return fields[:-1] if fields[-1] == "" else fields
    fields = line.split()
    if len(fields) > 1 and DATE.fullmatch(fields[0]) and ":" in fields[1]:
        return [f"{fields[0]}T{fields[1]}", *fields[2:]]
    return fields


def is_header(line: str) -> bool:
    """Return whether a line begins with neither a number nor a date."""
    first = (split_row(line) or ["0"])[0]
    return not (NUMBER.match(first) or DATE.match(first) or "nan" in first.lower())


def header_names(header: str) -> tuple[list[str], list[str]]:
    """Return the names of a header in lower case, and the units in brackets after them."""
    text = header.strip().lstrip("#%").strip().lower().replace("/", ".")
    if not any(separator in text for separator in ",;"):
        text = re.sub(r"\s+(?=[\[(])", "", text)  # the unit belongs to the name before
    matches = [_NAME.fullmatch(field) for field in split_row(text)]
    names = [match["name"].strip() if match else "" for match in matches]
    units = [(match["unit"] or "").strip() if match else "" for match in matches]
    if not {"q", "p"} <= set(names):
        return names, units
    groups = [WIDTHS.get(name, name).split() for name in names]
    counts = [len(group) for group in groups]
    repeated = [unit for unit, count in zip(units, counts, strict=True) for _ in range(count)]
    return [name for group in groups for name in group], repeated


def time_columns(names: Sequence[str], units: Sequence[str]) -> tuple[tuple[int, ...], int]:
    """Find the columns of the time, and its unit [ns]; none and 0: none are there, it is unknown.

    A message's stamp goes before the time of recording.
    """
    places = [
        next((i for i, name in enumerate(names) if form.fullmatch(name)), -1)
        for form in (_SECONDS, _NANOSECONDS)
    ]
    if -1 not in places:
        return tuple(places), NANOSECONDS
    matches = [(i, match) for i, name in enumerate(names) if (match := _TIME.fullmatch(name))]
    if not matches:
        return (), 0
    place, match = min(
        matches, key=lambda item: (item[1]["unit"] is None, "stamp" not in item[1][0])
    )
    unit = units[place] or match["unit"] or ""
    return (place,), UNITS.get(SPELLINGS.get(unit, unit), 0)


def _find(names: Sequence[str], pattern: str) -> int:
    """Return the first name that a pattern matches as a whole; −1: there is none."""
    return next((i for i, name in enumerate(names) if re.fullmatch(pattern, name)), -1)
