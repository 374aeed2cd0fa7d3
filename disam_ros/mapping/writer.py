# SPDX-License-Identifier: Apache-2.0
"""Crash-safe map writing: append to `<map>.part`, commit, compress and rename.

Rows are appended to plain files; a commit syncs them to disk and then replaces `PROGRESS`, which
holds the number of valid rows. Reopening truncates the files to that number and resumes.
`finish` compresses the descriptors, until then stored in half precision in files of their own,
writes map.json, removes those files and renames the directory, which keeps `PROGRESS`: nothing is
left to do after the rename, and before it a killed build can always go on.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord, record_row, records_writer
from disam_ros.errors import MapError
from disam_ros.files.checking import check_entries
from disam_ros.files.outputs import MANIFEST, MAP, OutputDirectory
from disam_ros.files.reading import HeldFile, parse_json, read_bytes, reading
from disam_ros.files.writing import describe_fault, file_sha256, sync, write_json
from disam_ros.mapping.compression import (
    channel_means,
    chunks,
    learn_projection,
    no_projection,
    to_int8,
)
from disam_ros.mapping.encoding import FileRows
from disam_ros.mapping.keypoints import FILE, fill_depths, intrinsics
from disam_ros.mapping.place_map import (
    DIRECTIONS,
    MEAN,
    MapHeader,
    PlaceMap,
    index_file,
    require_readable,
)
from disam_ros.mapping.repetition import COMPARED, evenly, repetition
from disam_ros.mapping.rows import RecordTable, RowFile, Rows
from disam_ros.models.similarity import Projection

NPY_HEADER_BYTES = 128  # of numpy's header of a two-dimensional array, with room to grow
PROGRESS = ".disam_progress.json"
PROGRESS_KINDS = {
    **dict.fromkeys(("header", "shapes"), dict),
    "source": str,
    **dict.fromkeys(("count", "position", "skipped", "csv_bytes"), int),
}
COARSE, FINE = "coarse_whole.npy", "fine_whole.npy"  # descriptors until they are compressed


class MapWriter:
    """A half-built map, new or resumed.

    shapes: (C, h, w) of the coarse and fine descriptors before flattening.
    source: identity of the input; a half-built map of another header or source is refused.
    position, skipped: inputs consumed at the last commit, and how many of them were skipped.
    complete: a killed process has written all but the name: only `finish` is left to do.
    overwrite: a map that is there is replaced in the end. projection: the model's, which the header
    names; None: learned on the map's images.
    Raises OutputError where the output exists; MapError where no map of this header could be
    opened, the half-built map is of another build or the disk is full.
    """

    def __init__(
        self,
        directory: Path | str,
        header: MapHeader,
        shapes: Mapping[str, tuple[int, int, int]],
        source: str,
        overwrite: bool = False,
        projection: Projection | None = None,
    ) -> None:
        self._projection = projection
        require_readable(header, f"{directory} cannot become a map")
        self._output = OutputDirectory(directory, MAP, overwrite)
        self.directory, self.part = self._output.path, self._output.part
        self.complete = False
        self.count = 0
        self.position = 0
        self.skipped = 0
        self._header = header
        self._shape = shapes["fine"]
        self._dimensions = {COARSE: math.prod(shapes["coarse"]), FINE: math.prod(shapes["fine"])}
        self._kinds: dict[str, np.dtype[Any]] = dict.fromkeys((COARSE, FINE), np.dtype(np.float16))
        self._dimensions |= header.row_bytes
        self._kinds |= dict.fromkeys(header.row_bytes, np.dtype(np.uint8))
        self._identity = {"header": header.to_json(), "shapes": dict(shapes), "source": source}
        self._files: list[IO[Any]] = []
        self._opened = False
        try:
            with self._reporting_disk_errors():
                self._open()
                self._opened = True
        except BaseException:
            self.close()
            raise

    def add(
        self,
        record: ImageRecord,
        coarse: NDArray[np.float32],
        fine: NDArray[np.float32],
        rows: FileRows | None = None,
    ) -> None:
        """Append an image. coarse, fine: [D] each; rows: those of the files that a map may lack.

        `record.id` and `record.path` are replaced. Raises MapError for descriptors that are not
        finite, and without a pose.
        """
        if self.complete:
            raise MapError(f"{self.part} is complete but for its name, and takes no more images")
        if record.map_from_camera is None:
            raise MapError(f"{record.source or record.id} has no pose: a map image needs one")
        if not (np.isfinite(coarse).all() and np.isfinite(fine).all()):
            raise MapError(
                f"descriptors of {record.source or record.id} are not finite: the weights of the "
                f"model are damaged or its training has diverged"
            )
        rows = rows or {}
        if set(rows) != set(self._header.row_bytes):
            expected = ", ".join(self._header.row_bytes) or "no further file"
            raise MapError(f"expected rows of {expected}, got {', '.join(rows) or 'none'}")
        with self._reporting_disk_errors():
            self._csv.writerow(record_row(record) | {"id": self.count, "path": ""})
            for name, descriptor in ((COARSE, coarse), (FINE, fine)):
                self._arrays[name].write(descriptor.astype(self._kinds[name]).tobytes())
            for name, row in rows.items():
                self._arrays[name].write(row.tobytes())
        self.count += 1

    def commit(self, position: int, skipped: int = 0) -> None:
        """Sync all added images to disk; the input is consumed up to `position`."""
        if self.complete:
            return
        with self._reporting_disk_errors():
            for file in self._files:
                sync(file)
            progress = {**self._identity, "count": self.count}
            progress |= {"position": position, "skipped": skipped}
            progress["csv_bytes"] = self._table.tell()
            write_json(self.part / PROGRESS, progress)
        self.position, self.skipped = position, skipped

    def finish(self, extra: Mapping[str, Any] | None = None, show_progress: bool = False) -> Path:
        """Complete the map and rename it. extra: further entries of map.json. Raises MapError."""
        if not self.count:
            raise MapError("no image was added: a map needs at least one")
        with self._reporting_disk_errors():
            if not self.complete:
                self._complete(extra or {}, show_progress)
            for name in (COARSE, FINE):
                (self.part / name).unlink(missing_ok=True)
            cameras = len(PlaceMap(self.part, verify=False).cameras())
            self._output.publish(map(index_file, range(cameras)))
        self.close()
        return self.directory

    def _complete(self, extra: Mapping[str, Any], show_progress: bool) -> None:
        """Write all files of the map, map.json last."""
        for name in self._kinds:
            self._arrays[name].seek(0)
            self._arrays[name].write(self._npy_header(name, self.count))
            self._arrays[name].seek(0, os.SEEK_END)
        for file in self._files:
            sync(file)
        contents = self._contents()
        self._triangulate(contents, show_progress)
        write_map(self.part, self._header, contents, extra)

    def _contents(self) -> Contents:
        """Compresses the descriptors and tabulates poses and cameras."""
        coarse, fine = map(self._stored, (COARSE, FINE))
        projection, directions, config = self._projection, None, self._header.descriptor
        if projection is None:
            whole = config.as_in_paper
            projection = (
                no_projection(coarse) if whole else learn_projection(coarse, config.coarse_size)
            )
            directions = projection.directions
        mean = channel_means(fine, self._shape)
        if config.as_in_paper:
            mean = np.zeros_like(mean)
        cells = np.repeat(mean, math.prod(self._shape[1:]))
        records = RecordTable(HeldFile(self.part / "images.csv", MapError))
        poses, camera_of = np.zeros((self.count, 7)), np.zeros(self.count, np.int16)
        names: dict[str, int] = {}
        for row, record in enumerate(records):
            pose = record.map_from_camera
            assert pose is not None  # as `add` requires
            poses[row] = *pose.translation, *pose.quaternion
            camera_of[row] = names.setdefault(record.camera, len(names))
        return Contents(
            poses=poses,
            camera_of=camera_of,
            camera_names=list(names),
            coarse=(projection.encode(coarse[chunk]) for chunk in chunks(*coarse.shape)),
            fine=(to_int8(fine[chunk] - cells) for chunk in chunks(*fine.shape)),
            steps=projection.steps,
            mean=mean,
            directions=directions,
        )

    def _triangulate(self, contents: Contents, show_progress: bool) -> None:
        """Triangulates depths of keypoints without one; repeating it after a kill is harmless."""
        header = self._header.keypoints
        if header is None:
            return
        with RowFile(self.part / FILE, header.row_type, NPY_HEADER_BYTES) as table:
            for number, name in enumerate(contents.camera_names):
                rows = np.flatnonzero(contents.camera_of == number)
                camera, poses = intrinsics(self._header.cameras, name), contents.poses[rows]
                if camera is not None:
                    fill_depths(table, rows, header.features, poses, camera, show_progress)

    def _stored(self, name: str) -> Rows:
        """An array that is complete."""
        return Rows(HeldFile(self.part / name, MapError))

    def close(self) -> None:
        """Close the files; a later writer resumes from the last commit.

        Without an image nothing is left behind, which would bind a later build to these settings.
        """
        for file in self._files:
            with suppress(OSError):  # what was not committed is not promised
                file.close()
        if self._opened and not self.count:
            with suppress(OSError):
                for name in ("images.csv", *self._kinds, PROGRESS, MANIFEST):
                    (self.part / name).unlink(missing_ok=True)
                self.part.rmdir()
        self._opened = False
        self._output.close()

    def _open(self) -> None:
        progress = self._read_progress()
        if progress is not None:
            self.count, self.position = progress["count"], progress["position"]
            self.skipped = progress["skipped"]
            self.complete = self._is_complete()
        else:
            self._output.clear()  # what another command left there
        if self.complete:
            return
        mode: Literal["w", "r+"] = "w" if progress is None else "r+"
        self._table = (self.part / "images.csv").open(mode, newline="")
        self._files.append(self._table)
        self._arrays: dict[str, IO[bytes]] = {}
        for name, kind in self._kinds.items():
            file = self._arrays[name] = (self.part / name).open(mode + "b")
            self._files.append(file)
            file.write(self._npy_header(name, 0))
            row_bytes = self._dimensions[name] * kind.itemsize
            file.truncate(NPY_HEADER_BYTES + self.count * row_bytes)
            file.seek(0, os.SEEK_END)
        if progress is None:
            self._csv = records_writer(self._table)
        else:
            self._table.truncate(progress["csv_bytes"])
            self._table.seek(0, os.SEEK_END)
            self._csv = records_writer(self._table, header=False)

    def _read_progress(self) -> dict[str, Any] | None:
        """What the last commit wrote; None before the first. Raises MapError."""
        path = self.part / PROGRESS
        if not os.path.lexists(path):
            return None  # killed before the first commit: nothing to resume
        try:
            values = parse_json(read_bytes(path, MapError), str(path), MapError)
            progress = check_entries(values, PROGRESS_KINDS, str(path), MapError)
            if not progress["count"]:
                return None  # killed before the first image
            if any(progress[k] != json.loads(json.dumps(v)) for k, v in self._identity.items()):
                raise MapError(
                    f"{self.part} holds a half-built map of another model, source or settings"
                )
            if not self._is_complete():
                self._check_committed(progress)
        except MapError as error:
            raise MapError(f"{error}; move {self.part} away to start over") from error
        return progress

    def _is_complete(self) -> bool:
        """Whether all files were written: then the first that `finish` removes is missing."""
        return (self.part / "map.json").exists() and not (self.part / COARSE).exists()

    def _check_committed(self, progress: Mapping[str, Any]) -> None:
        """Raise MapError unless the files hold what was committed."""
        expected = {"images.csv": progress["csv_bytes"]}
        for name, kind in self._kinds.items():
            row_bytes = self._dimensions[name] * kind.itemsize
            expected[name] = NPY_HEADER_BYTES + progress["count"] * row_bytes
        for key in ("count", "position", "skipped", "csv_bytes"):
            if progress[key] < 0:
                raise MapError(f"{self.part / PROGRESS}: '{key}' expects 0 or more")
        for name, size in expected.items():
            with reading(self.part / name, MapError):
                actual = (self.part / name).stat().st_size
            if actual < size:
                raise MapError(
                    f"{self.part / name} is damaged: it has {actual} bytes, expected {size}"
                )

    def _npy_header(self, name: str, rows: int) -> bytes:
        buffer = BytesIO()
        write_npy_header(buffer, self._kinds[name], (rows, self._dimensions[name]))
        header = buffer.getvalue()
        if len(header) != NPY_HEADER_BYTES:
            raise MapError(f"npy header has {len(header)} bytes, expected {NPY_HEADER_BYTES}")
        return header

    @contextmanager
    def _reporting_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MapError(
                f"{self.part} cannot be written: {describe_fault(error)}; {self.position} inputs "
                f"are safe there, and it goes on from them"
            ) from error


@dataclass(frozen=True)
class Contents:
    """What a map holds of its images, besides images.csv and the files that it may lack."""

    poses: NDArray[np.float64]  # map_from_camera [N, 7]
    camera_of: NDArray[np.int16]  # [N], indices of camera_names
    camera_names: Sequence[str]
    coarse: Iterable[NDArray[np.int8]]  # codes [n, d], in chunks
    fine: Iterable[NDArray[np.int8]]  # codes [n, D], in chunks
    steps: NDArray[np.float32]  # quantization steps of coarse codes [d]
    mean: NDArray[np.float32]  # of fine features per channel [C]
    directions: NDArray[Any] | None  # of coarse descriptors [d, D]; None: the model's


def write_map(
    folder: Path, header: MapHeader, contents: Contents, values: Mapping[str, Any]
) -> None:
    """Completes a map beside its images.csv, keypoints and thumbnails, map.json last, and opens it.

    values: further entries of map.json. Raises MapError for a map that could not be opened.
    """
    arrays: dict[str, NDArray[Any]] = {
        "poses.npy": contents.poses,
        "cameras.npy": contents.camera_of,
        "steps.npy": contents.steps,
        MEAN: contents.mean,
    }
    if contents.directions is not None:
        arrays[DIRECTIONS] = contents.directions
    for name, array in arrays.items():
        np.save(folder / name, array)
    count = len(contents.poses)
    write_rows(folder / "coarse.npy", count, contents.coarse)
    write_rows(folder / "fine.npy", count, contents.fine)
    if header.keypoints is not None:
        most = map_repetition(folder, header, contents)
        header = replace(header, keypoints=replace(header.keypoints, repetition=most))
    entries = header.to_json() | {"images": count, **values}
    entries["camera_names"] = list(contents.camera_names)
    entries["sha256"] = {name: _seal(folder / name) for name in header.data_files}
    write_json(folder / "map.json", entries)
    PlaceMap(folder, verify=False)


def map_repetition(folder: Path, header: MapHeader, contents: Contents) -> float | None:
    """Repetition of the keypoints in a map's files, that of the most repetitive camera."""
    assert header.keypoints is not None
    coarse, values = Rows(HeldFile(folder / "coarse.npy", MapError)), []
    with RowFile(folder / FILE, header.keypoints.row_type, NPY_HEADER_BYTES) as table:
        for number, name in enumerate(contents.camera_names):
            rows = np.flatnonzero(contents.camera_of == number)
            rows = rows[evenly(len(rows), COMPARED)]
            camera, codes = intrinsics(header.cameras, name), coarse[rows] * contents.steps
            kind, poses = header.keypoints.features, contents.poses[rows]
            values.append(repetition(table, rows, kind, poses, codes, camera))
    return max((value for value in values if value is not None), default=None)


def write_rows(path: Path, count: int, chunks: Iterable[NDArray[Any]]) -> None:
    """Writes an array of `count` rows in chunks of rows."""
    with path.open("wb") as file:
        for number, chunk in enumerate(chunks):
            if not number:
                write_npy_header(file, chunk.dtype, (count, chunk.shape[1]))
            file.write(np.ascontiguousarray(chunk).tobytes())


def _seal(path: Path) -> str:
    """Syncs a file to disk. Returns its SHA-256."""
    with path.open("r+b") as file:
        sync(file)
    return file_sha256(path)


def write_npy_header(file: IO[bytes], kind: np.dtype[Any], shape: tuple[int, int]) -> None:
    """Writes the header of an array, NPY_HEADER_BYTES long."""
    values = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, values)  # type: ignore[no-untyped-call]
