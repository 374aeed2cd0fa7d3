# SPDX-License-Identifier: Apache-2.0
"""Coarse search in maps of a thousand to a million images, whole and around a place.

Descriptors are synthetic (synthetic_map.py): town-lite's on the season town and on Nordland, in the
512 principal coordinates of both maps, give the statistics. Every figure of an index is taken in a
fresh process that opens its file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from benchmark.machine import fresh, load, resident
from benchmark.peers.table import markdown, verdict
from benchmark.performance.ranking import town_and_nordland
from benchmark.performance.scale_figure import draw as draw_curves
from benchmark.performance.synthetic_map import (
    World,
    imitation,
    likeness,
    routes,
    seen_again,
    world,
)
from disam_ros.mapping.compression import LEVELS, MARGIN, Projection, learn_projection
from disam_ros.mapping.index import FLAT, CellIndex, FlatIndex, PlaceIndex, write_cells

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUERIES = 200
BEST = 3  # images whose loss counts
COORDINATES = 512
STREETS = 20.0  # metres between the parallel routes that discs are cut from
RADIUS = 50.0
FILTERED = 20  # queries that the filtered scan is timed on
TARGETS = {"ms": 5.0, "found": 0.99, "ram_mib": 1024.0, "disc_ms": 0.2}


def measure(sizes: tuple[int, ...] = SIZES) -> dict:
    """Figures of every size and kind of index, of the discs, and how like the queries are."""
    worlds, likenesses = worlds_of_real_maps()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch)
            projection, queries = synthesize(folder, worlds, size)
            expected = exact(folder, projection, queries)
            kinds = ["flat"] + ["cells"] * (size >= 10_000)
            for kind in kinds:
                row = {"images": size, "kind": kind, "load": load()}
                if kind == "cells":
                    row["build_s"], row["build_mib"] = fresh(_build, folder, projection)
                    row["file_mib"] = (folder / "cells").stat().st_size / 2**20
                row |= fresh(_search, folder, projection, queries, expected, kind)
                rows.append(row)
        disc = fresh(_discs, folder, projection, queries)
    return {"rows": rows, "disc": disc | {"images": sizes[-1]}, "likeness": likenesses}


def draw(results: dict) -> None:
    """Curves of the figures, docs/images/scale.png."""
    draw_curves(results)


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    header = ["images", "index", "built in s", "file, MiB", "opened in ms", "RAM, MiB"]
    header += ["p50 / p99, one thread", "p50 / p99, two threads", "of a core"]
    header += [f"top {BEST} found, %", "load"]
    rows = []
    for row in results["rows"]:
        cells = [f"{row['images']:,}", row["kind"]]
        cells += (
            [f"{row['build_s']:.1f}", f"{row['file_mib']:.0f}"] if "build_s" in row else ["", ""]
        )
        cells += [f"{1e3 * row['open_s']:.0f}", f"{row['ram_mib']:.0f}"]
        cells += [f"{p50:.2f} / {p99:.2f}" for p50, p99 in row["ms"].values()]
        cells.append(f"{row['cpu_ms']:.2f}")
        rows.append([*cells, f"{100 * row['found']:.1f}", f"{row['load']:.1f}"])
    largest, disc = results["rows"][-1], results["disc"]
    fastest = min(p50 for p50, _ in largest["ms"].values())
    verdicts = [
        verdict("a query among the most images, p50", fastest, TARGETS["ms"], "ms"),
        verdict(
            f"top {BEST} found there", 100 * largest["found"], 100 * TARGETS["found"], "%", True
        ),
        verdict("RAM there", largest["ram_mib"], TARGETS["ram_mib"], "MiB"),
        verdict("a disc", disc["ms"], TARGETS["disc_ms"], "ms"),
    ]
    likenesses = [
        [name, kind, *(f"{figures[k]:.3f}" for k in figures)]
        for name, both in results["likeness"].items()
        for kind, figures in both.items()
    ]
    names = list(next(iter(next(iter(results["likeness"].values())).values())))
    return (
        "## Coarse search in large maps\n\n"
        f"`python -m benchmark.performance scale`: {COORDINATES} int8 coordinates an image, {QUERIES} "
        f"queries one by one, times in ms. A map uses `flat` up to {FLAT:,} images, else `cells`. "
        "RAM: growth of a fresh process that opens the index and answers all queries, mapped "
        "pages included. Of a core: processor time a query, mean, which other processes hardly "
        "change. A search uses one thread whatever it is given. Found: share of the "
        f"{BEST} largest inner products.\n\n"
        "![The same as curves](images/scale.png)\n\n"
        f"{markdown(header, rows)}\n"
        f"Among the {disc['images']:,} images those within {RADIUS:g} m of a place, "
        f"{disc['inside']:.0f} of them (routes of 1 m steps, {STREETS:g} m apart), two threads:\n\n"
        + markdown(
            ["", "p50", "p99"],
            [
                ["PlaceIndex", f"{disc['ms']:.3f}", f"{disc['p99_ms']:.3f}"],
                ["faiss, IDSelectorBatch of the same rows", f"{disc['filtered_ms']:.3f}", ""],
            ],
        )
        + f"\nIts tree takes {disc['tree_mib']:.0f} MiB and {disc['tree_s']:.2f} s to make.\n\n"
        f"Targets: {'; '.join(verdicts)}.\n\n"
        "The descriptors are synthetic: Gaussian routes with the mean, covariance and neighbour "
        "correlation of the real maps, queries by regression on their image plus noise with the "
        "covariance of what the regression leaves of the real queries, stretched until they are "
        "as hard as these (benchmark/performance/synthetic_map.py). Real and synthetic maps of one size:\n\n"
        f"{markdown(['queries', '', *names], likenesses)}"
    )


def worlds_of_real_maps() -> tuple[list[World], dict]:
    """The statistics of both maps, and real beside synthetic queries."""
    places = town_and_nordland()
    whole = [place.references[0][0].astype(np.float32) for place in places]
    projection = learn_projection(np.concatenate(whole), COORDINATES)
    worlds, likenesses = [], {}
    for place, rows in zip(places, whole, strict=True):
        images = projection.project(rows)
        queries = {
            name: (projection.project(described[0][0]), place.nearest[name])
            for name, described in place.queries.items()
        }
        kind = world(images, list(queries.values()))
        for (name, real), condition in zip(queries.items(), kind.conditions, strict=True):
            likenesses[f"{place.name}, {name}"] = {
                "real": likeness(images, *real),
                "synthetic": imitation(kind, condition, len(images), len(real[0])),
            }
        worlds.append(kind)
    return worlds, likenesses


def synthesize(
    folder: Path, worlds: list[World], count: int, seed: int = 0
) -> tuple[Projection, np.ndarray]:
    """Write codes.npy, int8 [count, d]; returns what decodes them and queries [QUERIES, d]."""
    rng = np.random.default_rng(seed)
    width = len(worlds[0].mean)
    codes = np.lib.format.open_memmap(folder / "codes.npy", "w+", np.int8, (count, width))
    projection, done, queries = None, 0, []
    wanted = -(-QUERIES * min(4, count) // count) if count < QUERIES else QUERIES
    for turn, rows in enumerate(routes(worlds, count)):
        if projection is None:
            steps = 1.5 * MARGIN * np.abs(rows).max(0) / LEVELS
            projection = Projection(np.eye(width, dtype=np.float16), steps.astype(np.float32))
        codes[done : done + len(rows)] = projection.encode(rows)
        done += len(rows)
        kind = worlds[turn % len(worlds)]
        shown = rows[rng.integers(0, len(rows), wanted)]
        for condition, part in zip(
            kind.conditions, np.array_split(shown, len(kind.conditions)), strict=True
        ):
            queries.append(seen_again(kind, condition, part, rng))
    every = np.concatenate(queries)
    return projection, every[rng.permutation(len(every))[:QUERIES]]


def exact(folder: Path, projection: Projection, queries: np.ndarray) -> np.ndarray:
    """Rows [Q, BEST] of the largest inner products, by comparing all in parts."""
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    rows, scores = [], []
    for start in range(0, len(codes), 20_000):
        found = queries @ projection.decode(codes[start : start + 20_000]).T
        best = np.argpartition(-found, BEST - 1, axis=1)[:, :BEST]
        rows.append(best + start)
        scores.append(np.take_along_axis(found, best, 1))
    order = np.argsort(-np.concatenate(scores, 1), axis=1)[:, :BEST]
    return np.take_along_axis(np.concatenate(rows, 1), order, 1)


def _build(folder: Path, projection: Projection) -> tuple[float, float]:
    """Seconds, and MiB by which the peak rose."""
    faiss.omp_set_num_threads(2)
    codes, before = np.load(folder / "codes.npy", mmap_mode="r"), resident("VmHWM")
    start = time.perf_counter()
    write_cells(folder / "cells", codes, projection)
    return time.perf_counter() - start, (resident("VmHWM") - before) / 2**20


def _search(
    folder: Path, projection: Projection, queries: np.ndarray, expected: np.ndarray, kind: str
) -> dict:
    before, start = resident("VmRSS"), time.perf_counter()
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    if kind == "cells":
        index = CellIndex(folder / "cells", codes, projection)
    else:
        index = FlatIndex(codes, projection)
    opened = time.perf_counter() - start
    times, found = {}, []
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        rows = [index.search(query, BEST)[0] for query in queries]  # also brings pages in
        ms = milliseconds([lambda q=q: index.search(q, BEST) for q in queries])
        times[str(threads)] = [float(np.median(ms)), float(np.percentile(ms, 99))]
    spent = time.process_time()
    for query in queries:
        index.search(query, BEST)
    cpu = 1e3 * (time.process_time() - spent) / len(queries)
    found = [len(set(r) & set(e)) / len(e) for r, e in zip(rows, expected, strict=True)]
    ram = (resident("VmRSS") - before) / 2**20
    return {
        "open_s": opened,
        "ram_mib": ram,
        "ms": times,
        "cpu_ms": cpu,
        "found": float(np.mean(found)),
    }


def _discs(folder: Path, projection: Projection, queries: np.ndarray) -> dict:
    """PlaceIndex beside a scan of all codes that skips the rows elsewhere."""
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    count = np.arange(len(codes))
    positions = np.stack([count % 1000, STREETS * (count // 1000), 0 * count], 1).astype(float)
    before, start = resident("VmRSS"), time.perf_counter()
    index = PlaceIndex(codes, projection, positions)
    made, tree = time.perf_counter() - start, (resident("VmRSS") - before) / 2**20
    centres = positions[np.random.default_rng(0).integers(0, len(codes), len(queries)), :2]
    pairs = list(zip(queries, centres, strict=True))
    faiss.omp_set_num_threads(2)
    index.search(queries[0], BEST, *centres[0], RADIUS)
    ms = milliseconds([lambda q=q, c=c: index.search(q, BEST, *c, RADIUS) for q, c in pairs])
    inside = [len(index._tree.query_ball_point(c, RADIUS)) for c in centres]
    flat = FlatIndex(codes, projection)

    def filtered(query: np.ndarray, centre: np.ndarray) -> np.ndarray:
        selected = faiss.IDSelectorBatch(index._tree.query_ball_point(centre, RADIUS))
        parameters = faiss.SearchParameters(sel=selected)
        return flat._index.search(query[None], BEST, params=parameters)[1][0]

    for query, centre in pairs[:3]:  # both must find the same
        if set(filtered(query, centre)) != set(index.search(query, BEST, *centre, RADIUS)[0]):
            raise AssertionError("the filtered scan finds other rows")
    slow = milliseconds([lambda q=q, c=c: filtered(q, c) for q, c in pairs[:FILTERED]])
    return {
        "ms": float(np.median(ms)),
        "p99_ms": float(np.percentile(ms, 99)),
        "filtered_ms": float(np.median(slow)),
        "inside": float(np.mean(inside)),
        "tree_mib": tree,
        "tree_s": made,
    }


def milliseconds(calls: list[Callable[[], object]]) -> list[float]:
    """Of each call."""
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times
