# SPDX-License-Identifier: Apache-2.0
"""All meshes of a town under one condition for one drive, sorted into cells for culling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from season_town.arrays import Mesh, Points
from season_town.conditions import Condition
from season_town.town import props
from season_town.town.houses import house_mesh
from season_town.town.layout import House, Prop, Town
from season_town.town.meshes import WIDTH, place
from season_town.town.streets import SIDEWALK_OUTER
from season_town.town.trees import tree_mesh

CELL = 30.0  # metres
TREE_VARIANTS = 5


@dataclass(frozen=True)
class Scene:
    """All meshes of a town, whole."""

    quads: Mesh  # float32 [Q, 4, WIDTH], sorted by cell
    cells: Points  # float64 [C, 5]: first quad, count, centre x y, radius


def build_scene(town: Town, condition: Condition, drive_seed: int) -> Scene:
    """Builds all that stands on the ground. Parked cars and people depend on `drive_seed`."""
    meshes = [_house(house) for house in town.houses]
    places = [house.position for house in town.houses]
    for house in town.houses:
        if house.fence != "none":
            fence, position = _fence(house)
            meshes.append(fence)
            places.append(position)
    rng = np.random.default_rng([town.seed, drive_seed, 5])
    trees: dict[tuple[str, int], Mesh] = {}
    for prop in town.props:
        mesh: Mesh | None
        if prop.kind == "slot":
            mesh = _parked(rng, prop)
        elif prop.kind in ("tree", "poplar", "conifer", "bush"):
            mesh = _tree(trees, prop, condition.foliage)
        else:
            mesh = _small(prop)
        if mesh is not None:
            meshes.append(mesh)
            places.append(prop.position)
    for position, person in _people(rng, town):
        meshes.append(person)
        places.append(position)
    return _sorted_into_cells(meshes, np.array(places))


def _house(house: House) -> Mesh:
    mesh = house_mesh(house.kind, house.tint, house.roof, house.seed)
    return place(mesh, house.position, house.yaw)


def _fence(house: House) -> tuple[Mesh, Points]:
    forward = np.array([np.cos(house.yaw), np.sin(house.yaw)])
    position = house.position + (house.setback - 0.1) * forward
    mesh = props.fence_mesh(house.fence, house.lot, house.setback, house.seed)
    return place(mesh, position, house.yaw), position


def _tree(cache: dict[tuple[str, int], Mesh], prop: Prop, foliage: str) -> Mesh:
    variant = int(prop.seed * TREE_VARIANTS)
    key = (prop.kind, variant)
    if key not in cache:
        cache[key] = tree_mesh(prop.kind, foliage, (variant + 0.5) / TREE_VARIANTS)
    return place(cache[key], prop.position, prop.seed * 40.0, prop.scale)


def _parked(rng: np.random.Generator, slot: Prop) -> Mesh | None:
    mesh = props.car_mesh(rng)
    taken, slip, turn = rng.random(), rng.uniform(-0.5, 0.5), rng.normal(0, 0.02)
    if taken > 0.38:
        return None
    along = slip * np.array([np.cos(slot.yaw), np.sin(slot.yaw)])
    return place(mesh, slot.position + along, slot.yaw + turn)


def _small(prop: Prop) -> Mesh:
    if prop.kind == "lamp":
        mesh = props.lamp_mesh(prop.seed)
    elif prop.kind.startswith("sign"):
        mesh = props.sign_mesh(prop.kind)
    else:
        mesh = props.street_furniture(prop.kind, prop.seed)
    return place(mesh, prop.position, prop.yaw)


def _people(rng: np.random.Generator, town: Town) -> list[tuple[Points, Mesh]]:
    people = []
    for _ in range(int(rng.integers(18, 40))):
        a, b = town.streets[int(rng.integers(len(town.streets)))]
        along = (b - a) / np.linalg.norm(b - a)
        left = np.array([-along[1], along[0]])
        side = rng.choice([-1.0, 1.0]) * (SIDEWALK_OUTER - rng.uniform(0.4, 1.2))
        position = a + rng.uniform(0.15, 0.85) * (b - a) + side * left
        yaw = np.arctan2(along[1], along[0]) + rng.choice([0, np.pi]) + rng.normal(0, 0.1)
        scale = float(rng.uniform(0.92, 1.08))
        people.append((position, place(props.person_mesh(rng), position, yaw, scale)))
    return people


def _sorted_into_cells(meshes: list[Mesh], places: Points) -> Scene:
    """Groups whole meshes by the grid cell they stand in."""
    index = np.floor(places / CELL).astype(int)
    order = np.lexsort((index[:, 1], index[:, 0]))
    quads = np.concatenate([meshes[i] for i in order]).astype(np.float32)
    counts = np.array([len(meshes[i]) for i in order])
    first = np.concatenate([[0], np.cumsum(counts)])
    _, starts = np.unique(index[order], axis=0, return_index=True)
    cells = []
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        a, b = first[start], first[end]
        points = quads[a:b, :, :2].reshape(-1, 2)
        centre = (points.min(0) + points.max(0)) / 2
        radius = np.linalg.norm(points - centre, axis=1).max()
        cells.append([a, b - a, *centre, radius])
    assert quads.shape[2] == WIDTH
    return Scene(quads, np.array(cells, np.float64))
