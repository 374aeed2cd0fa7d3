# SPDX-License-Identifier: Apache-2.0
"""What a map holds, and whether it is sound."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from disam_ros.errors import MapError
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.mapping.spacing import neighbour_steps

UNIT = 1e-3  # by which the norm of a quaternion may differ from 1


def summary(place_map: PlaceMap) -> dict[str, Any]:
    """Facts about a map, for people and programs."""
    header, poses = place_map.header, place_map.poses
    domains = Counter(record.domain for record in place_map.records)
    low, high = poses[:, :3].min(0), poses[:, :3].max(0)
    files = [path for path in place_map.directory.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    length = 0.0
    for camera in place_map.cameras():
        steps = neighbour_steps(poses[place_map.rows_of(camera)])
        length = max(length, float(np.linalg.norm(steps[:, 0, :3], axis=1).sum()))
    stamps = [record.stamp_ns for record in place_map.records]
    return {
        "map": str(place_map.directory),
        "revision": place_map.revision,
        "model": f"{header.model_name} ({header.model_identity[:12]})",
        "directions": header.directions[:12] or "the map's own",
        "images": len(place_map),
        "cameras": {name: len(place_map.rows_of(name)) for name in place_map.cameras()},
        "domains": dict(domains.most_common()),
        "map_frame": header.map_frame,
        "latitude": header.latitude,
        "longitude": header.longitude,
        "extent_m": [round(float(v), 2) for v in high - low],
        "driven_m": round(length, 1),
        "spacing_m": round(place_map.spacing(), 2),
        "stamps_ns": [min(stamps), max(stamps)],
        "keypoints": f"{header.keypoints.features} {header.keypoints.count}"
        if header.keypoints
        else "none",
        "thumbnails": header.thumbnails,
        "bytes": size,
        "bytes_per_image": round(size / len(place_map)),
        "history": place_map.history,
    }


def require_sound(place_map: PlaceMap) -> None:
    """Raise MapError for contents that cannot be right, though the checksums are.

    Compared are poses with images.csv; descriptors must not be all zero, nor stamps negative.
    """
    norms = np.linalg.norm(place_map.poses[:, 3:], axis=1)
    if not (np.isfinite(place_map.poses).all() and (np.abs(norms - 1) <= UNIT).all()):
        raise MapError(f"{place_map.directory}: poses.npy holds poses that are none")
    for row, record in enumerate(place_map.records):
        pose = record.map_from_camera
        stored = place_map.poses[row]
        if pose is None or not np.allclose(pose.translation, stored[:3], rtol=1e-6, atol=1e-3):
            raise MapError(f"{place_map.directory}: images.csv and poses.npy differ at row {row}")
        turn = Rotation.from_quat(pose.quaternion) * Rotation.from_quat(stored[3:]).inv()
        if turn.magnitude() > 1e-3:
            raise MapError(f"{place_map.directory}: images.csv and poses.npy differ at row {row}")
        if record.camera != place_map.camera_names[place_map.camera_of[row]]:
            raise MapError(f"{place_map.directory}: images.csv and cameras.npy differ at row {row}")
    empty = int((~place_map.coarse.any(1)).sum())
    if empty:
        raise MapError(
            f"{place_map.directory}: {empty} of {len(place_map)} coarse descriptors are zero: the "
            f"model has failed on these images; build the map again"
        )
