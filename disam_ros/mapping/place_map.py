# SPDX-License-Identifier: Apache-2.0
"""Map directory: poses, coarse and fine descriptors and keypoints of the map images.

    map.json         format version, model identity, frame, cameras, settings, counts, checksums
    images.csv       one row per map image (dataset.IMAGE_COLUMNS); row number = descriptor row
    poses.npy        the same map_from_camera, float64 [N, 7]: tx ty tz qx qy qz qw
    cameras.npy      int16 [N]: camera of each image, an index of map.json's camera_names
    coarse.npy       coarse descriptors, int8 [N, d] (compression.py)
    directions.npy   their principal components, float16 [d, D]; left out where map.json names the
                     model's by their SHA-256 (models/projection.py)
    steps.npy        their quantization steps, float32 [d]
    index_K.faiss    of a large map: inverted file of camera K's coarse descriptors (index.py)
    mean.npy         mean of the fine descriptors per channel, float32 [C]
    fine.npy         fine descriptors less this mean, up to their norm, int8 [N, D_fine]
    keypoints.npy    optional, named in map.json: for geometric verification (keypoints.py)
    thumbnails.npy   optional, named in map.json: a small JPEG of each image (thumbnails.py)

A map is written to `<name>.part` and renamed when complete: a map of its final name is complete.
"""

from __future__ import annotations

import json
import logging
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, cameras_from_json, same_mount
from disam_ros.config import DescriptorConfig
from disam_ros.errors import DisamError, MapError
from disam_ros.features.keypoints import Keypoints
from disam_ros.files.checking import build, check_entries
from disam_ros.files.reading import HeldFile, parse_json, read_json, reading
from disam_ros.files.writing import part_of
from disam_ros.geodesy import require_place
from disam_ros.mapping import thumbnails
from disam_ros.mapping.keypoints import FILE, KeypointHeader, intrinsics, keypoints_of
from disam_ros.mapping.rows import RecordTable, Rows, check_codes, check_fine, check_poses
from disam_ros.models.similarity import Projection

logger = logging.getLogger(__name__)

FORMAT_VERSION = 3
DIRECTIONS, MEAN = "directions.npy", "mean.npy"
WHOLE = (DIRECTIONS, "steps.npy", MEAN)  # arrays without a row per image
DATA_FILES = ("images.csv", "poses.npy", "cameras.npy", "coarse.npy", *WHOLE, "fine.npy")
ARRAY_KINDS = {
    "poses.npy": ("float64", 2),
    "cameras.npy": ("int16", 1),
    "coarse.npy": ("int8", 2),
    "directions.npy": ("float16", 2),
    "steps.npy": ("float32", 1),
    MEAN: ("float32", 1),
    "fine.npy": ("int8", 2),
    FILE: ("uint8", 2),
    thumbnails.FILE: ("uint8", 2),
}  # type of the values and number of axes
KINDS = {
    **dict.fromkeys(("model_identity", "model_name", "map_frame"), str),
    "cameras": dict,
    "descriptor": dict,
    "latitude": float | None,
    "longitude": float | None,
    "keypoints": dict | None,
    "thumbnails": bool | None,
    "directions": str | None,
    "images": int,
    "revision": int | None,
    "history": list[dict[str, Any]] | None,
    "sha256": dict[str, str],
    "camera_names": list[str],
}  # of the entries of map.json
HISTORY_KINDS = {"operation": str, "maps": list[dict[str, Any]] | None}
CHECKED = 2**28  # size [bytes] up to which the checksum of a file is verified at opening


