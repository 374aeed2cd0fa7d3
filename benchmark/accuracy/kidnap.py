# SPDX-License-Identifier: Apache-2.0
"""How soon does a sequence notice that the vehicle was carried to another place of the map?

Images of one stretch of a drive through the town, then of another one: wheels say that nothing
moved in between. Beside it the same stretch from a cold start, which no filter can be ahead of by
what it saw before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from disam_ros.localization.result import Localization

from benchmark.accuracy.rides import NOTHING, RIGHT_M, Ride, town
from benchmark.peers.table import markdown
from disam_ros.config import LocalizerConfig
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.tracker import Tracker

BEFORE, AFTER = 25, 40  # images of the stretches
FAR = 50.0  # metres at least between them
TRIALS = 20  # of each condition
PERIOD_NS = 400_000_000  # between images, as in the drives
SOON = 3  # images after a cold start that all but the worst tenth should have noticed by
ROWS = ("odometry", "no odometry")

Seen = tuple[list[Localization], list[Transform | None], Ride]


def measure() -> dict:
    """Per condition and row: images until the place is known and right, and wrong poses told."""
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for maps, ride in town(Path(scratch), (NOTHING,)):
            localizer = Localizer.open(*maps[NOTHING], LocalizerConfig(device="cpu"))
            seen = look(localizer, ride)
            found[ride.name] = {row: figures(localizer, seen, row == ROWS[0]) for row in ROWS}
    return {"conditions": found}


def render(results: dict) -> str:
    """The figures as a section of a page."""
    rows, later = [], []
    for condition, both in results["conditions"].items():
        for row, values in both.items():
            cells = [
                f"{np.median(values[key]):.0f} / {np.percentile(values[key], 90):.0f} / "
                f"{max(values[key])}"
                for key in ("cold", "carried", "wrong")
            ]
            rows.append([condition, row, *cells])
            if row == ROWS[0]:
                later += list(np.subtract(values["carried"], values["cold"]))
    header = ["queries", "", "images from a cold start", "images after being carried away"]
    header += ["wrong poses told meanwhile"]
    late = float(np.percentile(later, 90))
    return (
        "## Carried away\n\n"
        f"`python -m benchmark.accuracy kidnap`: {BEFORE} images of the town are followed, then "
        f"images of a stretch at least {FAR:g} m away, while wheels say that nothing moved; "
        f"{TRIALS} times a condition, 2.5 images a second, 2 to 4 m apart. How many images it "
        f"takes until the place is known (probability 0.8) and right (within {RIGHT_M:g} m), "
        "median / 90 % / worst, beside a cold start on the same stretch; and how many poses of a "
        f"wrong place were told meanwhile ({AFTER + 1}: never within {AFTER} images).\n\n"
        f"{markdown(header, rows)}\n"
        f"With odometry, being carried away costs at most {late:.0f} images more than a cold start "
        f"in nine of ten cases (target: {SOON}): {'met' if late <= SOON else 'missed'}.\n"
    )


def look(localizer: Localizer, ride: Ride) -> Seen:
    """What every image of a ride says by itself, and odometry there."""
    found = []
    for item in ride.items:
        latitude, longitude = item.place or (None, None)
        place = {"latitude": latitude, "longitude": longitude, "weather": item.weather}
        found.append(localizer.localize(item.load(), item.record.stamp_ns, **place))
    at = [ride.odometry.at(item.record.stamp_ns) for item in ride.items]
    return found, [one and one[0] for one in at], ride


def figures(localizer: Localizer, seen: Seen, odometry: bool) -> dict[str, list[int]]:
    """Images until right, from a cold start and after being carried away, and wrong poses."""
    result: dict[str, list[int]] = {"cold": [], "carried": [], "wrong": []}
    for start, landing in trials(seen[2]):
        before = range(start, start + BEFORE)
        after = range(landing, landing + AFTER)
        cold, _ = recovery(localizer, seen, range(0), after, odometry)
        carried, wrong = recovery(localizer, seen, before, after, odometry)
        for key, value in (("cold", cold), ("carried", carried), ("wrong", wrong)):
            result[key].append(value)
    return result


def trials(ride: Ride) -> Iterator[tuple[int, int]]:
    """Where the stretches begin."""
    rng, given = np.random.default_rng(0), 0
    while given < TRIALS:
        start = int(rng.integers(0, len(ride.items) - BEFORE))
        landing = int(rng.integers(0, len(ride.items) - AFTER))
        left, reached = ride.truth[start + BEFORE - 1], ride.truth[landing]
        if np.linalg.norm(left.translation - reached.translation) >= FAR:
            given += 1
            yield start, landing


def recovery(
    localizer: Localizer, seen: Seen, before: Sequence[int], after: Sequence[int], odometry: bool
) -> tuple[int, int]:
    """Images of `after` until the place is known and right, and wrong poses told before that."""
    found, odom, ride = seen
    tracker, pose, wrong = Tracker(localizer), Transform.identity(), 0
    frames = [*before, *after]
    for number, frame in enumerate(frames):
        last = frames[number - 1] if number else None
        if last == frame - 1 and odom[last] is not None and odom[frame] is not None:
            pose = pose @ odom[last].inverse() @ odom[frame]
        stamp_ns = (number + 1) * PERIOD_NS
        answer = tracker.follow(found[frame], stamp_ns, pose if odometry else None)
        if number < len(before) or not answer.known:
            continue
        gap = answer.estimate.map_from_base.translation - ride.truth[frame].translation
        if np.linalg.norm(gap) <= RIGHT_M:
            return number - len(before) + 1, wrong
        wrong += 1
    return len(after) + 1, wrong
