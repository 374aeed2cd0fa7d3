# SPDX-License-Identifier: Apache-2.0
"""Claims of the four papers beside the figures stored here, and questions of our own.

A claim compares two rows of a paper's table, by the same metrics and thresholds there and here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.research.gains import Gain, gain, signed

THRESHOLDS = ("0.25 m 2°", "0.5 m 5°", "5 m 10°")
METRICS = {"coarse": "Eq. 16", "fine": "cosine", "coarse-to-fine": "coarse-to-fine"}

LINKS = {
    "webcam_encoders": "[encoders](#one-encoder-per-domain-on-photographs)",
    "new_condition": "[no poses](#a-new-condition-without-poses)",
}

Results = Mapping[str, Any]  # of a section
Points = dict[str, float]  # by seed
Measure = Callable[[Results, str], Points]  # of a row of a section

# The paper's Table VI, urban: percent within the thresholds.
BASE, FCL = "translation only", "+ FCL"
CONSTANT, ADAPTIVE = "+ triplet FCL, constant margin", "+ triplet FCL, adaptive margin"
SAM, SAM_CONSTANT = "SAM, no triplet", "SAM + triplet SAM, constant margin"
SAM_ADAPTIVE, BOTH_TRIPLETS = "SAM + triplet SAM, adaptive margin", "SAM + both triplets, adaptive"
TWO_STAGES = "coarse-to-fine of the two adaptive models"
TABLE_VI = {
    BASE: (19.8, 44.1, 85.8),
    FCL: (19.8, 44.3, 86.8),
    CONSTANT: (20.0, 44.7, 88.5),
    ADAPTIVE: (20.1, 45.0, 89.9),
    SAM: (21.2, 44.8, 80.6),
    SAM_CONSTANT: (22.3, 45.5, 83.7),
    SAM_ADAPTIVE: (22.5, 46.0, 84.6),
    BOTH_TRIPLETS: (22.7, 46.4, 85.4),
    TWO_STAGES: (22.6, 47.3, 89.1),
}
COARSE, FINE = ("coarse", "coarse"), ("fine", "fine")


@dataclass(frozen=True)
class Claim:
    """A row of Table VI over another one."""

    row: str
    other: str
    ranked: tuple[tuple[str, str], ...] = (COARSE, FINE)  # metrics of either, for each comparison
    stages: bool = False  # the paper ranks either by a metric of its own: that is the claim


CLAIMS = (
    Claim(FCL, BASE),
    Claim(CONSTANT, FCL),
    Claim(ADAPTIVE, FCL),
    Claim(ADAPTIVE, CONSTANT),
    Claim(SAM, FCL, (("fine", "coarse"), COARSE, FINE), stages=True),
    Claim(SAM_ADAPTIVE, SAM),
    Claim(SAM_ADAPTIVE, SAM_CONSTANT),
    Claim(BOTH_TRIPLETS, SAM_ADAPTIVE),
    Claim(BOTH_TRIPLETS, ADAPTIVE, (("fine", "coarse"), COARSE, FINE), stages=True),
    Claim(TWO_STAGES, ADAPTIVE, (("coarse-to-fine", "coarse"),), stages=True),
    Claim(TWO_STAGES, BOTH_TRIPLETS, (("coarse-to-fine", "fine"),), stages=True),
)
START = "before any training"
OWN = (Claim(FCL, START), Claim(ADAPTIVE, START))  # comparisons that the paper does not make


@dataclass(frozen=True)
class Line:
    """Two rows of an ablation compared."""

    row: str
    other: str
    ranked: str  # by what
    paper: tuple[str, ...]  # gain within each threshold, in points; "–": no claim of the paper
    here: tuple[Gain, ...]  # likewise


def ablation_lines(results: Results, claims: Sequence[Claim] = CLAIMS) -> list[Line]:
    """Returns the comparisons of rows that were trained, by every metric that a claim names."""
    return [
        Line(
            claim.row,
            claim.other,
            ranked=_ranked(*metrics),
            paper=tuple(_in_paper(claim, number) for number in range(len(THRESHOLDS))),
            here=tuple(_ablation_gain(results, claim, metrics, t) for t in THRESHOLDS),
        )
        for claim in claims
        for metrics in claim.ranked
        if {claim.row, claim.other} <= set(results["rows"])
    ]


def _ranked(row: str, other: str) -> str:
    return METRICS[row] if row == other else f"{METRICS[row]} over {METRICS[other]}"


def _in_paper(claim: Claim, number: int) -> str:
    if claim.row in TABLE_VI and claim.other in TABLE_VI:
        return signed(TABLE_VI[claim.row][number] - TABLE_VI[claim.other][number])
    return "–"


def _ablation_gain(
    results: Results, claim: Claim, metrics: tuple[str, str], threshold: str
) -> Gain:
    row, other = (
        {
            seed: 100 * _mean(by[threshold] for by in stages[metric].values())
            for seed, stages in results["rows"].get(name, {}).items()
            if metric in stages
        }
        for name, metric in zip((claim.row, claim.other), metrics, strict=True)
    )
    chance = 100 * _mean(by[threshold] for by in results["chance"].values())
    return gain(row, other, chance)


@dataclass(frozen=True)
class Question:
    """Two rows of a section compared, on images of one kind."""

    paper: str  # whose claim; empty: a question of our own
    text: str
    section: str
    images: str  # rendered or photographs, which conditions, what is counted
    points: Measure
    row: str
    other: str
    published: str = ""  # the paper's figure
    chance: float = -np.inf  # points of a random answer


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _recall(column: str) -> Measure:
    """Recall of trained weights on one kind of images. The start is of no seed."""

    def points(results: Results, row: str) -> Points:
        rows = results["rows"]
        if row == "start":
            seeds = {seed for by_seed in rows.values() for seed in by_seed}
            return dict.fromkeys(sorted(seeds), results["start"][column])
        return {seed: run["trained"][column] for seed, run in rows.get(row, {}).items()}

    return points


def _accuracy(distance: str, *conditions: str) -> Measure:
    """Accuracy of global descriptors, the mean over conditions and over rows joined by "; "."""

    def points(results: Results, row: str) -> Points:
        names = row.split("; ")
        if not set(names) <= set(results["rows"]):
            return {}
        runs = [results["rows"][name] for name in names]
        seeds = [seed for seed in runs[0] if all(seed in run for run in runs)]
        return {
            seed: 100
            * _mean(
                run[seed]["conditions"][condition]["accuracy"][distance]
                for run in runs
                for condition in conditions or run[seed]["conditions"]
            )
            for seed in seeds
        }

    return points


def _near_prior(results: Results, row: str) -> Points:
    """Local recall with a prior of 10 m, the mean over conditions."""
    return {
        seed: 100 * _mean(f["priors"][1]["local_recall_at_1"] for f in run["conditions"].values())
        for seed, run in results["rows"].get(row, {}).items()
    }


SOFT, PRIOR, DEPTH = "soft contrastive", "spatial prior", "scene geometry"
FORM, FIRST = "soft contrastive, paper's form", "soft contrastive, released, first anchor"
MINED = "soft contrastive, released form, mined"
NETS = ("", "mobile, MAC: ", "AlexNet, MAC: ", "AlexNet, NetVLAD: ")
TOWN = "rendered rain, snow, night, 591 queries"
EACH, ONE = "contrastive", "contrastive, one encoder for all"
ADAPTED = "contrastive, shared trunk with adapters"


def _accurate(
    paper: str, text: str, row: str, other: str, distance: str, published: str, *at: str
) -> Question:
    """A question on accuracy in the companions' town, of all conditions or of those named."""
    images = f"rendered {at[0]}, 197 queries" if at else TOWN
    return Question(
        paper,
        text,
        "companions",
        f"{images}, accuracy@{distance.replace(' ', '')}",
        _accuracy(distance, *at),
        row,
        other,
        published,
        chance=CHANCES[distance],
    )


