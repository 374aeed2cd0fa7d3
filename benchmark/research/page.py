# SPDX-License-Identifier: Apache-2.0
"""The page docs/research/experiments.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.pages import Page
from benchmark.research.paper_claims import paper_claims


def derive(figures: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What became of the papers' claims, by the sections that were measured."""
    results = {name: section["results"] for name, section in figures.items()}
    stale = [name for name, section in figures.items() if section["stale"]]
    return {"claims": {**paper_claims(results), "stale": stale}}


# What trainings measure: networks, matching and the terms of a step. Tests hold the losses' values.
PAIRED = (
    "disam_ros/models/mobile.py",
    "disam_ros/models/similarity.py",
    "training/disam/matching.py",
)
TRANSLATED = (
    "disam_ros/models/networks.py",
    "disam_ros/models/similarity.py",
    "training/disam/steps.py",
)
GLOBAL = (
    "disam_ros/models/global_descriptors",
    "training/global_descriptors/neighbourhoods.py",
    "training/global_descriptors/terms.py",
    "training/global_descriptors/tuples.py",
)
PAGE = Page(
    "research",
    (
        "map_life",
        "companions",
        "webcam_encoders",
        "new_condition",
        "ablation",
    ),
    trained={
        "ablation": Path("runs/ablation"),
        "companions": Path("runs/companions"),
        "webcam_encoders": Path("runs/webcam_encoders"),
        "new_condition": Path("runs/new_condition"),
    },
    judged={
        "companions": GLOBAL,
        "webcam_encoders": PAIRED,
        "new_condition": (*PAIRED, *TRANSLATED),
        "ablation": TRANSLATED,
    },
    derive=derive,
    path="research/experiments",
)
