# SPDX-License-Identifier: Apache-2.0
"""Crash-safe map writing: append to `<map>.part`, commit, compress and rename.

Rows are appended to plain files; a commit syncs them to disk and then replaces `progress.json`,
which holds the number of valid rows. Reopening truncates the files to that number and resumes.
`finish` compresses the coarse descriptors, until then stored uncompressed in a file of their own,
writes map.json and renames the directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from disam_ros.datasets.records import ImageRecord, RecordTable, record_row, records_writer
from disam_ros.errors import MapError
from disam_ros.files import file_sha256, part_of, sync, sync_directory, write_json
from disam_ros.mapping.compression import CHUNK, learn_projection, to_int8
from disam_ros.mapping.keypoints import FILE, fill_depths, intrinsics
from disam_ros.mapping.place_map import MapHeader

NPY_HEADER_BYTES = 128  # of numpy's header of a two-dimensional array, with room to grow
UNCOMPRESSED = "coarse_whole.npy"  # coarse descriptors until they are compressed
DTYPES: dict[str, np.dtype[Any]] = {
    UNCOMPRESSED: np.dtype(np.float16),
    "fine.npy": np.dtype(np.int8),
}


class MapWriter:
    """A half-built map, new or resumed.

    source: identity of the input; a half-built map of another header or source is refused.
    position, skipped: inputs consumed at the last commit, and how many of them were skipped.
    Raises MapError when the output exists, belongs to another build, or the disk is full.
    """

    def __init__(
        self, directory: Path | str, header: MapHeader, dimensions: dict[str, int], source: str
    ) -> None:
        self.directory = Path(directory)
        if self.directory.exists():
            raise MapError(f"{self.directory} exists; choose a new directory or remove it")
        self.part = part_of(self.directory)
        self.count = 0
        self.position = 0
        self.skipped = 0
        self._header = header
        self._dimensions = {UNCOMPRESSED: dimensions["coarse"], "fine.npy": dimensions["fine"]}
        self._kinds = dict(DTYPES)
        if header.keypoints:
            self._dimensions[FILE] = header.keypoints.row_type.itemsize
            self._kinds[FILE] = np.dtype(np.uint8)
        self._identity = {"header": header.to_json(), "dimensions": dimensions, "source": source}
        with self._reporting_disk_errors():
            self._open()

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
            self._arrays[UNCOMPRESSED].write(coarse.astype(DTYPES[UNCOMPRESSED]).tobytes())
            self._arrays["fine.npy"].write(to_int8(fine).tobytes())
            if keypoints is not None:
                self._arrays[FILE].write(keypoints.tobytes())
        self.count += 1

    def commit(self, position: int, skipped: int = 0) -> None:
        """Sync all added images to disk; the input is consumed up to `position`."""
        with self._reporting_disk_errors():
            for file in (self._table, *self._arrays.values()):
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
            self.close()
            self._compress()
            cameras = self._tabulate()
            self._triangulate(cameras)
            values = self._header.to_json() | {"images": self.count, **(extra or {})}
            values["camera_names"] = cameras
            values["sha256"] = {name: self._seal(name) for name in self._header.data_files}
            write_json(self.part / "map.json", values)
            self.part.rename(self.directory)
            for name in ("progress.json", UNCOMPRESSED):
                (self.directory / name).unlink(missing_ok=True)
            sync_directory(self.directory.parent)
        return self.directory

    def _seal(self, name: str) -> str:
        """Sync a data file to disk. Returns its SHA-256."""
        with (self.part / name).open("r+b") as file:
            sync(file)
        return file_sha256(self.part / name)

    def _compress(self) -> None:
        """Write coarse.npy and its projection from the uncompressed descriptors."""
        rows = np.load(self.part / UNCOMPRESSED, mmap_mode="r")
        projection = learn_projection(rows, self._header.descriptor.coarse_size)
        np.save(self.part / "directions.npy", projection.directions)
        np.save(self.part / "steps.npy", projection.steps)
        shape = (len(rows), projection.size)
        path = self.part / "coarse.npy"
        codes = np.lib.format.open_memmap(path, "w+", np.int8, shape)  # type: ignore[no-untyped-call]
        for start in range(0, len(rows), CHUNK):
            codes[start : start + CHUNK] = projection.encode(rows[start : start + CHUNK])
        codes.flush()

    def _tabulate(self) -> list[str]:
        """Write poses.npy and cameras.npy from images.csv. Returns the camera names."""
        records = RecordTable(self.part / "images.csv")
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

    def close(self) -> None:
        """Sync and close the files; a later writer resumes from the last commit."""
        for file in (self._table, *self._arrays.values()):
            if not file.closed:
                sync(file)
                file.close()

    def _open(self) -> None:
        progress = self._read_progress()
        if progress is None:
            self.part.mkdir(parents=True, exist_ok=True)
        else:
            self.count, self.position = progress["count"], progress["position"]
            self.skipped = progress["skipped"]
        mode: Literal["w", "r+"] = "w" if progress is None else "r+"
        self._table = (self.part / "images.csv").open(mode, newline="")
        self._arrays = {name: (self.part / name).open(mode + "b") for name in self._kinds}
        for name, kind in self._kinds.items():
            file = self._arrays[name]
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
        shape = (rows, self._dimensions[name])
        values = {"descr": self._kinds[name].str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, values)  # type: ignore[no-untyped-call]
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
                f"{self.part} cannot be written: {error.strerror}; {self.position} inputs are "
                f"safe on disk: free space and run the same command again to go on from there"
            ) from error
