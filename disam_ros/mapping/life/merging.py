# SPDX-License-Identifier: Apache-2.0
"""Merge maps, and extend a map by drives: images of a place in several conditions, in one map.

The frames must agree. They are compared by the maps' own images of the same places, and where both
maps know their place on Earth, one is moved to the other's origin first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import ImageSource
from disam_ros.errors import ConfigError, MapError
from disam_ros.files.checking import build
from disam_ros.files.outputs import MAP, remove_output
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.encoding import BatchEncoder
from disam_ros.mapping.life.assembly import Part, assemble, reference, require_fit
from disam_ros.mapping.life.frames import Alignment, align_maps
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import Model
from disam_ros.models.similarity import descriptor_shapes

logger = logging.getLogger(__name__)

PLACES_APART = 30.0  # places on Earth of one frame by the fixes of two drives, at most [m]


def merge(
    maps: Sequence[PlaceMap],
    model: Model,
    output: Path | str,
    align: bool = False,
    scaled: bool = False,
    overwrite: bool = False,
    operation: Mapping[str, Any] | None = None,
) -> PlaceMap:
    """Merges the images of all maps into one, in the first one's frame.

    align: move maps whose frames differ; else they are refused. scaled: other maps than the first
    are not in metres (with align). operation: entry of the history. Raises MapError for maps of
    another model, directions, camera or frame, with the residuals; OutputError.
    """
    require_fit(maps)
    shape = fine_shape(maps[0], model)
    parts = [Part.whole(maps[0])]
    references = []
    for other in maps[1:]:
        part, text = _fitted(maps[0], other, shape, align, scaled)
        parts.append(part)
        references.append({**reference(other), "frame": text})
    entry = {**(operation or {"operation": "merge"}), "maps": references}
    return assemble(parts, output, entry, overwrite)


def fine_shape(place_map: PlaceMap, model: Model) -> tuple[int, int, int]:
    """Shape (C, h, w) of the fine descriptors. Raises MapError for another model."""
    place_map.require_model(model.identity, model.name)
    return descriptor_shapes(model.network, place_map.header.descriptor)["fine"]


def _fitted(
    first: PlaceMap, other: PlaceMap, shape: tuple[int, int, int], align: bool, scaled: bool
) -> tuple[Part, str]:
    """Moves the other map's images to the first one's frame. Returns a text about the fit, too.

    Where the maps' places on Earth are as near as fixes tell them, their frames may be one.
    """
    motion = first_from_other(first, other)
    part = replace(Part.whole(other), new_from_old=motion)
    alignment = None
    if 0 < np.linalg.norm(motion.translation) < PLACES_APART:
        alignment = _aligned(first, Part.whole(other), shape, scaled, False)
    if alignment is not None and alignment.believable and alignment.same_frame:
        part = Part.whole(other)
    else:
        alignment = _aligned(first, part, shape, scaled, align)
    if alignment is None or not alignment.believable:
        text = str(alignment) if alignment else "no place in common"
        if align:
            raise MapError(
                f"{other.directory} cannot be aligned with {first.directory}: {text}; drive more "
                f"of the places of both, or give their frames by disam map align"
            )
        text = f"not compared, taken as it is: {text}"
        logger.warning("frame of %s: %s", other.directory, text)
        return part, text
    logger.info("frame of %s: %s", other.directory, alignment)
    if align:
        return moved_by(part, alignment), str(alignment)
    if not alignment.same_frame:
        raise MapError(
            f"the frames of {other.directory} and {first.directory} differ: {alignment}; merge "
            f"with --align to move it, or check where its poses come from"
        )
    return part, str(alignment)


def _aligned(
    first: PlaceMap, part: Part, shape: tuple[int, int, int], scaled: bool, required: bool
) -> Alignment | None:
    """Compares a part with a map; None where they have too little in common, unless required."""
    try:
        return align_maps(first, MovedMap(part), shape, scaled)
    except MapError:
        if required:
            raise
        return None


def moved_by(part: Part, alignment: Alignment) -> Part:
    """A part moved by an alignment after its own motion."""
    before, scale = part.new_from_old, alignment.scale
    scaled = Transform(scale * before.translation, before.quaternion)
    return replace(part, new_from_old=alignment.a_from_b @ scaled, scale=scale * part.scale)


def first_from_other(first: PlaceMap, other: PlaceMap) -> Transform:
    """Motion to the first map's origin on Earth; identity unless both maps know theirs."""
    places = [(m.header.latitude, m.header.longitude) for m in (first, other)]
    if places[0] == places[1] or any(value is None for place in places for value in place):
        return Transform.identity()
    first_origin, other_origin = (Origin(*place) for place in places)  # type: ignore[arg-type]
    return plane_from_plane(first_origin, other_origin)


