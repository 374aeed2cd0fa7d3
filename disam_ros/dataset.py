# SPDX-License-Identifier: Apache-2.0
"""Dataset directory: posed images on disk.

dataset.json   format version, name, map frame, place on Earth, cameras
images.csv     one row per image, in time order (columns: IMAGE_COLUMNS)
images/<domain>/<camera>/<stamp_ns>.jpg
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO, overload

import numpy as np

from disam_ros.errors import DatasetError, GeometryError
from disam_ros.geometry import Transform

FORMAT_VERSION = 1
RECORD_COLUMNS = ("id", "stamp_ns", "camera", "domain", "source")
POSE_COLUMNS = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
IMAGE_COLUMNS = (*RECORD_COLUMNS, "path", *POSE_COLUMNS)
TABLE_CHUNK = 2**24  # bytes looked through for line ends at once


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `base_from_camera` maps the optical frame to the vehicle's base frame."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()  # OpenCV plumb_bob order; empty: none
    base_from_camera: Transform = field(default_factory=Transform.identity)

    def to_json(self) -> dict:
        values = asdict(self)
        values["distortion"] = list(self.distortion)
        pose = self.base_from_camera
        values["base_from_camera"] = [*pose.translation.tolist(), *pose.quaternion.tolist()]
        return values

    @classmethod
    def from_json(cls, values: dict) -> Camera:
        pose = np.asarray(values["base_from_camera"], dtype=np.float64)
        rest = {k: v for k, v in values.items() if k not in ("base_from_camera", "distortion")}
        return cls(
            **rest,
            distortion=tuple(values.get("distortion", ())),
            base_from_camera=Transform(pose[:3], pose[3:]),
        )


@dataclass(frozen=True)
class ImageRecord:
    """One posed image; a row of images.csv."""

    id: int  # position in the file, from 0
    stamp_ns: int
    camera: str
    domain: str
    source: str  # where the image came from; in a map: path in the dataset, or topic of the bag
    map_from_camera: Transform | None  # optical camera frame; None: no pose known
    path: str = ""  # relative to the dataset directory; empty in a map


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of dataset.json."""

    name: str
    cameras: dict[str, Camera]
    map_frame: str = "map"
    latitude: float | None = None  # degrees north of the map origin
    longitude: float | None = None  # degrees east of the map origin
    origin: str = ""  # how the data was made, for people

    def to_json(self) -> dict:
        values = asdict(self)
        values["cameras"] = {name: camera.to_json() for name, camera in self.cameras.items()}
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
        return self.directory / record.path

    def domains(self) -> list[str]:
        """Domain names in order of first appearance."""
        return list(dict.fromkeys(record.domain for record in self.records))


