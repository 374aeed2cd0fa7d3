# SPDX-License-Identifier: Apache-2.0
"""Time, place and orientation of photos, from their EXIF (version 2.32, CIPA DC-008)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from PIL import Image

from disam_ros.pose_buffer import NANOSECONDS

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
ORIENTATION = 0x0112
QUARTERS = {3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}  # clockwise turns that an orientation asks for
TAKEN, FRACTION, ZONE = 0x9003, 0x9291, 0x9011  # DateTimeOriginal, SubSec…, OffsetTimeOriginal
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE = 1, 2, 3, 4
ALTITUDE_REF, ALTITUDE, DIRECTION = 5, 6, 17


@dataclass(frozen=True)
class Exif:
    """Time, place and orientation of a photo; None: not recorded."""

    taken_ns: int | None = None  # Unix time; the camera's clock counts as UTC if it names no zone
    latitude: float | None = None  # [deg]
    longitude: float | None = None  # [deg]
    altitude: float | None = None  # above sea level [m]
    heading: float | None = None  # where the camera looks, clockwise from north [deg]
    quarters: int = 0  # clockwise turns of the stored pixels after which the photo is upright

    @property
    def placed(self) -> bool:
        """Whether latitude and longitude are known."""
        return self.latitude is not None and self.longitude is not None


def read_exif(path: Path) -> Exif:
    """Read what a photo records; nothing where its EXIF is absent or malformed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags
            with Image.open(path) as photo:
                tags = photo.getexif()
                details, gps = tags.get_ifd(EXIF_IFD), tags.get_ifd(GPS_IFD)
    except Exception:  # the library raises whatever damaged bytes lead to
        return Exif()
    altitude = _number(gps.get(ALTITUDE))
    below = gps.get(ALTITUDE_REF) in (1, b"\x01")
    return Exif(
        _taken(details),
        _degrees(gps.get(LATITUDE), gps.get(LATITUDE_REF) == "S", 90),
        _degrees(gps.get(LONGITUDE), gps.get(LONGITUDE_REF) == "W", 180),
        None if altitude is None else -altitude if below else altitude,
        _number(gps.get(DIRECTION)),
        QUARTERS.get(tags.get(ORIENTATION, 1), 0),
    )


def stamps_of(files: Sequence[Path], exifs: Sequence[Exif]) -> list[int]:
    """Give photos different stamps [ns].

    They are the names if those are nanoseconds, else the times of the photos, else positions in the
    list in seconds, which count as an unknown clock.
    """
    if all(path.stem.isdecimal() and len(path.stem) == 19 for path in files):
        stamps = [int(path.stem) for path in files]
    elif all(exif.taken_ns is not None for exif in exifs):
        stamps = [exif.taken_ns or 0 for exif in exifs]
    else:
        stamps = [number * NANOSECONDS for number in range(len(files))]
    taken: set[int] = set()
    for number, stamp in enumerate(stamps):  # photos of one second, in their order
        while stamp in taken:
            stamp += 1
        stamps[number] = stamp
        taken.add(stamp)
    return stamps


def _taken(details: Any) -> int | None:
    """Unix time [ns] of a photo; None: not recorded."""
    text, fraction = str(details.get(TAKEN, "")), str(details.get(FRACTION, "")).strip(" \0")
    zone = str(details.get(ZONE, "")).strip(" \0")
    try:
        moment = datetime.strptime(text.strip(" \0"), "%Y:%m:%d %H:%M:%S")
        moment = moment.replace(tzinfo=datetime.strptime(zone or "+00:00", "%z").tzinfo)
    except ValueError:
        return None
    whole = round((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds())
    part = int(fraction[:9].ljust(9, "0")) if fraction.isdecimal() else 0
    return whole * NANOSECONDS + part if whole > 0 else None


def _degrees(values: Any, negative: bool, largest: float) -> float | None:
    """Convert degrees, minutes and seconds to degrees; None where they are none."""
    try:
        degrees, minutes, seconds = map(float, values)
        angle = degrees + minutes / 60 + seconds / 3600
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not 0 <= angle <= largest:  # nan neither
        return None
    return -angle if negative else angle


def _number(value: Any) -> float | None:
    """A tag as a number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if abs(number) < 1e6 else None  # nan neither
