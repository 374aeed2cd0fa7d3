# SPDX-License-Identifier: Apache-2.0
"""Conditions of an image: light, season and weather from its stamp, place and a weather word.

Unknown inputs stay unknown and are listed in `Conditions.notes`; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from disam_ros.errors import DomainError
from disam_ros.pose_buffer import NANOSECONDS

UNKNOWN = "unknown"
TWILIGHT = 6.0  # [deg] day above, night below minus this (civil twilight), dawn or dusk between
TROPIC = 23.5  # latitude [deg] below which months do not determine leaves or snow
J2000 = datetime(2000, 1, 1, 12, tzinfo=timezone.utc)  # from which astronomers count days
EARLIEST = datetime(1990, 1, 1, tzinfo=timezone.utc)  # before: an unset clock, or sim time
LATEST = datetime(2262, 1, 1, tzinfo=timezone.utc)  # int64 nanoseconds end here
SEASONS = ("winter", "spring", "summer", "autumn")  # northern, from December
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Canonical weather words, weakest first: in a phrase the strongest word counts.
WEATHER_WORDS = ("clear", "cloudy", "overcast", "fog", "rain", "snow")
_SYNONYMS = {
    "clear": "clear sun sunny sunshine fair fine bright cavok skc clr nsc ncd",
    "cloudy": "cloudy cloud clouds few scattered broken sct bkn",
    "overcast": "overcast ovc dull grey gray",
    "fog": "fog foggy mist misty haze hazy smoke dust sand ash br fg hz fu du sa va",
    "rain": "rain rainy raining rainfall drizzle drizzling shower showers wet hail storm stormy "
    "thunder thunderstorm thunderstorms squall squalls tornado ra dz sh ts gr gs sq",
    "snow": "snow snowy snowing snowfall sleet blizzard snowstorm snowflakes flurries sn sg pl ic",
}
_CANONICAL = {word: name for name, words in _SYNONYMS.items() for word in words.split()}
# Words that change nothing. "no" and "not" are left out on purpose: refused, not misread.
_MODIFIERS = (
    "light heavy moderate slight strong very extreme freezing partly mostly patchy occasional "
    "intermittent isolated intensity ragged whirls volcanic and with sky skies weather conditions "
    "mi bc pr dr bl fz vc"
)
_IGNORED = frozenset(_MODIFIERS.split())
_METAR_CODES = frozenset(w for w in (*_CANONICAL, *_IGNORED) if len(w) == 2)


@dataclass(frozen=True)
class Conditions:
    """Light, season and weather of one image."""

    sun_elevation: float | None  # above the horizon, no refraction [deg]; None: unknown
    rising: bool | None  # whether the sun is rising; None: unknown
    light: str  # day, dawn, dusk, night or unknown
    month: float | None  # NORTHERN-hemisphere month in [1, 13), 7.5 is mid-July; None: no season
    season: str  # spring, summer, autumn, winter, tropics (no season) or unknown
    weather: str  # one of WEATHER_WORDS or unknown
    date: str  # such as "10 Dec" or "date unknown"
    notes: tuple[str, ...]  # unknown or assumed inputs, human-readable


def observe(stamp_ns: int | None, latitude: float, longitude: float, weather: str) -> Conditions:
    """Conditions at a UTC stamp [ns] and a place [deg] (nan: unknown). Raises nothing."""
    notes: list[str] = []
    time = _clock(stamp_ns, notes)
    latitude = _coordinate("latitude", latitude, 90.0, notes)
    longitude = _coordinate("longitude", longitude, 180.0, notes)
    height, rising = None, None
    if time is not None and not math.isnan(latitude + longitude):
        height = sun_elevation(time, latitude, longitude)
        rising = sun_elevation(time + timedelta(minutes=1), latitude, longitude) > height
    else:
        notes.append("light unknown, daylight preferred")
    month, season, date = _calendar(time, latitude, notes)
    return Conditions(
        sun_elevation=height,
        rising=rising,
        light=light_class(height, rising),
        month=month,
        season=season,
        weather=_weather(weather, notes),
        date=date,
        notes=tuple(notes),
    )


def sun_elevation(time: datetime, latitude: float, longitude: float) -> float:
    """Elevation [deg] of the sun's centre above the horizon, WITHOUT refraction.

    By the low-precision formulas of the Astronomical Almanac (page C5): to 0.01° from 1950 to 2050,
    to 0.03° until 2261. time: aware of its zone.
    """
    days = (time - J2000) / timedelta(days=1)
    anomaly = math.radians(357.528 + 0.9856003 * days)
    equation = 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)
    ecliptic = math.radians(280.460 + 0.9856474 * days + equation)
    obliquity = math.radians(23.439 - 4e-7 * days)
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    sidereal = math.radians(280.46062 + 360.98564737 * days + longitude)
    north = math.radians(latitude)
    above = math.sin(north) * math.sin(declination)
    above += math.cos(north) * math.cos(declination) * math.cos(sidereal - ascension)
    return math.degrees(math.asin(max(-1.0, min(1.0, above))))


def light_class(height: float | None, rising: bool | None) -> str:
    """Class of light at a sun elevation [deg]: day, dawn, dusk, night or unknown."""
    if height is None:
        return UNKNOWN
    if abs(height) > TWILIGHT:
        return "day" if height > 0 else "night"
    return "dawn" if rising else "dusk"


def parse_weather(text: str) -> str:
    """Parse a weather phrase or METAR group to its canonical word; the strongest word counts.

    "light rain and fog" → "rain"; "-SHSN" → "snow"; an empty text → "unknown".
    Raises DomainError for a word that is not understood, listing the words.
    """
    tokens = re.findall(r"[^\s.,;+/_-]+", text.lower())
    if not tokens or tokens == [UNKNOWN]:
        return UNKNOWN
    words = {word for token in tokens for word in _canonical(token, text)}
    if not words:
        raise _not_understood(text, text.strip())
    return max(words, key=WEATHER_WORDS.index)


def _canonical(token: str, text: str) -> list[str]:
    """Weather words of a token; none of a modifier. Raises DomainError, naming the text."""
    token = re.sub(r"^(few|sct|bkn|ovc)\d{3}(cb|tcu)?$", r"\1", token)  # METAR cloud group
    pairs = re.findall("..", token)  # METAR weather group such as "shra"
    if token not in _CANONICAL and len(token) % 2 == 0 and _METAR_CODES.issuperset(pairs):
        return [_CANONICAL[pair] for pair in pairs if pair in _CANONICAL]
    if token not in _CANONICAL and token not in _IGNORED:
        raise _not_understood(text, token)
    return [_CANONICAL[token]] if token in _CANONICAL else []


def _not_understood(text: str, token: str) -> DomainError:
    """The error about an unknown token."""
    return DomainError(
        f"weather {text!r}: '{token}' is not a known weather word; expected one of "
        f"{', '.join(WEATHER_WORDS)}, a synonym such as 'sunny', 'drizzle' or 'mist', "
        "a METAR group, or an empty text for unknown"
    )


def _weather(text: str, notes: list[str]) -> str:
    """The weather word of a text; unknown, and a note, where there is none."""
    try:
        return parse_weather(text)
    except DomainError:
        notes.append(f"weather {text!r} not understood")
        return UNKNOWN


def _clock(stamp_ns: int | None, notes: list[str]) -> datetime | None:
    """The time of a stamp [ns]; None, and a note, where the clock is unknown."""
    if stamp_ns is None:
        notes.append("clock unknown")
        return None
    seconds = int(stamp_ns) // NANOSECONDS
    if EARLIEST.timestamp() <= seconds < LATEST.timestamp():
        return datetime.fromtimestamp(seconds, timezone.utc)
    notes.append(f"clock unknown, stamp {stamp_ns} ns lies outside 1990 to 2261")
    return None


def _coordinate(name: str, value: float, limit: float, notes: list[str]) -> float:
    """A latitude or longitude [deg]; nan, and a note, where it is unknown."""
    if math.isfinite(value) and abs(value) <= limit:
        return float(value)
    outside = "" if math.isnan(value) else f", {value} lies outside ±{limit:g}°"
    notes.append(f"{name} unknown{outside}")
    return math.nan


def _calendar(
    time: datetime | None, latitude: float, notes: list[str]
) -> tuple[float | None, str, str]:
    """Northern-hemisphere month, season and date text."""
    if time is None:
        return None, UNKNOWN, "date unknown"
    date = f"{time.day} {MONTHS[time.month - 1]}"
    if abs(latitude) < TROPIC:
        return None, "tropics", f"{date} (tropics)"
    month = time.month + (time.day - 0.5) / 31  # the middle of the day: never a whole number
    south = latitude < 0
    if south:
        month = (month + 5) % 12 + 1
    if math.isnan(latitude):
        notes.append("northern hemisphere assumed")
    season = SEASONS[int(month) % 12 // 3]
    return month, season, f"{date} (southern {season})" if south else date
