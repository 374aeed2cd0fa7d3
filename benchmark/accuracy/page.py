# SPDX-License-Identifier: Apache-2.0
"""The page docs/accuracy.md and its headline: this localizer against the best rival."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark.pages import Page

NO_RIVALS = ("disam_ros", "town-lite", "daynight-lite", "chance", "nearest map image")
OURS = {
    "one image": "each image alone/–",
    "sequence": "sequence, no odometry/–",
    "sequence, odometry": "sequence, odometry/–",
}


def headline(figures: Mapping[str, dict]) -> dict:
    """Recall@1 by ride: ours by its inputs, the best rival's name and its recall."""
    if not {"town", "gardens_point", "nordland", "sequences"} <= set(figures):
        return {"headline": []}
    results = {name: section["results"] for name, section in figures.items()}
    recalls = {
        f"town, {condition}": {m: f["recall"]["R@1"] for m, f in methods.items()}
        for condition, methods in results["town"]["conditions"].items()
    }
    for method, pairs in results["gardens_point"]["methods"].items():
        for pair, found in pairs.items():
            recalls.setdefault(f"Gardens Point, {pair}", {})[method] = found["R@1"]
    nordland = results["nordland"]["methods"]
    recalls["Nordland, summer → winter"] = {m: found["R@1"] for m, found in nordland.items()}
    rows = []
    for ride, methods in recalls.items():
        rivals = {m: share for m, share in methods.items() if not m.startswith(NO_RIVALS)}
        rival = max(rivals, key=rivals.__getitem__)
        measured = results["sequences"]["rides"][ride]
        ours = {name: measured[row]["right"] for name, row in OURS.items()}
        rows.append({"ride": ride, "ours": ours, "rival": rival, "share": rivals[rival]})
    return {"headline": rows}


PAGE = Page(
    "accuracy",
    (
        "town",
        "gardens_point",
        "nordland",
        "sequences",
        "trust",
        "companions",
        "ablation",
        "wrong_domain",
        "domains",
        "year",
    ),
    trained={"ablation": Path("runs/ablation"), "companions": Path("runs/companions")},
    derive=headline,
)
