# SPDX-License-Identifier: Apache-2.0
"""The demo's figure: queries with activation maps and matches, and the drives on a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from numpy.typing import NDArray

from disam_ros.config import SequenceConfig
from disam_ros.evaluation import Condition, Evaluation
from disam_ros.evaluation.report.examples import overlay
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame

EXAMPLES = 3  # images shown per condition


def draw(
    path: Path, localizer: Localizer, references: list[NDArray[np.uint8]], evaluation: Evaluation
) -> None:
    """Writes the figure. references: the map's images in row order."""
    conditions = evaluation.conditions
    figure = Figure(figsize=(15, 5.6 * len(conditions)), layout="constrained")
    label = localizer.model.label
    figure.suptitle(f"disam_ros on a summer map — model: {label}", fontsize=14)
    rows = figure.add_gridspec(len(conditions), 2, width_ratios=(1.6, 1))
    limit = evaluation.criteria.recall_distance
    for row, (name, condition) in enumerate(conditions.items()):
        _draw_examples(figure, rows[row, 0], localizer, references, name, condition, limit)
        _draw_plan(figure.add_subplot(rows[row, 1]), localizer, name, condition, limit)
    figure.savefig(path, dpi=80)


def _draw_examples(
    figure: Figure,
    place: SubplotSpec,
    localizer: Localizer,
    references: list[NDArray[np.uint8]],
    name: str,
    condition: Condition,
    limit: float,
) -> None:
    grid = place.subgridspec(EXAMPLES, 3)
    images = {item.record.id: item for item in condition.frames[0].drive.source.images}
    alone = replace(localizer.config, sequence=SequenceConfig(enabled=False))
    chosen = np.linspace(0, len(condition.frames) - 1, EXAMPLES + 2).astype(int)[1:-1]
    for row, index in enumerate(chosen):
        frame = condition.frames[index]
        query = images[frame.answer.record.id].load()
        shot = Shot(Frame(query, localizer.map.main_camera(), domain=name))
        (localized,) = Pipeline(localizer, alone).process([shot])
        answer, described = localized.answer, localized.query
        assert described is not None  # it has an answer
        match = references[answer.best.record.id]
        heat = overlay(query, localizer.activation_map(described, answer.record))
        titles = (
            f"{name}, frame {index}",
            "activation map",
            f"match, {frame.error_m:.1f} m off" if frame.pose is not None else "no answer",
        )
        for column, (picture, title) in enumerate(zip((query, heat, match), titles, strict=True)):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture)
            axes.set_title(title, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 2:
                for side in axes.spines.values():
                    side.set(color="tab:green" if frame.error_m <= limit else "tab:red", lw=3)


def _draw_plan(
    axes: Axes, localizer: Localizer, name: str, condition: Condition, limit: float
) -> None:
    poses = [record.map_from_camera for record in localizer.map.records]
    route = np.stack([pose.translation[:2] for pose in poses if pose is not None])
    axes.plot(route[:, 0], route[:, 1], color="0.8", lw=6, label="mapped in summer", zorder=0)
    groups = {"within 5 m": "tab:green", "wrong (line: to the answer)": "tab:red"}
    places: dict[str, list[NDArray[np.float64]]] = {key: [] for key in (*groups, "no answer")}
    for frame in condition.frames:
        if frame.truth is None:
            continue
        position = frame.truth.translation[:2]
        kind = "no answer"
        if frame.pose is not None:
            kind = list(groups)[frame.error_m > limit]
        places[kind].append(position)
        if frame.pose is not None and frame.error_m > limit:
            ends = np.stack([position, frame.pose.translation[:2]])
            axes.plot(*ends.T, color="tab:red", lw=0.4, alpha=0.5)
    for kind, color in (groups | {"no answer": "tab:gray"}).items():
        spots = np.array(places[kind]).reshape(-1, 2)
        axes.scatter(spots[:, 0], spots[:, 1], s=12, color=color, label=f"{kind}: {len(spots)}")
    axes.set(aspect="equal", xlabel="east (m)", ylabel="north (m)", title=name)
    axes.legend(fontsize=8, loc="best")
