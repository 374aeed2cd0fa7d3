# SPDX-License-Identifier: Apache-2.0
"""Dataset directory: posed images on disk.

dataset.json   format version, name, map frame, place on Earth, cameras
images.csv     one row per image, in time order (columns: IMAGE_COLUMNS)
images/<domain>/<camera>/<stamp_ns>.jpg
depth/<domain>/<camera>/<stamp_ns>.png   optional: depth maps (disam_ros.depth), in `depth_unit`
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, cameras_from_json
from disam_ros.datasets.depth import decode_depth, encode_depth, same_view
from disam_ros.datasets.records import ImageRecord, read_records, record_row, records_writer
from disam_ros.errors import DatasetError, ImageError
from disam_ros.files.outputs import DATASET, atomic_directory, require_output
from disam_ros.files.reading import read_bytes, read_json, reading
from disam_ros.files.writing import atomic_file, write_json
from disam_ros.geodesy import require_place
from disam_ros.geometry import Transform
from disam_ros.image import MAX_BYTES

FORMAT_VERSION = 1
REMEDY = "make the dataset anew with 'disam extract', 'disam convert' or 'disam synth'"
KINDS = {
    "name": str,
    "cameras": dict,
    "map_frame": str | None,
    "latitude": float | None,
    "longitude": float | None,
    "origin": str | None,
    "depth_unit": float | None,
}  # of the entries of dataset.json


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of dataset.json."""

    name: str
    cameras: dict[str, Camera]  # by name
    map_frame: str = "map"  # of the poses
    latitude: float | None = None  # of the map origin [deg]; None: unknown
    longitude: float | None = None  # of the map origin [deg]; None: unknown
    origin: str = ""  # how the data was made, for people
    depth_unit: float | None = None  # metres per step of depth maps; None: there are none

    def to_json(self) -> dict[str, Any]:
        """The contents as plain values."""
        values = asdict(self)
        values["cameras"] = {name: camera.to_json() for name, camera in self.cameras.items()}
        if self.depth_unit is None:
            del values["depth_unit"]
        return {"format_version": FORMAT_VERSION, **values}


