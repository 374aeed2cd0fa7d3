# SPDX-License-Identifier: Apache-2.0
"""Domain selection: stamp, sun and weather → the domain trained for the most similar conditions.

A domain's tags name the conditions its encoders were trained for. The distance from the present
conditions to a domain is a sum over the known ones (the numbers are the constants below):

light    20 per 12° of sun elevation outside the domain's range (clipped to ±18°): day↔night 20 to
         40, day↔dusk up to 20, where all other costs sum up to 8.9 at most; 0.02 per degree for
         the length of shadows; 1 for dawn instead of dusk
weather  differences in appearance: snow cover 6, wet ground 2, haze 2, cast shadows 1
season   0.15 per month between the date and the nearest month of the domain, at most 0.9

Unknown conditions cost nothing. Ties are broken by fewer tags on unknown conditions, more matching
tags, the more common weather, then the order of the domains. Daylight is assumed while the light is
unknown (at half the light's cost), and the reason names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, lru_cache

from disam_ros.domains.domain import ANY, UNKNOWN, Domain, parse_weather
from disam_ros.errors import DomainError
from disam_ros.pose_buffer import NANOSECONDS

LIGHT_COST = 20.0 / 12.0  # per degree outside the range, between ±FULL_LIGHT
FULL_LIGHT = 18.0  # sun elevation [deg] of full day; minus this: astronomical night
SHADOW_LENGTH_COST = 0.02  # per degree outside the range
OTHER_LIGHT = 5.0  # cost at which a domain is of another light: 3° outside the range
RISING_COST = 1.0  # dawn instead of dusk
UNKNOWN_LIGHT = 0.5  # share of the light's cost while daylight is only assumed
SEASON_COST = 0.15  # per month
APPEARANCE = {  # costs of (cast shadows, haze, wet ground, snow cover) in the image
    "clear": (1.0, 0.0, 0.0, 0.0),
    "cloudy": (0.5, 0.0, 0.0, 0.0),
    "overcast": (0.0, 0.0, 0.0, 0.0),
    "fog": (0.0, 2.0, 0.0, 0.0),
    "rain": (0.0, 0.0, 2.0, 0.0),
    "snow": (0.0, 0.0, 0.0, 6.0),
}
TWILIGHT = 6.0  # [deg] day above, night below minus this (civil twilight), dawn or dusk between
TROPIC = 23.5  # latitude [deg] below which months do not determine leaves or snow
J2000 = datetime(2000, 1, 1, 12, tzinfo=timezone.utc)  # from which astronomers count days
EARLIEST = datetime(1990, 1, 1, tzinfo=timezone.utc)  # before: an unset clock, or sim time
LATEST = datetime(2262, 1, 1, tzinfo=timezone.utc)  # int64 nanoseconds end here
SEASONS = ("winter", "spring", "summer", "autumn")  # northern, from December
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


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
        weather=_weather(weather, notes) if weather else UNKNOWN,
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


@dataclass(frozen=True)
class DomainChoice:
    """The selected domain and the reason."""

    name: str
    reason: str  # one human-readable sentence
    exact: bool  # whether all tags of the domain are known to match
    sun_elevation: float | None  # degrees, no refraction; None: unknown
    light: str  # day, dawn, dusk, night or unknown
    season: str  # spring, summer, autumn, winter (of the place), tropics or unknown
    weather: str  # one of WEATHER_WORDS or unknown


@dataclass(frozen=True)
class Distance:
    """Distance of conditions from a domain; the smaller `rank` is nearer."""

    differs: tuple[tuple[str, float], ...]  # known mismatches and their costs
    unconfirmed: tuple[str, ...]  # tags on unknown conditions
    matched: int  # tags known to match
    assumed: float  # cost of a domain without daylight while the light is unknown
    rarity: float  # distance of the domain's weather from the common one while it is unknown

    @property
    def rank(self) -> tuple[float, int, int, float]:
        """Sort key."""
        cost = self.assumed + sum([cost for _, cost in self.differs])
        return round(cost, 9), len(self.unconfirmed), -self.matched, self.rarity


def distance(domain: Domain, conditions: Conditions) -> Distance:
    """Distance of `conditions` from the tags of `domain`, as the module's docstring defines it."""
    costs: dict[str, float | None] = {}  # per tag that counts; None: unknown
    assumed, rarity = 0.0, 0.0
    if domain.sun_elevation is not None:
        costs["light"] = _light_cost(domain, conditions)
        if costs["light"] is None:
            darkness = FULL_LIGHT - min(domain.sun_elevation[1], FULL_LIGHT)
            assumed = UNKNOWN_LIGHT * LIGHT_COST * darkness
    if domain.weather:
        costs["weather"] = None
        if conditions.weather == UNKNOWN:
            rarity = _weather_cost(domain.weather, "cloudy")
        else:
            costs["weather"] = _weather_cost(domain.weather, conditions.weather)
    if domain.months and conditions.season != "tropics":
        costs["season"] = _season_cost(domain.months, conditions.month)
    return Distance(
        differs=tuple([(tag, cost) for tag, cost in costs.items() if cost]),
        unconfirmed=tuple([tag for tag, cost in costs.items() if cost is None]),
        matched=list(costs.values()).count(0.0),
        assumed=assumed,
        rarity=rarity,
    )


