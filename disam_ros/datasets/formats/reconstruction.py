# SPDX-License-Identifier: Apache-2.0
"""Images with poses of a reconstruction → dataset: metres, z up, cameras of a like view as one."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pymap3d

from disam_ros.camera import Camera, same_shape, same_view
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.formats.exif import Exif, read_exif, stamps_of
from disam_ros.datasets.formats.foreign import LOOKS_AHEAD, ForeignDataset, ForeignImage
from disam_ros.datasets.trajectories.trajectory import levelling
from disam_ros.errors import DatasetError
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.settings import setting

logger = logging.getLogger(__name__)

EARTH = 6.3e6, 6.4e6  # m from the Earth's centre, of a place on it
GPS_ERROR = 5.0  # m of a photo's place that the registration to it tolerates
LEAST = 0.5  # share of the photos with a place that have to agree with it
LIKE_DEG = 2.0  # largest angle between rays of cameras that become one
LIKE_FOCAL = 0.1  # largest difference of their focal lengths, relative


def scale_setting() -> Any:
    """The setting of the unit of length."""
    help = "metres per unit of the model; default: a model in Earth-centred metres"
    return setting(0.0, help, minimum=0.0, maximum=1e6)


def georegister_setting() -> Any:
    """The setting that registers a model to the places of its images."""
    help = "find scale, heading and place by the GPS positions in the images' EXIF"
    return setting(False, help)


@dataclass(frozen=True)
class Shot:
    """An image of a reconstruction."""

    name: str
    path: Path
    camera: Camera  # of its stored pixels
    world_from_camera: Transform  # in the model's unit


@dataclass(frozen=True)
class Reconstruction:
    """The images that a reconstruction has poses of."""

    directory: Path  # of the data set
    where: str  # the model, for errors and the log
    images: Path  # folder of the images, for errors
    shots: Sequence[Shot]

    def dataset(self, domain: str, scale: float, georegister: bool, origin: str) -> ForeignDataset:
        """Make a data set of the images that exist, in the order of their stamps.

        scale: metres per unit; georegister: by the places of the photos; neither: the model is in
        Earth-centred metres. Raises DatasetError.
        """
        shots = sorted(self._stored(), key=lambda shot: shot.name)
        paths = [shot.path for shot in shots]
        exifs = [read_exif(path) for path in paths]
        poses = [shot.world_from_camera for shot in shots]
        poses, place = self._metric(poses, exifs, scale, georegister)
        lenses = merge_alike([shot.camera for shot in shots], self.where)
        names = name_cameras(lenses)
        images = [
            ForeignImage(
                stamp,
                names[lens],
                domain,
                os.path.relpath(shot.path, self.directory),
                pose,
                size=(shot.camera.width, shot.camera.height),
            )
            for shot, lens, pose, stamp in zip(
                shots, lenses, poses, stamps_of(paths, exifs), strict=True
            )
        ]
        info = DatasetInfo(
            self.directory.resolve().name,
            {name: lens for lens, name in names.items()},
            latitude=None if place is None else place.latitude,
            longitude=None if place is None else place.longitude,
            origin=origin,
        )
        images.sort(key=lambda image: image.stamp_ns)
        missing = {"missing": len(self.shots) - len(shots)}
        return ForeignDataset(self.directory, info, images, left_out=missing)

    def _stored(self) -> list[Shot]:
        """The images that exist; the log counts the others. Raises DatasetError: there is none."""
        if not self.shots:
            raise DatasetError(f"{self.where}: it has no images")
        stored = [shot for shot in self.shots if shot.path.is_file()]
        missing = len(self.shots) - len(stored)
        if not missing:
            return stored
        first = next(shot.path for shot in self.shots if not shot.path.is_file())
        if not stored:
            raise DatasetError(
                f"{self.where}: {first} not found; expected its images in {self.images}"
            )
        logger.warning(
            "%s: %d of %d images are left out, as their files are missing, such as %s",
            self.where,
            missing,
            len(self.shots),
            first,
        )
        return stored

    def _metric(
        self, poses: list[Transform], exifs: list[Exif], scale: float, georegister: bool
    ) -> tuple[list[Transform], Origin | None]:
        """Return map_from_camera in metres with z up, and the map's place on Earth if known."""
        distances = np.linalg.norm([pose.translation for pose in poses], axis=1)
        if ((distances > EARTH[0]) & (distances < EARTH[1])).all():
            return _from_earth(poses)
        if scale and georegister:
            raise DatasetError("--scale and --georegister exclude each other: drop one")
        if not scale and not georegister:
            raise DatasetError(
                f"{self.where} has no unit of length, as images alone give none: give --scale "
                f"METRES per unit (1 for a model in metres), or --georegister if the images' EXIF "
                f"has places, or align it with `colmap model_aligner --ref_is_gps 1`"
            )
        level = levelling([pose @ LOOKS_AHEAD.inverse() for pose in poses])
        poses = [(level or Transform.identity()) @ pose for pose in poses]
        if not scale:
            return _georegistered(self.where, poses, exifs)
        return [Transform(p.translation * scale, p.quaternion) for p in poses], None


