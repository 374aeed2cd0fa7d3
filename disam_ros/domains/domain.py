# SPDX-License-Identifier: Apache-2.0
"""Domains: named conditions, the tags that say what they are, and the words for the weather."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from disam_ros.errors import DomainError
from disam_ros.files.checking import build, unknown_name
from disam_ros.files.yaml_files import parse_yaml, read_yaml
from disam_ros.settings import setting

ANY = "any"  # a model's only domain: it serves every condition and every domain's name
UNKNOWN = "unknown"

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
