# SPDX-License-Identifier: Apache-2.0
"""Coarse search in maps of a thousand to a million images, and opening one of 100 000.

Descriptors are synthetic (synthetic_map.py): the shipped model's on the season town and on
Nordland, in the 512 principal coordinates of both maps, give the statistics. Every figure of an
index is taken in a fresh process that opens its file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from benchmark.machine import fresh, load, resident, spent
from benchmark.performance.real_maps import town_and_nordland
from benchmark.performance.synthetic_map import (
    World,
    imitation,
    large_noise_map,
    retrieval_statistics,
    routes,
    seen_again,
    world,
)
from disam_ros.config import DomainConfig, LocalizerConfig
from disam_ros.demo.drives import MODEL
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.compression import MARGIN, learn_projection
from disam_ros.mapping.index import CellIndex, FlatIndex, write_cells
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.models.similarity import LEVELS, Projection

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUERIES = 200
BEST = 3  # images whose loss counts
COORDINATES = 512
OPENED, REPEATS = 100_000, 5  # images of the map that is opened, and how often
PICTURE = Path("docs/images/scale.png")


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Figures of every index, of real and synthetic queries, and of opening a map."""
    worlds, statistics = worlds_of_real_maps()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch)
            projection, queries = synthesize(folder, worlds, size)
            expected = exact(folder, projection, queries)
            kinds = ["flat"] + ["cells"] * (size >= 10_000)
            for kind in kinds:
                row: dict[str, Any] = {"images": size, "kind": kind, "load": load()}
                if kind == "cells":
                    row["build_s"], row["build_mib"] = fresh(_build, folder, projection)
                    row["file_mib"] = (folder / "cells").stat().st_size / 2**20
                row |= fresh(_search, folder, projection, queries, expected, kind)
                rows.append(row)
    return {"rows": rows, "statistics": statistics, "opening": opening()}


def draw(results: dict[str, Any], path: Path = PICTURE) -> None:
    """Latency, memory and recall against the size of the map, as curves."""
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    panels: dict[str, Callable[[dict[str, Any]], float]] = {
        "a search, p50 (ms)": lambda row: row["ms"]["1"][0],
        "memory (MiB)": lambda row: row["ram_mib"],
        "best three found (%)": lambda row: 100 * row["found"],
    }
    for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for kind, label in (("flat", "every image compared"), ("cells", "cells")):
            rows = [row for row in results["rows"] if row["kind"] == kind]
            sizes, values = [row["images"] for row in rows], [value(row) for row in rows]
            axes.plot(sizes, values, marker="o", label=label)
        axes.set_xscale("log")
        if "%" in title:
            axes.set_ylim(95, 100.5)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.set(title=title, xlabel="map images")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)


def opening(images: int = OPENED, repeats: int = REPEATS) -> dict[str, Any]:
    """Median seconds of each step of opening a map in a fresh process, and MiB it then holds.

    Coarse descriptors have the usual 512 bytes; fine ones 112 in place of 21 504, which are never
    read at opening where they take more than 256 MiB.
    """
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "map"
        large_noise_map(directory, images)
        size = sum(file.stat().st_size for file in directory.iterdir()) / 2**20
        runs = [fresh(open_map, directory) for _ in range(repeats)]
    figures = {step: float(np.median([run[step] for run in runs])) for step in runs[0]}
    return {"images": images, "map_mib": size, "load": load(), "steps": figures}


def open_map(directory: Path) -> dict[str, float]:
    """Seconds of each step, and MiB by which memory grows."""
    config = LocalizerConfig(device="cpu", domain=DomainConfig(override="summer_day"))
    marks = [time.perf_counter()]
    model = load_model(MODEL)
    before = resident("VmRSS")
    marks.append(time.perf_counter())
    place_map = PlaceMap(directory)
    marks.append(time.perf_counter())
    Localizer(model, place_map, config)
    marks.append(time.perf_counter())
    steps = dict(zip(("model", "map", "localizer"), np.diff(marks).tolist(), strict=True))
    return steps | {"MiB": (resident("VmRSS") - before) / 2**20}


