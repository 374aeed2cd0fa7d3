# SPDX-License-Identifier: Apache-2.0
"""Conversions between ROS messages and core types."""

from __future__ import annotations

from array import array

import numpy as np
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseArray,
    PoseWithCovarianceStamped,
    Quaternion,
)
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from disam_ros.camera import camera_of_info
from disam_ros.datasets.bags import image_messages
from disam_ros.datasets.bags.bit_depth import BitDepth
from disam_ros.errors import GeometryError
from disam_ros.geometry import Transform, publishable_covariance
from disam_ros.image import require_pixels

try:
    from cv_bridge import CvBridge
except (ImportError, AttributeError):  # missing, or built against another NumPy
    CvBridge = None

CV_BRIDGE_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}  # a pixel
_bridge = CvBridge and CvBridge()
ARROW = (2.0, 0.3, 0.3)  # length, width, height in metres
TEXT_HEIGHT = 0.8  # metres
TEXT_ABOVE = 1.5  # metres above the pose

GREEN = ColorRGBA(r=0.1, g=0.8, b=0.2, a=1.0)
GREY = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.8)
ORANGE = ColorRGBA(r=1.0, g=0.6, b=0.1, a=0.8)


def image_from_message(
    message: Image | CompressedImage, bit_depth: BitDepth | None = None
) -> NDArray[np.uint8]:
    """The pixels of a message as uint8 RGB [H, W, 3].

    bit_depth: how many of 16 bits its camera uses; None: all.

    cv_bridge converts images of its 8-bit encodings whose rows follow each other directly,
    `image_messages` all others, to the same pixels.

    Raises ImageError for an unknown encoding (naming the known ones), a size or step that does not
    fit the data, zero pixels, more than the limit, and for compressed bytes that cannot be decoded.
    """
    if _bridge is None or not _is_plain(message):
        return image_messages.decode_image(message, bit_depth=bit_depth)
    require_pixels(message.height, message.width, f"raw image ({message.encoding})")
    pixels: NDArray[np.uint8] = _bridge.imgmsg_to_cv2(message, "rgb8")
    return pixels


def _is_plain(message: Image | CompressedImage) -> bool:
    """Whether every version of cv_bridge converts a message exactly: some ignore `step`."""
    if isinstance(message, CompressedImage) or message.encoding not in CV_BRIDGE_BYTES:
        return False
    row_bytes = message.width * CV_BRIDGE_BYTES[message.encoding]
    packed = message.step == row_bytes and len(message.data) == message.height * row_bytes > 0
    return packed and not message.is_bigendian


def image_to_message(image: NDArray[np.uint8], header: Header, encoding: str = "rgb8") -> Image:
    """uint8 [H, W, 3] → a message. encoding: rgb8 or bgr8, as the channels are ordered."""
    message = Image(header=header, height=image.shape[0], width=image.shape[1], encoding=encoding)
    message.step = 3 * message.width
    message.data = array("B", image.tobytes())  # of bytes, older rclpy checks each
    return message


def stamp_to_ns(header: Header) -> int:
    """The stamp of a header in nanoseconds."""
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


def frame_of(header: Header) -> str:
    """The frame of a header as tf2 names it: without the leading slash of older drivers."""
    return str(header.frame_id.removeprefix("/"))


def header_of(stamp: Header, frame_id: str) -> Header:
    """A header with the stamp of another and its own frame."""
    return Header(stamp=stamp.stamp, frame_id=frame_id)


def transform_to_pose(transform: Transform) -> Pose:
    """`map_from_base` → the pose of base in map."""
    x, y, z = transform.translation.tolist()
    qx, qy, qz, qw = transform.quaternion.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def pose_to_transform(pose: Pose) -> Transform:
    """The pose of base in map → `map_from_base`. Raises GeometryError unless it is finite."""
    at, turn = pose.position, pose.orientation
    return Transform(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))


def pose_array(poses: list[Transform], header: Header) -> PoseArray:
    """Poses in their order."""
    return PoseArray(header=header, poses=[transform_to_pose(pose) for pose in poses])


def pose_with_covariance(
    map_from_base: Transform, covariance: NDArray[np.float64], header: Header
) -> PoseWithCovarianceStamped:
    """Pose with a covariance [6, 6] (x y z rotX rotY rotZ) that every known consumer accepts."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = transform_to_pose(map_from_base)
    message.pose.covariance = publishable_covariance(covariance).ravel().tolist()
    return message


def covariance_of(message: PoseWithCovarianceStamped) -> NDArray[np.float64]:
    """The covariance [6, 6] of a message."""
    return np.array(message.pose.covariance).reshape(6, 6)


def check_odometry(message: Odometry) -> Transform:
    """`odom_from_base` of an Odometry. Raises GeometryError unless pose and twist are finite."""
    twist = message.twist.twist
    speeds = [getattr(v, axis) for v in (twist.linear, twist.angular) for axis in "xyz"]
    if not np.isfinite(speeds).all():
        raise GeometryError(f"expected a finite twist, got {speeds}; check the odometry source")
    return pose_to_transform(message.pose.pose)


def check_camera_info(info: CameraInfo, rectified: bool) -> None:
    """Raise GeometryError for intrinsics that cannot be used, saying why.

    rectified: they are of rectified images.
    """
    camera_of_info(info, rectified=rectified).check()


def candidate_markers(
    poses: list[Transform], scores: list[float], known: bool, header: Header
) -> MarkerArray:
    """Arrows at the candidates (`map_from_base`, best first) with their fine scores.

    The best is green, the others orange; all are grey while the place is unknown. The first marker
    removes those of the image before.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for rank, (pose, score) in enumerate(zip(poses, scores, strict=True)):
        color = (GREEN if rank == 0 else ORANGE) if known else GREY
        arrow = Marker(header=header, ns="candidates", id=rank, type=Marker.ARROW, color=color)
        arrow.pose = transform_to_pose(pose)
        arrow.scale.x, arrow.scale.y, arrow.scale.z = ARROW
        text = Marker(header=header, ns="scores", id=rank, color=color, text=f"{score:.2f}")
        text.type = Marker.TEXT_VIEW_FACING
        text.pose = transform_to_pose(pose)
        text.pose.position.z += TEXT_ABOVE
        text.scale.z = TEXT_HEIGHT
        markers += [arrow, text]
    return MarkerArray(markers=markers)
