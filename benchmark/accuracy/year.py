# SPDX-License-Identifier: Apache-2.0
"""How often the domain chooser names what an observer would see, along a simulated year."""

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
    SNOW_BELOW_C,
    SPELL_H,
    SUNRISE,
    Moment,
    Place,
    accepted,
    sun_elevation,
    weather,
)
from benchmark.peers.table import markdown, percent
from disam_ros.domains.domain import DomainChooser
from disam_ros.domains.rules import domains_named

YEAR = 2025
START_S = int(datetime(YEAR, 1, 1, tzinfo=timezone.utc).timestamp())
STEP_MIN = 299  # about five hours; prime to a day: every minute of it is asked equally often
OLD_H = 3  # age of an old weather word
TROPIC = 23.5  # degrees of latitude: green all year
NAN, S = math.nan, 1_000_000_000  # ns
EVERYTHING = "everything"
TOP, SELDOM = 3, 0.0005  # errors that are kept, share from which they are shown


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
