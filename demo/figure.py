# SPDX-License-Identifier: Apache-2.0
"""The demo's picture: queries, where they look, what they match, and the drive on a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec

from disam_ros.evaluation import errors
from disam_ros.geometry import Transform
from disam_ros.localizer import Localizer

EXAMPLES = 3  # frames shown per condition
RIGHT = 5.0  # metres within which a match is framed green


@dataclass(frozen=True)
class Shown:
    """A drive and the node's answers by stamp."""

    stamps_ns: list[int]
    images: list[np.ndarray]
    truth: list[Transform]
    answers: dict[int, Transform]


def draw(
    path: Path,
    localizer: Localizer,
    references: list[np.ndarray],
    drives: dict[str, Shown],
    label: str,
) -> None:
    """Write the picture. references: the map's images in row order."""
    figure = pyplot.figure(figsize=(15, 5.6 * len(drives)), layout="constrained")
    figure.suptitle(f"disam_ros on a summer map — model: {label}", fontsize=14)
    rows = figure.add_gridspec(len(drives), 2, width_ratios=(1.6, 1))
    for row, (condition, drive) in enumerate(drives.items()):
        _draw_examples(rows[row, 0], localizer, references, condition, drive)
        axes = figure.add_subplot(rows[row, 1])
        _draw_plan(axes, localizer, condition, drive)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _draw_examples(
    place: SubplotSpec,
    localizer: Localizer,
    references: list[np.ndarray],
    condition: str,
    drive: Shown,
) -> None:
    grid = GridSpecFromSubplotSpec(EXAMPLES, 3, place)
    figure = place.get_gridspec().figure
    metres, _ = errors(drive.truth, [drive.answers.get(s) for s in drive.stamps_ns])
    chosen = np.linspace(0, len(drive.images) - 1, EXAMPLES + 2).astype(int)[1:-1]
    for row, index in enumerate(chosen):
        query = drive.images[index]
        answer = localizer.localize(query, drive.stamps_ns[index], domain=condition)
        match = references[answer.best.record.id]
        heat = _overlay(query, localizer.activation_map(answer))
        titles = (
            f"{condition}, frame {index}",
            "where it looks (activation map)",
            f"match, {metres[index]:.1f} m off" if np.isfinite(metres[index]) else "no answer",
        )
        for column, (picture, title) in enumerate(zip((query, heat, match), titles, strict=True)):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture)
            axes.set_title(title, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 2:
                for side in axes.spines.values():
                    side.set(color="tab:green" if metres[index] <= RIGHT else "tab:red", lw=3)


def _draw_plan(axes: Axes, localizer: Localizer, condition: str, drive: Shown) -> None:
    truth = np.stack([pose.translation[:2] for pose in drive.truth])
    route = np.stack([r.map_from_camera.translation[:2] for r in localizer.map.records])
    axes.plot(*route.T, color="0.8", lw=6, label="mapped in summer", zorder=0)
    metres, _ = errors(drive.truth, [drive.answers.get(s) for s in drive.stamps_ns])
    for stamp, position, error in zip(drive.stamps_ns, truth, metres, strict=True):
        if RIGHT < error < np.inf:
            wrong = drive.answers[stamp].translation[:2]
            axes.plot(*np.stack([position, wrong]).T, color="tab:red", lw=0.4, alpha=0.5)
    for name, color, chosen in (
        ("within 5 m", "tab:green", metres <= RIGHT),
        ("wrong (line: where it answered)", "tab:red", (metres > RIGHT) & np.isfinite(metres)),
        ("no answer", "tab:gray", ~np.isfinite(metres)),
    ):
        axes.scatter(*truth[chosen].T, s=12, color=color, label=f"{name}: {chosen.sum()}")
    axes.set(aspect="equal", xlabel="east (m)", ylabel="north (m)", title=condition)
    axes.legend(fontsize=8, loc="best")


def _overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """RGB picture [H, W, 3] with a heat map in [0, 1] over it."""
    size = (picture.shape[1], picture.shape[0])
    heat = cv2.resize((255 * heat).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
    colours = cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(picture, 0.5, colours, 0.5, 0)
