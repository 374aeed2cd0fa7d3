# SPDX-License-Identifier: Apache-2.0
"""The input of a localization: an image with its capture conditions, and its descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.camera import Camera, ViewMatch, Warp, heading_of, warp_into
from disam_ros.domains.domain import DomainChoice
from disam_ros.models.similarity import ShiftedFeatures, Shifts


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a vehicle's camera.

    image: uint8 RGB [H, W, 3]. camera: its name; without a mount, that of the camera in the map.
    stamp_ns: UTC nanoseconds; None: unknown. lens: intrinsics and mount of this vehicle's camera;
    None: those of the mapping vehicle. weather, domain, latitude, longitude [deg]: override the
    configuration; None: unknown. warp: by which the image was made from the camera's (`seen_as`);
    None: it is the camera's.
    """

    image: NDArray[np.uint8]
    camera: str
    stamp_ns: int | None = None
    lens: Camera | None = None
    weather: str | None = None
    domain: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    warp: Warp | None = None

    def seen_as(self, mapped: Camera | None) -> Frame:
        """The frame as the map's camera would have taken it; itself where that sees the same, and
        where intrinsics are unknown (camera/views.py)."""
        warp = warp_into(self.lens, mapped, (self.image.shape[1], self.image.shape[0]))
        if warp is None:
            return self
        return replace(self, image=warp.apply(self.image), lens=warp.view, warp=warp)


class Comparisons:
    """Fine similarity of a query with map images and the shifts (x, y) that they have it at: each
    map image is compared once."""

    def __init__(self) -> None:
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)  # of the map, ascending
        self._results: NDArray[np.float32] = np.empty((0, 3), np.float32)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Finds the map images of `rows` [n] that it was not compared with, ascending."""
        at = np.searchsorted(self._rows, rows)
        compared = np.append(self._rows, -1)[at] == rows
        return rows[:0] if compared.all() else np.unique(rows[~compared])

    def add(self, rows: NDArray[np.int64], results: NDArray[np.float32]) -> None:
        """Takes the results [n, 3] of `rows` [n]."""
        at = np.searchsorted(self._rows, rows)
        self._rows = np.insert(self._rows, at, rows)
        self._results = np.insert(self._results, at, results, axis=0)

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Similarities [n] and shifts [n, 2] of `rows`."""
        results = self._results[np.searchsorted(self._rows, rows)]
        return results[:, 0], results[:, 1:]


@dataclass(frozen=True, eq=False)
class Query:
    """A frame and its descriptors.

    shifted: coarse descriptors of the view and of views shifted sideways, float32 [K, d] in the
    map's projection (compression.py). fine: feature map less the map's mean, float32 [C, h, w]: an
    array of numpy on a CPU, a tensor on another device. seen: its cells that the camera sees, 1 or
    0 [h, w]; None: all. compared: what `Reranker.compare` found. view_matches: the map cameras that
    it is compared with, best first. shifts: over which it is compared; None: those of its grid.
    """

    frame: Frame
    domain: DomainChoice
    shifted: NDArray[np.float32] = field(repr=False)
    fine: Any = field(repr=False)
    seen: NDArray[np.float32] | None = field(default=None, repr=False)
    compared: Comparisons = field(default_factory=Comparisons, repr=False)
    view_matches: Sequence[ViewMatch] = ()
    shifts: Shifts | None = None

    @property
    def coarse(self) -> NDArray[np.float32]:
        """Coarse descriptor of the view itself, float32 [d]."""
        middle: NDArray[np.float32] = self.shifted[len(self.shifted) // 2]
        return middle

    @cached_property
    def moved(self) -> ShiftedFeatures[Any]:
        """The feature map with all its shifts, made once for all comparisons."""
        shifts = self.shifts or Shifts.of_grid(*self.fine.shape[-2:])
        return ShiftedFeatures.of(self.fine[None], shifts, self.seen)

    @property
    def camera(self) -> str:
        return self.frame.camera

    @property
    def cameras(self) -> list[str]:
        """Names of the map cameras that it is compared with."""
        return list(dict.fromkeys(match.camera for match in self.view_matches))

    @property
    def placed(self) -> bool:
        """Whether it is known where the camera looks on the vehicle, and on the mapping vehicle."""
        mapped = self.view_matches[0].mapped if self.view_matches else None
        return None not in (heading_of(self.frame.lens or mapped), heading_of(mapped))