class Dataset:
    """A dataset directory opened for reading.

    Raises DatasetError where files are missing, malformed or of another format version.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.info = _read_info(self.directory)
        self.records = read_records(self.directory / "images.csv")

    def __len__(self) -> int:
        return len(self.records)

    def path(self, record: ImageRecord) -> Path:
        """The file of an image."""
        return self.directory / record.path

    def depth(self, record: ImageRecord) -> NDArray[np.float32] | None:
        """Read the depth of an image: [H, W] metres along the optical axis; None: it has none.

        NaN: unknown; infinite: beyond the range of the format. It covers the view of the image but
        may have another size. Raises DatasetError for a damaged map, for another
        aspect ratio than the camera's, and where dataset.json has no unit.
        """
        path = _depth_path(self.directory, record)
        with reading(path, DatasetError):
            if not path.exists():
                return None
        data = read_bytes(path, DatasetError, MAX_BYTES)
        if self.info.depth_unit is None:
            raise DatasetError(
                f"{path} has no unit; set depth_unit, the metres per step, in dataset.json"
            )
        try:
            depth = decode_depth(data, self.info.depth_unit, str(path))
        except ImageError as error:
            raise DatasetError(str(error)) from error
        _check_depth(depth, self.info, record.camera, path)
        return depth

    def domains(self) -> list[str]:
        """Domain names in order of first appearance."""
        return list(dict.fromkeys(record.domain for record in self.records))


class DatasetWriter:
    """Writes a dataset directory. Use as a context manager: it appears after a clean exit.

    overwrite: replace a dataset that exists. Raises OutputError.
    """

    folder: Path  # of the files until then

    def __init__(self, directory: Path | str, info: DatasetInfo, overwrite: bool = False) -> None:
        require_output(directory, DATASET, overwrite)
        self.directory, self.info = Path(directory), info
        self._overwrite = overwrite
        self._count = 0

    def add(
        self,
        jpeg: bytes,
        stamp_ns: int,
        camera: str,
        domain: str,
        map_from_camera: Transform | None,
        source: str = "",
        depth: NDArray[np.float32] | None = None,
    ) -> ImageRecord:
        """Store an encoded image, its row and its depth map, if any (`add_depth`).

        Raises DatasetError for a second image of a camera at one stamp.
        """
        for name in (domain, camera):
            _require_folder_name(name)
        path = f"images/{domain}/{camera}/{stamp_ns}.jpg"
        target = self.folder / path
        if target.exists():
            raise DatasetError(f"{target} exists: two images of {camera} carry stamp {stamp_ns}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(jpeg)
        record = ImageRecord(
            id=self._count,
            stamp_ns=stamp_ns,
            camera=camera,
            domain=domain,
            source=source,
            map_from_camera=map_from_camera,
            path=path,
        )
        if depth is not None:
            self.add_depth(record, depth)
        self._csv.writerow(record_row(record))
        self._count += 1
        return record

    def add_depth(self, record: ImageRecord, depth: NDArray[np.float32]) -> None:
        """Store the depth map of an image added before: [H, W] metres, see `Dataset.depth`.

        Raises DatasetError for another aspect ratio than the camera's, for an array that is no
        depth map and without `DatasetInfo.depth_unit`.
        """
        path = _depth_path(self.folder, record)
        if self.info.depth_unit is None:
            raise DatasetError(f"{path}: depth needs a DatasetInfo.depth_unit, in metres")
        try:
            data = encode_depth(depth, self.info.depth_unit)
        except ImageError as error:
            raise DatasetError(f"{path}: {error}") from error
        _check_depth(depth, self.info, record.camera, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def __enter__(self) -> DatasetWriter:
        with ExitStack() as stack:
            output = atomic_directory(self.directory, DATASET, self._overwrite)
            self.folder = stack.enter_context(output)
            write_json(self.folder / "dataset.json", self.info.to_json())
            table = atomic_file(self.folder / "images.csv", newline="")
            self._csv = records_writer(stack.enter_context(table))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def _require_folder_name(name: str) -> None:
    """Raise DatasetError for a domain or camera whose images would lie elsewhere."""
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise DatasetError(
            f"the domain or camera '{name}' cannot name a folder: expected letters, digits, '_', "
            f"'-', '.', without '/'"
        )


def _depth_path(directory: Path, record: ImageRecord) -> Path:
    """The file of a depth map."""
    return directory / "depth" / record.domain / record.camera / f"{record.stamp_ns}.png"


def _check_depth(depth: NDArray[np.float32], info: DatasetInfo, camera: str, path: Path) -> None:
    """Raise DatasetError unless the depth map covers the view of the camera."""
    if camera not in info.cameras:
        raise DatasetError(f"{path}: dataset.json lacks the camera '{camera}'")
    width, height = info.cameras[camera].width, info.cameras[camera].height
    if not same_view(depth, width, height):
        raise DatasetError(
            f"{path} is {depth.shape[1]}x{depth.shape[0]}, which does not fit camera '{camera}' of "
            f"{width}x{height}; a depth map covers the view of its image"
        )


def _read_info(directory: Path) -> DatasetInfo:
    """Read dataset.json. Raises DatasetError."""
    path = directory / "dataset.json"
    with reading(path, DatasetError):
        if not path.exists():
            bag = " but a bag: name it with --bag" if (directory / "metadata.yaml").exists() else ""
            raise DatasetError(f"{path} not found: {directory} is not a dataset directory{bag}")
    values = read_json(path, FORMAT_VERSION, DatasetError, KINDS, closed=True, remedy=REMEDY)
    unit = values["depth_unit"]
    if unit is not None and unit <= 0:
        raise DatasetError(f"{path}: depth_unit is {unit!r}; expected metres greater than 0")
    require_place(values["latitude"], values["longitude"], str(path), DatasetError)
    cameras = cameras_from_json(values.pop("cameras"), str(path), DatasetError)
    del values["format_version"]
    return DatasetInfo(cameras=cameras, **{k: v for k, v in values.items() if v is not None})