def _prior(kind: str, published: str) -> Question:
    return Question(
        PRIOR,
        f"negatives within 50 m over those of all towns, prior of 10 m: {kind}",
        "companions",
        f"{TOWN}, local recall@1",
        _near_prior,
        f"{kind}, negatives within 50 m",
        f"{kind}, negatives from all towns",
        published,
        chance=10.0,  # places within 5 m among those within 50 m, on a straight road
    )


# Percent of a straight road's 394 map images, 2 m apart, that lie within the distance.
CHANCES = {"5 m": 100 * 5 / 394, "10 m": 100 * 11 / 394, "15 m": 100 * 15 / 394}
PUBLISHED = (
    _accurate(SOFT, "paper's form over multi-similarity", FORM, "multi-similarity", "5 m", "+3.2"),
    _accurate(SOFT, "paper's form over multi-similarity", FORM, "multi-similarity", "15 m", "+2.2"),
    _accurate(SOFT, "paper's form over triplet", FORM, "triplet", "5 m", "+5.6"),
    _accurate(SOFT, "paper's form over triplet", FORM, "triplet", "15 m", "+10.1"),
    _accurate(
        SOFT, "released form over multi-similarity", FIRST, "multi-similarity", "5 m", "+3.2"
    ),
    _accurate(
        SOFT, "released, mined, over multi-similarity", MINED, "multi-similarity", "5 m", "+3.2"
    ),
    _accurate(
        SOFT, "sigmoid over linear influence", FORM, f"{FORM}, linear, 0 at τ", "5 m", "above"
    ),
    _accurate(
        SOFT, "sigmoid over tanh influence", FORM, f"{FORM}, tanh, 0.24 at τ", "5 m", "above"
    ),
    _prior("camera", "+9"),
    _prior("camera, SAFA", "+9"),
    _prior("from above", "+9"),
    _accurate(
        DEPTH,
        "depth over none, mean of four nets",
        "; ".join(f"{net}RGB + depth" for net in NETS),
        "; ".join(f"{net}RGB" for net in NETS),
        "15 m",
        "+1.7",
    ),
    _accurate(DEPTH, "depth over none, mobile with NetVLAD", "RGB + depth", "RGB", "15 m", "+1.7"),
    _accurate(
        DEPTH,
        "decoded over hallucinated depth",
        "RGB + depth",
        "RGB + hallucinated depth",
        "15 m",
        "above",
    ),
    _accurate(
        DEPTH,
        "decoder tuned by night over not",
        "RGB + depth, decoder tuned by night",
        "RGB + depth",
        "5 m",
        "+10",
        "night",
    ),
)


