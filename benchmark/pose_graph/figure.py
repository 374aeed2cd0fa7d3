# SPDX-License-Identifier: Apache-2.0
"""The figure of the pose graph: the track by odometry, and corrected by loop closures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from disam_ros.geometry import Transform

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BOTH_SPOILED = "both, wrong ones injected"
PANELS = {  # title: label of each track
    "odometry": {"odometry": "odometry"},
    "with loop closures": {"own drive": "of its own drive", "both": "and of the map"},
    "with wrong ones injected": {
        f"{BOTH_SPOILED}, plain least squares": "plain least squares",
        BOTH_SPOILED: "robust",
    },
}
COLOURS = ("#d9822b", "#1f6fb2")


def draw(path: Path, truth: Sequence[Transform], tracks: Mapping[str, list[Transform]]) -> None:
    """One panel a question, over the true track."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 4.3), sharex=True, sharey=True)
    for panel, (title, labels) in zip(axes, PANELS.items(), strict=True):
        panel.plot(*_flat(truth), color="0.75", linewidth=4, label="truth")
        for (name, label), colour in zip(labels.items(), COLOURS, strict=False):
            panel.plot(*_flat(tracks[name]), color=colour, linewidth=1, label=label)
        panel.set_title(title)
        panel.set_aspect("equal")
        panel.set_xlabel("x, m")
        panel.legend(fontsize=8, loc="upper right")
    axes[0].set_ylabel("y, m")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _flat(track: Sequence[Transform]) -> NDArray[Any]:
    return np.array([pose.translation[:2] for pose in track]).T
