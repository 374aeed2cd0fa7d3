# SPDX-License-Identifier: Apache-2.0
"""The page docs/accuracy.md and its headline: this localizer against the best rival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.pages import Page

NO_RIVALS = ("its start", "disam_ros", "outdoor", "chance", "nearest map image")
OURS = ("disam_ros", "outdoor")  # rows of the running node and of the shipped model

# Recall@1 of one image with the defaults of version 0.1 (commit f664e75): daynight-lite on Gardens
# Point, town-lite on the town and Nordland.
BEFORE = {
    "town, winter_snow": 0.977,
    "town, night": 0.991,
    "Gardens Point, day_left → day_right": 0.63,
    "Gardens Point, day_left → night_right": 0.535,
    "Gardens Point, day_right → night_right": 0.895,
    "Nordland, summer → winter": 0.49,
}


def derive(figures: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Further values of the page: its headline."""
    return {"headline": headline(figures)}


def headline(figures: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Recall@1 of one image by ride: ours, that of version 0.1 (None where it has none), the best
    rival's name and its recall.

    Sections that are missing are left out.
    """
    results = {name: section["results"] for name, section in figures.items()}
    recalls: dict[str, dict[str, float]] = {}
    for condition, methods in results.get("town", {}).get("conditions", {}).items():
        recalls[f"town, {condition}"] = {m: f["recall"]["R@1"] for m, f in methods.items()}
    for method, pairs in results.get("gardens_point", {}).get("methods", {}).items():
        for pair, recall in pairs.items():
            recalls.setdefault(f"Gardens Point, {pair}", {})[method] = recall["R@1"]
    for method, recall in results.get("nordland", {}).get("methods", {}).items():
        recalls.setdefault("Nordland, summer → winter", {})[method] = recall["R@1"]
    rows = []
    for ride, methods in recalls.items():
        rivals = {m: share for m, share in methods.items() if not m.startswith(NO_RIVALS)}
        rival = max(rivals, key=rivals.__getitem__)
        ours = next(share for m, share in methods.items() if m.startswith(OURS))
        row = {"ride": ride, "ours": ours, "rival": rival, "share": rivals[rival]}
        rows.append({**row, "before": BEFORE.get(ride)})
    return rows


PAGE = Page(
    "accuracy",
    (
        "town",
        "gardens_point",
        "nordland",
        "distractors",
        "sequences",
        "kitti",
        "cameras",
        "rig",
        "trust",
        "known",
        "wrong_domain",
        "photographs",
        "domains",
    ),
    of_answers=True,
    derive=derive,
)
