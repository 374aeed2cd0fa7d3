# SPDX-License-Identifier: Apache-2.0
"""Maps larger than any at hand: of noise, and coarse descriptors with the statistics of real ones.

Real are the descriptors that a model makes of a map and of queries in another season or by night,
in principal coordinates of the maps. A `World` takes from them the mean, the covariance and, along
each of its axes, the correlation of an image with the next on the route; a synthetic route is a
stationary Gaussian process with these, its images scaled to the real ones' length. A query is a
linear regression on its image, as real queries are on theirs axis by axis, plus noise with the
mean and covariance of what that leaves. (The mere difference of query and image will not do: it
depends on the image.) The noise is stretched until as many queries find their image or a neighbour
in a synthetic map of the real one's size as really do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig
from disam_ros.datasets.records import ImageRecord
from disam_ros.demo.drives import MODEL
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.mapping.builder import write_indices
from disam_ros.mapping.compression import model_projection
from disam_ros.mapping.place_map import MapHeader, PlaceMap
from disam_ros.mapping.writer import MapWriter
from disam_ros.models.model import Model, load_model
from disam_ros.models.similarity import descriptor_shapes

ROUTE = 1000  # images of a route, at most
AT_ONCE = 2**14  # images made at once
NEGLIGIBLE = 1e-3  # spread below which an axis says nothing about a query, over the largest
STRETCHES = np.linspace(1.0, 3.0, 21)


@dataclass(frozen=True)
class Condition:
    """How queries follow from their images, along the axes of a world."""

    mean: NDArray[Any]  # coordinates [d]
    gain: NDArray[Any]  # of the image's offset in the query's [d]
    noise: NDArray[Any]  # what the regression left of n real queries [n, d]
    stretch: float = 1.0  # of the noise


@dataclass(frozen=True)
class World:
    """Statistics of a map and of queries on it."""

    mean: NDArray[Any]  # coordinates [d]
    axes: NDArray[Any]  # orthonormal rows [d, d]
    spread: NDArray[Any]  # standard deviations along the axes
    memory: NDArray[Any]  # correlations of neighbouring images along the axes
    length: float  # mean of the descriptors'
    conditions: tuple[Condition, ...] = ()


def world(images: NDArray[Any], queries: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> World:
    """Statistics of map coordinates [N, d] and of queries [Q, d] with the rows [Q] they show."""
    mean = images.mean(0)
    _, lengths, axes = np.linalg.svd(images - mean, full_matrices=True)
    spread = np.zeros(len(axes), np.float32)
    spread[: len(lengths)] = lengths / len(images) ** 0.5
    along = (images - mean) @ axes.T
    memory = (along[1:] * along[:-1]).mean(0) / (along**2).mean(0).clip(1e-12)
    length = float(np.linalg.norm(images, axis=1).mean())
    plain = World(mean, axes, spread, memory.clip(0.0, 0.999).astype(np.float32), length)
    conditions = [
        _stretched(plain, _condition(plain, images, query, rows), images, query, rows)
        for query, rows in queries
    ]
    return replace(plain, conditions=tuple(conditions))


def routes(worlds: Sequence[World], count: int, seed: int = 0) -> Iterator[NDArray[Any]]:
    """Coordinates of `count` images in parts [n, d], routes of the worlds in turn."""
    rng = np.random.default_rng(seed)
    share = -(-count // len(worlds))
    length = min(ROUTE, share)
    number = min(AT_ONCE // length, -(-share // length))
    done = turn = 0
    while done < count:
        part = walk(worlds[turn % len(worlds)], number, length, rng)[: count - done]
        yield part
        done, turn = done + len(part), turn + 1


def walk(kind: World, number: int, length: int, rng: np.random.Generator) -> NDArray[Any]:
    """Routes one after the other, float32 [number · length, d]."""
    steps = rng.standard_normal((length, number, len(kind.mean)), np.float32)
    fresh = np.sqrt(1 - kind.memory**2)
    for last, step in pairwise(steps):
        step *= fresh
        step += kind.memory * last
    steps *= kind.spread
    along = steps.transpose(1, 0, 2).reshape(number * length, -1)
    rows = along @ kind.axes + kind.mean
    result: NDArray[Any] = rows * (kind.length / np.linalg.norm(rows, axis=1, keepdims=True))
    return result


def seen_again(
    kind: World, condition: Condition, images: NDArray[Any], rng: np.random.Generator
) -> NDArray[Any]:
    """A query for each image [n, d]."""
    along = (images - kind.mean) @ kind.axes.T
    noise = rng.standard_normal((len(images), len(condition.noise)), np.float32) @ condition.noise
    noise *= condition.stretch / len(condition.noise) ** 0.5
    result: NDArray[Any] = (condition.mean + (along * condition.gain + noise) @ kind.axes).astype(
        np.float32
    )
    return result


def retrieval_statistics(
    images: NDArray[Any], queries: NDArray[Any], rows: NDArray[Any]
) -> dict[str, float]:
    """Recall, scores and margins of queries [Q, d] of the rows [Q] among images [N, d].

    margin: score of the image less the best one's from more than five images away.
    """
    scores = queries @ images.T
    off = np.abs(np.arange(len(images)) - rows[:, None])
    true = scores[np.arange(len(rows)), rows]
    margin = true - np.where(off > 5, scores, -np.inf).max(1)
    return {
        "R@1 ±1": float((off[np.arange(len(rows)), scores.argmax(1)] <= 1).mean()),
        "score": float(true.mean()),
        "margin, median": float(np.median(margin)),
        "margin, 10th percentile": float(np.percentile(margin, 10)),
        "others' score, median": float(np.median(scores[off > 5])),
        "others' score, 99th percentile": float(np.percentile(scores[off > 5], 99)),
    }


def imitation(
    kind: World, condition: Condition, images: int, queries: int, seed: int = 1
) -> dict[str, float]:
    """`retrieval_statistics` of a synthetic map of this size."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, images, queries)
    made = walk(kind, 1, images, rng)
    return retrieval_statistics(made, seen_again(kind, condition, made[rows], rng), rows)


