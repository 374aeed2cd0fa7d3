# SPDX-License-Identifier: Apache-2.0
"""What compact descriptors cost in ranking against the exact features of the paper, and rivals.

Coarse to fine with three candidates, off line. The means that a map does not use live here only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmark.peers.table import markdown
from demo.drives import CONDITIONS, DATA, MODEL, read_drive
from disam_ros import image
from disam_ros.config import DescriptorConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.evaluation import score
from disam_ros.image import to_tensor
from disam_ros.mapping.compression import learn_projection, to_int8
from disam_ros.models.descriptor import coarse_descriptor, descriptor_shapes, fine_descriptor
from disam_ros.models.model import Model, load_model
from disam_ros.models.networks import PRESETS
from training.data.places import same_place
from training.engine.validate import SAME_TILE, load_validation
from training.settings import CropConfig, ValidationConfig

EXACT = DescriptorConfig(coarse_grid=256, fine_grid=256)
GRIDS = (
    EXACT,
    DescriptorConfig(coarse_grid=8, fine_grid=8),
    DescriptorConfig(coarse_grid=4),
    DescriptorConfig(coarse_grid=12),
)
NORDLAND = Path("data/nordland_64x32.npz")
NORDLAND_STRIDE, TOLERANCE = 3, 1  # frames: every third; right if so near
WEBCAMS, WEBCAM_MODEL = "webcams:data/dnim/test", Path("models/daynight-lite")
WEBCAM_IMAGES = 12  # of a camera, by day and by night, cut into 16 tiles each
ASIDE = {"dnim": 0.0, "dnim aside": 0.15}  # share of a tile by which queries' tiles lie aside
TARGET = 0.5  # points that a map's descriptors may cost
KIB = {"mobile": 32, "lite": 32, "full": 64}  # of an image on disk

Descriptors = tuple[np.ndarray, np.ndarray]  # coarse and fine [N, D]


@dataclass(frozen=True)
class Means:
    """One way to store descriptors.

    coarse: (references [N, D], queries [Q, D]) → what their inner products are taken of. bytes: of
    a coarse descriptor, given D. grid, fine_grid: places in GRIDS. fine: how fine ones are stored.
    """

    coarse: Callable[[np.ndarray, np.ndarray], Descriptors]
    bytes: Callable[[int], int]
    grid: int = 0
    fine: str = "int8"
    fine_grid: int = 0


@dataclass(frozen=True)
class Place:
    """A map and queries. Descriptors are listed by GRIDS.

    nearest: row of the map image that a query shows. judge: shares by name, given the rows found.
    """

    name: str
    references: list[Descriptors]
    queries: dict[str, list[Descriptors]]
    nearest: dict[str, np.ndarray]
    judge: Callable[[str, np.ndarray], dict[str, float]]


def measure() -> dict:
    """Shares by means and column, the share of unchanged answers and the bytes of each means."""
    rows: dict[str, dict] = {name: {"shares": {}} for name in MEANS}
    same: dict[str, list[np.ndarray]] = {name: [] for name in MEANS}
    places = all_places()
    for place in places:
        for condition, queries in place.queries.items():
            exact = answers(MEANS[EXACT_ROW], queries, place.references)
            for name, means in MEANS.items():
                found = answers(means, queries, place.references)
                rows[name]["shares"] |= place.judge(condition, found)
                same[name].append(found == exact)
    for name, means in MEANS.items():
        coarse = places[0].references[means.grid][0].shape[1]
        fine = places[0].references[means.fine_grid][1].shape[1]
        rows[name]["coarse_bytes"] = means.bytes(coarse)
        rows[name]["fine_bytes"] = fine * np.dtype(means.fine).itemsize
        rows[name]["same"] = float(np.concatenate(same[name]).mean())
    images = {p.name: len(p.references[0][0]) for p in places if p.name not in list(ASIDE)[1:]}
    return {"rows": rows, "images": images}


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    rows = results["rows"]
    columns = list(rows[EXACT_ROW]["shares"])
    header = ["descriptors", "coarse, bytes", "both, KiB", *columns, "same answer"]
    lines = []
    for name, row in rows.items():
        total = (row["coarse_bytes"] + row["fine_bytes"]) / 1024
        shares = [f"{100 * share:.1f}" for share in (*row["shares"].values(), row["same"])]
        lines.append([name, f"{row['coarse_bytes']:,}", f"{total:.1f}", *shares])
    exact, ours = rows[EXACT_ROW]["shares"], rows[SHIPPED]["shares"]
    lost = {column: 100 * (exact[column] - ours[column]) for column in columns}
    worst = max(lost, key=lost.get)
    told = "met" if lost[worst] <= TARGET else f"missed by {lost[worst] - TARGET:.1f} points"
    images = ", ".join(f"{name} {count}" for name, count in results["images"].items())
    return (
        "## Ranking cost of compact descriptors\n\n"
        f"`python -m benchmark.performance ranking`: percent; model town-lite, map images: {images}; "
        "town: R@1 within 5 m and shares within the pose thresholds; Nordland: every third frame "
        "of 64×32 pixels, winter in a summer map, right within one frame; dnim: model "
        "daynight-lite, tiles of the test webcams by night in a map of their tiles by day, the "
        f"same or {100 * ASIDE['dnim aside']:.0f} % of a tile aside. Three candidates. Fine "
        "descriptors are float32 with exact features, float16 with pooled ones and where said, "
        "else int8. *Same answer*: as with exact features. Bold: what a map stores. There are no "
        "more directions than images they are learned from: 280 and 140 of every 2nd and 4th in "
        "the town; a map above some 3000 images learns them from that many, evenly spaced.\n\n"
        + markdown(header, [[f"**{c}**" for c in x] if x[0] == SHIPPED else x for x in lines])
        + f"\nTargets: at most {TARGET} points lost in any column: {told} (largest loss "
        f"{max(0.0, lost[worst]):.1f}); bytes of an image on disk: {_sizes()}.\n"
    )


def _sizes() -> str:
    config, told = DescriptorConfig(), []
    for preset, target in KIB.items():
        size = config.coarse_size + np.prod(descriptor_shapes(PRESETS[preset], config)["fine"])
        verdict = "met" if size <= target * 1024 else f"missed by {size / 1024 - target:.1f} KiB"
        told.append(f"`{preset}` {size / 1024:.1f} KiB, target {target}: {verdict}")
    return ", ".join(told)


def answers(means: Means, queries: list[Descriptors], references: list[Descriptors]) -> np.ndarray:
    """Best row of each query [Q] when descriptors are stored so."""
    part, query = means.coarse(references[means.grid][0], queries[means.grid][0])
    fine = references[means.fine_grid][1]
    if means.fine == "int8":
        fine = to_int8(fine).astype(np.float32)
        fine /= np.linalg.norm(fine, axis=1, keepdims=True).clip(1e-12)
    else:
        fine = fine.astype(means.fine)
    return coarse_to_fine((query, queries[means.fine_grid][1]), (part, fine))


@cache
def town_and_nordland() -> list[Place]:
    """Both maps, described once."""
    model = load_model(MODEL)
    return [_town(model), _nordland(model)]


def _town(model: Model) -> Place:
    reference = Dataset(DATA / "reference")
    poses = [record.map_from_camera for record in reference.records]
    positions = np.array([pose.translation for pose in poses])
    camera = reference.info.cameras["front"].base_from_camera
    images = [image.read(reference.path(record)) for record in reference.records]
    references = describe_all(model, "summer_day", images, GRIDS)
    truth, queries, nearest = {}, {}, {}
    for condition in CONDITIONS:
        drive = read_drive(DATA / condition)
        truth[condition] = [pose @ camera for pose in drive.truth]
        queries[condition] = describe_all(model, condition, drive.images, GRIDS)
        places = np.array([pose.translation for pose in truth[condition]])
        nearest[condition] = np.linalg.norm(positions - places[:, None], axis=2).argmin(1)

    def judge(condition: str, found: np.ndarray) -> dict[str, float]:
        result = score(truth[condition], [poses[row] for row in found])
        shares = {"R@1": result.recall_at_1, **result.within}
        return {f"{condition} {name}": share for name, share in shares.items()}

    return Place("town", references, queries, nearest, judge)


@cache
def all_places() -> list[Place]:
    """Those and webcams by day and night."""
    model = load_model(WEBCAM_MODEL)
    return [*town_and_nordland(), *(_webcams(model, name, ASIDE[name]) for name in ASIDE)]


def _webcams(model: Model, name: str, aside: float) -> Place:
    """Tiles of fixed cameras, day → night; those of the queries lie aside."""
    config = ValidationConfig(
        data=[WEBCAMS], reference="day", shift=aside, images=WEBCAM_IMAGES, radius=1.0
    )
    found = load_validation(config, model.network.image_size, CropConfig(), ["day", "night"])
    references = describe_all(model, "day", found.images["day"], GRIDS)
    queries = {"night": describe_all(model, "night", found.images["night"], GRIDS)}
    right = same_place(found.places["night"], found.places["day"], 1.0, 10.0, SAME_TILE)
    rows = np.arange(len(right))

    def judge(_: str, found: np.ndarray) -> dict[str, float]:
        return {name: float(right[rows, found].mean())}

    return Place(name, references, queries, {"night": right.argmax(1)}, judge)


def _nordland(model: Model) -> Place:
    with np.load(NORDLAND) as file:
        grey = [file[season][::NORDLAND_STRIDE] for season in ("summer", "winter")]
    summer, winter = ([np.repeat(x[..., None], 3, -1) for x in season] for season in grey)
    references = describe_all(model, "summer_day", summer, GRIDS)
    queries = {"winter": describe_all(model, "winter_snow", winter, GRIDS)}
    rows = np.arange(len(summer))

    def judge(_: str, found: np.ndarray) -> dict[str, float]:
        return {f"Nordland ±{TOLERANCE}": float((np.abs(found - rows) <= TOLERANCE).mean())}

    return Place("Nordland", references, queries, {"winter": rows}, judge)


def describe_all(
    model: Model,
    domain: str,
    images: Iterable[np.ndarray | Tensor],
    configs: Iterable[DescriptorConfig],
) -> list[Descriptors]:
    """Coarse and fine descriptors [N, D] by configuration, each image encoded once.

    images: uint8 RGB, or network inputs [3, H, W].
    """
    configs = list(configs)
    rows: list[list[Descriptors]] = [[] for _ in configs]
    for picture in tqdm(images, desc=domain, unit="img", leave=False):
        ready = isinstance(picture, Tensor)
        tensor = (picture if ready else to_tensor(picture, model.network.image_size))[None]
        with torch.inference_mode():
            z_coarse, z_fine = model.coarse[domain](tensor), model.fine[domain](tensor)
        for config, kept in zip(configs, rows, strict=True):
            kept.append(
                (_row(coarse_descriptor(z_coarse, config)), _row(fine_descriptor(z_fine, config)))
            )
    return [tuple(np.stack(part) for part in zip(*kept, strict=True)) for kept in rows]


def coarse_to_fine(
    queries: Descriptors, references: Descriptors, candidates: int = 3
) -> np.ndarray:
    """Best reference row of each query: N by coarse similarity, the best of them by fine."""
    coarse = queries[0].astype(np.float32) @ references[0].astype(np.float32).T
    top = np.argsort(-coarse, axis=1)[:, :candidates]
    fine = [
        references[1][t].astype(np.float32) @ q
        for t, q in zip(top, queries[1].astype(np.float32), strict=True)
    ]
    return top[np.arange(len(top)), np.argmax(fine, axis=1)]


def _row(descriptor: Tensor) -> np.ndarray:
    return descriptor[0].numpy()


def _as(kind: str, references: np.ndarray, queries: np.ndarray) -> Descriptors:
    return references.astype(kind).astype(np.float32), queries


def _directions(
    size: int, sample: slice, references: np.ndarray, queries: np.ndarray
) -> Descriptors:
    """As maps do it. sample: the map images that the directions are learned from."""
    projection = learn_projection(references[sample], size)
    return projection.decode(projection.encode(references)), projection.project(queries)


def _random(size: int, references: np.ndarray, queries: np.ndarray) -> Descriptors:
    shape = (references.shape[1], size)
    directions = np.random.default_rng(0).standard_normal(shape, np.float32) / size**0.5
    stored = references @ directions
    scale = np.abs(stored).max(1, keepdims=True) / 127
    return np.rint(stored / scale) * scale, queries @ directions


def _product(size: int, references: np.ndarray, queries: np.ndarray) -> Descriptors:
    quantizer = faiss.ProductQuantizer(references.shape[1], size, 8)
    quantizer.cp.min_points_per_centroid = 1  # else it complains of small maps
    quantizer.train(np.ascontiguousarray(references))
    return quantizer.decode(quantizer.compute_codes(np.ascontiguousarray(references))), queries


def _bytes(size: int) -> Callable[[int], int]:
    return lambda _: size


def _principal(
    size: int, grid: int = 0, sample: slice = slice(None), fine: str = "int8", fine_grid: int = 0
) -> Means:
    return Means(partial(_directions, size, sample), lambda _: size, grid, fine, fine_grid)


EXACT_ROW, SHIPPED = "exact features, float32", "512 principal directions, int8"
MEANS = {
    EXACT_ROW: Means(partial(_as, "float32"), lambda d: 4 * d, 0, "float32"),
    "8 cells, float16": Means(partial(_as, "float16"), lambda d: 2 * d, 1, "float16"),
    "4 cells, float16": Means(partial(_as, "float16"), lambda d: 2 * d, 2, "float16"),
    "512 principal directions, int8; fine float16": _principal(512, fine="float16"),
    SHIPPED: _principal(512),
    "256": _principal(256),
    "128": _principal(128),
    "64": _principal(64),
    "512, learned from every 2nd image": _principal(512, sample=slice(None, None, 2)),
    "512, learned from every 4th image": _principal(512, sample=slice(None, None, 4)),
    "512, learned from the first 140 images": _principal(512, sample=slice(140)),
    "512, of 8 cells": _principal(512, grid=1),
    "256, of 8 cells": _principal(256, grid=1),
    "512, of 12 cells": _principal(512, grid=3),
    "512, of 4 cells": _principal(512, grid=2),
    "512; fine of 8 cells": _principal(512, fine_grid=1),
    "random projection to 512, int8": Means(partial(_random, 512), lambda _: 512),
    "product quantization, 256 bytes": Means(partial(_product, 256), lambda _: 256),
    "product quantization, 128 bytes": Means(partial(_product, 128), lambda _: 128),
}
