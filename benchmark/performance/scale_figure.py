# SPDX-License-Identifier: Apache-2.0
"""The section `scale` as curves: latency, memory and share found against the size of a map."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

PICTURE = Path("docs/images/scale.png")
KINDS = {"flat": "every image compared", "cells": "cells"}


def draw(results: dict, path: Path = PICTURE) -> None:
    """Write the picture. results: as of scale.measure."""
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    panels = {
        "a search, p50 (ms)": lambda row: row["ms"]["1"][0],
        "memory (MiB)": lambda row: row["ram_mib"],
        "best three found (%)": lambda row: 100 * row["found"],
    }
    for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for kind, label in KINDS.items():
            rows = [row for row in results["rows"] if row["kind"] == kind]
            sizes, values = [row["images"] for row in rows], [value(row) for row in rows]
            axes.plot(sizes, values, marker="o", label=label)
        axes.set_xscale("log")
        if "%" in title:
            axes.set_ylim(95, 100.5)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.set(title=title, xlabel="map images")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)
