# SPDX-License-Identifier: Apache-2.0
"""A simulated year at made-up climates, and which domain an observer would say an image is of.

Weather and labels are made here without the chooser's rules and costs. Climates are round numbers
made up to be unlike each other, not measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from disam_ros.domains.domain import Domain
from disam_ros.domains.rules import load_rules

HOURS = 8760
SUNRISE, DARK = -0.833, -6.0  # degrees: upper rim on the horizon (refracted), end of civil twilight
GREEN_MONTHS = range(5, 10)  # northern; the others may be bare or coloured

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
RULES = {
    name: domain
    for name, domain in load_rules().items()
    if domain.view == "ground" and name != "any"
}
PACKAGED = "all packaged domains"
MODELS = {
    "outdoor": ("summer_day", "winter_snow", "autumn_rain", "night"),
    "day and night": ("day", "night"),
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
    names = _by_day(moment) if model == "outdoor" else {"day"}
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