def plane_from_plane(target: Origin, source: Origin) -> Transform:
    """Transform to the tangent plane of an origin from another's: shift, and the turn of north."""
    shift = target.to_enu(source.latitude, source.longitude)
    north = target.to_enu(source.latitude + 1e-4, source.longitude) - shift
    yaw = np.arctan2(-north[0], north[1])
    return Transform.from_xyz_rpy([shift[0], shift[1], 0.0, 0.0, 0.0, float(yaw)])


class MovedMap(PlaceMap):
    """A map whose poses are those of a part, opened a second time."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.place_map.directory, verify=False)
        self.poses = part.poses


def extend(
    directory: Path | str,
    drives: Sequence[ImageSource],
    model: Model,
    output: Path | str,
    config: MapBuilderConfig,
    device: str = "cpu",
    encoder: Callable[[ImageSource, MapBuilderConfig], BatchEncoder] | None = None,
    align: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
) -> PlaceMap:
    """Extends a map by the images of further drives, each encoded by the encoder of its domain.

    config: of the drives' map building; descriptor, keypoints and thumbnails are the map's.
    encoder: of a drive, such as on a cluster; None encodes in this process. The drives are built
    as maps `<output>.drive1`, … first, which an interrupted run resumes, and removed at the end.
    Raises as `merge` and `build_map`.
    """
    place_map = PlaceMap(directory)
    place_map.require_model(model.identity, model.name)
    config = like(place_map, config)
    built, folders = [], []
    for number, drive in enumerate(drives, 1):
        folder = Path(f"{output}.drive{number}")
        folders.append(folder)
        made = encoder(drive, config) if encoder else None
        drive_map = build_map(
            drive, model, folder, config, device, show_progress, encoder=made, overwrite=True
        )
        built.append(drive_map)
    entry = {"operation": "extend", "settings": asdict(config)}
    merged = merge([place_map, *built], model, output, align, False, overwrite, entry)
    for folder in folders:
        remove_output(folder, MAP)
    return merged


def like(place_map: PlaceMap, config: MapBuilderConfig) -> MapBuilderConfig:
    """Settings of map building, those that a map fixes taken from the map."""
    header = place_map.header
    keypoints = header.keypoints
    return replace(
        config,
        descriptor=header.descriptor,
        keypoints=keypoints.count if keypoints else 0,
        local_features=keypoints.features if keypoints else config.local_features,
        thumbnails=header.thumbnails,
    )


def settings_of(place_map: PlaceMap) -> MapBuilderConfig:
    """Settings that a map was built with, for a drive that extends it; defaults where unknown.

    Raises MapError for settings that cannot be.
    """
    for entry in place_map.history:
        settings = entry.get("settings")
        if entry.get("operation") == "build" and isinstance(settings, dict):
            try:
                return replace(build(MapBuilderConfig, settings), domain="")
            except ConfigError as error:
                path = place_map.directory / "map.json"
                raise MapError(f"{path}: 'history', 'settings': {error}") from error
    return MapBuilderConfig()
