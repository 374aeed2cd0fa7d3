# SPDX-License-Identifier: Apache-2.0
"""A new map of images of existing ones: what crop, prune, align, extend and merge have in common.

Nothing is encoded again. Coarse codes are copied, since all parts share their directions; fine ones
are copied too where the mean of the features is the same, else they are restored, centred on the
new mean and quantized once more. Where an image stands for others its codes are those of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.camera import Camera
from disam_ros.datasets.records import record_row, records_writer
from disam_ros.errors import MapError
from disam_ros.files.outputs import MAP, atomic_directory, is_replaced
from disam_ros.files.paths import real
from disam_ros.files.writing import file_sha256, part_of
from disam_ros.geometry import Transform, distance
from disam_ros.mapping import keypoints
from disam_ros.mapping.builder import write_indices
from disam_ros.mapping.compression import to_int8
from disam_ros.mapping.place_map import MapHeader, PlaceMap, index_file
from disam_ros.mapping.thumbnails import FILE as THUMBNAILS
from disam_ros.mapping.writer import PROGRESS, Contents, write_map, write_rows
from disam_ros.models.similarity import LEVELS, decode, unit_rows

CHUNK = 1024  # images copied at once
LENS = 0.01  # relative difference up to which intrinsics of cameras of one name are the same
MOUNT = 0.1, 2.0  # and their mounts [m], [deg]


@dataclass(frozen=True)
class Part:
    """Images `rows` [n] of a map, moved by new_from_old after their positions are scaled.

    mean_of: for each, the rows of the map whose mean its descriptors become; None: its own.
    """

    place_map: PlaceMap
    rows: NDArray[np.int64]
    new_from_old: Transform = field(default_factory=Transform.identity)
    scale: float = 1.0
    mean_of: Sequence[NDArray[np.int64]] | None = None

    @classmethod
    def whole(cls, place_map: PlaceMap) -> Part:
        return cls(place_map, np.arange(len(place_map)))

    @property
    def poses(self) -> NDArray[np.float64]:
        """map_from_camera in the new map, [n, 7]."""
        old = self.place_map.poses[self.rows]
        turn = Rotation.from_quat(self.new_from_old.quaternion)
        moved = turn.apply(self.scale * old[:, :3]) + self.new_from_old.translation
        if np.array_equal(self.new_from_old.quaternion, [0.0, 0.0, 0.0, 1.0]):
            return np.hstack([moved, old[:, 3:]])
        return np.hstack([moved, (turn * Rotation.from_quat(old[:, 3:])).as_quat()])

    def coarse(self) -> NDArray[np.int8]:
        """Coarse codes [n, d]."""
        place_map, steps = self.place_map, self.place_map.steps
        if self.mean_of is None:
            return place_map.coarse[self.rows]
        codes = np.empty((len(self.rows), len(steps)), np.int8)
        for code, rows in zip(codes, self.mean_of, strict=True):
            units = unit_rows(decode(place_map.coarse[rows], steps))
            code[:] = np.rint(unit_rows(units.mean(0)) / steps).clip(-LEVELS, LEVELS)
        return codes

    def chunks(self) -> list[slice]:
        """Slices of the rows, CHUNK long."""
        return [slice(start, start + CHUNK) for start in range(0, len(self.rows), CHUNK)]

    def fine(self, chunk: slice, mean: NDArray[np.float32]) -> NDArray[np.int8]:
        """Fine codes [n, D] of a chunk, less the mean [C] of the new map."""
        place_map = self.place_map
        if self.mean_of is None:
            codes = place_map.fine[self.rows[chunk]]
        else:
            units = [unit_rows(np.asarray(place_map.fine[rows], np.float32)).mean(0)
                     for rows in self.mean_of[chunk]]  # fmt: skip
            codes = to_int8(np.stack(units))
        same = np.array_equal(mean, place_map.mean)
        return codes if same else recentred(codes, place_map.mean, mean)

    def keypoints(self, chunk: slice) -> NDArray[np.uint8]:
        """Rows of keypoints of a chunk, their depths scaled."""
        place_map = self.place_map
        assert place_map.keypoint_rows is not None and place_map.header.keypoints is not None
        rows: NDArray[np.uint8] = place_map.keypoint_rows[self.rows[chunk]]
        if self.scale != 1.0:
            rows = rows.copy()
            rows.view(place_map.header.keypoints.row_type)["depths"] *= np.float32(self.scale)
        return rows

    def thumbnails(self, chunk: slice) -> NDArray[np.uint8]:
        """Rows of thumbnails of a chunk."""
        assert self.place_map.thumbnail_rows is not None
        return self.place_map.thumbnail_rows[self.rows[chunk]]


def assemble(
    parts: Sequence[Part],
    output: Path | str,
    operation: Mapping[str, Any],
    overwrite: bool = False,
    place: tuple[float | None, float | None] | None = None,
    map_frame: str = "",
    thumbnails: bool = True,
) -> PlaceMap:
    """Write a map of the images of all parts, in this order, and open it.

    operation: entry of the history, a JSON object. overwrite: another map that is there. place:
    latitude and longitude [deg] of the new origin, map_frame: its frame; by default those of the
    first part. thumbnails: keep them where all parts have them. Raises MapError for parts that do
    not fit each other, OutputError.
    """
    output, first = Path(output), parts[0].place_map
    for part in parts:
        if real(output) == real(part.place_map.directory):
            raise MapError(
                f"{output} is the map that is read: a map is never changed in place; write the new "
                f"revision beside it and let the node take it by ~/reload"
            )
    if (part_of(output) / PROGRESS).exists() and not is_replaced(part_of(output)):
        raise MapError(
            f"{part_of(output)} holds a half-built map: finish that build, or choose another output"
        )
    if not sum(len(part.rows) for part in parts):
        raise MapError("no image is left: a map needs at least one")
    require_fit([part.place_map for part in parts])
    header = replace(
        first.header,
        cameras=_cameras(parts),
        map_frame=map_frame or first.header.map_frame,
        thumbnails=thumbnails and all(part.place_map.thumbnail_rows is not None for part in parts),
    )
    if place is not None:
        header = replace(header, latitude=place[0], longitude=place[1])
    history = [*first.history, {**operation, "images": sum(len(part.rows) for part in parts)}]
    names = list(dict.fromkeys(n for part in parts for n in part.place_map.camera_names))
    expected = [index_file(k) for k in range(len(names))]
    values = {
        "revision": max(part.place_map.revision for part in parts) + 1,
        "history": history,
    }
    with atomic_directory(output, MAP, overwrite, expected) as folder:
        contents = _contents(parts, names)
        _write_records(folder / "images.csv", parts, contents.poses)
        if header.keypoints is not None:
            rows = (part.keypoints(chunk) for part in parts for chunk in part.chunks())
            write_rows(folder / keypoints.FILE, len(contents.poses), rows)
        if header.thumbnails:
            rows = (part.thumbnails(chunk) for part in parts for chunk in part.chunks())
            write_rows(folder / THUMBNAILS, len(contents.poses), rows)
        write_map(folder, header, contents, values)
    place_map = PlaceMap(output, verify=False)
    write_indices(place_map)
    return place_map


def reference(place_map: PlaceMap) -> dict[str, Any]:
    """How the history of a map refers to another one."""
    return {
        "name": place_map.directory.name,
        "revision": place_map.revision,
        "images": len(place_map),
        "map_json": file_sha256(place_map.directory / "map.json"),
        "history": place_map.history,
    }


def require_fit(maps: Sequence[PlaceMap]) -> None:
    """Raise MapError unless images of the maps can be in one: model, directions, keypoints."""
    first = maps[0]
    for other in maps[1:]:
        other.require_model(first.header.model_identity, first.header.model_name)
        for place_map in (first, other):
            if place_map.header.descriptor.as_in_paper:
                raise MapError(
                    f"{place_map.directory} is of retrieval paper, whose whole descriptors are "
                    f"quantized by map: build one map of all images, or maps of retrieval tolerant"
                )
            if not place_map.header.directions:
                raise MapError(
                    f"{place_map.directory} has directions of its own, so its descriptors cannot "
                    f"be compared with another map's: build it again with a model that has "
                    f"directions (docs/maps.md)"
                )
        settings = [
            (m.header.directions, m.header.descriptor, _kind(m.header)) for m in (first, other)
        ]
        for what, a, b in zip(("directions", "descriptor", "keypoints"), *settings, strict=True):
            if a != b:
                raise MapError(
                    f"{other.directory} has other {what} than {first.directory}: {b} and {a}; "
                    f"build it again with the settings of the other"
                )


def _kind(header: MapHeader) -> dict[str, Any] | None:
    """Settings of the keypoints, without what was measured."""
    return {**asdict(header.keypoints), "repetition": None} if header.keypoints else None


def _cameras(parts: Sequence[Part]) -> dict[str, Camera]:
    cameras: dict[str, Camera] = {}
    for part in parts:
        for name, camera in part.place_map.header.cameras.items():
            first = cameras.setdefault(name, camera)
            if not _same(first, camera):
                raise MapError(
                    f"camera '{name}' of {part.place_map.directory} has another lens or mount than "
                    f"in {parts[0].place_map.directory}: give one of them another name"
                )
    return cameras


def _same(a: Camera, b: Camera) -> bool:
    lenses = (np.array([c.fx, c.fy, c.cx, c.cy]) / max(c.width, c.height, 1) for c in (a, b))
    metres, degrees = distance(a.base_from_camera, b.base_from_camera)
    same = np.abs(np.subtract(*lenses)).max() <= LENS
    return bool(same and metres <= MOUNT[0] and degrees <= MOUNT[1])


def _contents(parts: Sequence[Part], names: Sequence[str]) -> Contents:
    """Poses, cameras and codes of the parts' images."""
    first, mean = parts[0].place_map, _mean(parts)
    cameras = [
        np.array([names.index(name) for name in part.place_map.camera_names], np.int16)[
            part.place_map.camera_of[part.rows]
        ]
        for part in parts
    ]
    directions = None if first.header.directions else first.projection(None).directions
    return Contents(
        poses=np.concatenate([part.poses for part in parts]),
        camera_of=np.concatenate(cameras),
        camera_names=names,
        coarse=(part.coarse() for part in parts),
        fine=(part.fine(chunk, mean) for part in parts for chunk in part.chunks()),
        steps=first.steps,
        mean=mean,
        directions=directions,
    )