class DatasetWriter:
    """Writes a dataset directory. Use as a context manager: only a clean exit makes it loadable.

    `images.csv` grows in a `.part` file and is renamed when all is written; what a killed writer
    left behind is replaced.
    Raises DatasetError when the directory already holds a dataset.
    """

    def __init__(self, directory: Path | str, info: DatasetInfo) -> None:
        self.directory = Path(directory)
        if (self.directory / "images.csv").exists():
            raise DatasetError(
                f"{self.directory} already holds a dataset; choose a new directory or remove it"
            )
        self._part = self.directory / "images.csv.part"
        if self._part.exists():  # left by a writer that was killed
            shutil.rmtree(self.directory / "images", ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "dataset.json").write_text(json.dumps(info.to_json(), indent=2) + "\n")
        self._file = self._part.open("w", newline="")
        self._csv = records_writer(self._file)
        self._count = 0

    def add(
        self,
        jpeg: bytes,
        stamp_ns: int,
        camera: str,
        domain: str,
        map_from_camera: Transform | None,
        source: str = "",
    ) -> ImageRecord:
        """Store one encoded image and its row."""
        path = f"images/{domain}/{camera}/{stamp_ns}.jpg"
        target = self.directory / path
        if target.exists():
            raise DatasetError(f"{target} exists: two images of {camera} carry stamp {stamp_ns}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(jpeg)
        record = ImageRecord(self._count, stamp_ns, camera, domain, source, map_from_camera, path)
        self._csv.writerow(record_row(record))
        self._count += 1
        return record

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._part.rename(self.directory / "images.csv")


def records_writer(file: TextIO, header: bool = True) -> csv.DictWriter:
    """A csv writer for record rows; writes the column names first unless told not to."""
    writer = csv.DictWriter(file, IMAGE_COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    return writer


def record_row(record: ImageRecord) -> dict[str, object]:
    """The csv row of a record; an unknown pose is seven empty fields."""
    row = {name: getattr(record, name) for name in (*RECORD_COLUMNS, "path")}
    pose = record.map_from_camera
    values = [""] * 7
    if pose is not None:
        values = [f"{v:.9g}" for v in (*pose.translation, *pose.quaternion)]
    return {**row, **dict(zip(POSE_COLUMNS, values, strict=True))}


def read_records(path: Path) -> list[ImageRecord]:
    """Read images.csv. Raises DatasetError naming the file and line at fault."""
    if not path.is_file():
        raise DatasetError(f"{path} not found: not a complete dataset or map directory")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = set(IMAGE_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{path} lacks the columns {sorted(missing)}")
        return [_parse_row(row, path, reader.line_num) for row in reader]


class RecordTable(Sequence[ImageRecord]):
    """The rows of an images.csv, each parsed when it is asked for; the file stays on disk.

    Raises DatasetError for a missing file or columns at once, for a malformed row when it is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise DatasetError(f"{path} not found: not a complete dataset or map directory")
        with path.open(newline="") as file:
            self._columns = next(csv.reader(file), [])
        missing = set(IMAGE_COLUMNS) - set(self._columns)
        if missing:
            raise DatasetError(f"{path} lacks the columns {sorted(missing)}")
        self._bytes = np.memmap(path, np.uint8, "r")
        parts = range(0, len(self._bytes), TABLE_CHUNK)
        ends = [np.flatnonzero(self._bytes[p : p + TABLE_CHUNK] == ord("\n")) + p for p in parts]
        self._ends = np.concatenate(ends)  # the first is the header's

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageRecord]: ...

    def __getitem__(self, index: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]  # raises IndexError; counts negative ones from the end
        line = self._bytes[self._ends[row] + 1 : self._ends[row + 1]].tobytes().decode()
        cells = dict(zip(self._columns, next(csv.reader([line]), []), strict=False))
        return _parse_row(cells, self._path, row + 2)


def _parse_row(row: dict[str, str], path: Path, line: int) -> ImageRecord:
    try:
        pose = None
        if row["tx"] != "":
            values = np.array([float(row[name]) for name in POSE_COLUMNS])
            pose = Transform(values[:3], values[3:])
        return ImageRecord(
            id=int(row["id"]),
            stamp_ns=int(row["stamp_ns"]),
            camera=row["camera"],
            domain=row["domain"],
            source=row["source"],
            map_from_camera=pose,
            path=row["path"],
        )
    except (ValueError, TypeError, KeyError, GeometryError) as error:
        raise DatasetError(f"{path} line {line} is malformed: {error}") from error


def _read_info(directory: Path) -> DatasetInfo:
    path = directory / "dataset.json"
    if not path.is_file():
        raise DatasetError(f"{path} not found: {directory} is not a dataset directory")
    try:
        values = json.loads(path.read_text())
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise DatasetError(f"{path} has format version {version}, expected {FORMAT_VERSION}")
        values["cameras"] = {n: Camera.from_json(c) for n, c in values["cameras"].items()}
        return DatasetInfo(**values)
    except (ValueError, TypeError, KeyError, AttributeError, GeometryError) as error:
        raise DatasetError(f"{path} is malformed: {error}") from error
