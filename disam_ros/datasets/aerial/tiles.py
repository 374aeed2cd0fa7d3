# SPDX-License-Identifier: Apache-2.0
"""Aerial images as tiles on a grid in the map frame.

tiles.json   format version, map frame, metres per pixel, tile pixels, origin, list of tiles
tiles/…      the images, uint8 RGB; their names stand in tiles.json

Tile (column, row) covers the square whose south-western corner is `origin + side · (column, row)`,
side = metres_per_pixel · tile_pixels. Up in a tile is the map's +y (north), right its +x (east).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros import image
from disam_ros.errors import DatasetError, ImageError
from disam_ros.files.checking import check_entries
from disam_ros.files.outputs import TILES, atomic_directory, require_output
from disam_ros.files.reading import read_json, reading
from disam_ros.files.writing import write_json
from disam_ros.image import encode_jpeg

FORMAT_VERSION = 1
REMEDY = "write tiles.json anew as in docs/formats.md, or the tiles with 'disam synth --aerial'"
CACHED_TILES = 64
LARGEST_CROP = 4096  # width and height of a crop [px]
KINDS = {
    "metres_per_pixel": float,
    "tile_pixels": int,
    "origin": tuple[float, float],
    "map_frame": str | None,
    "source": str | None,
    "tiles": list,
}  # of the entries of tiles.json
TILE_KINDS = {"column": int, "row": int, "path": str}
NAMED = 6  # maximum number of tiles listed in an error


@dataclass(frozen=True)
class TileInfo:
    """Geometry and source of all tiles. Raises DatasetError for impossible numbers."""

    metres_per_pixel: float
    tile_pixels: int  # width and height of a tile
    origin: tuple[float, float] = (0.0, 0.0)  # south-western corner of tile (0, 0) [m]
    map_frame: str = "map"
    source: str = ""  # origin of the images, for people

    def __post_init__(self) -> None:
        pixels = self.tile_pixels
        if not (0 < self.metres_per_pixel < np.inf and isinstance(pixels, int) and pixels > 0):
            raise DatasetError(
                f"tiles of {pixels} pixels at {self.metres_per_pixel} metres per pixel; "
                "expected numbers greater than 0, the pixels whole"
            )
        if len(self.origin) != 2 or not np.isfinite(self.origin).all():
            raise DatasetError(f"the origin of tiles is {self.origin}; expected x, y in metres")


class TileSet:
    """A tile directory opened for reading.

    Raises DatasetError where tiles.json is missing, malformed or of another format version.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.info, self._paths = _read(self.directory)
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paths)

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        """Read a tile, RGB [T, T, 3]. Raises DatasetError where it is absent or damaged."""
        key = column, row
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if key not in self._paths:
            raise DatasetError(_missing(self.directory, [key]))
        path, size = self.directory / self._paths[key], self.info.tile_pixels
        try:
            pixels = image.read(path, whole=True)
        except ImageError as error:
            raise DatasetError(f"tile {key}: {error}") from error
        if pixels.shape[:2] != (size, size):
            raise DatasetError(
                f"{path} is {pixels.shape[1]}x{pixels.shape[0]}; tiles.json says {size}x{size}"
            )
        self._cache[key] = pixels
        if len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)
        return pixels

    def crop(self, x: float, y: float, metres: float) -> NDArray[np.uint8]:
        """Crop the square of `metres` around a point of the map: RGB [S, S, 3], north up.

        S = metres / metres_per_pixel, rounded. Sampled bilinearly, so that (x, y) is exactly the
        centre. Raises DatasetError naming the tiles that are missing or damaged.
        """
        size, left, low, right, up = self._place(x, y, metres)
        columns, rows = (size + (part > 0) for part in (right, up))
        window: NDArray[Any] = self._window(left, low, columns, rows).astype(np.float32)
        if columns > size:
            window = (1 - right) * window[:, :-1] + right * window[:, 1:]
        if rows > size:  # the first row is the northernmost
            window = (1 - up) * window[1:] + up * window[:-1]
        return np.asarray(np.rint(window), np.uint8)

    def covers(self, x: float, y: float, metres: float) -> bool:
        """Whether all tiles that a crop needs are listed."""
        size, left, low, right, up = self._place(x, y, metres)
        needed = self._needed(left, low, size + (right > 0), size + (up > 0))
        return all(key in self._paths for key in needed)

    def _place(self, x: float, y: float, metres: float) -> tuple[int, int, int, float, float]:
        """Place a crop: its pixels, and its western and southern border, whole and remaining part.

        Borders are counted in pixels from the origin; a remainder below a millionth counts as 0.
        """
        if not (np.isfinite([x, y]).all() and 0 < metres < np.inf):
            raise DatasetError(f"cannot crop {metres} m around ({x}, {y}): expected finite metres")
        scale, (east, north) = self.info.metres_per_pixel, self.info.origin
        if metres / scale > LARGEST_CROP:
            raise DatasetError(
                f"{self.directory}: {metres:g} m at {scale:g} metres per pixel are more than "
                f"{LARGEST_CROP} pixels; crop less, or write coarser tiles"
            )
        size = max(round(metres / scale), 1)
        border = np.array([(x - east) / scale, (y - north) / scale]) - size / 2
        whole = np.floor(border + 1e-6)
        rest = np.where(border - whole > 1e-6, border - whole, 0.0)
        return size, int(whole[0]), int(whole[1]), float(rest[0]), float(rest[1])

    def _needed(self, left: int, low: int, columns: int, rows: int) -> list[tuple[int, int]]:
        """The tiles (column, row) of a window."""
        size = self.info.tile_pixels
        return [
            (column, row)
            for row in range(low // size, (low + rows - 1) // size + 1)
            for column in range(left // size, (left + columns - 1) // size + 1)
        ]

    def _window(self, left: int, low: int, columns: int, rows: int) -> NDArray[np.uint8]:
        """Read pixels left … left + columns, low … low + rows of the origin: [rows, columns, 3]."""
        size, needed = self.info.tile_pixels, self._needed(left, low, columns, rows)
        if absent := [key for key in needed if key not in self._paths]:
            raise DatasetError(_missing(self.directory, absent))
        window = np.empty((rows, columns, 3), np.uint8)
        for column, row in needed:
            x, y = column * size - left, row * size - low  # of the tile in the window, from south
            x0, x1, y0, y1 = max(x, 0), min(x + size, columns), max(y, 0), min(y + size, rows)
            part = self.tile(column, row)[size - (y1 - y) : size - (y0 - y), x0 - x : x1 - x]
            window[rows - y1 : rows - y0, x0:x1] = part
        return window


class TileWriter:
    """Writes a tile directory. Use as a context manager: it appears after a clean exit.

    overwrite: replace tiles that exist. Raises OutputError.
    """

    folder: Path  # of the files until then

    def __init__(self, directory: Path | str, info: TileInfo, overwrite: bool = False) -> None:
        require_output(directory, TILES, overwrite)
        self.directory, self.info = Path(directory), info
        self._overwrite = overwrite
        self._tiles: list[dict[str, object]] = []

    def add(self, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
        """Store a tile: RGB [T, T, 3], north up."""
        size = self.info.tile_pixels
        if pixels.shape != (size, size, 3):
            raise DatasetError(f"expected a tile [{size}, {size}, 3], got {list(pixels.shape)}")
        path = f"tiles/{column}_{row}.jpg"
        (self.folder / path).write_bytes(encode_jpeg(pixels))
        self._tiles.append({"column": column, "row": row, "path": path})

    def __enter__(self) -> TileWriter:
        with ExitStack() as stack:
            output = atomic_directory(self.directory, TILES, self._overwrite)
            self.folder = stack.enter_context(output)
            (self.folder / "tiles").mkdir()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None:
            values = {"format_version": FORMAT_VERSION, **asdict(self.info), "tiles": self._tiles}
            self._stack.callback(write_json, self.folder / "tiles.json", values, indent=1)
        self._stack.__exit__(kind, *rest)


def _read(directory: Path) -> tuple[TileInfo, dict[tuple[int, int], str]]:
    """Read the geometry, and paths by column and row. Raises DatasetError."""
    path = directory / "tiles.json"
    with reading(path, DatasetError):
        if not path.exists():
            raise DatasetError(f"{path} not found: {directory} is not a tile directory")
    values = read_json(path, FORMAT_VERSION, DatasetError, KINDS, closed=True, remedy=REMEDY)
    tiles = {}
    for number, entry in enumerate(values["tiles"]):
        tile = check_entries(entry, TILE_KINDS, f"{path}: tile {number}", DatasetError)
        tiles[tile["column"], tile["row"]] = tile["path"]
    try:
        return TileInfo(
            metres_per_pixel=values["metres_per_pixel"],
            tile_pixels=values["tile_pixels"],
            origin=values["origin"],
            map_frame=values["map_frame"] or "map",
            source=values["source"] or "",
        ), tiles
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _missing(directory: Path, keys: list[tuple[int, int]]) -> str:
    """The message about tiles that are not there."""
    named = ", ".join(f"({column}, {row})" for column, row in keys[:NAMED])
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return (
        f"{directory} lacks the tiles (column, row) {named}{more}; add them, crop less or stay "
        "inside the pictures"
    )
