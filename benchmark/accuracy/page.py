# SPDX-License-Identifier: Apache-2.0
"""The page docs/accuracy.md and its headline: this localizer against the best rival."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark.pages import Page

NO_RIVALS = ("its start", "disam_ros", "outdoor", "chance", "nearest map image")
OURS = ("disam_ros", "outdoor")  # rows of the running node and of the shipped model


def derive(figures: Mapping[str, dict]) -> dict:
    """Further values of the page: its headline, and the sections measured with an old version."""
    old = {name: section["version"] for name, section in figures.items() if "version" in section}
    return {"headline": headline(figures), "old": old}


def headline(figures: Mapping[str, dict]) -> list[dict]:
    """Recall@1 of one image by ride: ours, the best rival's name and its recall.

    Sections that are missing or of an old version are left out.
    """
    results = {n: section["results"] for n, section in figures.items() if "version" not in section}
    recalls: dict[str, dict[str, float]] = {}
    for condition, methods in results.get("town", {}).get("conditions", {}).items():
        recalls[f"town, {condition}"] = {m: f["recall"]["R@1"] for m, f in methods.items()}
    for method, pairs in results.get("gardens_point", {}).get("methods", {}).items():
        for pair, found in pairs.items():
            recalls.setdefault(f"Gardens Point, {pair}", {})[method] = found["R@1"]
    for method, found in results.get("nordland", {}).get("methods", {}).items():
        recalls.setdefault("Nordland, summer → winter", {})[method] = found["R@1"]
    rows = []
    for ride, methods in recalls.items():
        rivals = {m: share for m, share in methods.items() if not m.startswith(NO_RIVALS)}
        rival = max(rivals, key=rivals.__getitem__)
        ours = next(share for m, share in methods.items() if m.startswith(OURS))
        rows.append({"ride": ride, "ours": ours, "rival": rival, "share": rivals[rival]})
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
        "trust",
        "companions",
        "ablation",
        "wrong_domain",
        "domains",
        "year",
    ),
    trained={"ablation": Path("runs/ablation"), "companions": Path("runs/companions")},
    derive=derive,
)
