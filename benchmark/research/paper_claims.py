# SPDX-License-Identifier: Apache-2.0
"""Each claim of the four papers, and what the stored figures say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DISAM, SOFT, PRIOR, DEPTH = "DISAM", "soft contrastive", "spatial prior", "scene geometry"
COARSE = "coarse encoders for both stages"
NEVER = "not testable here: "

LINKS = {
    "ablation": "[ablation](#ablation-of-the-papers-losses)",
    "losses": "[true pairs](#the-papers-losses-on-true-pairs)",
    "new_condition": "[no poses](#a-new-condition-without-poses)",
    "new_condition_webcams": "[webcams](#webcams-by-night)",
    "fine_stage": "[fine stage](#a-fine-stage-of-its-own)",
    "companions": "[companions](#global-descriptors-on-the-town)",
}


@dataclass(frozen=True)
class Claim:
    """A paper's claim, and where its test is stored or why there is none."""

    paper: str
    claim: str
    section: str = ""
    keys: tuple[str, ...] = ()  # of [gain, outcome] in the section's results
    factor: float = 1.0  # of the gain to points
    why: str = ""  # it cannot be tested


def _ablation(claim: str, row: str, other: str) -> Claim:
    return Claim(DISAM, f"{claim} (no pairs)", "ablation", ("claims", f"{row} over {other}"))


def _pairs(claim: str, row: str, other: str) -> Claim:
    keys = ("claims", f"{row} over {other}", "trained")
    return Claim(DISAM, f"{claim} (true pairs)", "losses", keys)


def _poses(condition: str, other: str) -> Claim:
    keys = ("conditions", condition, "claims", f"translated over {other}", "trained")
    return Claim(DISAM, f"translation beats {other}, {condition}", "new_condition", keys)


def _webcams(other: str) -> Claim:
    keys = ("claims", f"translated over {other}", "trained")
    return Claim(DISAM, f"translation beats {other}, webcams", "new_condition_webcams", keys)


def _fine(condition: str) -> Claim:
    row = f"fine: + SAM of the pair over {COARSE}"
    keys = ("claims", row, condition, "0.5 m 5°")
    return Claim(DISAM, f"a fine stage with SAM is exacter, {condition}", "fine_stage", keys)


def _companion(paper: str, claim: str) -> Claim:
    return Claim(paper, claim, "companions", ("summary", "claims", claim), 100.0)


def _not_here(paper: str, claim: str, why: str) -> Claim:
    return Claim(paper, claim, why=why)


FCL, BASE = "+ FCL", "translation only"
CONSTANT, ADAPTIVE = "+ triplet FCL, constant margin", "+ triplet FCL, adaptive margin"
SAM_CONSTANT = "SAM + triplet SAM, constant margin"
SAM_ADAPTIVE = "SAM + triplet SAM, adaptive margin"
CLAIMS = (
    _ablation("feature consistency helps", FCL, BASE),
    _ablation("the adaptive triplet helps", ADAPTIVE, BASE),
    _ablation("adaptive margin above constant", ADAPTIVE, CONSTANT),
    _ablation("activation maps help", "SAM, no triplet", BASE),
    _ablation("adaptive margin of maps above constant", SAM_ADAPTIVE, SAM_CONSTANT),
    _ablation("coarse-to-fine above coarse", "coarse-to-fine of the two adaptive models", ADAPTIVE),
    _ablation("the recipe above its start", FCL, "before any training"),
    _pairs("feature consistency helps", FCL, "contrastive"),
    _pairs("the adaptive triplet helps", "+ triplet, adaptive margin", "contrastive"),
    _pairs("activation maps help", "+ SAM of the pair", "+ triplet, adaptive margin"),
    _pairs("triplet of maps helps", "+ triplet SAM, mutual maps", "+ SAM of the pair"),
    *(_fine(condition) for condition in ("summer_day", "winter_snow", "night")),
    *(
        _poses(condition, other)
        for condition in ("night", "winter_snow")
        for other in ("photometric", "colour transfer")
    ),
    *(_webcams(other) for other in ("photometric", "colour transfer")),
    _not_here(
        DISAM,
        "figures on CMU-Seasons and RobotCar-Seasons, generalization from one to the other",
        "neither data set, nor their millions of steps on a GPU",
    ),
    _companion(SOFT, "soft contrastive (paper's form) above multi-similarity (5 m)"),
    _companion(SOFT, "soft contrastive (released) above multi-similarity (5 m)"),
    _companion(SOFT, "soft contrastive (paper's form) above triplet (5 m)"),
    _companion(SOFT, "soft contrastive (paper's form) above log-ratio (5 m)"),
    _companion(SOFT, "the sigmoid above the linear influence (5 m)"),
    _companion(SOFT, "the sigmoid above the tanh influence (5 m)"),
    _not_here(SOFT, "figures on Oxford RobotCar", "no such data set"),
    _companion(PRIOR, "local negatives better near a 10 m prior"),
    _companion(PRIOR, "local negatives better near a 10 m prior, SAFA"),
    _companion(PRIOR, "local negatives better near a 10 m prior, from above"),
    _not_here(PRIOR, "figures on CVACT and Oxford with satellite images", "neither data set"),
    _companion(DEPTH, "depth helps at night (5 m)"),
    _companion(DEPTH, "decoded depth above hallucinated depth at night (5 m)"),
    _companion(DEPTH, "tuning the decoder helps at night (5 m)"),
    _not_here(DEPTH, "ResNet18 encoders", "their ImageNet weights are in no package that we know"),
)


def paper_claims(results: Mapping[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Rows of the table: paper, claim, what is found here, section. results: by section, of those
    that were measured with today's code; without any of these no rows."""
    if not set(results) & set(LINKS):
        return []
    return [
        {
            "paper": claim.paper,
            "claim": claim.claim,
            "here": _here(claim, results),
            "section": LINKS[claim.section] if claim.section in results else "",
        }
        for claim in CLAIMS
    ]


def _here(claim: Claim, results: Mapping[str, dict[str, Any]]) -> str:
    if claim.why:
        return NEVER + claim.why
    value: Any = results.get(claim.section)
    for key in claim.keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        return "not measured"
    gain, outcome = value
    return f"{claim.factor * gain:+.1f}, {outcome}"
