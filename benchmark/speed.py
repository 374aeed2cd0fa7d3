# SPDX-License-Identifier: Apache-2.0
"""Image to pose beside the straightforward form: a Python loop over exact features.

`python -m benchmark.run speed`. Networks are untrained and descriptors are noise: the time does not
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

from benchmark.machine import load
from benchmark.peers.table import markdown, verdict
from disam_ros.checkpoint import Model, create_model, load_model, save_model
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.dataset import Camera, ImageRecord
from disam_ros.descriptor import descriptor_shapes
from disam_ros.domain import Domain
from disam_ros.geometry import Transform
from disam_ros.localizer import Localizer
from disam_ros.map_writer import MapWriter
from disam_ros.networks import PRESETS
from disam_ros.place_map import MapHeader, PlaceMap
from disam_ros.similarity import coarse_similarity

MAP_IMAGES = 10_000
DISTINCT = 600  # different descriptors in the map: more than there are directions
LOOP_IMAGES = 20  # the loop is timed on these and scaled up
QUERIES = {"full": 15, "lite": 60, "mobile": 60}
RATIOS = {"full": 15.0, "lite": 100.0, "mobile": 100.0}
ENCODERS_MS = 60.0  # both of `mobile`


def measure() -> dict:
    """Milliseconds by preset."""
    rows = {preset: {**query_times(preset, QUERIES[preset]), "load": load()} for preset in PRESETS}
    return {"images": MAP_IMAGES, "threads": torch.get_num_threads(), "rows": rows}


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    rows, verdicts = [], []
    for preset, row in results["rows"].items():
        stages = [f"{row[stage]:.1f}" for stage in ("preprocess", "encode", "coarse", "fine")]
        whole = [f"{row['total']:.1f} / {row['p99']:.1f}", f"{row['loop']:.0f}"]
        ratio = (row["loop"] + row["encode"]) / row["total"]
        search = row["loop"] / row["coarse"]
        queries = str(row["queries"])
        rows.append(
            [
                preset,
                *stages,
                *whole,
                f"{ratio:.0f}×",
                f"{search:.0f}×",
                queries,
                f"{row['load']:.1f}",
            ]
        )
        verdicts.append(verdict(f"`{preset}`", ratio, RATIOS[preset], "×", at_least=True))
    mobile = results["rows"]["mobile"]["encode"]
    verdicts.append(verdict("both encoders of `mobile`", mobile, ENCODERS_MS, "ms"))
    header = ["preset", "preprocess", "both encoders", "coarse", "fine", "total p50 / p99", "loop"]
    header += ["ratio", "of the coarse stage", "queries", "load"]
    return (
        f"## One query against {results['images']:,} map images, CPU\n\n"
        "`python -m benchmark.run speed`: ms, 640×480 image in, pose out, "
        f"{results['threads']} threads; the stages are medians. Coarse: projection and search. "
        f"Loop: the coarse stage as a Python loop over exact features, timed on {LOOP_IMAGES} "
        "images and scaled; ratio: (loop + encoders) / total. p99 of so few queries is the "
        f"slowest.\n\n{markdown(header, rows)}\nTargets: {'; '.join(verdicts)}. The encoders alone "
        "bound the ratio at 1 + loop / encoders.\n"
    )


def query_times(preset: str, queries: int, images: int = MAP_IMAGES) -> dict[str, float]:
    """Milliseconds of each stage of a localization among `images`, and of the loop."""
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        model = _saved(preset, Path(scratch) / "model")
        place_map = write_noise(Path(scratch) / "map", model, images)
        localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
        laps = [localizer.localize(picture, domain="day").timings_ms for _ in range(queries + 2)][
            2:
        ]
    figures = {stage: median(lap[stage] for lap in laps) for stage in laps[0]}
    p99 = float(np.percentile([lap["total"] for lap in laps], 99))
    return figures | {"p99": p99, "loop": loop_time(model) * images, "queries": queries}


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
