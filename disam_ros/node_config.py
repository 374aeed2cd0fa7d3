# SPDX-License-Identifier: Apache-2.0
"""Parameters of the nodes, which hold the settings of config.py in groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from reprlib import repr as brief
from typing import Any

from disam_ros.config import (
    LocalizerConfig,
    LoopClosureConfig,
    MapBuilderConfig,
    fix_deviation,
    seconds,
    unset,
)
from disam_ros.errors import ConfigError
from disam_ros.files import paths
from disam_ros.settings import setting

NEVER, ONCE, RECOVER = INITIALIZE = ("never", "once", "recover")

_path = partial(setting, resolve=paths.expand)
_model = partial(setting, "", resolve=paths.find_model)  # or the name of a shipped model


def _megapixels() -> Any:
    """The setting of the largest image (image.py)."""
    help = "largest image file or compressed image that is read [megapixels]"
    return setting(50.0, help, minimum=0.001, maximum=1000.0)


def _stamps() -> Any:
    """The setting of the stamps of images."""
    help = "stamps of images: of their headers, or the time of reception"
    return setting("header", help, choices=("header", "received"))


def _bit_depth() -> Any:
    """The setting of the bits of 16-bit images (datasets/bags/bit_depth.py)."""
    help = "bits used of 16-bit images, 8 to 16; 0: by each camera's first images"
    return setting(0, help, minimum=0, maximum=16)


def _frame(default: str, help: str) -> Any:
    """The setting of a TF frame."""
    return setting(default, help, resolve=_frame_name)


def _frame_name(text: str) -> str:
    """The name of a TF frame. Raises ConfigError."""
    if not text.strip() or text.startswith("/"):  # tf2 has no frames with a leading slash
        raise ConfigError(
            f"expected the name of a TF frame without a leading '/', such as 'base_link'; got "
            f"{brief(text)}"
        )
    return text


def _mount(help: str) -> Any:
    """The setting of extrinsics x y z [m] roll pitch yaw [rad]."""
    return setting([0.0] * 6, help, minimum=-1000.0, maximum=1000.0)


@dataclass
class LocalizerNodeConfig:
    """Parameters of the localizer node."""

    autostart: bool = setting(
        True, "configure and activate at start; false: wait for a lifecycle manager"
    )
    map: str = _path("", "map directory")
    model: str = _model("model directory of the map, or the name of a shipped one")
    areas: list[str] = _path(
        [""],
        "map directories of one model, to switch between by the topic fix; one empty string: only "
        "`map`",
    )
    cameras: list[str] = setting(
        [""],
        "names of the vehicle's cameras, as in the map, or any with known extrinsics; one empty "
        "string: the map's only one, or the commonest of several on one mount",
    )
    image_transport: str = setting("raw", "image transport", choices=("raw", "compressed"))
    stamps: str = _stamps()
    bit_depth: int = _bit_depth()
    max_megapixels: float = _megapixels()
    base_frame: str = _frame("base_link", "vehicle frame whose pose is published")
    base_from_camera: list[float] = _mount(
        "extrinsics x y z [m] roll pitch yaw [rad] of each camera's OPTICAL frame in the base "
        "frame, camera after camera, without TF; all zero: as in the map",
    )
    use_tf: bool = setting(True, "take extrinsics from TF, with tf2_ros")
    stale_after: float = seconds(
        2.0, "time without an image before diagnostics warn [s]", minimum=0.1, maximum=86400.0
    )
    publish_tf: bool = setting(
        False,
        "broadcast TF map → odom with every pose, if no other node does; needs odom and tf2_msgs",
    )
    tf_tolerance: float = seconds(1.0, "time by which that TF is dated ahead of its image [s]")
    initialize: str = setting(
        NEVER,
        "when to publish ~/initial_pose unprompted; once: as soon as answers agree; recover: also "
        "when the consumer, by topic consumer_pose or TF, contradicts them",
        choices=INITIALIZE,
    )
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    loop_closure: LoopClosureConfig = field(default_factory=LoopClosureConfig)


@dataclass
class MapBuilderNodeConfig:
    """Parameters of the live map builder node."""

    output: str = _path("", "map directory to write")
    model: str = _model("model directory, or the name of a shipped one")
    camera: str = setting("front", "camera name to store in the map")
    image_transport: str = setting("raw", "image transport", choices=("raw", "compressed"))
    stamps: str = _stamps()
    bit_depth: int = _bit_depth()
    max_megapixels: float = _megapixels()
    pose_source: str = setting(
        "pose",
        "the vehicle's pose; pose, pose_with_covariance: topic pose; odom: topic odom, which may "
        "drift; tf: TF map_frame → base_frame, with tf2_ros",
        choices=("pose", "pose_with_covariance", "odom", "tf"),
    )
    map_frame: str = _frame("map", "frame of the map, with pose_source tf")
    max_pose_gap: float = seconds(0.5, "maximum time between interpolated poses [s]", minimum=0.001)
    base_frame: str = _frame("base_link", "vehicle frame whose poses are recorded")
    base_from_camera: list[float] = _mount(
        "extrinsics x y z [m] roll pitch yaw [rad] of the OPTICAL camera frame in the base frame",
    )
    use_tf: bool = setting(
        True, "take extrinsics from TF, with tf2_ros, if base_from_camera is all zero"
    )
    identity_extrinsics: bool = setting(
        False, "the poses are those of the camera's OPTICAL frame itself"
    )
    camera_info_timeout: float = seconds(
        2.0,
        "time to wait for camera_info before a map begins without intrinsics, and for TF before an "
        "error [s]",
    )
    latitude: float = unset("latitude of the map's origin [deg]; nan: by the topic fix", 90.0)
    longitude: float = unset("longitude of the map's origin [deg]; nan: by the topic fix", 180.0)
    fix_deviation: float = fix_deviation()
    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    builder: MapBuilderConfig = field(default_factory=MapBuilderConfig)


@dataclass
class ReplayConfig:
    """Settings of disam replay."""

    rate: float = setting(
        1.0,
        "speed relative to the recording; 0: as fast as it can be read",
        minimum=0.0,
        maximum=1e6,
    )
    start_delay: float = seconds(1.0, "longest wait for subscribers at the start [s]")
    loop: bool = setting(False, "start again when the bag ends")
    topics: list[str] = setting([""], "topics to play; one empty string: all")
    prefix: str = setting("", "prefix of every topic name")