def _light_cost(domain: Domain, conditions: Conditions) -> float | None:
    """Cost of the sun's elevation; None: unknown."""
    height = conditions.sun_elevation
    if height is None or domain.sun_elevation is None:
        return None
    low, high = domain.sun_elevation
    cost = SHADOW_LENGTH_COST * max(low - height, height - high, 0.0)
    low, high, height = [max(-FULL_LIGHT, min(FULL_LIGHT, v)) for v in (low, high, height)]
    cost += LIGHT_COST * max(low - height, height - high, 0.0)
    if domain.sun_rising is not None and domain.sun_rising != conditions.rising:
        cost += RISING_COST
    return cost


@cache
def _weather_cost(words: tuple[str, ...], weather: str) -> float:
    def gap(word: str) -> float:
        return sum(abs(a - b) for a, b in zip(APPEARANCE[word], APPEARANCE[weather], strict=True))

    return min(gap(word) for word in words)


@lru_cache
def _season_cost(months: tuple[int, ...], month: float | None) -> float | None:
    if month is None:
        return None
    if math.floor(month) in months:
        return 0.0
    return SEASON_COST * min(min((m - month) % 12, (month - m - 1) % 12) for m in months)


class DomainChooser:
    """Selects among a model's domains. Raises DomainError for no domain or duplicate names."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        self._domains = {domain.name: domain for domain in domains}
        if not domains or len(self._domains) != len(domains):
            names = [domain.name for domain in domains]
            raise DomainError(f"expected one or more domains with different names, got {names}")

    def find(self, name: str) -> str | None:
        """Find the domain of a name: itself, or ANY where it is the only domain; None: unknown."""
        if list(self._domains) == [ANY]:
            return ANY
        return name if name in self._domains else None

    def choose(
        self,
        stamp_ns: int | None,
        latitude: float,
        longitude: float,
        weather: str = "",
        override: str = "",
    ) -> DomainChoice:
        """Choose the domain nearest to a UTC stamp [ns] and a place [deg] (nan: unknown).

        An unparsable weather word counts as unknown and is named in the reason: validate input with
        `parse_weather`. Raises DomainError for an `override` that is not among the domains, or
        without one where all domains are aerial.
        """
        fixed = self.find(override) if override else None
        if override and not fixed:
            raise DomainError(
                f"domain '{override}' is not available; available: {', '.join(self._domains)}"
            )
        conditions = observe(stamp_ns, latitude, longitude, weather)
        asked = [self._domains[fixed]] if fixed else self._of_cameras()
        gaps = [(distance(domain, conditions), domain.name) for domain in asked]
        gap, name = min(gaps, key=lambda pair: pair[0].rank)  # of equals, the first
        return DomainChoice(
            name=name,
            reason=_reason(name, gap, conditions, bool(override)),
            exact=not gap.differs and not gap.unconfirmed,
            sun_elevation=conditions.sun_elevation,
            light=conditions.light,
            season=conditions.season,
            weather=conditions.weather,
        )

    def of_this_light(self, stamp_ns: int | None, latitude: float, longitude: float) -> list[str]:
        """List domains consistent with the sun's elevation; all if it is unknown or fits none."""
        now = observe(stamp_ns, latitude, longitude, "")
        costs = {domain.name: _light_cost(domain, now) for domain in self._of_cameras()}
        return [name for name, cost in costs.items() if (cost or 0.0) < OTHER_LIGHT] or list(costs)

    def _of_cameras(self) -> list[Domain]:
        """The domains of camera images. Raises DomainError where there are none."""
        domains = [domain for domain in self._domains.values() if domain.view == "ground"]
        if not domains:
            raise DomainError(
                f"all domains are aerial ({', '.join(self._domains)}): name the one to use, or "
                f"take a model with a domain for camera images"
            )
        return domains


def _reason(name: str, gap: Distance, now: Conditions, override: bool) -> str:
    """Explain a choice in a sentence."""
    sun = "sun unknown" if now.sun_elevation is None else f"sun {now.sun_elevation:.1f}°"
    weather = "weather unknown" if now.weather == UNKNOWN else now.weather
    facts = f"{sun.replace('-', '−')}, {now.date}, {weather}"
    differs = [f"differs in {', '.join(tag for tag, _ in gap.differs)}"] if gap.differs else []
    doubts = [f"{', '.join(gap.unconfirmed)} unconfirmed"] if gap.unconfirmed else []
    if override:
        head = f"{name}: set by override; {facts}"
    elif differs or doubts:
        light, season = (
            f"{what} unknown" if value == UNKNOWN else value
            for what, value in (("light", now.light), ("season", now.season))
        )
        head = f"nearest to ({light}, {season}, {weather}): {name}; {facts}"
    else:
        head = f"{name}: {facts}"
    return "; ".join([head, *differs, *doubts, *now.notes])
