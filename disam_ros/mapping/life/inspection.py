# SPDX-License-Identifier: Apache-2.0
"""A page about a map: where it is weak, and why. One HTML file that opens without network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disam_ros.files.html import data_uri, render
from disam_ros.files.outputs import output_file
from disam_ros.image import encode_jpeg
from disam_ros.mapping.life.summary import summary
from disam_ros.mapping.life.weakness import (
    DARK,
    HEADINGS,
    HOLE_M,
    HOLE_STEPS,
    SAME_M,
    Weakness,
    weakness,
)
from disam_ros.mapping.place_map import PlaceMap

WORST = 12  # places that are shown
APART = 15.0  # metres between them
WIDTH, HEIGHT, EDGE = 1000.0, 640.0, 24.0  # of the plan [px]
COLOURS = ("#2f7fb8", "#7fb069", "#e6b34c", "#e07b39", "#b8322f")  # of quintiles of risk
ONE_WAY = 2  # neighbouring sectors of heading, up to which a place is seen one way


@dataclass(frozen=True)
class Finding:
    """A kind of weakness: share of the images, and what to do about it."""

    name: str
    share: float
    text: str
    remedy: str


def write_inspection(
    place_map: PlaceMap,
    shape: tuple[int, int, int],
    domains: Sequence[str],
    path: Path | str,
    overwrite: bool = False,
) -> Weakness:
    """Write the page. shape: (C, h, w) of fine descriptors; domains: of the model. Raises
    OutputError."""
    weak = weakness(place_map, shape)
    contents = _contents(place_map, weak, domains)
    text = render("disam_ros.mapping.life", "inspection.html.j2", contents)
    with output_file(path, overwrite, encoding="utf-8") as file:
        file.write(text)
    return weak


def findings(weak: Weakness) -> list[Finding]:
    """Lists the weaknesses, most images first."""
    dark = weak.light < DARK
    one_way = weak.headings.sum(1) <= ONE_WAY
    lacking = [
        (name, float(1.0 - weak.domains[:, number].mean()))
        for number, name in enumerate(weak.domain_names)
    ]
    candidates = [
        Finding(
            "aliasing",
            float((weak.aliasing > 0).mean()),
            "look more like another place than like the next images of their own",
            "map more densely there, or drive with odometry and sequences",
        ),
        Finding(
            "coverage",
            float(weak.hole.mean()),
            f"lie at a gap in the drive, of more than {HOLE_M:g} m and {HOLE_STEPS:g} spacings",
            "drive there again and extend the map",
        ),
        Finding(
            "headings",
            float(one_way.mean()),
            f"are seen in one direction only within {SAME_M:g} m",
            "drive the road the other way too, if vehicles come from there",
        ),
        Finding(
            "light",
            float(np.mean(dark)) if np.isfinite(weak.light).any() else 0.0,
            f"are darker than {DARK:g} of 255",
            "map with headlights on or at another hour, or extend by a drive by day",
        ),
        *(
            Finding(
                f"condition {name}",
                share,
                f"have no image of {name} within {SAME_M:g} m, where other places have",
                f"extend the map by a drive in {name}",
            )
            for name, share in lacking
            if len(lacking) > 1
        ),
    ]
    return sorted((f for f in candidates if f.share > 0), key=lambda f: -f.share)


def worst_places(place_map: PlaceMap, weak: Weakness) -> list[int]:
    """Indices of the weakest places, APART from each other, weakest first."""
    chosen: list[int] = []
    positions = place_map.poses[weak.rows, :2]
    for index in np.argsort(-weak.risk).tolist():
        gaps = [float(np.linalg.norm(positions[index] - positions[k])) for k in chosen]
        if min(gaps, default=np.inf) >= APART:
            chosen.append(index)
        if len(chosen) == WORST:
            break
    return chosen


def _contents(place_map: PlaceMap, weak: Weakness, domains: Sequence[str]) -> dict[str, object]:
    points, scale = _plan(place_map.poses[:, :2])
    limits = np.quantile(weak.risk, [0.2, 0.4, 0.6, 0.8])
    level = np.searchsorted(limits, weak.risk)
    worst = worst_places(place_map, weak)
    at = points[weak.rows]
    facts = summary(place_map)
    return {
        "name": place_map.directory.name,
        "facts": {
            "images": facts["images"],
            "conditions": ", ".join(f"{k} {v}" for k, v in facts["domains"].items()),
            "conditions without images": ", ".join(
                name for name in domains if name not in facts["domains"]
            )
            or "none",
            "driven": f"{facts['driven_m']:g} m",
            "spacing": f"{facts['spacing_m']:g} m",
            "revision": facts["revision"],
            "model": facts["model"],
        },
        "width": WIDTH,
        "height": HEIGHT,
        "dots": [
            {"x": round(float(x), 1), "y": round(float(y), 1), "colour": COLOURS[int(k)]}
            for (x, y), k in zip(at, level, strict=True)
        ],
        "colours": COLOURS,
        "holes": [{"x": round(float(x), 1), "y": round(float(y), 1)} for x, y in at[weak.hole]],
        "places": [
            _place(place_map, weak, index, number, points) for number, index in enumerate(worst, 1)
        ],
        "findings": findings(weak),
        "bar": round(scale * _round_length(100.0 / scale), 1),
        "bar_text": f"{_round_length(100.0 / scale):g} m",
        "looked": len(weak.rows),
        "headings": HEADINGS,
        "same": SAME_M,
    }


def _place(
    place_map: PlaceMap, weak: Weakness, index: int, number: int, points: NDArray[np.float64]
) -> dict[str, object]:
    row, twin = int(weak.rows[index]), int(weak.twin[index])
    x, y = place_map.poses[row, :2]
    away = float(np.linalg.norm(place_map.poses[twin, :3] - place_map.poses[row, :3]))
    reasons = []
    if weak.aliasing[index] > 0:
        reasons.append(f"looks more like image {twin}, {away:.0f} m away, than like itself")
    elif twin != row:
        reasons.append(
            f"image {twin}, {away:.0f} m away, is only {-weak.aliasing[index]:.2f} less alike "
            f"than its own place"
        )
    if weak.hole[index]:
        reasons.append(f"at a gap of {weak.gap[index]:.0f} m")
    if weak.self_similarity[index] <= 0:
        reasons.append(f"no other image within {SAME_M:g} m looks this way")
    if weak.light[index] < DARK:
        reasons.append("dark")
    return {
        "number": number,
        "row": row,
        "position": f"{x:.1f}, {y:.1f} m",
        "domain": place_map.records[row].domain,
        "risk": f"{weak.risk[index]:.1f}",
        "reasons": "; ".join(reasons) or "low similarity to its own place",
        "picture": _picture(place_map, row),
        "twin": _picture(place_map, twin) if twin != row else "",
        "x": round(float(points[row, 0]), 1),
        "y": round(float(points[row, 1]), 1),
        "twin_x": round(float(points[twin, 0]), 1),
        "twin_y": round(float(points[twin, 1]), 1),
    }


def _picture(place_map: PlaceMap, row: int) -> str:
    """A thumbnail as a data URL; empty without."""
    pixels = place_map.thumbnail(row)
    return "" if pixels is None else data_uri(encode_jpeg(pixels, 80))


def _plan(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Positions [N, 2] [m] on the plan [px], north up, and pixels per metre."""
    low, high = positions.min(0), positions.max(0)
    extent = np.maximum(high - low, 1.0)
    scale = float(min((WIDTH - 2 * EDGE) / extent[0], (HEIGHT - 2 * EDGE) / extent[1]))
    centre = (low + high) / 2
    points = (positions - centre) * [scale, -scale] + [WIDTH / 2, HEIGHT / 2]
    return points, scale


def _round_length(metres: float) -> float:
    """The largest of 1, 2, 5, 10, … up to a length."""
    power = 10.0 ** np.floor(np.log10(max(metres, 1e-3)))
    return float(max(f * power for f in (1.0, 2.0, 5.0) if f * power <= metres * 1.0001))
