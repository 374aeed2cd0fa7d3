# SPDX-License-Identifier: Apache-2.0
"""Global descriptors on the season town: soft contrastive loss, spatial prior, scene geometry.

`python -m benchmark.research.companions [SEED ...]` renders the data, trains what is missing in
runs/companions and evaluates it; all seeds: the section is written. Rows (companions_rows.py) have
the same data, steps and images per step unless their name says otherwise; town 50 chose the weights
of each run and the learning rate of each loss on tuples, by the first seed: only the better rate is
trained with the others. Nothing was tuned on the town that is evaluated.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.pages import column
from benchmark.research.companions_data import QUERIES as CONDITIONS
from benchmark.research.companions_data import ROOT, TEST, above, prepare, queries, reference
from benchmark.research.companions_rows import (
    BASE,
    DEPTHS,
    PRIORS,
    RATED,
    ROWS,
    SLOW,
    STEPS,
    TUPLES,
    VGG,
    folder_of,
    row_recipe,
)
from benchmark.research.experiment import Experiment, Rows, main
from benchmark.research.prior_trials import prior_figures
from disam_ros.config import LocalizerConfig, MapBuilderConfig, SequenceConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.evaluation import Criteria, evaluate_drive, judge
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import Model, load_model
from training.engine.loop import Loop
from training.settings import RunConfig

SEEDS = (0, 1, 2)
NOISES = (10.0, 25.0, 50.0)  # metres of priors
DISTANCES = (1.0, 2.0, 5.0, 10.0, 15.0, 25.0, 50.0)  # metres of recall@D
FIGURES = "figures.json"  # of a trained row
# Every image is answered by itself, as in the papers.
ALONE = LocalizerConfig(device="cpu", min_probability=0.0, sequence=SequenceConfig(enabled=False))
PICTURE = Path("docs/images/companions.png")


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, root: Path = ROOT
) -> dict[str, Any]:
    """Train what is missing and evaluate every row: figures by row, seed and condition."""
    if not finished:
        prepare(root)
    study = experiment(root)
    first, _ = study.measure(seeds[:1], finished)
    _, rates = at_best_rates(first)
    slower = {name: slow for name, slow in zip(TUPLES, RATED, strict=True) if name in rates}
    worse = [name if rates[name] == SLOW else slow for name, slow in slower.items()]
    once = dict.fromkeys([*study.once, *worse])
    rows, missing = replace(study, once=list(once)).measure(seeds, finished)
    rows, rates = at_best_rates(rows)
    return {
        "steps": STEPS,
        "seeds": list(seeds),
        "rows": rows,
        "rates": rates,
        "summary": summary(rows),
        "missing": missing,
    }


def experiment(root: Path = ROOT) -> Experiment[RunConfig]:
    """The trainings of all rows. A row that starts from another one stands below it."""

    def judged(row: str, seed: int, run: Loop[RunConfig]) -> dict[str, Any]:
        model = load_model(run.directory / "model")
        return {
            "conditions": evaluate(model, ROWS[row].above, row in PRIORS, root),
            "history": [[e["step"], e["mean"]] for e in model.training["validation"]["history"]],
            "seconds": model.training["seconds"],
            "commit": model.training["commit"],
        }

    return Experiment(
        name="companions",
        root=root / "trained",
        rows={name: folder_of(name) for name in ROWS},
        overlay=lambda row, seed: row_recipe(row, seed, root),
        judge=judged,
        kept=FIGURES,
        once=[name for name, row in ROWS.items() if row.once],
    )


def at_best_rates(rows: Rows) -> tuple[Rows, dict[str, float]]:
    """Returns the rows, each loss on tuples with its better learning rate, and these rates.

    The better one has the higher recall of the weights that are judged, in the validation town,
    with the first seed that was trained with both.
    """
    best, rates = {name: row for name, row in rows.items() if name not in RATED}, dict[str, float]()
    for name, slow in zip(TUPLES, RATED, strict=True):
        both = [rows.get(name, {}), rows.get(slow, {})]
        seed = next((seed for seed in both[0] if seed in both[1]), None)
        if seed is None:
            continue
        recalls = [max(recall for _, recall in row[seed]["history"]) for row in both]
        best[name] = both[int(recalls[1] > recalls[0])]
        rates[name] = SLOW if recalls[1] > recalls[0] else BASE["learning_rate"]
    return best, rates


def evaluate(
    model: Model, from_above: bool, priors: bool, root: Path = ROOT
) -> dict[str, dict[str, Any]]:
    """Figures by condition: accuracy and its bound, recall, errors, the same with priors."""
    places = above(TEST, root) if from_above else reference(root)
    everything = MapBuilderConfig(
        keypoints=0, keyframe_distance=0.0, domain="aerial" if from_above else ""
    )
    criteria = Criteria(distances=DISTANCES)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "map"
        place_map = build_map(open_dataset(places), model, target, everything, show_progress=False)
        localizer = Localizer(model, place_map, ALONE)
        results = {}
        for condition in CONDITIONS:
            source = open_dataset(queries(condition, root))
            drive = evaluate_drive(localizer, source, condition, show_progress=False)
            trials = prior_figures(localizer, source, NOISES) if priors else []
            judged = judge(place_map, [drive], {}, criteria).overall
            results[condition] = {
                "accuracy": judged.metrics.accuracy,
                "bound": judged.bound.accuracy,
                "recall_at_1": judged.metrics.recall_at_1,
                "median_m": judged.metrics.median_error_m,
                "priors": [trial.to_json() for trial in trials],
            }
    return results


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Figures by seed, means over conditions: what the tables of the page show.

    accuracy, bound: by row and distance. local, median_m: by row, for no prior and for NOISES.
    depth: by row and "condition distance". curves: recall of the validation town against steps, of
    the first seed. gain: of the last quarter of the steps.
    """

    def mean(name: str, *keys: str | int) -> list[float]:
        """Mean over the conditions, of every seed."""
        return [float(np.mean(column(s["conditions"], *keys))) for s in rows[name].values()]

    counts = range(len(NOISES) + 1)
    distances = [f"{d:g} m" for d in DISTANCES]
    shown = [n for n in (*TUPLES, *DEPTHS, *VGG) if n in rows]
    accuracy = {n: {d: mean(n, "accuracy", d) for d in distances} for n in shown}
    priors = [n for n in PRIORS if n in rows]
    local = {n: [mean(n, "priors", k, "local_recall_at_1") for k in counts] for n in priors}
    depth = {
        name: {
            f"{condition} {d}": column(rows[name], "conditions", condition, "accuracy", d)
            for condition in CONDITIONS
            for d in ("5 m", "15 m")
        }
        for name in DEPTHS
        if name in rows
    }
    histories = {n: [s["history"] for s in seeds.values()] for n, seeds in rows.items()}
    return {
        "accuracy": accuracy,
        "bound": {d: mean(shown[0], "bound", d) for d in distances},
        "local": local,
        "median_m": {n: [mean(n, "priors", k, "median_error_m") for k in counts] for n in priors},
        "depth": depth,
        "curves": {n: history[0] for n, history in histories.items()},
        "gain": {n: [h[-1][1] - h[-2][1] for h in f] for n, f in histories.items() if f[0][1:]},
        "minutes": sum(seed["seconds"] for seeds in rows.values() for seed in seeds.values()) / 60,
    }