PHOTOGRAPHS = {
    "webcams by night, 128 tiles": _recall("night tiles"),
    "Gardens Point by night from the left, 200 queries": _recall("day_left → night_right"),
    "Gardens Point by night, 200 queries": _recall("day_right → night_right"),
}


def _asked(section: str, row: str, other: str, text: str = "") -> tuple[Question, ...]:
    """A question of our own on two rows of a section, one for each kind of photographs."""
    text = text or f"a condition without poses: {row} over {other}"
    return tuple(
        Question("", text, section, images, points, row, other)
        for images, points in PHOTOGRAPHS.items()
    )


QUESTIONS = (
    *_asked("webcam_encoders", ONE, EACH, "one encoder for all over one each"),
    *_asked("webcam_encoders", ADAPTED, EACH, "one trunk with adapters over one each"),
    *_asked("new_condition", "translated", "start"),
    *_asked("new_condition", "translated", "photometric"),
    *_asked("new_condition", "translated", "colour transfer"),
    *_asked("new_condition", "colour transfer and translated", "colour transfer"),
    *_asked("new_condition", "photometric", "start"),
    *_asked("new_condition", "photometric", "true pairs"),
)
UNTESTED = (
    "DISAM, Tables II to V: neither CMU-Seasons nor RobotCar-Seasons, nor their millions of steps",
    "soft contrastive: no Oxford RobotCar",
    "spatial prior: neither CVACT nor Oxford with satellite images",
    "scene geometry: ResNet18's ImageNet weights are in no package that we know",
)


def answers(results: Mapping[str, Results], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Returns the questions of sections that have figures, with what the seeds say."""
    lines = []
    for question in questions:
        if question.section in results:
            figures = results[question.section]
            row, other = (question.points(figures, r) for r in (question.row, question.other))
            lines.append({"question": question, "here": gain(row, other, question.chance)})
    return lines


def paper_claims(results: Mapping[str, Results]) -> dict[str, Any]:
    """Returns the tables of claims. results: by section, of those that were measured."""
    ablation = results.get("ablation", {"rows": {}})
    trained = set(ablation["rows"])
    return {
        "table_vi": ablation_lines(ablation) + ablation_lines(ablation, OWN),
        "untrained": [row for row in TABLE_VI if row not in trained],
        "published": answers(results, PUBLISHED),
        "questions": answers(results, QUESTIONS),
        "untested": UNTESTED,
        "thresholds": THRESHOLDS,
        "links": LINKS,
    }
