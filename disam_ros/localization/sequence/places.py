# SPDX-License-Identifier: Apache-2.0
"""Places of a map: poses of the mapping vehicle, and which image of each camera shows them.

The states of a vehicle's belief are these places, each with the vehicle turned by quarters as far
as its cameras see something then (camera/views.py). Images of several cameras that were taken near
each other are one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from disam_ros.camera import ViewMatch, has_mount, mount, quarter_turn
from disam_ros.geometry import compose
from disam_ros.localization.sequence.transitions import embedding
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.spacing import longest, neighbour_steps

NONE = -1  # row of a place that a camera has no image of
LEAST_REACH = 1.0  # distance up to which images of two cameras are of one place, at least [m]


@dataclass(frozen=True, eq=False)
class Places:
    """poses: map_from_base [P, 7] tx ty tz qx qy qz qw, of the mapping vehicle. rows: of the map,
    of each place and camera, int64 [P]; NONE where there is no image."""

    poses: NDArray[np.float64]
    rows: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of_camera(cls, place_map: PlaceMap, camera: str) -> Places:
        """Places of one camera: its images. Raises MapError for a camera that the map lacks."""
        rows = place_map.rows_of(camera)
        return cls(_bases(place_map, camera, rows), {camera: rows})

    @classmethod
    def of_map(cls, place_map: PlaceMap) -> Places:
        """Places of all cameras whose mounts are known, in the order of the map.

        The images of the camera with most of them are places; another camera's join the nearest
        one within a spacing of the map, or else are places of their own.
        """
        cameras = place_map.header.cameras
        mounted = [
            name for name in place_map.cameras() if name in cameras and has_mount(cameras[name])
        ]
        rows_of = {name: place_map.rows_of(name) for name in mounted}
        first, *others = sorted(mounted, key=lambda name: -len(rows_of[name]))
        places = cls.of_camera(place_map, first)
        for name in others:
            places = places._joined(name, rows_of[name], _bases(place_map, name, rows_of[name]))
        return places

    def _joined(self, camera: str, rows: NDArray[np.int64], poses: NDArray[np.float64]) -> Places:
        """With the images of another camera."""
        tree, reach = cKDTree(_points(self.poses)), longest(neighbour_steps(self.poses))
        gaps, nearest = tree.query(_points(poses))
        joins = gaps <= np.maximum(reach[nearest], LEAST_REACH)
        order = np.flatnonzero(joins)[np.argsort(-gaps[joins], kind="stable")]
        joined = np.full(len(self.poses), NONE)
        joined[nearest[order]] = rows[order]  # the nearest image comes last
        alone = rows[~joins]
        none = np.full(len(alone), NONE)
        table = {name: np.concatenate([shown, none]) for name, shown in self.rows.items()}
        table[camera] = np.concatenate([joined, alone])
        return Places(np.concatenate([self.poses, poses[~joins]]), table)

    def states(self, quarters: Sequence[int]) -> NDArray[np.float64]:
        """map_from_base [Q P, 7] of the vehicle turned by each of the quarters."""
        return np.concatenate(
            [compose(self.poses, quarter_turn(turn)) if turn else self.poses for turn in quarters]
        )

    def seen_by(self, matches: Sequence[ViewMatch], quarters: Sequence[int]) -> NDArray[np.int64]:
        """Map rows of what a camera sees at each state, int64 [Q P]; NONE: nothing known.

        matches: the camera's, best first.
        """
        seen = np.full((len(quarters), len(self.poses)), NONE)
        for match in matches:
            if match.camera in self.rows and match.quarters in quarters:
                states = seen[quarters.index(match.quarters)]
                np.copyto(states, self.rows[match.camera], where=states == NONE)
        return seen.ravel()


def _points(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    return embedding(poses[:, :3], Rotation.from_quat(poses[:, 3:]).as_matrix())


def _bases(place_map: PlaceMap, camera: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return compose(place_map.poses[rows], mount(place_map.header.cameras, camera).inverse())
