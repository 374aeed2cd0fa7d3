# SPDX-License-Identifier: Apache-2.0
"""A drive through the season town: frames with exact poses, odometry and GNSS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from disam_ros.camera import EQUIRECTANGULAR, FISHEYE, PINHOLE, Camera
from disam_ros.errors import ConfigError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from season_town.arrays import Picture
from season_town.conditions import CONDITIONS, Condition
from season_town.rendering.renderer import Renderer, pinhole
from season_town.rendering.wide import WideRenderer
from season_town.sensors import gnss_fixes, wheel_odometry
from season_town.town.build import build_town
from season_town.town.streets import oncoming_lane
from season_town.trajectory import Trajectory, drive_route

AHEAD_M = 0.8  # distance of the camera ahead of the base: behind the windscreen
LENSES = {PINHOLE: 140, FISHEYE: 240, EQUIRECTANGULAR: 360}  # widest field of view [deg]
DRIVE_GAP_NS = 180_000_000_000  # drives of neighbouring seeds start this far apart


@dataclass(frozen=True)
class DriveConfig:
    """Settings of a drive. Equal settings give equal pixels (on one machine).

    Amplitudes bound slowly varying random offsets; 0 keeps to the lane centre.
    """

    condition: str = "summer_day"  # name in CONDITIONS
    town_seed: int = 1
    drive_seed: int = 1  # of lane offset, cars and pedestrians
    width: int = 320  # of an image [px]
    height: int = 240  # of an image [px]
    fov_deg: float = 80.0  # horizontal; a panorama sees all around
    lens: str = PINHOLE  # or fisheye, equirectangular
    mount_yaw_deg: float = 0.0  # of the camera on the vehicle, to the left
    mount_height_m: float = 1.5  # above the ground
    rate_hz: float = 5.0  # images a second
    spacing_m: float | None = None  # metres between images along the lane; None: rate_hz
    length_m: float | None = None  # metres to drive; None: the whole loop
    oncoming: bool = False  # the same stretch the other way round, in the other lane
    lateral_m: float = 0.6  # amplitude to the sides of the lane centre
    yaw_deg: float = 3.0  # amplitude about the direction of travel
    speed_m_s: tuple[float, float] = (4.0, 9.0)  # slowest, fastest
    depth: bool = False  # render metric depth too

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS:
            raise ConfigError(
                f"unknown condition {self.condition!r}; choose one of {', '.join(CONDITIONS)}"
            )
        for name in ("width", "height", "rate_hz", "spacing_m", "length_m"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} is {value}; it must be greater than 0")
        if not 0 < self.speed_m_s[0] <= self.speed_m_s[1]:
            raise ConfigError(f"speed_m_s is {self.speed_m_s}; expected 0 < slowest <= fastest")
        if self.lens not in LENSES:
            raise ConfigError(f"unknown lens {self.lens!r}; choose one of {', '.join(LENSES)}")
        if not 10 <= self.fov_deg <= LENSES[self.lens]:
            raise ConfigError(
                f"fov_deg is {self.fov_deg}; expected 10 to {LENSES[self.lens]} degrees of a "
                f"{self.lens}"
            )
        if self.lens == EQUIRECTANGULAR and self.width != 2 * self.height:
            raise ConfigError(
                f"an equirectangular image is twice as wide as high, got {self.width}x{self.height}"
            )
        if not 0.2 <= self.mount_height_m <= 10 or not abs(self.mount_yaw_deg) <= 180:
            raise ConfigError(
                f"the camera sits {self.mount_height_m} m high, turned by {self.mount_yaw_deg}°; "
                "expected 0.2 to 10 m and at most 180°"
            )
        for name in ("lateral_m", "yaw_deg", "town_seed", "drive_seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class Frame:
    """An image with its poses and sensor readings."""

    stamp_ns: int
    image: Picture  # RGB [H, W, 3]
    depth: NDArray[np.float32] | None  # [H, W], metres along the optical axis, inf in the sky
    map_from_base: Transform  # exact
    map_from_camera: Transform  # exact, optical axes
    odom_from_base: Transform  # wheel odometry, drifting
    twist: tuple[float, float]  # forward speed m/s, yaw rate rad/s; exact
    fix: tuple[float, float, float]  # GNSS: latitude, longitude in degrees, altitude in metres


class RenderedDrive:
    """A drive as an iterable of frames; `len()` gives their number.

    Each iteration renders the frames again, and raises RenderError without an OpenGL context.
    """

    def __init__(self, config: DriveConfig) -> None:
        self.config = config
        self.condition: Condition = CONDITIONS[config.condition]
        self.town = build_town(config.town_seed)
        route = self.town.route
        if config.oncoming:
            route = oncoming_lane(route, config.length_m or 0.0)
        self.trajectory: Trajectory = drive_route(
            route,
            config.drive_seed,
            rate_hz=config.rate_hz,
            spacing_m=config.spacing_m,
            length_m=config.length_m,
            lateral_m=config.lateral_m,
            yaw_deg=config.yaw_deg,
            speed_m_s=config.speed_m_s,
        )

    def __len__(self) -> int:
        return len(self.trajectory.poses)

    @property
    def camera(self) -> Camera:
        """The camera on the vehicle."""
        config = self.config
        yaw = Rotation.from_euler("z", config.mount_yaw_deg, degrees=True).as_matrix()
        place = np.array([AHEAD_M, 0.0, config.mount_height_m])
        mount = Transform.from_rotation(place, yaw @ BODY_FROM_OPTICAL)
        width, height = config.width, config.height
        if config.lens == PINHOLE:
            return replace(pinhole(width, height, config.fov_deg), base_from_camera=mount)
        sphere = config.lens == EQUIRECTANGULAR
        focal = width / np.radians(360.0 if sphere else config.fov_deg)
        distortion = () if sphere else (0.0,) * 4
        centre = (width - 1) / 2, (height - 1) / 2
        return Camera(width, height, focal, focal, *centre, distortion, mount, config.lens)

    def __iter__(self) -> Iterator[Frame]:
        config, track = self.config, self.trajectory
        odometry = wheel_odometry(track, config.drive_seed)
        fixes = gnss_fixes(track, config.drive_seed)
        start_ns = self.condition.start_ns + config.drive_seed % 5 * DRIVE_GAP_NS
        camera = self.camera
        renderer = self._renderer(camera)
        try:
            for i, map_from_base in enumerate(track.poses):
                map_from_camera = map_from_base @ camera.base_from_camera
                time = float(track.time[i])
                image, depth = renderer.render(map_from_camera, time, config.depth)
                yield Frame(
                    start_ns + round(time * 1e9),
                    image,
                    depth,
                    map_from_base,
                    map_from_camera,
                    odometry[i],
                    (float(track.twist[i, 0]), float(track.twist[i, 1])),
                    tuple(fixes[i].tolist()),
                )
        finally:
            renderer.close()

    def _renderer(self, camera: Camera) -> Renderer | WideRenderer:
        config = self.config
        if config.lens != PINHOLE:
            return WideRenderer(self.town, self.condition, config.drive_seed, camera)
        return Renderer(
            self.town,
            self.condition,
            config.drive_seed,
            config.width,
            config.height,
            config.fov_deg,
        )