def draw(results: dict[str, Any], path: Path = PICTURE) -> None:
    """Recall of the validation town against steps, and recall@D on the town that is judged."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    summed = results["summary"]
    figure = Figure(figsize=(12.0, 9.5), layout="constrained")
    panels = {"losses on tuples": TUPLES, "spatial prior": PRIORS, "scene geometry": DEPTHS}
    for axes, (title, names) in zip(figure.subplots(2, 3).T, panels.items(), strict=True):
        for part in axes:
            part.set_prop_cycle(color=[colormaps["tab20"](number) for number in range(20)])
        for name in names:
            if name in summed["curves"]:
                axes[0].plot(*np.transpose(summed["curves"][name]), marker=".", label=name)
            if name in summed["accuracy"]:
                shares = [100 * np.mean(v) for v in summed["accuracy"][name].values()]
                axes[1].plot(DISTANCES, shares, marker=".", label=name)
        axes[0].set(title=title, xlabel="steps", ylabel="recall@1 in the validation town (%)")
        axes[0].grid(alpha=0.3)
        axes[0].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        if axes[1].lines:
            axes[1].set(xlabel="D (m)", ylabel="recall@D (%)", xscale="log")
            axes[1].grid(alpha=0.3)
        else:
            axes[1].axis("off")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main("companions"))
