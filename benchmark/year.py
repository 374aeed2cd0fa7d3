# SPDX-License-Identifier: Apache-2.0
"""How often the domain chooser names what an observer would see, along a simulated year.

Weather and labels are made here without the chooser's rules and costs. Climates are round numbers
made up to be unlike each other, not measurements.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from benchmark.peers.table import markdown, percent
from disam_ros.domain import Domain, DomainChooser
from disam_ros.domain_rules import domains_named, load_rules

YEAR, HOURS = 2025, 8760
START_S = int(datetime(YEAR, 1, 1, tzinfo=timezone.utc).timestamp())
STEP_MIN = 299  # about five hours; prime to a day: every minute of it is asked equally often
OLD_H = 3  # age of an old weather word
SUNRISE, DARK = -0.833, -6.0  # degrees: upper rim on the horizon (refracted), end of civil twilight
TROPIC = 23.5  # degrees of latitude: green all year
GREEN_MONTHS = range(5, 10)  # northern; the others may be bare or coloured
NAN, S = math.nan, 1_000_000_000  # ns
EVERYTHING = "everything"
TOP, SELDOM = 3, 0.0005  # errors that are kept, share from which they are shown

SKY = ("clear", "cloudy", "overcast", "fog", "wet")  # wet: rain, or snow where cold
SPELL_H = 8.0  # mean hours between draws of the sky
NOISE_C, NOISE_H = 2.5, 48.0  # spells of warm and cold air: standard deviation, persistence
DAILY_C = 3.0  # warmest at 15 h
SNOW_BELOW_C = 1.0
MELT = 0.2  # mm of water per hour and degree above 0 °C; 1 mm falls in an hour of snow
LYING = 2.0  # mm from which the ground is white


@dataclass(frozen=True)
class Place:
    """A place and its climate."""

    name: str
    latitude: float  # degrees
    longitude: float
    mean_c: float  # °C over the year
    swing_c: float  # warmest time of the year less the mean
    winter: tuple[float, ...]  # shares of SKY
    summer: tuple[float, ...]


PLACES = (
    Place("65° N 25° E", 65, 25, 2, 13, (0.2, 0.2, 0.35, 0.05, 0.2), (0.3, 0.3, 0.2, 0.02, 0.18)),
    Place("48° N 75° W", 48, -75, 8, 11, (0.2, 0.2, 0.3, 0.1, 0.2), (0.35, 0.3, 0.15, 0.02, 0.18)),
    Place("0° 37° E", 0, 37, 20, 0, (0.25, 0.4, 0.15, 0.03, 0.17), (0.25, 0.4, 0.15, 0.03, 0.17)),
    Place("34° S 151° E", -34, 151, 18, 5, (0.45, 0.3, 0.1, 0.02, 0.13), (0.4, 0.3, 0.1, 0, 0.2)),
)
RULES = {name: domain for name, domain in load_rules().items() if domain.view == "ground"}
PACKAGED = "all packaged domains"
MODELS = {
    "town-lite": ("summer_day", "winter_snow", "autumn_rain", "night"),
    "daynight-lite": ("day", "night"),
    PACKAGED: tuple(RULES),
}


@dataclass(frozen=True)
class Moment:
    """What an observer sees. month: 1–12 as in the north, None in the tropics."""

    place: str
    sun: float  # degrees
    rising: bool
    month: int | None
    weather: str  # snow falls or lies, else what falls, else the sky


def sun_elevation(
    seconds: np.ndarray | float, latitude: float, longitude: float
) -> np.ndarray | float:
    """Degrees of the sun's centre without refraction at UTC seconds since 1970.

    The low-precision formulas of the Astronomical Almanac, good to 0.02° from 1950 to 2050.
    """
    days = seconds / 86400 - 10957.5  # since 2000-01-01 12:00
    anomaly = np.radians(357.528 + 0.9856003 * days)
    longitude_of_sun = np.radians(
        280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly)
    )
    tilt = np.radians(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(tilt) * np.sin(longitude_of_sun), np.cos(longitude_of_sun))
    declination = np.arcsin(np.sin(tilt) * np.sin(longitude_of_sun))
    hour_angle = np.radians(280.46062 + 360.98564737 * days + longitude) - ascension
    phi = np.radians(latitude)
    height = np.sin(phi) * np.sin(declination)
    return np.degrees(np.arcsin(height + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)))


def weather(place: Place, seed: int = 0) -> tuple[list[str], list[bool]]:
    """Hourly along the year (UTC): the word for what falls or the sky, and whether snow lies."""
    rng = np.random.default_rng([seed, round(place.latitude + 90), round(place.longitude + 180)])
    hours = np.arange(-HOURS // 2, HOURS)  # half a year ahead, for the snow that lies at New Year
    warmth = np.sign(place.latitude) * np.cos(2 * np.pi * (hours / 24 - 201) / 365)
    local = hours + place.longitude / 15
    mean = place.mean_c + place.swing_c * warmth + DAILY_C * np.cos(np.pi * (local - 15) / 12)
    keep = math.exp(-1 / NOISE_H)
    air, cover, sky, words, lies = 0.0, 0.0, "cloudy", [], []
    for hour in range(len(hours)):
        if rng.random() < 1 / SPELL_H:
            part = (1 + warmth[hour]) / 2
            shares = np.array(place.winter) * (1 - part) + np.array(place.summer) * part
            sky = SKY[rng.choice(len(SKY), p=shares / shares.sum())]
        air = keep * air + math.sqrt(1 - keep**2) * NOISE_C * rng.normal()
        degrees = mean[hour] + air
        word = sky if sky != "wet" else "snow" if degrees < SNOW_BELOW_C else "rain"
        cover = max(0.0, cover + (word == "snow") - MELT * max(degrees, 0.0))
        words.append(word)
        lies.append(cover >= LYING)
    return words[-HOURS:], lies[-HOURS:]


def accepted(model: str, moment: Moment) -> tuple[set[str], set[str]]:
    """Names of a model's domains that an observer would give, and those true but less specific."""
    if model == PACKAGED:
        return _true_domains(moment)
    names = _by_day(moment) if model == "town-lite" else {"day"}
    if moment.sun < DARK:
        names = {"night"}
    elif moment.sun < SUNRISE:
        names = names | {"night"}
    return names, set()


