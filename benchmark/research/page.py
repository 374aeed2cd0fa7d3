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


PAGE = Page(
    "research",
    (
        "map_life",
        "companions",
        "losses",
        "webcam_encoders",
        "new_condition",
        "new_condition_webcams",
        "fine_stage",
        "ablation",
        "long_ablation",
    ),
    trained={
        "ablation": Path("runs/ablation"),
        "long_ablation": Path("runs/long_ablation"),
        "companions": Path("runs/companions"),
        "losses": Path("runs/losses"),
        "webcam_encoders": Path("runs/webcam_encoders"),
        "new_condition": Path("runs/new_condition"),
        "new_condition_webcams": Path("runs/new_condition_webcams"),
        "fine_stage": Path("runs/fine"),
    },
    derive=derive,
    path="research/experiments",
)
