# SPDX-License-Identifier: Apache-2.0
"""Crash-safe map writing: append to `<map>.part`, commit, compress and rename.

Rows are appended to plain files; a commit syncs them to disk and then replaces `progress.json`,
which holds the number of valid rows. Reopening truncates the files to that number and resumes.
`finish` compresses the descriptors, until then stored in half precision in files of their own,
writes map.json and renames the directory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord, RecordTable, record_row, records_writer
from disam_ros.errors import MapError
from disam_ros.files.held import HeldFile
from disam_ros.files.outputs import MAP, OutputDirectory
from disam_ros.files.writing import describe_fault, file_sha256, sync, write_json
from disam_ros.mapping.compression import CHUNK, channel_means, learn_projection, to_int8
from disam_ros.mapping.keypoints import FILE, fill_depths, intrinsics
from disam_ros.mapping.place_map import MapHeader, index_file
from disam_ros.mapping.repetition import COMPARED, evenly, repetition

NPY_HEADER_BYTES = 128  # of numpy's header of a two-dimensional array, with room to grow
COARSE, FINE = "coarse_whole.npy", "fine_whole.npy"  # descriptors until they are compressed


class MapWriter:
    """A half-built map, new or resumed.

    shapes: (C, h, w) of the coarse and fine descriptors before flattening.
    source: identity of the input; a half-built map of another header or source is refused.
    position, skipped: inputs consumed at the last commit, and how many of them were skipped.
    overwrite: a map that is there is replaced in the end.
    Raises OutputError where the output exists; MapError where the half-built map is of another
    build or the disk is full.
    """

    def __init__(
        self,
        directory: Path | str,
        header: MapHeader,
        shapes: Mapping[str, tuple[int, int, int]],
        source: str,
        overwrite: bool = False,
    ) -> None:
        self._output = OutputDirectory(directory, MAP, overwrite)
        self.directory, self.part = self._output.path, self._output.part
        self.count = 0
        self.position = 0
        self.skipped = 0
        self._header = header
        self._shape = shapes["fine"]
        self._dimensions = {COARSE: math.prod(shapes["coarse"]), FINE: math.prod(shapes["fine"])}
        self._kinds: dict[str, np.dtype[Any]] = dict.fromkeys((COARSE, FINE), np.dtype(np.float16))
        if header.keypoints:
            self._dimensions[FILE] = header.keypoints.row_type.itemsize
            self._kinds[FILE] = np.dtype(np.uint8)
        self._identity = {"header": header.to_json(), "shapes": dict(shapes), "source": source}
        self._files: list[IO[Any]] = []
        try:
            with self._reporting_disk_errors():
                self._open()
        except BaseException:
            self.close()
            raise

    def add(
        self,
        record: ImageRecord,
        coarse: NDArray[np.float32],
        fine: NDArray[np.float32],
        keypoints: NDArray[np.uint8] | None = None,
    ) -> None:
        """Append an image. coarse, fine: [D] each; keypoints: uint8 [B], for a map with keypoints.

        `record.id` and `record.path` are replaced. Raises MapError for descriptors that are not
        finite, and without a pose.
        """
        if record.map_from_camera is None:
            raise MapError(f"{record.source or record.id} has no pose: a map image needs one")
        if not (np.isfinite(coarse).all() and np.isfinite(fine).all()):
            raise MapError(
                f"descriptors of {record.source or record.id} are not finite: the weights of the "
                f"model are damaged or its training has diverged"
            )
        if (keypoints is None) != (self._header.keypoints is None):
            raise MapError("expected keypoints for all images of a map, or for none")
        with self._reporting_disk_errors():
            row = record_row(record) | {"id": self.count, "path": ""}
            self._csv.writerow(row)
            for name, descriptor in ((COARSE, coarse), (FINE, fine)):
                self._arrays[name].write(descriptor.astype(self._kinds[name]).tobytes())
            if keypoints is not None:
                self._arrays[FILE].write(keypoints.tobytes())
        self.count += 1

    def commit(self, position: int, skipped: int = 0) -> None:
        """Sync all added images to disk; the input is consumed up to `position`."""
        with self._reporting_disk_errors():
            for file in self._files:
                sync(file)
            progress = {**self._identity, "count": self.count}
            progress |= {"position": position, "skipped": skipped}
            progress["csv_bytes"] = self._table.tell()
            write_json(self.part / "progress.json", progress)
        self.position, self.skipped = position, skipped

    def finish(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Complete the map and rename it. extra: further entries of map.json. Raises MapError."""
        if not self.count:
            raise MapError("no image was added: a map needs at least one")
        with self._reporting_disk_errors():
            for name in self._kinds:
                self._arrays[name].seek(0)
                self._arrays[name].write(self._npy_header(name, self.count))
                self._arrays[name].seek(0, os.SEEK_END)
            for file in self._files:
                sync(file)
            self._compress()
            cameras = self._tabulate()
            self._triangulate(cameras)
            self._measure_repetition(cameras)
            values = self._header.to_json() | {"images": self.count, **(extra or {})}
            values["camera_names"] = cameras
            values["sha256"] = {name: self._seal(name) for name in self._header.data_files}
            write_json(self.part / "map.json", values)
            self._output.publish(expected=[index_file(k) for k in range(len(cameras))])
            for name in ("progress.json", COARSE, FINE):
                (self.directory / name).unlink(missing_ok=True)
        self.close()
        return self.directory

    def _seal(self, name: str) -> str:
        """Sync a data file to disk. Returns its SHA-256."""
        with (self.part / name).open("r+b") as file:
            sync(file)
        return file_sha256(self.part / name)

    def _compress(self) -> None:
        """Write coarse.npy with its projection and fine.npy with the mean of the features."""
        coarse, fine = (np.load(self.part / name, mmap_mode="r") for name in (COARSE, FINE))
        projection = learn_projection(coarse, self._header.descriptor.coarse_size)
        np.save(self.part / "directions.npy", projection.directions)
        np.save(self.part / "steps.npy", projection.steps)
        self._write_codes("coarse.npy", projection.size, lambda k: projection.encode(coarse[k]))
        mean = channel_means(fine, self._shape)
        np.save(self.part / "mean.npy", mean)
        cells = np.repeat(mean, math.prod(self._shape[1:]))
        self._write_codes("fine.npy", len(cells), lambda k: to_int8(fine[k] - cells))

    def _write_codes(
        self, name: str, size: int, codes_of: Callable[[slice], NDArray[np.int8]]
    ) -> None:
        """Write int8 codes [N, size] in chunks of rows."""
        with (self.part / name).open("wb") as file:
            _write_npy_header(file, np.dtype(np.int8), (self.count, size))
            for start in range(0, self.count, CHUNK):
                file.write(codes_of(slice(start, start + CHUNK)).tobytes())

    def _tabulate(self) -> list[str]:
        """Write poses.npy and cameras.npy from images.csv. Returns the camera names."""
        records = RecordTable(HeldFile(self.part / "images.csv", MapError))
        poses = np.zeros((len(records), 7))
        cameras = np.zeros(len(records), np.int16)
        names: dict[str, int] = {}
        for row, record in enumerate(records):
            pose = record.map_from_camera
            assert pose is not None  # as `add` requires
            poses[row] = *pose.translation, *pose.quaternion
            cameras[row] = names.setdefault(record.camera, len(names))
        np.save(self.part / "poses.npy", poses)
        np.save(self.part / "cameras.npy", cameras)
        return list(names)

    def _triangulate(self, cameras: list[str]) -> None:
        """Triangulate depths of keypoints without one; repeating it after a kill is harmless."""
        header = self._header.keypoints
        if header is None:
            return
        stored = np.load(self.part / FILE, mmap_mode="r+")
        table = stored.view(header.row_type)[:, 0]
        poses, camera_of = np.load(self.part / "poses.npy"), np.load(self.part / "cameras.npy")
        for number, name in enumerate(cameras):
            rows = np.flatnonzero(camera_of == number)
            camera = intrinsics(self._header.cameras, name)
            if camera is not None:
                fill_depths(table, rows, header.features, poses[rows], camera)
        stored.flush()

    def _measure_repetition(self, cameras: list[str]) -> None:
        """Set the keypoints' repetition, that of the most repetitive camera."""
        header = self._header.keypoints
        if header is None:
            return
        table = np.load(self.part / FILE, mmap_mode="r").view(header.row_type)[:, 0]
        poses, camera_of, coarse, steps = (
            np.load(self.part / f"{name}.npy", mmap_mode="r")
            for name in ("poses", "cameras", "coarse", "steps")
        )
        found = []
        for number, name in enumerate(cameras):
            rows = np.flatnonzero(camera_of == number)
            rows = rows[evenly(len(rows), COMPARED)]
            camera = intrinsics(self._header.cameras, name)
            found.append(
                repetition(table, rows, header.features, poses[rows], coarse[rows] * steps, camera)
            )
        most = max((value for value in found if value is not None), default=None)
        self._header = replace(self._header, keypoints=replace(header, repetition=most))

    def close(self) -> None:
        """Close the files; a later writer resumes from the last commit."""
        for file in self._files:
            with suppress(OSError):  # what was not committed is not promised
                file.close()
        self._output.close()

    def _open(self) -> None:
        progress = self._read_progress()
        if progress is not None:
            self.count, self.position = progress["count"], progress["position"]
            self.skipped = progress["skipped"]
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
        path = self.part / "progress.json"
        if not path.exists():
            return None  # killed before the first commit: nothing to resume
        progress: dict[str, Any] = json.loads(path.read_text())
        if any(progress.get(k) != json.loads(json.dumps(v)) for k, v in self._identity.items()):
            raise MapError(
                f"{self.part} holds a half-built map of another model, source or settings; "
                f"remove it to start afresh"
            )
        return progress

    def _npy_header(self, name: str, rows: int) -> bytes:
        buffer = BytesIO()
        _write_npy_header(buffer, self._kinds[name], (rows, self._dimensions[name]))
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


def _write_npy_header(file: IO[bytes], kind: np.dtype[Any], shape: tuple[int, int]) -> None:
    values = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, values)  # type: ignore[no-untyped-call]