def _by_day(moment: Moment) -> set[str]:
    """Of the town's domains: the ground decides, then the leaves."""
    if moment.weather == "snow":
        return {"winter_snow"}
    if moment.weather == "rain":
        return {"autumn_rain"}
    green = moment.month is None or moment.month in GREEN_MONTHS
    return {"summer_day"} if green and moment.weather != "fog" else {"summer_day", "autumn_rain"}


def _true_domains(moment: Moment) -> tuple[set[str], set[str]]:
    """Of all packaged domains those with true tags: the most specific ones, the others.

    In the tropics leaves are those of July, but no domain is the more specific for its months.
    """
    tags_of: dict[str, set[str]] = {}
    for name, domain in RULES.items():
        if _is_true(domain, moment):
            tags = {"sun": domain.sun_elevation, "weather": domain.weather}
            if moment.month is not None:
                tags["months"] = domain.months
            tags_of[name] = {tag for tag, value in tags.items() if value}
    vague = {n for n, tags in tags_of.items() if any(tags < other for other in tags_of.values())}
    return set(tags_of) - vague, vague


def _is_true(domain: Domain, moment: Moment) -> bool:
    low, high = domain.sun_elevation or (-90, 90)
    return (
        low <= moment.sun <= high
        and domain.sun_rising in (None, moment.rising)
        and (not domain.months or (moment.month or 7) in domain.months)
        and (not domain.weather or moment.weather in domain.weather)
    )


def measure(step_min: int = STEP_MIN) -> dict:
    """Shares of right choices by model and by what is known; `step_min`: between two moments."""
    asked = [every for place in PLACES for every in _moments(place, step_min)]
    moments = [moment for moment, _ in asked]
    models = {}
    for model, names in MODELS.items():
        chooser = DomainChooser(domains_named(names, RULES))
        labels = [accepted(model, moment) for moment in moments]
        models[model] = {
            "several": _share(len(given) > 1 for given, _ in labels),
            "known": {
                known: figures(
                    moments, labels, [chooser.choose(*every[known]).name for _, every in asked]
                )
                for known in asked[0][1]
            },
        }
    return {
        "year": YEAR,
        "step_min": step_min,
        "moments": len(moments),
        "places": [place.name for place in PLACES],
        "twilight": _share(DARK <= moment.sun < SUNRISE for moment in moments),
        "dark": _share(moment.sun < DARK for moment in moments),
        "models": models,
    }


def _moments(place: Place, step_min: int) -> Iterator[tuple[Moment, dict[str, tuple]]]:
    """What is seen, and the chooser's arguments by what is known."""
    words, lies = weather(place)
    seen = ["snow" if white else word for word, white in zip(words, lies, strict=True)]
    here, nowhere = (place.latitude, place.longitude), (NAN, NAN)
    for minute in range(60 * OLD_H, 60 * HOURS, step_min):
        hour, seconds = minute // 60, START_S + 60 * minute
        ns, local_s = seconds * S, round(place.longitude / 15) * 3600
        height, next_height = (float(sun_elevation(seconds + s, *here)) for s in (0, 60))
        month = None
        if abs(place.latitude) > TROPIC:
            month = datetime.fromtimestamp(seconds, timezone.utc).month
            month = month if place.latitude > 0 else (month + 5) % 12 + 1
        moment = Moment(place.name, height, next_height > height, month, seen[hour])
        yield (
            moment,
            {
                EVERYTHING: (ns, *here, seen[hour]),
                "lying snow not told": (ns, *here, words[hour]),
                f"weather {OLD_H} h old": (ns, *here, seen[hour - OLD_H]),
                "no weather": (ns, *here, ""),
                "clock 1 h fast": (ns + 3600 * S, *here, seen[hour]),
                "clock shows local time": (ns + local_s * S, *here, seen[hour]),
                "no place": (ns, *nowhere, seen[hour]),
                "no clock": (None, *here, seen[hour]),
                "nothing": (None, *nowhere, ""),
            },
        )


