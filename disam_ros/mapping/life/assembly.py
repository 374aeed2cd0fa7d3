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
from disam_ros.files.outputs import MAP, atomic_directory
from disam_ros.files.writing import file_sha256, part_of, sync, write_json
from disam_ros.geometry import Transform, distance
from disam_ros.mapping import keypoints
from disam_ros.mapping.builder import write_indices
from disam_ros.mapping.compression import to_int8
from disam_ros.mapping.place_map import DIRECTIONS, MapHeader, PlaceMap, index_file
from disam_ros.mapping.rows import Rows
from disam_ros.mapping.thumbnails import FILE as THUMBNAILS
from disam_ros.mapping.writer import PROGRESS, map_repetition, write_npy_header
from disam_ros.models.projection import LEVELS, decode
from disam_ros.models.similarity import unit_rows

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
        found = np.empty((len(self.rows), len(steps)), np.int8)
        for row, some in zip(found, self.mean_of, strict=True):
            units = unit_rows(decode(place_map.coarse[some], steps))
            row[:] = np.rint(unit_rows(units.mean(0)) / steps).clip(-LEVELS, LEVELS)
        return found

    def fine(self, chosen: slice) -> NDArray[np.int8]:
        """Fine codes of some of the rows."""
        if self.mean_of is None:
            return self.place_map.fine[self.rows[chosen]]
        means = [
            unit_rows(np.asarray(self.place_map.fine[some], np.float32)).mean(0)
            for some in self.mean_of[chosen]
        ]
        return to_int8(np.stack(means))


def assemble(
    parts: Sequence[Part],
    output: Path | str,
    operation: Mapping[str, Any],
    overwrite: bool = False,
    place: tuple[float | None, float | None] | None = None,
    map_frame: str = "",
) -> PlaceMap:
    """Write a map of the images of all parts, in this order, and open it.

    operation: entry of the history, a JSON object. overwrite: another map that is there. place:
    latitude and longitude [deg] of the new origin, map_frame: its frame; by default those of the
    first part. Raises MapError for parts that do not fit each other, OutputError.
    """
    output, first = Path(output), parts[0].place_map
    for part in parts:
        if output.resolve() == part.place_map.directory.resolve():
            raise MapError(
                f"{output} is the map that is read: a map is never changed in place; write the new "
                f"revision beside it and let the node take it by ~/reload"
            )
    if (part_of(output) / PROGRESS).exists():
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
        thumbnails=all(part.place_map.thumbnail_rows is not None for part in parts),
    )
    if place is not None:
        header = replace(header, latitude=place[0], longitude=place[1])
    history = [*first.history, {**operation, "images": sum(len(part.rows) for part in parts)}]
    names = list(dict.fromkeys(n for part in parts for n in part.place_map.camera_names))
    expected = [index_file(k) for k in range(len(names))]
    with atomic_directory(output, MAP, overwrite, expected) as folder:
        header = _write(folder, parts, header, names)
        values = header.to_json() | {
            "images": sum(len(part.rows) for part in parts),
            "revision": max(part.place_map.revision for part in parts) + 1,
            "history": history,
            "camera_names": names,
            "sha256": {name: file_sha256(folder / name) for name in header.data_files},
        }
        write_json(folder / "map.json", values)
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
            if not place_map.header.directions:
                raise MapError(
                    f"{place_map.directory} has directions of its own, so its descriptors cannot "
                    f"be compared with another map's: build it again with a model that has "
                    f"directions (docs/maps.md)"
                )
        found = [
            (m.header.directions, m.header.descriptor, _kind(m.header)) for m in (first, other)
        ]
        for what, a, b in zip(("directions", "descriptor", "keypoints"), *found, strict=True):
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
            known = cameras.setdefault(name, camera)
            if not _same(known, camera):
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


def _write(
    folder: Path, parts: Sequence[Part], header: MapHeader, names: Sequence[str]
) -> MapHeader:
    """Write all files but map.json and indices. Returns the header with what was measured."""
    first = parts[0].place_map
    poses = np.concatenate([part.poses for part in parts])
    cameras = [
        np.array([names.index(name) for name in part.place_map.camera_names], np.int16)[
            part.place_map.camera_of[part.rows]
        ]
        for part in parts
    ]
    mean = _mean(parts)
    arrays = {
        "poses.npy": poses,
        "cameras.npy": np.concatenate(cameras),
        "coarse.npy": np.concatenate([part.coarse() for part in parts]),
        "steps.npy": first.steps,
        "mean.npy": mean,
    }
    if not header.directions:
        arrays[DIRECTIONS] = first.projection(None).directions
    for name, array in arrays.items():
        with (folder / name).open("wb") as file:
            np.save(file, array)
            sync(file)
    _write_records(folder / "images.csv", parts, poses)
    _copy_rows(folder / "fine.npy", [(part.place_map.fine, part) for part in parts], mean)
    if header.keypoints is not None:
        rows = [(part.place_map.keypoint_rows, part) for part in parts]
        _copy_rows(folder / keypoints.FILE, rows, row_type=header.keypoints.row_type)
        most = map_repetition(folder, header, names)
        header = replace(header, keypoints=replace(header.keypoints, repetition=most))
    if header.thumbnails:
        _copy_rows(folder / THUMBNAILS, [(p.place_map.thumbnail_rows, p) for p in parts])
    return header


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
        sync(file)


def _copy_rows(
    path: Path,
    sources: Sequence[tuple[Rows | None, Part]],
    mean: NDArray[np.float32] | None = None,
    row_type: np.dtype[np.void] | None = None,
) -> None:
    """Write the parts' rows. mean: of fine descriptors. row_type: of keypoints."""
    arrays = [rows for rows, _ in sources if rows is not None]
    total = sum(len(part.rows) for _, part in sources)
    with path.open("wb") as file:
        write_npy_header(file, arrays[0].dtype, (total, arrays[0].shape[1]))
        for rows, part in zip(arrays, (part for _, part in sources), strict=True):
            for start in range(0, len(part.rows), CHUNK):
                chosen = slice(start, start + CHUNK)
                found = rows[part.rows[chosen]] if mean is None else part.fine(chosen)
                if mean is not None and not np.array_equal(mean, part.place_map.mean):
                    found = recentred(found, part.place_map.mean, mean)
                if row_type is not None and part.scale != 1.0:
                    found = found.copy()
                    found.view(row_type)["depths"] *= np.float32(part.scale)
                file.write(np.ascontiguousarray(found).tobytes())
        sync(file)


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
