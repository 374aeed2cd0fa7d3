# SPDX-License-Identifier: Apache-2.0
"""Builds the ROS messages that a bag holds, and the QoS recorded with them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from disam_ros.camera import DISTORTION_MODELS, PINHOLE, Camera
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import NANOSECONDS

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
STRING = "std_msgs/msg/String"
POSE = "geometry_msgs/msg/PoseStamped"
POSE_WITH_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
PATH = "nav_msgs/msg/Path"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
TF = "tf2_msgs/msg/TFMessage"
ROS1_TF = "tf/msg/tfMessage"
TF_TYPES = (TF, ROS1_TF)
TRANSFORM = "geometry_msgs/msg/TransformStamped"
CLOCK = "rosgraph_msgs/msg/Clock"
FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
COMPRESSED_VIDEO = "foxglove_msgs/msg/CompressedVideo"
TYPESTORE.register(
    get_types_from_msg(
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n"
        "uint8 flags\nbool is_bigendian\nuint8[] data",
        FFMPEG_PACKET,
    )
    | get_types_from_msg(
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format",
        COMPRESSED_VIDEO,
    )
    | get_types_from_msg("geometry_msgs/TransformStamped[] transforms", ROS1_TF)
)

_FOREVER = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE, as rosbag2 records it


def make(kind: str, **fields: Any) -> Any:
    """Make a message of type `kind` with all its fields."""
    return TYPESTORE.types[kind](**fields)


def qos(reliable: bool, latched: bool = False, depth: int = 10) -> Qos:
    """Quality of service as a recorder sees it on a topic. latched: transient_local."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


SENSOR_QOS = qos(reliable=False)
RELIABLE_QOS = qos(reliable=True)
LATCHED_QOS = qos(reliable=True, latched=True, depth=1)


def header(stamp_ns: int, frame: str) -> Any:
    """Make a std_msgs/Header."""
    seconds, nanoseconds = divmod(int(stamp_ns), NANOSECONDS)
    stamp = make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def frame(name: str) -> str:
    """Return the name of a frame without the slash that tf 1 put before it."""
    return name.removeprefix("/")


def stamp_ns(message: Any) -> int:
    """The header stamp of a message [ns]."""
    stamp = message.header.stamp
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def set_stamp(message: Any, stamp_ns: int) -> None:
    """Give a message, and the transforms in it, another stamp [ns]."""
    for part in (message, *getattr(message, "transforms", ())):
        for stamp in (getattr(getattr(part, "header", None), "stamp", None), _timestamp(part)):
            if stamp is not None:
                stamp.sec, stamp.nanosec = divmod(stamp_ns, NANOSECONDS)


def _timestamp(message: Any) -> Any | None:
    """The time of a message of Foxglove, which has no header; None: it is none of these."""
    stamp = getattr(message, "timestamp", None)
    return stamp if hasattr(stamp, "nanosec") else None


def serialized_stamp_ns(data: bytes | memoryview) -> int:
    """The header stamp [ns] of a serialized message that begins with its header."""
    little = data[1] & 1  # CDR: four bytes of encapsulation with the byte order, then the fields
    seconds, nanoseconds = struct.unpack_from("<iI" if little else ">iI", data, 4)
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def pose(transform: Transform) -> Any:
    """Make a geometry_msgs/Pose."""
    x, y, z, w = (float(v) for v in transform.quaternion)
    return make(
        "geometry_msgs/msg/Pose",
        position=_xyz("geometry_msgs/msg/Point", transform.translation),
        orientation=make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
    )


def pose_stamped(stamp: int, frame: str, frame_from_body: Transform) -> Any:
    """Make a geometry_msgs/PoseStamped."""
    return make(POSE, header=header(stamp, frame), pose=pose(frame_from_body))


def path(stamp: int, frame: str, frame_from_body: Sequence[Transform]) -> Any:
    """Make a nav_msgs/Path."""
    poses = [pose_stamped(stamp, frame, body) for body in frame_from_body]
    return make(PATH, header=header(stamp, frame), poses=poses)