def figures(
    moments: Sequence[Moment],
    labels: Sequence[tuple[set[str], set[str]]],
    chosen: Sequence[str],
) -> dict:
    """Shares of all moments; errors: [accepted, chosen, share], the most frequent first.

    day_for_night_sun: lowest and highest sun of the moments that were confused, in degrees.
    """
    every = list(zip(moments, labels, chosen, strict=True))
    confused = [moment.sun for moment, _, name in every if day_for_night(name, moment.sun)]
    wrong = Counter(
        ("/".join(rule for rule in RULES if rule in given), name)
        for _, (given, vague), name in every
        if name not in given | vague
    )
    return {
        "right": _share(name in given for _, (given, _), name in every),
        "vague": _share(name in vague for _, (_, vague), name in every),
        "by_place": {
            place: _share(name in given for m, (given, _), name in every if m.place == place)
            for place in dict.fromkeys(moment.place for moment in moments)
        },
        "day_for_night": len(confused) / len(every),
        "day_for_night_sun": [min(confused), max(confused)] if confused else [],
        "errors": [[*pair, count / len(every)] for pair, count in wrong.most_common(TOP)],
    }


def day_for_night(name: str, sun: float) -> bool:
    """Whether a domain for the dark was chosen with the sun up, or one for the day in the dark."""
    low, high = RULES[name].sun_elevation or (-90, 90)
    return (high <= DARK and sun >= SUNRISE) or (low >= -DARK and sun < DARK)


def _share(values: Iterable[bool]) -> float:
    values = list(values)
    return sum(values) / len(values)


def render(results: dict) -> str:
    """The figures as a section of a page; what is alike for a model shares a row."""
    header = ["model", "known", "right", "worst place", "day for night", "most frequent errors"]
    rows, suns = [], []
    for model, result in results["models"].items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for known, shares in result["known"].items():
            alike.setdefault(_cells(shares), []).append(known)
        rows += [[model, ", ".join(known), *cells] for cells, known in alike.items()]
        best = result["known"][EVERYTHING]
        if best["day_for_night"]:
            low, high = (_degrees(sun) for sun in best["day_for_night_sun"])
            share = percent(best["day_for_night"])
            suns.append(f"{model} {share} %, all with the sun at {low} to {high}")
    several = ", ".join(f"{percent(r['several'])} % ({m})" for m, r in results["models"].items())
    return (
        "## Domain along a year\n\n"
        "`python -m benchmark.accuracy year`: what the chooser picks by clock, sun and weather "
        f"against what an observer would say, every {results['step_min']} minutes of "
        f"{results['year']} at {', '.join(results['places'])}: {results['moments']} moments of a "
        f"simulated weather, one seed. The sky is drawn anew every {SPELL_H:g} hours on average, "
        f"by shares of place and season; below {SNOW_BELOW_C:g} °C rain is snow, and snow lies "
        "until it melts. The climates are made up.\n\n"
        "The observer calls it night with the sun below "
        f"{_degrees(DARK)}, day from sunrise ({_degrees(SUNRISE)}), and accepts either between "
        f"({percent(results['twilight'])} % of the moments). By day in the town: winter_snow where "
        "snow falls or lies, autumn_rain in rain; summer_day where it is dry and green, else also "
        "autumn_rain, for neither fits. Of all packaged domains those are right whose tags are "
        "all true, the most specific ones; the others with true tags are *vague*. Several domains "
        f"are accepted in {several} of the moments.\n\n"
        f"{markdown(header, rows)}\n"
        "*Day for night*, or night for day: a domain for the dark with the sun up, one for the day "
        f"in the dark. With everything known: {'; '.join(suns) or 'none'}. Without a clock or a "
        f"place daylight is assumed, and {percent(results['dark'])} % of the moments are dark. "
        "*Lying snow not told*: the word tells the sky and what falls, as a weather report does, "
        "not the ground. *Local time*: standard time of the zone, taken for UTC.\n"
    )


def _cells(figures: dict) -> tuple[str, ...]:
    """Right, worst place, day for night and errors of one row."""
    vague = f" (vague {percent(figures['vague'])})" if figures["vague"] else ""
    worst = min(figures["by_place"], key=figures["by_place"].get)
    errors = [
        f"{_short(given)} → {name} {percent(share)}"
        for given, name, share in figures["errors"]
        if share >= SELDOM
    ]
    return (
        percent(figures["right"]) + vague,
        f"{percent(figures['by_place'][worst])} ({worst})",
        percent(figures["day_for_night"]),
        "; ".join(errors),
    )


def _short(names: str) -> str:
    """At most two of the accepted names."""
    first = names.split("/")
    return "/".join(first[:2]) + ("/…" if len(first) > 2 else "")


def _degrees(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}°".replace("-", "−")  # + 0.0: not −0.0
