# SPDX-License-Identifier: Apache-2.0
"""Rows of the companions' tables: losses, priors, depth, encoders and heads, and their recipes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.networks import backbone
from benchmark.research.companions_data import CHOICES, ROOT, TRAINED, VALIDATION, above, trained
from training.recipes import parse_config
from training.settings import RunConfig

STEPS = 120
TOWN = 1e5  # metres: larger than a town
CONVERTED = Path("runs/backbone")  # weights of AlexNet and VGG16 (docs/training.md)
BY_DAY = ["summer_day", "autumn_rain"]
NETWORK = {"head": "netvlad", "clusters": 16, "size": 256, "image_size": [96, 128]}
BASE: dict[str, Any] = {
    "method": "global",
    "threads": 1,
    "channels_last": True,
    "learning_rate": 1e-4,
    "network": NETWORK,
    "gradients_every": 0,
    "checkpoint_every": 100,
    "validate_every": STEPS // 4,
    "sample": 400,
}
PICTURES = 110  # a condition that validate while training


@dataclass(frozen=True)
class Row:
    """A training."""

    losses: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)  # that differ from BASE
    above: bool = False  # pictures from above are trained on and make the map
    start: str = ""  # the row it starts from
    tuned: bool = False  # only the decoder is trained, by night
    once: bool = False  # with the first seed alone
    steps: int = STEPS


def _local(radius: float) -> dict[str, Any]:
    """Batches and negatives within a radius [m]; 0: of all towns."""
    return {"neighbourhoods": {"batch": 13, "radius": radius}, "local": {"farthest": radius}}


def _soft(once: bool = True, **settings: Any) -> Row:
    return Row({"soft_contrastive": 1.0}, {"soft": settings}, once=once)


def _network(**changes: Any) -> dict[str, Any]:
    return {"network": NETWORK | changes}


def _depth(losses: dict[str, float], **changes: Any) -> Row:
    """Trained by day. MAC is not whitened: it has fewer numbers than the others are whitened to."""
    if changes.get("head") == "mac":
        changes["size"] = 0
    return Row(losses, HARD | {"domains": BY_DAY} | _network(**changes), once=True)


HARD = {"tuples": {"near_radius": 10.0, "far_radius": 25.0}}  # radii of the losses without g(d)
RELEASED, FIRST = "soft contrastive, released form", "soft contrastive, released, first anchor"
MINED = "soft contrastive, released form, mined"
FORM = "soft contrastive, paper's form"
LINEAR, TANH = f"{FORM}, linear, 0 at τ", f"{FORM}, tanh, 0.24 at τ"
PAPER: dict[str, Any] = {
    "form": "paper",
    "nu": 3.0,
}  # at the released ν, 50, far images have no gradient in Eq. 5
TUPLES = {
    "triplet": Row({"triplet": 1.0}, HARD),
    "quadruplet": Row({"quadruplet": 1.0}, HARD, once=True),
    "lazy quadruplet": Row({"lazy_quadruplet": 1.0}, HARD, once=True),
    "multi-similarity": Row({"multi_similarity": 1.0}, HARD),
    "log-ratio": Row({"log_ratio": 1.0}, once=True),
    "lazy triplet": Row({"lazy_triplet": 1.0}, HARD, once=True),
    "triplet + Huber of near images": Row({"triplet": 1.0, "huber": 0.5}, HARD, once=True),
    RELEASED: _soft(once=False),
    MINED: _soft(once=False, mined=True),
    FIRST: _soft(once=False, anchors="first"),
    FORM: _soft(once=False, **PAPER),
    LINEAR: _soft(**PAPER, influence="linear"),
    TANH: _soft(**PAPER, influence="tanh"),
    "plain sum of g⁺ − g⁻": _soft(form="sum"),
}
PRIORS = {
    "camera, negatives from all towns": Row({"local_triplet": 1.0}, _local(0.0)),
    "camera, negatives within 50 m": Row({"local_triplet": 1.0}, _local(50.0)),
    "camera, negatives from one town": Row({"local_triplet": 1.0}, _local(TOWN), once=True),
    "camera, SAFA, negatives from all towns": Row(
        {"local_triplet": 1.0}, _local(0.0) | _network(head="safa"), once=True
    ),
    "camera, SAFA, negatives within 50 m": Row(
        {"local_triplet": 1.0}, _local(50.0) | _network(head="safa"), once=True
    ),
    "from above, negatives from all towns": Row(
        {"local_triplet": 1.0}, _local(0.0), above=True, once=True
    ),
    "from above, negatives within 50 m": Row(
        {"local_triplet": 1.0}, _local(50.0), above=True, once=True
    ),
}
RGB, DECODED = {"triplet": 1.0}, {"triplet": 1.0, "depth": 1.0}
HALLUCINATED = {"triplet": 1.0, "hallucination": 1.0}
DEPTHS = {
    "RGB": replace(_depth(RGB), once=False),
    "RGB + depth": replace(_depth(DECODED, depth=True), once=False),
    "RGB + depth, decoder tuned by night": Row(
        {"depth": 1.0},
        {"domains": [*BY_DAY, "night"]} | _network(depth=True),
        start="RGB + depth",
        tuned=True,
    ),
    "RGB + hallucinated depth": replace(
        _depth(HALLUCINATED, depth=True, hallucinated=True), once=False
    ),
    "mobile, MAC: RGB": _depth(RGB, head="mac"),
    "mobile, MAC: RGB + depth": _depth(DECODED, head="mac", depth=True),
    "AlexNet, MAC: RGB": _depth(RGB, backbone="alexnet", head="mac"),
    "AlexNet, MAC: RGB + depth": _depth(DECODED, backbone="alexnet", head="mac", depth=True),
    "AlexNet, NetVLAD: RGB": _depth(RGB, backbone="alexnet"),
    "AlexNet, NetVLAD: RGB + depth": _depth(DECODED, backbone="alexnet", depth=True),
}
VGG16 = "VGG16, NetVLAD, 96×64 pixels: released form"
VGG = {
    VGG16: Row(
        {"soft_contrastive": 1.0},
        _network(backbone="vgg16", image_size=[64, 96])
        | {"tuples": {"near": 3, "far": 3, "cache": 60}, "learning_rate": 1e-5},
        once=True,
        steps=60,
    )
}
SLOW = 1e-5  # the other learning rate that each loss on tuples is trained with
RATED = {
    f"{name}, rate {SLOW:g}": replace(row, settings=row.settings | {"learning_rate": SLOW})
    for name, row in TUPLES.items()
}
ROWS = {**TUPLES, **RATED, **PRIORS, **DEPTHS, **VGG}


def row_recipe(name: str, seed: int, root: Path = ROOT) -> RunConfig:
    """The recipe of a row. A row with a start needs that one's run of the same seed."""
    row = ROWS[name]
    stage = {"name": "descriptors", "steps": row.steps, "losses": row.losses}
    if row.losses.get("depth") and not row.tuned:
        stage |= {"depth_batch": 6}
    if row.tuned:
        stage |= {"name": "decoder", "domains": ["night"], "depth_batch": 13}
    data, validation = [str(trained(town, root)) for town in TRAINED], str(VALIDATION)
    if row.above:
        data = [f"{entry} + {above(town, root)}" for entry, town in zip(data, TRAINED, strict=True)]
        validation = f"{validation} + {above(CHOICES, root)}"
    values: dict[str, Any] = BASE | row.settings
    values |= {
        "name": name,
        "data": data,
        "initial": str(_start(row, seed, root)),
        "stages": [stage],
        "validation": {
            "data": [validation],
            "reference": "aerial" if row.above else "summer_day",
            "images": PICTURES,
        },
    }
    return parse_config(values)


def folder_of(name: str) -> str:
    """Name of a row's run directory, with {seed}."""
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return f"{'_'.join(words)}_{{seed}}"


def _start(row: Row, seed: int, root: Path) -> Path:
    if row.start:
        run = root / "trained" / folder_of(row.start).format(seed=seed)
        return run / "stages" / "descriptors.safetensors"
    name = row.settings.get("network", NETWORK).get("backbone", "mobile")
    return backbone() if name == "mobile" else CONVERTED / f"{name}.safetensors"
