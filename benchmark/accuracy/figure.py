# SPDX-License-Identifier: Apache-2.0
"""The picture that docs/accuracy.md begins with: recall@1 of one image beside the best rival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PICTURE = Path("docs/images/recall.png")
OURS, RIVAL = "#1f6fb2", "0.7"


def draw(rows: Sequence[Mapping[str, Any]], path: Path = PICTURE) -> None:
    """Draws two bars for each ride of the headline."""
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(rows) + 0.9))
    heights = np.arange(len(rows))[::-1]
    for shift, key, colour in ((0.19, "ours", OURS), (-0.19, "share", RIVAL)):
        shares = [100 * row[key] for row in rows]
        label = "disam_ros, one image" if key == "ours" else "best rival"
        bars = axes.barh(heights + shift, shares, 0.36, color=colour, label=label)
        axes.bar_label(bars, [f"{share:.1f}" for share in shares], padding=3, fontsize=8)
    for height, row in zip(heights, rows, strict=True):
        axes.text(1, height - 0.19, row["rival"], va="center", fontsize=8)
    axes.set_yticks(heights, [row["ride"] for row in rows])
    axes.set_xlim(0, 108)
    axes.set_xlabel("recall@1 [%]")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="upper right", ncols=2, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