def transform_stamped(stamp: int, parent: str, child: str, parent_from_child: Transform) -> Any:
    """Make a geometry_msgs/TransformStamped."""
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp, parent),
        child_frame_id=child,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=_xyz("geometry_msgs/msg/Vector3", parent_from_child.translation),
            rotation=pose(parent_from_child).orientation,
        ),
    )


def odometry(
    stamp: int, frame: str, child: str, frame_from_child: Transform, speed: float, turn_rate: float
) -> Any:
    """Make a nav_msgs/Odometry. speed: along the child's x [m/s]; turn_rate: about z [rad/s]."""
    vector = "geometry_msgs/msg/Vector3"
    twist = make(
        "geometry_msgs/msg/Twist",
        linear=_xyz(vector, (speed, 0.0, 0.0)),
        angular=_xyz(vector, (0.0, 0.0, turn_rate)),
    )
    unknown = np.zeros(36)
    return make(
        ODOMETRY,
        header=header(stamp, frame),
        child_frame_id=child,
        pose=make(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=pose(frame_from_child),
            covariance=unknown,
        ),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=unknown),
    )


def nav_sat_fix(
    stamp: int, frame: str, latitude: float, longitude: float, altitude: float, variance: float
) -> Any:
    """Make a sensor_msgs/NavSatFix of degrees and metres.

    variance: east and north [m²], four times that up; nan: unknown.
    """
    has_variance = np.isfinite(variance)
    return make(
        FIX,
        header=header(stamp, frame),
        status=make("sensor_msgs/msg/NavSatStatus", status=0, service=1),  # fix, GPS
        latitude=float(latitude),
        longitude=float(longitude),
        altitude=float(altitude),
        position_covariance=np.diag([1.0, 1.0, 4.0]).ravel() * (variance if has_variance else 0.0),
        position_covariance_type=2 if has_variance else 0,  # diagonal known, or unknown
    )


def camera_info(stamp: int, frame: str, camera: Camera) -> Any:
    """Make a sensor_msgs/CameraInfo; a pinhole's distortion is plumb_bob, from 6 values on
    rational_polynomial."""
    least = 5 if camera.model == PINHOLE else 0
    distortion = np.zeros(max(least, len(camera.distortion)))
    distortion[: len(camera.distortion)] = camera.distortion
    pinhole = "plumb_bob" if len(distortion) == 5 else "rational_polynomial"
    names = {model: name for name, model in DISTORTION_MODELS.items()} | {PINHOLE: pinhole}
    intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    region = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return make(
        CAMERA_INFO,
        header=header(stamp, frame),
        height=camera.height,
        width=camera.width,
        distortion_model=names[camera.model],
        d=distortion,
        k=intrinsics.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([intrinsics, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=make("sensor_msgs/msg/RegionOfInterest", **region),
    )


def compressed_image(stamp: int, frame: str, jpeg: bytes) -> Any:
    """Make a sensor_msgs/CompressedImage."""
    pixels = np.frombuffer(jpeg, dtype=np.uint8)
    return make(COMPRESSED_IMAGE, header=header(stamp, frame), format="jpeg", data=pixels)


def raw_image(stamp: int, frame: str, image: NDArray[np.uint8]) -> Any:
    """Make a sensor_msgs/Image, rgb8, of RGB [H, W, 3]."""
    return _image(stamp, frame, "rgb8", np.ascontiguousarray(image))


def depth_image(stamp: int, frame: str, depth: NDArray[np.floating[Any]]) -> Any:
    """Make a sensor_msgs/Image, 32FC1, little-endian, of depth [H, W] [m]."""
    return _image(stamp, frame, "32FC1", np.ascontiguousarray(depth, dtype="<f4"))


def _image(stamp: int, frame: str, encoding: str, pixels: NDArray[Any]) -> Any:
    """Make a sensor_msgs/Image of contiguous pixels [H, W, …]."""
    height, width = pixels.shape[:2]
    return make(
        IMAGE,
        header=header(stamp, frame),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // height,
        data=pixels.reshape(-1).view(np.uint8),
    )


def _xyz(kind: str, values: Any) -> Any:
    x, y, z = (float(v) for v in values)
    return make(kind, x=x, y=y, z=z)
