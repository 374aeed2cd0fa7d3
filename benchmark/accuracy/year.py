# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the domain chooser against a simulated observer along a year, by its inputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone

from benchmark.accuracy.year_observer import (
    DARK,
    HOURS,
    MODELS,
    PLACES,
    RULES,
    SUNRISE,
    Moment,
    Place,
    accepted,
    sun_elevation,
    weather,
)
from disam_ros.domains.domain import DomainChooser
from disam_ros.domains.rules import domains_named

YEAR = 2025
START_S = int(datetime(YEAR, 1, 1, tzinfo=timezone.utc).timestamp())
STEP_MIN = 299  # about five hours; prime to a day: every minute of it is asked equally often
OLD_H = 3  # age of an old weather report
TROPIC = 23.5  # degrees of latitude: green all year
NAN, S = math.nan, 1_000_000_000  # ns
TOP, SELDOM = 3, 0.0005  # errors that are kept, and the least share of one


def measure(step_min: int = STEP_MIN) -> dict:
    """Shares of right choices by model and known inputs. step_min: minutes between moments."""
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
    """Moments, and the chooser's arguments by known inputs."""
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
                "everything": (ns, *here, seen[hour]),
                "weather without lying snow": (ns, *here, words[hour]),
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
        "day_for_night_sun": [round(f(confused), 1) + 0.0 for f in (min, max) if confused],
        "errors": [
            [*pair, count / len(every)]
            for pair, count in wrong.most_common(TOP)
            if count >= SELDOM * len(every)
        ],
    }


def day_for_night(name: str, sun: float) -> bool:
    """Whether a domain for the dark was chosen with the sun up, or one for the day in the dark."""
    low, high = RULES[name].sun_elevation or (-90, 90)
    return (high <= DARK and sun >= SUNRISE) or (low >= -DARK and sun < DARK)


def _share(values: Iterable[bool]) -> float:
    values = list(values)
    return sum(values) / len(values)