@dataclass(frozen=True)
class MapHeader:
    """Contents of map.json except for counts and checksums."""

    model_identity: str  # of the model that it was built with
    model_name: str
    map_frame: str  # frame of the poses
    cameras: dict[str, Camera]  # lens and mount by name
    descriptor: DescriptorConfig
    latitude: float | None = None  # of the frame's origin [deg]
    longitude: float | None = None
    keypoints: KeypointHeader | None = None  # None: the map has none
    thumbnails: bool = False  # whether it has them
    directions: str = ""  # SHA-256 of the model's; empty: the map has its own

    @property
    def row_bytes(self) -> dict[str, int]:
        """Bytes of an image in each of the files that a map may lack."""
        sizes = {FILE: self.keypoints.row_type.itemsize} if self.keypoints else {}
        return sizes | ({thumbnails.FILE: thumbnails.BYTES} if self.thumbnails else {})

    @property
    def data_files(self) -> tuple[str, ...]:
        """Files of the map except for map.json and indices."""
        names = (name for name in DATA_FILES if name != DIRECTIONS or not self.directions)
        return (*names, *self.row_bytes)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        for name in ("keypoints", "thumbnails", "directions"):
            if not values[name]:
                del values[name]
        values["cameras"] = {name: camera.to_json() for name, camera in self.cameras.items()}
        return {"format_version": FORMAT_VERSION, **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> MapHeader:
        """Makes a header of the entries of map.json (KINDS). Raises MapError: `where`, the key."""
        names = ("model_identity", "model_name", "map_frame", "latitude", "longitude")
        keypoints = values["keypoints"]
        require_place(values["latitude"], values["longitude"], where, MapError)
        try:
            return cls(
                **{name: values[name] for name in names},
                cameras=cameras_from_json(values["cameras"], where, MapError),
                descriptor=build(DescriptorConfig, values["descriptor"]),
                keypoints=keypoints and build(KeypointHeader, keypoints, "keypoints", MapError),
                thumbnails=bool(values["thumbnails"]),
                directions=values["directions"] or "",
            )
        except DisamError as error:
            text = str(error)
            raise MapError(text if text.startswith(where) else f"{where}: {text}") from error


def require_readable(header: MapHeader, where: str) -> None:
    """Raise MapError unless a map of this header can be opened. where: named in the message."""
    counts = {"images": 0, "sha256": {}, "camera_names": []}
    values = parse_json(json.dumps(header.to_json() | counts).encode(), where, MapError)
    MapHeader.from_json(check_entries(values, KINDS, where, MapError), where)


class PlaceMap:
    """A complete map, opened for reading.

    `poses`, `camera_of` and `coarse` are in memory. `records`, `fine` and keypoints are read on
    access from files held open, which raises MapError where a file was changed.
    """

    header: MapHeader
    camera_names: list[str]
    revision: int  # 1 for a map that was built, then one more with each operation of mapping/life
    history: list[dict[str, Any]]  # what was done, oldest first
    records: RecordTable  # rows of images.csv
    poses: NDArray[np.float64]  # map_from_camera [N, 7]: tx ty tz qx qy qz qw
    camera_of: NDArray[np.int16]  # [N], indices of camera_names
    coarse: NDArray[np.int8]  # codes [N, d]
    steps: NDArray[np.float32]  # quantization steps of coarse codes [d]
    fine: Rows  # codes int8 [N, D]
    read_later: list[HeldFile]  # files read on access; their `check` raises MapError for a change
    mean: NDArray[np.float32]  # of the fine features per channel [C]
    keypoint_rows: Rows | None  # bytes of KeypointHeader.row_type [N, B]
    thumbnail_rows: Rows | None

    def __init__(self, directory: Path | str, verify: bool | None = None) -> None:
        """Opens a map and compares its sizes.

        verify: compare the checksums of all files; None: of files up to CHECKED bytes; False: of
        none. Raises MapError when the directory is missing,
        half-written, damaged or of another version."""
        self.directory = Path(directory)
        values = _read_header(self.directory)
        self.header = MapHeader.from_json(values, str(self.directory / "map.json"))
        count, checksums = values["images"], values["sha256"]
        self.camera_names = values["camera_names"]
        self.revision = _revision(values["revision"], self.directory / "map.json")
        self.history = values["history"] or []
        for entry in self.history:
            check_entries(entry, HISTORY_KINDS, f"{self.directory / 'map.json'}: history", MapError)
        files = {
            name: self._open(name, checksums.get(name), verify)
            for name in self.header.data_files
            if name != thumbnails.FILE
        }
        self.records = RecordTable(files["images.csv"])
        rows = {name: _rows(name, file) for name, file in files.items() if name in ARRAY_KINDS}
        self.poses, self.coarse = rows["poses.npy"][:], rows["coarse.npy"][:]
        self.fine, self.camera_of = rows["fine.npy"], rows["cameras.npy"][:]
        self.steps = rows["steps.npy"][:]
        stored = rows.get(DIRECTIONS)
        self._projection = None if stored is None else Projection(stored[:], self.steps)
        self.mean = rows[MEAN][:]
        check_poses(self.directory / "poses.npy", self.poses)
        directions = None if self._projection is None else self._projection.directions
        check_codes(self.directory, self.coarse.shape[1], self.steps, directions)
        check_fine(self.directory, self.fine.shape[1], self.mean)
        self.keypoint_rows = self._keypoint_rows(rows.get(FILE))
        later = "images.csv", "fine.npy", FILE
        self.read_later = [files[name] for name in later if name in files]
        lengths = {name: len(array) for name, array in rows.items() if name not in WHOLE}
        lengths["images.csv"] = len(self.records)
        if set(lengths.values()) != {count}:
            raise MapError(f"{self.directory} is damaged: {count} images expected, got {lengths}")
        if not count:
            raise MapError(f"{self.directory} holds no images; build it again")
        names = self.camera_names
        if set(self.camera_of.tolist()) - {*range(len(names))} or len({*names}) < len(names):
            raise MapError(
                f"{self.directory / 'map.json'}: 'camera_names' expects a name of its own for each "
                f"camera of cameras.npy; got {reprlib.repr(names)}"
            )
        self.thumbnail_rows = self._open_thumbnails(checksums, bool(verify))
        if _read_header(self.directory) != values:  # files of two maps may fit each other
            raise MapError(f"{self.directory} was replaced while it was opened: open it again")

    def __len__(self) -> int:
        return len(self.records)

    def require_model(self, identity: str, name: str) -> None:
        """Raise MapError unless the map was built with the model of this identity."""
        if identity != self.header.model_identity:
            raise MapError(
                f"{self.directory} was built with model '{self.header.model_name}' "
                f"({self.header.model_identity[:12]}), not with '{name}' ({identity[:12]}); "
                f"load that model or rebuild the map"
            )

    def projection(self, of_model: Projection | None) -> Projection:
        """Projection of coarse descriptors. of_model: the model's; None: it has none.

        Raises MapError where the map was built with other directions of the model.
        """
        if self._projection is not None:
            return self._projection
        expected, name = self.header.directions, self.header.model_name
        if of_model is None or of_model.sha256 != expected or len(self.steps) != of_model.size:
            present = of_model.sha256[:12] if of_model else "none"
            raise MapError(
                f"{self.directory} was built with directions {expected[:12]} of model '{name}', "
                f"which has {present} now; load the model it was built with or rebuild the map"
            )
        return of_model

    def rows_of(self, camera: str) -> NDArray[np.int64]:
        """Descriptor rows (int64) of one camera. Raises MapError for a camera not in the map."""
        if camera not in self.camera_names:
            raise MapError(f"map has no camera '{camera}'; it has {self.cameras()}")
        return np.flatnonzero(self.camera_of == self.camera_names.index(camera))

    def cameras(self) -> list[str]:
        return sorted(self.camera_names)

    def main_camera(self) -> str:
        """The camera that a vehicle's only one is taken for: the commonest of several on one mount.

        Raises MapError where their mounts differ or are unknown.
        """
        names = self.cameras()
        if len(names) == 1:
            return names[0]
        lenses = [self.header.cameras.get(name) for name in names]
        first = lenses[0]
        if any(first is None or lens is None or not same_mount(first, lens) for lens in lenses):
            raise MapError(f"several cameras in the map: say which of {', '.join(names)}")
        return max(names, key=lambda name: len(self.rows_of(name)))

    def index_path(self, camera: str) -> Path:
        """Path of a camera's inverted file (index.py); it can be rebuilt at any time."""
        return self.directory / index_file(self.camera_names.index(camera))

    def keypoints(self, row: int) -> Keypoints:
        """Keypoints of a map image. Raises MapError where the map has none."""
        if self.keypoint_rows is None or self.header.keypoints is None:
            raise MapError(
                f"{self.directory} has no keypoints to verify places by; build it again with the "
                f"setting keypoints, such as 512"
            )
        camera = intrinsics(self.header.cameras, self.camera_names[self.camera_of[row]])
        return keypoints_of(self.keypoint_rows[row].view(self.header.keypoints.row_type)[0], camera)

    def thumbnail(self, row: int) -> NDArray[np.uint8] | None:
        """Small picture of a map image, uint8 RGB [h, w, 3]; None where the map has none.

        Raises MapError where the file was changed, ImageError where the picture is damaged.
        """
        if self.thumbnail_rows is None:
            return None
        what = f"{self.directory / thumbnails.FILE}, image {row},"
        return thumbnails.picture(self.thumbnail_rows[row], what)

    def spacing(self) -> float:
        """Median distance [m] between consecutive map images of a camera."""
        return self._spacing

    @cached_property
    def _spacing(self) -> float:
        steps = [0.0]
        for camera in self.cameras():
            track = self.poses[self.rows_of(camera), :3]
            steps += np.linalg.norm(np.diff(track, axis=0), axis=1).tolist()
        return float(np.median(steps[1:])) if len(steps) > 1 else 0.0

    def _open(self, name: str, sha256: str | None, verify: bool | None) -> HeldFile:
        path = self.directory / name
        if not path.is_file():
            raise MapError(f"{path} is missing: the map is incomplete; build it again")
        file = HeldFile(path, MapError)
        if verify is None:
            verify = file.size <= CHECKED
        if verify and file.sha256() != sha256:
            raise MapError(f"{path} is damaged: its SHA-256 differs from map.json")
        return file

    def _open_thumbnails(self, checksums: Mapping[str, str], verify: bool) -> Rows | None:
        """Rows [N, BYTES]; None without them, or where they are damaged, which is logged: they are
        only to be looked at. Their checksum is compared, and damage an error, with `verify` alone.
        """
        if not self.header.thumbnails:
            return None
        name = thumbnails.FILE
        try:
            rows = _rows(name, self._open(name, checksums.get(name), verify))
            if rows.shape != (len(self), thumbnails.BYTES):
                raise MapError(
                    f"{self.directory / name} is damaged: expected {len(self)} rows of "
                    f"{thumbnails.BYTES} bytes, got shape {list(rows.shape)}"
                )
        except MapError as error:
            if verify:
                raise
            logger.warning("%s; the map is used without its thumbnails", error)
            return None
        return rows

    def _keypoint_rows(self, rows: Rows | None) -> Rows | None:
        """Rows [N] of the bytes of KeypointHeader.row_type; None for a map without keypoints."""
        if self.header.keypoints is None or rows is None:
            return None
        kind = self.header.keypoints.row_type
        if rows.shape[1] != kind.itemsize:
            raise MapError(
                f"{self.directory / FILE} is damaged: expected {kind.itemsize} bytes an image, got "
                f"shape {list(rows.shape)}"
            )
        return rows


def _rows(name: str, file: HeldFile) -> Rows:
    """An array of the map. Raises MapError unless it is of its kind."""
    rows, (kind, axes) = Rows(file), ARRAY_KINDS[name]
    if rows.dtype != kind or rows.ndim != axes:
        actual = f"{rows.dtype} {list(rows.shape)}"
        raise MapError(f"{file.path} is damaged: expected {axes} axes of {kind}, got {actual}")
    return rows


def index_file(camera: int) -> str:
    """Name of the inverted file of a camera, by its number."""
    return f"index_{camera}.faiss"


def _revision(value: int | None, where: Path) -> int:
    if value is not None and value < 1:
        raise MapError(f"{where}: 'revision' expects a whole number from 1; got {value}")
    return value or 1


def _read_header(directory: Path) -> dict[str, Any]:
    path = directory / "map.json"
    with reading(path, MapError):
        exists = path.exists()
    if not exists:
        part = part_of(directory)
        hint = "build one with 'disam build-map'"
        if part.exists():
            hint = f"{part} holds a half-built map: run the same build again to finish it"
        raise MapError(f"{path} not found: {directory} is not a map; {hint}")
    try:
        return read_json(path, FORMAT_VERSION, MapError, KINDS)
    except MapError as error:
        raise MapError(
            f"{error}; build the map again, into a new directory: disam build-map "
            f"--dataset DATASET --model MODEL --output NEW_MAP"
        ) from error