def _mean(parts: Sequence[Part]) -> NDArray[np.float32]:
    """Mean of the features per channel, of all images of the maps."""
    means = [part.place_map.mean for part in parts]
    if all(np.array_equal(mean, means[0]) for mean in means):
        return means[0]
    counts = np.array([len(part.place_map) for part in parts], np.float64)
    whole: NDArray[np.float32] = np.average(means, axis=0, weights=counts).astype(np.float32)
    return whole


def _write_records(path: Path, parts: Sequence[Part], poses: NDArray[np.float64]) -> None:
    with path.open("w", newline="") as file:
        writer, number = records_writer(file), 0
        for part in parts:
            for row in part.rows.tolist():
                pose = Transform(poses[number, :3], poses[number, 3:])
                record = replace(part.place_map.records[row], id=number, map_from_camera=pose)
                writer.writerow(record_row(record))
                number += 1


def recentred(
    codes: NDArray[np.int8], old: NDArray[np.float32], new: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Fine codes [n, C·cells] less another mean [C] than before.

    A descriptor had unit length before its mean was subtracted, and the code is what was left up to
    its norm: descriptor = mean + s·code, whose s > 0 follows from |descriptor| = 1.
    """
    cells = codes.shape[1] // len(old)
    before, after = (np.repeat(mean.astype(np.float64), cells) for mean in (old, new))
    values = codes.astype(np.float64)
    a, b, c = np.square(values).sum(1), values @ before, before @ before - 1.0
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    scales = (root - b) / np.maximum(a, 1e-12)
    return to_int8((before + scales[:, None] * values - after).astype(np.float32))
