# SPDX-License-Identifier: Apache-2.0
"""Image to pose beside the straightforward form: a Python loop over exact features.

`python -m benchmark.performance speed`. Networks are untrained and descriptors are noise: the time does not
depend on their values.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmark.machine import fresh, load
from benchmark.peers.table import markdown, verdict
from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.datasets.dataset import ImageRecord
from disam_ros.domains.domain import Domain
from disam_ros.geometry import Transform
from disam_ros.image import to_tensor
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.place_map import MapHeader, PlaceMap
from disam_ros.mapping.writer import MapWriter
from disam_ros.models.backend import EXPORT_FOLDER
from disam_ros.models.descriptor import descriptor_shapes
from disam_ros.models.export import export_onnx
from disam_ros.models.model import Model, create_model, load_model, save_model
from disam_ros.models.networks import PRESETS
from disam_ros.models.similarity import coarse_similarity

MAP_IMAGES = 10_000
DISTINCT = 600  # different descriptors in the map: more than there are directions
LOOP_IMAGES = 20  # the loop is timed on these and scaled up
QUERIES = {"full": 15, "lite": 60, "mobile": 60}
BACKENDS = ("torch", "onnx")
RATIOS = {"full": 15.0, "lite": 100.0, "mobile": 100.0}
ENCODERS_MS = 60.0  # both of `mobile`


def measure() -> dict:
    """Milliseconds by preset and backend, and of the straightforward form."""
    threads = torch.get_num_threads()
    reference = fresh(reference_times, threads)
    rows = []
    for preset in PRESETS:
        for backend in BACKENDS:
            times = fresh(query_times, preset, backend, QUERIES[preset], MAP_IMAGES, threads)
            rows.append({"preset": preset, "backend": backend, **times, "load": load()})
    return {"images": MAP_IMAGES, "threads": threads, "reference": reference, "rows": rows}


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    reference = results["reference"]
    whole = reference["encode"] + reference["loop"]
    lines, best = [], dict.fromkeys(RATIOS, 0.0)
    for row in results["rows"]:
        preset, ratio = row["preset"], whole / row["total"]
        best[preset] = max(best[preset], ratio)
        stages = [f"{row[stage]:.1f}" for stage in ("preprocess", "encode", "coarse", "fine")]
        total = f"{row['total']:.1f} / {row['p99']:.1f}"
        own = f"{(row['loop'] + row['encode']) / row['total']:.0f}×"
        lines.append([preset, row["backend"], *stages, total, f"{ratio:.1f}×", own])
        lines[-1] += [str(row["queries"]), f"{row['load']:.1f}"]
    verdicts = [
        verdict(f"`{preset}`", ratio, RATIOS[preset], "×", at_least=True)
        for preset, ratio in best.items()
        if ratio
    ]
    pairs = [row["encode"] for row in results["rows"] if row["preset"] == "mobile"]
    verdicts.append(verdict("both encoders of `mobile`", min(pairs), ENCODERS_MS, "ms"))
    header = ["preset", "backend", "preprocess", "both encoders", "coarse", "fine"]
    header += ["total p50 / p99", "ratio", "to its own loop", "queries", "load"]
    return (
        f"## One query against {results['images']:,} map images, CPU\n\n"
        "`python -m benchmark.performance speed`: ms, 640×480 image in, pose out, "
        f"{results['threads']} threads; the stages are medians. Coarse: projection and search. "
        "The straightforward form has the shape of the public implementation: the paper's encoders "
        f"(`full`) as torch runs them, {reference['encode']:.0f} ms both, and a Python loop over "
        f"exact features, {reference['loop']:.0f} ms (timed on {LOOP_IMAGES} images and scaled); "
        "ratio: its time / total. To its own loop: the same with the preset's own encoders and "
        "features. p99 of so few queries is the slowest.\n\n"
        f"{markdown(header, lines)}\nTargets, faster backend: {'; '.join(verdicts)}. `full` is "
        f"bound by its encoders at {whole / min(_encode(results, 'full')):.1f}×. What smaller "
        "encoders cost in accuracy is in docs/accuracy.md and docs/models.md.\n\n"
        "GPU: not measured; none was at hand.\n"
    )


def _encode(results: dict, preset: str) -> list[float]:
    rows = [row["encode"] for row in results["rows"] if row["preset"] == preset]
    return rows or [float("inf")]


def reference_times(threads: int, images: int = MAP_IMAGES, preset: str = "full") -> dict:
    """Milliseconds of both encoders as torch runs them, and of the loop over `images`."""
    torch.set_num_threads(threads)
    model = create_model(PRESETS[preset], [Domain("day", (-90.0, 90.0))])
    image = to_tensor(np.zeros((480, 640, 3), np.uint8), model.network.image_size)[None]
    encoders = (model.coarse["day"], model.fine["day"])
    with torch.inference_mode():
        seconds = _time(lambda: [encoder(image) for encoder in encoders], 5)
    return {"encode": 1e3 * seconds, "loop": loop_time(model) * images}


def query_times(preset: str, backend: str, queries: int, images: int, threads: int) -> dict:
    """Milliseconds of each stage of a localization among `images`, and of the preset's loop."""
    torch.set_num_threads(threads)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    config = LocalizerConfig(device="cpu", backend=backend)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "model"
        model = _saved(preset, directory)
        if backend == "onnx":
            export_onnx(model, directory / EXPORT_FOLDER)
        place_map = write_noise(Path(scratch) / "map", model, images)
        loop = loop_time(model) * images
        localizer = Localizer(model, place_map, config, directory)
        laps = [localizer.localize(picture, domain="day").timings_ms for _ in range(queries + 2)]
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


def write_noise(directory: Path, model: Model, images: int) -> PlaceMap:
    """A map whose descriptors are DISTINCT ones over and over."""
    config = DescriptorConfig()
    shapes = descriptor_shapes(model.network, config)
    sizes = {stage: int(np.prod(shape)) for stage, shape in shapes.items()}
    rng = np.random.default_rng(1)
    coarse = rng.standard_normal((min(DISTINCT, images), sizes["coarse"]), np.float32)
    coarse /= np.linalg.norm(coarse, axis=1, keepdims=True)
    fine = rng.standard_normal((8, sizes["fine"]), np.float32)
    camera = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    header = MapHeader(model.identity, model.name, "map", {"front": camera}, config)
    writer = MapWriter(directory, header, sizes, "noise")
    for index in range(images):
        pose = Transform.from_xyz_rpy([float(index), 0, 0, 0, 0, 0])
        record = ImageRecord(index, index, "front", "day", "", pose)
        writer.add(record, coarse[index % len(coarse)], fine[index % len(fine)])
    writer.commit(images)
    return PlaceMap(writer.finish(), verify=False)


def _saved(preset: str, directory: Path) -> Model:
    save_model(create_model(PRESETS[preset], [Domain("day", (-90.0, 90.0))]), directory)
    return load_model(directory)


def _time(function: Callable[[], object], repeats: int) -> float:
    """Median of seconds."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)