def _condition(
    kind: World, images: NDArray[Any], queries: NDArray[Any], rows: NDArray[Any]
) -> Condition:
    mean = queries.mean(0)
    offsets = (queries - mean) @ kind.axes.T
    sources = (images[rows] - images[rows].mean(0)) @ kind.axes.T
    gain = (offsets * sources).mean(0) / (sources**2).mean(0).clip(1e-12)
    gain[kind.spread < NEGLIGIBLE * kind.spread[0]] = 0.0
    noise = offsets - sources * gain
    # the image's mean offset is part of the query's mean
    mean = mean - ((images[rows].mean(0) - kind.mean) @ kind.axes.T * gain) @ kind.axes
    return Condition(mean, gain, noise.astype(np.float32))


def _stretched(
    kind: World,
    condition: Condition,
    images: NDArray[Any],
    queries: NDArray[Any],
    rows: NDArray[Any],
) -> Condition:
    """The condition with the noise that makes its queries as hard as the real ones."""
    real = retrieval_statistics(images, queries, rows)["R@1 ±1"]
    tried = [replace(condition, stretch=float(stretch)) for stretch in STRETCHES]
    return min(
        tried,
        key=lambda c: abs(imitation(kind, c, len(images), 2 * len(queries))["R@1 ±1"] - real),
    )


def noise_map(
    directory: Path,
    model: Model,
    images: int,
    config: DescriptorConfig = DescriptorConfig(),
    distinct: int = 0,
    cameras: Mapping[str, Camera] | None = None,
) -> PlaceMap:
    """A map of noise descriptors, one metre apart on parallel routes of a thousand images.

    distinct: how many different descriptors recur; 0: all differ. cameras: of which each takes an
    image at a place; None: one that is the base itself.
    """
    lens = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    rng, rig = np.random.default_rng(0), dict(cameras or {"front": lens})
    ahead = BODY_FROM_OPTICAL if cameras is None else np.eye(3)
    shapes = descriptor_shapes(model.network, config)
    projection = model_projection(model.projection, shapes["coarse"])
    directions = projection.sha256 if projection else ""
    header = MapHeader(model.identity, model.name, "map", rig, config, directions=directions)
    sizes = {stage: int(np.prod(shape)) for stage, shape in shapes.items()}
    spectrum = 1.0 / np.sqrt(1.0 + np.arange(sizes["coarse"], dtype=np.float32))
    domain = model.domain_names()[0]

    def draw() -> tuple[NDArray[Any], NDArray[Any]]:
        coarse = spectrum * rng.standard_normal(sizes["coarse"], np.float32)
        return coarse / np.linalg.norm(coarse), rng.standard_normal(sizes["fine"], np.float32)

    kept = [draw() for _ in range(distinct or 0)]
    writer = MapWriter(directory, header, shapes, "noise", projection=projection)
    for index in range(images):
        coarse, fine = kept[index % len(kept)] if kept else draw()
        row, name = index // len(rig), list(rig)[index % len(rig)]
        place = np.array([row % ROUTE, 20.0 * (row // ROUTE), 1.5])
        pose = Transform.from_rotation(place, ahead) @ rig[name].base_from_camera
        source = f"images/{domain}/{name}/{row:09d}.jpg"
        record = ImageRecord(index, row * 10**8, name, domain, source, pose)
        writer.add(record, coarse, fine)
    writer.commit(images)
    writer.finish()
    return PlaceMap(directory, verify=False)


def large_noise_map(directory: Path, images: int) -> None:
    """A noise map of the shipped model with its search index, its fine descriptors small."""
    config = DescriptorConfig(coarse_grid=3, fine_grid=1)
    write_indices(noise_map(directory, load_model(MODEL), images, config))
