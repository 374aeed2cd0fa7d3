# SPDX-License-Identifier: Apache-2.0
"""Time from image to pose, compared with the straightforward form: a loop over exact features.

`python -m benchmark.performance speed`. Networks but the shipped one's are untrained, descriptors
are noise: the time does not depend on their values. Images are of a sequence, without odometry.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmark.machine import fresh, load, spent
from benchmark.performance.synthetic_map import noise_map
from disam_ros.config import LocalizerConfig
from disam_ros.domains.domain import Domain
from disam_ros.image import to_tensor
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.models.export import export_onnx
from disam_ros.models.model import Model, create_model, load_model, save_model
from disam_ros.models.network_config import PRESETS
from disam_ros.models.similarity import coarse_similarity

MAP_IMAGES = 10_000
SHIPPED = Path("models/outdoor")
DISTINCT = 600  # different descriptors in the map: more than there are directions
LOOP_IMAGES = 20  # the loop is timed on these and scaled up
OUTDOOR = "outdoor"  # the shipped model: one encoder for both stages
QUERIES = {"full": 15, "lite": 60, "mobile": 60, OUTDOOR: 60}
INTERVAL = 200_000_000  # between images [ns]
BACKENDS = ("torch", "onnx")
PICTURE = Path("docs/images/stages.png")
STAGES = {
    "preprocess": "resize",
    "encode": "encoder",
    "describe": "descriptors",
    "coarse": "coarse search",
    "fine": "fine similarity",
    "sequence": "sequence filter",
}
SHOWN = 1.0  # ms from which a stage's time is written into its bar


def measure() -> dict[str, Any]:
    """Milliseconds by preset and backend, and of the straightforward form.

    ratio: of the straightforward form's time to the total; bound: to the encoders alone, the best
    backend's; own_ratio: of the straightforward form with the preset's own encoders and features.
    """
    threads = torch.get_num_threads()
    reference = fresh(reference_times, threads)
    rows = []
    for preset in QUERIES:
        for backend in BACKENDS:
            times = fresh(query_times, preset, backend, QUERIES[preset], MAP_IMAGES, threads)
            rows.append({"preset": preset, "backend": backend, **times, "load": load()})
    results = {"images": MAP_IMAGES, "threads": threads, "reference": reference, "rows": rows}
    return results | ratios(reference, rows)


def draw(results: dict[str, Any], path: Path = PICTURE) -> None:
    """The stages of one image with the shipped model, a bar for each backend."""
    figure = Figure(figsize=(9.0, 2.0), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in results["rows"] if row["preset"] == OUTDOOR]
    for row in rows:
        begun = 0.0
        for number, stage in enumerate(STAGES):
            taken = row.get(stage, 0.0)
            axes.barh(row["backend"], taken, left=begun, color=f"C{number}")
            if taken > SHOWN:
                middle = begun + taken / 2
                axes.text(middle, row["backend"], f"{taken:.1f}", ha="center", va="center")
            begun += taken
    axes.set(xlabel="ms")
    colours = [
        Patch(color=f"C{number}", label=label) for number, label in enumerate(STAGES.values())
    ]
    figure.legend(handles=colours, loc="outside upper center", ncols=len(STAGES))
    figure.savefig(path, dpi=110)


def ratios(reference: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Adds ratios to the rows; the best ratio and its bound by preset."""
    whole = reference["encode"] + reference["loop"]
    best: dict[str, float] = {}
    bound: dict[str, float] = {}
    for row in rows:
        preset, encoders = row["preset"], whole / row["encode"]
        row["ratio"] = whole / row["total"]
        row["own_ratio"] = (row["loop"] + row["encode"]) / row["total"]
        best[preset] = max(best.get(preset, 0.0), row["ratio"])
        bound[preset] = max(bound.get(preset, 0.0), encoders)
    return {"best": best, "bound": bound}


def reference_times(threads: int, images: int = MAP_IMAGES, preset: str = "full") -> dict[str, Any]:
    """Milliseconds of both encoders as torch runs them, and of the loop over `images`."""
    torch.set_num_threads(threads)
    model = create_model(PRESETS[preset], [Domain("day", (-90.0, 90.0))])
    image = to_tensor(np.zeros((480, 640, 3), np.uint8), model.network.image_size)[None]
    encoders = (model.coarse["day"], model.fine["day"])
    with torch.inference_mode():
        seconds = _time(lambda: [encoder(image) for encoder in encoders], 5)
    return {"encode": 1e3 * seconds, "loop": loop_time(model) * images}


def query_times(
    preset: str, backend: str, queries: int, images: int, threads: int
) -> dict[str, Any]:
    """Milliseconds of each stage of a localization among `images`, and of the preset's loop."""
    torch.set_num_threads(threads)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    config = LocalizerConfig(device="cpu", backend=backend)
    config.sequence.enabled = True
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "model"
        model = _saved(preset, directory, backend == "onnx")
        place_map = noise_map(Path(scratch) / "map", model, images, distinct=DISTINCT)
        loop = loop_time(model) * images
        pipeline = Pipeline(Localizer(model, place_map, config, directory))
        frames = (
            Frame(
                np.roll(picture, 8 * number, axis=1),
                place_map.cameras()[0],
                stamp_ns=(1 + number) * INTERVAL,
                domain=model.domain_names()[0],
            )
            for number in range(queries + 2)
        )
        laps = [pipeline.process([Shot(frame)])[0].answer.timings_ms for frame in frames]
    laps = laps[2:]
    figures = {stage: median(lap[stage] for lap in laps) for stage in laps[0]}
    p99 = float(np.percentile([lap["total"] for lap in laps], 99))
    return figures | {"p99": p99, "loop": loop, "queries": queries}


def loop_time(model: Model, repeats: int = 5) -> float:
    """Milliseconds that the straightforward coarse stage takes for one map image."""
    shape = (model.network.channels, *model.network.feature_size)
    query, *others = torch.randn(LOOP_IMAGES + 1, *shape)
    with torch.inference_mode():
        seconds = _time(lambda: [coarse_similarity(query, z) for z in others], repeats)
    return 1e3 * seconds / LOOP_IMAGES


def _saved(preset: str, directory: Path, onnx: bool = False) -> Model:
    if preset == OUTDOOR:
        shutil.copytree(SHIPPED, directory)
    else:
        save_model(create_model(PRESETS[preset], [Domain("day", (-90.0, 90.0))]), directory)
        if onnx:
            export_onnx(directory)
    return load_model(directory)


def _time(function: Callable[[], object], repeats: int) -> float:
    """Median of seconds."""
    function()
    return median(spent(function)[0] for _ in range(repeats))