def worlds_of_real_maps() -> tuple[list[World], dict[str, Any]]:
    """The statistics of both maps, and how real and synthetic queries compare."""
    places = town_and_nordland()
    whole = [place.references.astype(np.float32) for place in places]
    projection = learn_projection(np.concatenate(whole), COORDINATES)
    worlds, statistics = [], {}
    for place, rows in zip(places, whole, strict=True):
        images = projection.project(rows)
        queries = {
            name: (projection.project(described), place.nearest[name])
            for name, described in place.queries.items()
        }
        kind = world(images, list(queries.values()))
        for (name, real), condition in zip(queries.items(), kind.conditions, strict=True):
            statistics[f"{place.name}, {name}"] = {
                "real": retrieval_statistics(images, *real),
                "synthetic": imitation(kind, condition, len(images), len(real[0])),
            }
        worlds.append(kind)
    return worlds, statistics


def synthesize(
    folder: Path, worlds: list[World], count: int, seed: int = 0
) -> tuple[Projection, NDArray[Any]]:
    """Write codes.npy, int8 [count, d]; returns what decodes them and queries [QUERIES, d]."""
    rng = np.random.default_rng(seed)
    width = len(worlds[0].mean)
    create = np.lib.format.open_memmap
    codes = create(folder / "codes.npy", "w+", np.int8, (count, width))  # type: ignore[no-untyped-call]
    projection, done, queries = None, 0, []
    per_image = -(-QUERIES * min(4, count) // count) if count < QUERIES else QUERIES
    for turn, rows in enumerate(routes(worlds, count)):
        if projection is None:
            steps = 1.5 * MARGIN * np.abs(rows).max(0) / LEVELS
            projection = Projection(np.eye(width, dtype=np.float16), steps.astype(np.float32))
        codes[done : done + len(rows)] = projection.encode(rows)
        done += len(rows)
        kind = worlds[turn % len(worlds)]
        shown = rows[rng.integers(0, len(rows), per_image)]
        for condition, part in zip(
            kind.conditions, np.array_split(shown, len(kind.conditions)), strict=True
        ):
            queries.append(seen_again(kind, condition, part, rng))
    assert projection is not None  # there are images
    every = np.concatenate(queries)
    return projection, every[rng.permutation(len(every))[:QUERIES]]


def exact(folder: Path, projection: Projection, queries: NDArray[Any]) -> NDArray[Any]:
    """Rows [Q, BEST] of the largest inner products, by comparing all in parts."""
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    rows, scores = [], []
    for start in range(0, len(codes), 20_000):
        part = queries @ projection.decode(codes[start : start + 20_000]).T
        best = np.argpartition(-part, BEST - 1, axis=1)[:, :BEST]
        rows.append(best + start)
        scores.append(np.take_along_axis(part, best, 1))
    order = np.argsort(-np.concatenate(scores, 1), axis=1)[:, :BEST]
    return np.take_along_axis(np.concatenate(rows, 1), order, 1)


def _build(folder: Path, projection: Projection) -> tuple[float, float]:
    """Seconds, and MiB by which the peak rose."""
    faiss.omp_set_num_threads(2)
    codes, before = np.load(folder / "codes.npy", mmap_mode="r"), resident("VmHWM")
    start = time.perf_counter()
    write_cells(folder / "cells", codes, projection.steps)
    return time.perf_counter() - start, (resident("VmHWM") - before) / 2**20


def _search(
    folder: Path, projection: Projection, queries: NDArray[Any], expected: NDArray[Any], kind: str
) -> dict[str, Any]:
    before, start = resident("VmRSS"), time.perf_counter()
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    index: CellIndex | FlatIndex
    if kind == "cells":
        index = CellIndex(folder / "cells", codes, projection.steps)
    else:
        index = FlatIndex(codes, projection.steps)
    opened = time.perf_counter() - start
    times, shares, queries = {}, [], queries[:, None]  # of one descriptor each
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        rows = [index.search(query, BEST)[0] for query in queries]  # also brings pages in
        ms = [1e3 * spent(partial(index.search, query, BEST))[0] for query in queries]
        times[str(threads)] = [float(np.median(ms)), float(np.percentile(ms, 99))]
    _, seconds = spent(lambda: [index.search(query, BEST) for query in queries])
    cpu = 1e3 * seconds / len(queries)
    shares = [len(set(r) & set(e)) / len(e) for r, e in zip(rows, expected, strict=True)]
    ram = (resident("VmRSS") - before) / 2**20
    return {
        "open_s": opened,
        "ram_mib": ram,
        "ms": times,
        "cpu_ms": cpu,
        "found": float(np.mean(shares)),
    }
