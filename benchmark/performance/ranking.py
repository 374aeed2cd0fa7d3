# SPDX-License-Identifier: Apache-2.0
"""Recall lost by compact descriptors against the paper's exact features, and rival codecs.

Coarse to fine with as many candidates as a localizer has, offline. Codecs that no map uses live
here only.
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

from demo.drives import CONDITIONS, DATA, MODEL, read_drive
from disam_ros import image
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.evaluation import score
from disam_ros.image import to_tensor
from disam_ros.mapping.compression import learn_projection, to_int8
from disam_ros.models.descriptor import coarse_descriptor, descriptor_shapes, fine_descriptor
from disam_ros.models.model import Model, load_model
from disam_ros.models.network_config import PRESETS
from disam_ros.models.projection import Projection
from training.data.places import same_place
from training.engine.validate import SAME_TILE, load_validation
from training.settings import CropConfig, ValidationConfig

CANDIDATES = LocalizerConfig().candidates
EXACT = DescriptorConfig(coarse_grid=256, fine_grid=256)
GRIDS = (
    EXACT,
    DescriptorConfig(coarse_grid=8, fine_grid=8),
    DescriptorConfig(coarse_grid=4),
    DescriptorConfig(coarse_grid=12),
)
NORDLAND = Path("data/nordland_64x32.npz")
NORDLAND_STRIDE, TOLERANCE = 3, 1  # frames: every third; right if so near
WEBCAMS, WEBCAM_MODEL = "webcams:data/dnim/test", Path("models/outdoor")
WEBCAM_IMAGES = 12  # of a camera, by day and by night, cut into 16 tiles each
OFFSETS = {"dnim": 0.0, "dnim offset": 0.15}  # of queries' tiles, fraction of a tile

Descriptors = tuple[np.ndarray, np.ndarray]  # coarse and fine [N, D]


@dataclass(frozen=True)
class Codec:
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
    """Shares by codec and column, the share of unchanged answers and the bytes of each codec."""
    rows: dict[str, dict] = {name: {"shares": {}} for name in CODECS}
    same: dict[str, list[np.ndarray]] = {name: [] for name in CODECS}
    places = all_places()
    for place in places:
        for condition, queries in place.queries.items():
            exact = answers(CODECS[EXACT_ROW], queries, place.references)
            for name, codec in CODECS.items():
                found = answers(codec, queries, place.references)
                rows[name]["shares"] |= place.judge(condition, found)
                same[name].append(found == exact)
    for name, codec in CODECS.items():
        coarse = places[0].references[codec.grid][0].shape[1]
        fine = places[0].references[codec.fine_grid][1].shape[1]
        rows[name]["coarse_bytes"] = codec.bytes(coarse)
        rows[name]["fine_bytes"] = fine * np.dtype(codec.fine).itemsize
        rows[name]["same"] = float(np.concatenate(same[name]).mean())
    images = {p.name: len(p.references[0][0]) for p in places if p.name not in list(OFFSETS)[1:]}
    exact, ours = rows[EXACT_ROW]["shares"], rows[SHIPPED]["shares"]
    return {
        "rows": rows,
        "images": images,
        "shipped": SHIPPED,
        "lost": max(exact[column] - ours[column] for column in exact),
        "kib": kib_of_an_image(),
    }


def kib_of_an_image() -> dict[str, float]:
    """KiB of an image's descriptors on disk by preset."""
    config = DescriptorConfig()
    shapes = {name: descriptor_shapes(PRESETS[name], config)["fine"] for name in PRESETS}
    return {name: float(config.coarse_size + np.prod(s)) / 1024 for name, s in shapes.items()}


def answers(codec: Codec, queries: list[Descriptors], references: list[Descriptors]) -> np.ndarray:
    """Best row of each query [Q] when descriptors are stored so."""
    part, query = codec.coarse(references[codec.grid][0], queries[codec.grid][0])
    fine = references[codec.fine_grid][1]
    if codec.fine == "int8":
        fine = to_int8(fine).astype(np.float32)
        fine /= np.linalg.norm(fine, axis=1, keepdims=True).clip(1e-12)
    else:
        fine = fine.astype(codec.fine)
    return coarse_to_fine((query, queries[codec.fine_grid][1]), (part, fine))


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
    return [*town_and_nordland(), *(_webcams(model, *webcams) for webcams in OFFSETS.items())]


def _webcams(model: Model, name: str, offset: float) -> Place:
    """Tiles of fixed cameras, day → night. offset: lateral, of the queries', fraction of a tile."""
    config = ValidationConfig(
        data=[WEBCAMS], reference="day", shift=offset, images=WEBCAM_IMAGES, radius=1.0
    )
    found = load_validation(config, model.network.image_size, CropConfig(), ["day", "night"])
    references = describe_all(model, "summer_day", found.images["day"], GRIDS)
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
    queries: Descriptors, references: Descriptors, candidates: int = CANDIDATES
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


@cache
def directions_of_model() -> Projection:
    """Those that come with the shipped model."""
    projection = load_model(MODEL).projection
    assert projection is not None
    return projection


def _of_model(references: np.ndarray, queries: np.ndarray) -> Descriptors:
    """As maps of the shipped model do it."""
    projection = directions_of_model()
    return projection.decode(projection.encode(references)), projection.project(queries)


def _random(size: int, references: np.ndarray, queries: np.ndarray) -> Descriptors:
    shape = (references.shape[1], size)
    directions = np.random.default_rng(0).standard_normal(shape, np.float32) / size**0.5
    stored = references @ directions
    scale = np.abs(stored).max(1, keepdims=True) / 127
    return np.rint(stored / scale) * scale, queries @ directions


def _product(size: int, references: np.ndarray, queries: np.ndarray) -> Descriptors:
    bits = min(8, int(np.log2(len(references))))  # no more centres than images
    quantizer = faiss.ProductQuantizer(references.shape[1], size, bits)
    quantizer.cp.min_points_per_centroid = 1  # else it complains of small maps
    quantizer.train(np.ascontiguousarray(references))
    return quantizer.decode(quantizer.compute_codes(np.ascontiguousarray(references))), queries


def _bytes(size: int) -> Callable[[int], int]:
    return lambda _: size


def _principal(
    size: int, grid: int = 0, sample: slice = slice(None), fine: str = "int8", fine_grid: int = 0
) -> Codec:
    return Codec(partial(_directions, size, sample), lambda _: size, grid, fine, fine_grid)


EXACT_ROW, SHIPPED = "exact features, float32", "the model's 1024 directions, int8"
CODECS = {
    EXACT_ROW: Codec(partial(_as, "float32"), lambda d: 4 * d, 0, "float32"),
    "8 cells, float16": Codec(partial(_as, "float16"), lambda d: 2 * d, 1, "float16"),
    "4 cells, float16": Codec(partial(_as, "float16"), lambda d: 2 * d, 2, "float16"),
    "512 principal directions, int8; fine float16": _principal(512, fine="float16"),
    SHIPPED: Codec(_of_model, lambda _: 1024, grid=1),
    "512 principal directions of the map, int8": _principal(512),
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
    "random projection to 512, int8": Codec(partial(_random, 512), lambda _: 512),
    "product quantization, 256 bytes": Codec(partial(_product, 256), lambda _: 256),
    "product quantization, 128 bytes": Codec(partial(_product, 128), lambda _: 128),
}
