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
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from disam_ros.domains.sun import UNKNOWN, WEATHER_WORDS, Conditions, observe, parse_weather
from disam_ros.errors import DomainError
from disam_ros.files.checking import build, unknown_name
from disam_ros.files.yaml_files import parse_yaml, read_yaml
from disam_ros.settings import setting

__all__ = [
    "Domain",
    "DomainChoice",
    "DomainChooser",
    "distance",
    "parse_weather",
]

ANY = "any"  # a model's only domain: it serves every condition and every domain's name
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


@dataclass(frozen=True)
class Domain:
    """A named condition and its tags; an omitted tag fits everything. Raises DomainError."""

    name: str  # also a folder name: letters, digits, '_', '-', '.'
    sun_elevation: tuple[float, float] | None = setting(
        None, "lowest and highest [deg], without refraction", minimum=-90, maximum=90
    )
    months: tuple[int, ...] = setting((), "as in the NORTHERN hemisphere", minimum=1, maximum=12)
    weather: tuple[str, ...] = setting((), "weather words", choices=WEATHER_WORDS)
    sun_rising: bool | None = setting(
        None, "true: only dawn, false: only dusk; needs sun_elevation"
    )
    view: str = setting(
        "ground",
        "aerial: seen from above, so never chosen for a camera image",
        choices=("ground", "aerial"),
    )

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name, re.ASCII):
            self._refuse("name", "letters, digits, '_', '-', '.'", self.name)
        if self.sun_elevation is not None and self.sun_elevation[0] > self.sun_elevation[1]:
            self._refuse("sun_elevation", "the lower angle first", self.sun_elevation)
        if self.sun_rising is not None and self.sun_elevation is None:
            self._refuse("sun_rising", "a sun_elevation as well", self.sun_rising)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values with all tags."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Any) -> Domain:
        """Inverse of `to_json`. Raises DomainError for an unknown or unfit tag."""
        named = isinstance(values, dict) and "name" in values
        where = f"domain '{values['name']}'" if named else "a domain"
        return build(cls, values, where, DomainError)

    def _refuse(self, tag: str, expected: str, value: Any) -> None:
        """Raise DomainError about a tag."""
        raise DomainError(f"domain '{self.name}': '{tag}' expects {expected}; got {value!r}")


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


def load_rules(path: Path | str | None = None) -> dict[str, Domain]:
    """Load the packaged rules by name; a user's YAML file adds to them or replaces entries.

    Raises DomainError naming the file, the entry and what was expected.
    """
    packaged = resources.files("disam_ros.domains").joinpath("domains.yaml").read_bytes()
    rules = _rules_of(parse_yaml(packaged, "domains.yaml", DomainError), "domains.yaml")
    if path is not None:
        rules |= _rules_of(read_yaml(path, DomainError), str(path))
    return rules


def _rules_of(entries: Any, where: str) -> dict[str, Domain]:
    """Build rules. Raises DomainError, naming `where` and the entry."""
    if not isinstance(entries, dict):
        raise DomainError(f"{where}: expected 'name: {{tags}}' entries; got {brief(entries)}")
    rules = {}
    for name, tags in entries.items():
        if not isinstance(tags, dict) or "name" in tags:
            raise DomainError(f"{where}: '{name}' expects tags ({{}}: none); got {brief(tags)}")
        try:
            rules[name] = Domain.from_json({**tags, "name": name})
        except DomainError as error:
            raise DomainError(f"{where}: {error}") from error
    return rules


def domains_named(names: Iterable[str], rules: Mapping[str, Domain]) -> list[Domain]:
    """Pick rules by name, in order. Raises DomainError for a name without a rule."""
    names = list(names)
    for name in names:
        if name not in rules:
            raise DomainError(
                f"domains: {unknown_name(name, rules)} To add one, write into a rules file "
                f"'{name}: {{sun_elevation: [6, 90], months: [6, 7, 8], weather: [clear, cloudy]}}'"
                ", or with {} as tags to fit everything"
            )
        if names.count(name) > 1:
            raise DomainError(
                f"domains: '{name}' is named {names.count(name)} times, expected once"
            )
    return [rules[name] for name in names]
