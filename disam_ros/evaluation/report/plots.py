# SPDX-License-Identifier: Apache-2.0
"""Plan of a condition, and its errors and probabilities along the route."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from disam_ros.evaluation.frames import (
    ANSWERED,
    RIGHT,
    UNANSWERED,
    WRONG,
    EvaluatedFrame,
    has_truth,
    verdict,
)
from disam_ros.evaluation.judge import Condition
from disam_ros.evaluation.metrics import Criteria, errors
from disam_ros.evaluation.report.svg import (
    COLOURS,
    FULL,
    HALF,
    MAX_TITLES,
    MAX_VECTORS,
    new_figure,
    styled,
    to_svg,
)
from disam_ros.geometry import Transform
from disam_ros.mapping.place_map import PlaceMap

Titles = dict[str, Sequence[str]]  # tooltips of markers by gid, see to_svg

MAX_LINES = 200  # from wrong answers to their true positions
FEW_LINES = 20  # beyond which they fade
MAX_ROUTE = 4000  # vertices of the map's route
CERTAIN = 1e-6  # probability of an error, below which certainty is not told apart
MIN_ERROR = 0.01  # metres; smaller errors are drawn there
FULL_SIZE = 500  # largest group whose markers have their full size
MIN_ASPECT, MAX_ASPECT = 0.4, 1.2  # height of a plan over its width
GAP = 10.0  # map spacings above which the route is interrupted

_DOT: dict[str, Any] = {
    "color": COLOURS["right"],
    "marker": "o",
    "markersize": 4.5,
    "markeredgewidth": 0,
    "alpha": 0.8,
}
STYLES: dict[str, dict[str, Any]] = {  # of markers, by verdict
    RIGHT: _DOT,
    ANSWERED: _DOT,
    UNANSWERED: {
        "color": COLOURS["unanswered"],
        "marker": "o",
        "markersize": 5,
        "markerfacecolor": "none",
        "markeredgewidth": 1.2,
    },
    WRONG: {"color": COLOURS["wrong"], "marker": "D", "markersize": 5},
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ground:
    """Extent of all plans."""

    route: Floats  # of the map [K, 2] in metres, nan between its pieces
    low: Floats  # south-western corner [2]
    high: Floats  # north-eastern corner [2]


def ground(place_map: PlaceMap, frames: Sequence[EvaluatedFrame]) -> Ground:
    """Returns the map's route and the bounding box of route, true positions and answers."""
    pieces = []
    step = 1 + len(place_map) // MAX_ROUTE
    for camera in place_map.cameras():
        records = [place_map.records[row] for row in place_map.rows_of(camera)[::step]]
        poses = frames[0].drive.map_from_base(camera, [r.map_from_camera for r in records])
        pieces.append(_interrupted(_flat(poses), GAP * step * place_map.spacing()))
        pieces.append(np.full((1, 2), np.nan))
    route = np.concatenate(pieces)
    poses = [pose for f in frames for pose in (f.truth, f.pose) if pose is not None]
    points = np.concatenate([route, _flat(poses)])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    size = 1.1 * np.maximum(high - low, 1.0)
    size = np.maximum(size, (size[1] / MAX_ASPECT, size[0] * MIN_ASPECT))
    corners = (low + high - size) / 2, (low + high + size) / 2
    return Ground(route, *corners)


@styled
def plan(
    name: str,
    condition: Condition,
    area: Ground,
    criteria: Criteria,
    links: Mapping[int, str] | None = None,
) -> Markup:
    """Draws the map's route and the true positions of the queries; without truth, the answers.

    links: id of a frame → id of the page that its marker leads to.
    """
    judged = has_truth(condition.frames)
    shown = [f for f in condition.frames if (f.truth if judged else f.pose) is not None]
    size = area.high - area.low
    figure = new_figure(HALF, (HALF - 64) * size[1] / size[0] + 76)
    axes = figure.add_subplot()
    axes.plot(*area.route.T, color=COLOURS["route"], lw=7, solid_capstyle="round", zorder=1)
    axes.plot([], [], color=COLOURS["route"], lw=7, label="map")
    titles: Titles = {}
    targets: Titles = {}
    for kind, group in _by_verdict(shown, criteria):
        if kind == WRONG:
            _lines(axes, group)
        places = _flat([f.truth if judged else f.pose for f in group])
        before = set(titles)
        _scatter(axes, places[:, 0], places[:, 1], kind, group, titles, f"{kind}: {len(group)}")
        for gid in set(titles) - before:
            targets[gid] = [(links or {}).get(id(frame), "") for frame in group]
    axes.set(xlim=(area.low[0], area.high[0]), ylim=(area.low[1], area.high[1]))
    axes.set_aspect("equal", adjustable="box")
    axes.set(xlabel="x (m)", ylabel="y (m)")
    figure.legend(loc="outside upper left", ncols=4, columnspacing=1.4, handlelength=1.2)
    return to_svg(figure, f"Plan of {name}", titles, targets)