def _from_earth(poses: list[Transform]) -> tuple[list[Transform], Origin]:
    """Turn poses in Earth-centred axes into east, north, up of the first."""
    latitude, longitude, height = pymap3d.ecef2geodetic(*poses[0].translation)
    axes = np.stack([pymap3d.ecef2enuv(*axis, latitude, longitude) for axis in np.eye(3)], axis=1)
    turn = Transform.from_rotation(np.zeros(3), axes)
    moved = [
        Transform(
            np.array(pymap3d.ecef2enu(*pose.translation, latitude, longitude, height)),
            (turn @ pose).quaternion,
        )
        for pose in poses
    ]
    return moved, Origin(float(latitude), float(longitude))


def _georegistered(
    where: str, poses: list[Transform], exifs: list[Exif]
) -> tuple[list[Transform], Origin]:
    """Register levelled poses to the places of their photos: scale, yaw and shift by RANSAC."""
    rows = [row for row, exif in enumerate(exifs) if exif.placed]
    if len(rows) < 3:
        raise DatasetError(
            f"{len(rows)} of {len(exifs)} images have a place in their EXIF, expected 3 or more: "
            f"give --scale METRES per unit"
        )
    places = [(exifs[row].latitude or 0.0, exifs[row].longitude or 0.0) for row in rows]
    origin = Origin(*places[0])
    targets = np.stack([origin.to_enu(*place)[:2] for place in places])
    points = np.stack([poses[row].translation[:2] for row in rows])
    similarity, inliers = cv2.estimateAffinePartial2D(
        points, targets, method=cv2.RANSAC, ransacReprojThreshold=GPS_ERROR, confidence=0.999
    )
    agree = 0 if similarity is None else int(inliers.sum())
    extent = float(np.ptp(targets, axis=0).max())
    if agree < LEAST * len(rows) or extent < 4 * GPS_ERROR:
        raise DatasetError(
            f"{where}: the places of {agree} of {len(rows)} images agree with the model to "
            f"{GPS_ERROR:g} m, over {extent:.0f} m; expected {LEAST:.0%} of them and "
            f"{4 * GPS_ERROR:g} m: give --scale METRES per unit"
        )
    scale = float(np.hypot(*similarity[:, 0]))
    yaw = float(np.arctan2(similarity[1, 0], similarity[0, 0]))
    turn = Transform.from_xyz_rpy([*similarity[:, 2], 0, 0, 0, yaw])
    height = poses[0].translation[2]
    return [
        turn @ Transform((pose.translation - [0, 0, height]) * scale, pose.quaternion)
        for pose in poses
    ], origin


def merge_alike(cameras: Sequence[Camera], where: str) -> list[Camera]:
    """Give each image [N] the median camera of those with its lens model and a like view.

    cameras: of the images. where: names them in the log, which has a line for every group.
    """
    counts = Counter(cameras)
    merged: dict[Camera, Camera] = {}
    waiting = sorted(counts, key=lambda camera: camera.fx / camera.width)
    while waiting:
        middle = waiting[len(waiting) // 2]
        group = [camera for camera in waiting if camera == middle or _alike(camera, middle)]
        median = _median(group, [counts[camera] for camera in group])
        merged |= dict.fromkeys(group, median)
        waiting = [camera for camera in waiting if camera not in merged]
        if len(group) > 1 and median.calibrated:
            focal = [camera.fx * median.width / camera.width for camera in group]
            logger.info(
                "%s: %d cameras of a like view are one, of a focal length of %.1f pixels, theirs "
                "differ by %.2f %%",
                where,
                len(group),
                median.fx,
                100 * np.ptp(focal) / median.fx,
            )
    return [merged[camera] for camera in cameras]


def name_cameras(cameras: Sequence[Camera]) -> dict[Camera, str]:
    """Name different cameras: the only one front, several by their numbers, the commonest first."""
    distinct = [camera for camera, _ in Counter(cameras).most_common()]
    if len(distinct) == 1:
        return {distinct[0]: "front"}
    return {camera: f"camera{number}" for number, camera in enumerate(distinct, 1)}


def _alike(camera: Camera, other: Camera) -> bool:
    """Whether images of two cameras show the same, each scaled to the other's size."""
    sizes = (camera.width, camera.height), (other.width, other.height)
    if camera.model != other.model or not same_shape(*sizes):
        return False
    if not (camera.calibrated and other.calibrated):
        return camera.calibrated == other.calibrated
    zoom = (camera.fx / camera.width) / (other.fx / other.width)
    return abs(zoom - 1.0) <= LIKE_FOCAL and same_view(camera, other, LIKE_DEG)


def _median(cameras: Sequence[Camera], counts: Sequence[int]) -> Camera:
    """The camera with the median of all intrinsics, of the commonest size."""
    if len(cameras) == 1:
        return cameras[0]
    commonest = cameras[int(np.argmax(counts))]
    width, height = commonest.width, commonest.height
    if not commonest.calibrated:
        return commonest
    scaled = [camera.resized(width, height) for camera in cameras]
    fx, fy, cx, cy = (
        float(np.median(np.repeat([getattr(camera, name) for camera in scaled], counts)))
        for name in ("fx", "fy", "cx", "cy")
    )
    longest = max(len(camera.distortion) for camera in scaled)
    bent = np.zeros((len(scaled), longest))
    for row, camera in zip(bent, scaled, strict=True):
        row[: len(camera.distortion)] = camera.distortion
    distortion = tuple(np.median(np.repeat(bent, counts, axis=0), axis=0).tolist())
    return replace(
        commonest, fx=fx, fy=fy, cx=cx, cy=cy, distortion=distortion if any(distortion) else ()
    )