@styled
def along_route(name: str, condition: Condition, criteria: Criteria) -> Markup:
    """Draws errors, and probabilities as log-odds, over the travelled distance.

    Without truth: probabilities over the images.
    """
    judged = has_truth(condition.frames)
    figure = new_figure(FULL, 380 if judged else 200)
    heights = (2, 1) if judged else (1,)
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)
    top, bottom = panels[0, 0], panels[-1, 0]
    places = travelled(condition.frames)
    along = dict(zip(map(id, condition.frames), places, strict=True))
    titles: Titles = {}
    matched = [frame for frame in condition.frames if frame.best is not None]
    for kind, group in _by_verdict(matched, criteria):
        x, probabilities = np.array([(along[id(f)], f.answer.probability) for f in group]).T
        _scatter(bottom, x, log_odds(probabilities), kind, group, titles)
        posed = [f for f in group if f.truth is not None]
        x, metres = np.array([(along[id(f)], f.error_m) for f in posed]).reshape(-1, 2).T
        if posed:
            _scatter(top, x, metres.clip(MIN_ERROR), kind, posed, titles, kind)
    bottom.set(ylabel="log-odds", xlabel="distance travelled (m)" if judged else "image number")
    bottom.yaxis.set_major_locator(MaxNLocator(4))
    bottom.margins(x=0.01, y=0.1)
    if judged:
        _error_axis(top, condition, places, criteria)
        figure.legend(loc="outside upper left", ncols=6, columnspacing=1.4, handlelength=1.2)
    margin = max(0.01 * np.ptp(places), 0.5)
    bottom.set_xlim(places.min() - margin, places.max() + margin)
    figure.align_ylabels()
    return to_svg(figure, f"Errors and probabilities of {name} along the route", titles)


def log_odds(probabilities: Floats) -> Floats:
    """Log-odds ln(p / (1 − p)) of probabilities [N], which are clipped at CERTAIN."""
    p = probabilities.clip(CERTAIN, 1 - CERTAIN)
    odds: Floats = np.log(p / (1 - p))
    return odds


def travelled(frames: Sequence[EvaluatedFrame]) -> Floats:
    """Distance travelled [m] at each frame [N]; the image number where no true pose is known."""
    posed = {row: f.truth.translation for row, f in enumerate(frames) if f.truth is not None}
    if not posed:
        return np.array([frame.answer.record.id for frame in frames], float)
    places = np.stack(list(posed.values()))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.interp(np.arange(len(frames)), list(posed), along))


def about(frame: EvaluatedFrame) -> str:
    """Describes number, error and probability of a frame in a line."""
    parts = [f"image {frame.answer.record.id}"]
    if np.isfinite(frame.error_m):
        parts.append(f"{frame.error_m:.2f} m {frame.error_deg:.1f}° off")
    if frame.best is not None:
        parts.append(f"probability {frame.answer.probability:.3f}")
    return ", ".join(parts)


def _by_verdict(
    frames: Sequence[EvaluatedFrame], criteria: Criteria
) -> Iterator[tuple[str, list[EvaluatedFrame]]]:
    """Groups frames by verdict; wrong answers last, so that they are drawn on top."""
    for kind in (RIGHT, ANSWERED, UNANSWERED, WRONG):
        group = [frame for frame in frames if verdict(frame, criteria) == kind]
        if group:
            yield kind, group


def _error_axis(axes: Axes, condition: Condition, places: Floats, criteria: Criteria) -> None:
    """Draws the upper bound and the limit of right answers on a log scale in metres."""
    metres, _ = errors([f.truth for f in condition.frames], [f.bound for f in condition.frames])
    rows = np.flatnonzero(np.isfinite(metres))
    rows = rows[:: 1 + len(rows) // MAX_ROUTE]
    axes.plot(
        places[rows],
        metres[rows].clip(MIN_ERROR),
        label="nearest map image",
        color=COLOURS["route"],
        lw=1.5,
        zorder=1.5,
    )
    limit = f"{criteria.recall_distance:g} m limit"
    axes.axhline(criteria.recall_distance, color=COLOURS["ink"], lw=1, ls=(0, (4, 3)), label=limit)
    axes.set(yscale="log", ylabel="error (m)")
    axes.yaxis.set_major_locator(LogLocator(10))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _scatter(
    axes: Axes,
    x: Floats,
    y: Floats,
    kind: str,
    frames: Sequence[EvaluatedFrame],
    titles: Titles,
    label: str = "_",
) -> None:
    """Draws markers of a verdict: with tooltips if they are few, rasterized if they are many."""
    many = len(frames) > MAX_VECTORS
    (artist,) = axes.plot(x, y, ls="none", label=label, rasterized=many, zorder=2, **STYLES[kind])
    artist.set_markersize(artist.get_markersize() * min(1.0, (FULL_SIZE / len(frames)) ** 0.2))
    if not many and len(frames) <= MAX_TITLES:
        artist.set_gid(f"points{len(titles)}")
        titles[f"points{len(titles)}"] = [about(frame) for frame in frames]


def _lines(axes: Axes, wrong: Sequence[EvaluatedFrame]) -> None:
    """Draws lines from wrong answers to their true positions."""
    sample = wrong[:: 1 + len(wrong) // MAX_LINES]
    ends = np.full((len(sample), 3, 2), np.nan)
    ends[:, 0] = _flat([frame.pose for frame in sample])
    ends[:, 1] = _flat([frame.truth for frame in sample])
    alpha = max(0.6 * min(1.0, FEW_LINES / len(sample)) ** 0.5, 0.15)  # many would hide the map
    axes.plot(*ends.reshape(-1, 2).T, color=COLOURS["wrong"], lw=0.8, alpha=alpha, zorder=1.5)


def _flat(poses: Sequence[Transform | None]) -> Floats:
    """Returns x and y [N, 2] of poses."""
    rows = [pose.translation[:2] for pose in poses if pose is not None]
    return np.array(rows, float).reshape(-1, 2)


def _interrupted(track: Floats, gap: float) -> Floats:
    """Inserts nan into a track [N, 2] between neighbours farther apart than a gap [m]."""
    far = np.flatnonzero(np.linalg.norm(np.diff(track, axis=0), axis=1) > max(gap, 1.0))
    return np.insert(track, far + 1, np.nan, axis=0)
