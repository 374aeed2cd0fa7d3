# SPDX-License-Identifier: Apache-2.0
"""Conversions between ROS messages and core types."""

from __future__ import annotations

from array import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseArray,
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
)
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix
from std_msgs.msg import Header

from disam_ros.camera import EQUIRECTANGULAR, Camera, camera_of_info
from disam_ros.datasets.bags import image_messages
from disam_ros.errors import GeometryError, ImageError, PriorError
from disam_ros.geometry import Transform
from disam_ros.image import require_pixels

try:
    from cv_bridge import CvBridge
except (ImportError, AttributeError):  # missing, or built against another NumPy
    CvBridge = None

MAX_VARIANCE = 1e9  # nav2 refuses a covariance element above
UNKNOWN = Camera(0, 0, 0.0, 0.0, 0.0, 0.0)
MIN_EIGENVALUE = 0.01  # of the published correlation matrix

# Encodings that every cv_bridge converts to rgb8 exactly as image_messages.to_rgb does.
_CV_BRIDGE_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
_bridge = CvBridge and CvBridge()


def image_from_message(message: Image | CompressedImage) -> np.ndarray:
    """The pixels of a message as uint8 RGB [H, W, 3].

    Raises ImageError for an unknown encoding (naming the known ones), a size or step that does not
    fit the data, zero pixels, more than the limit, and for compressed bytes that cannot be decoded.
    """
    if isinstance(message, CompressedImage):
        return image_messages.decode_image(message)
    pixel_bytes = _CV_BRIDGE_BYTES.get(message.encoding)
    if pixel_bytes is None or _bridge is None:
        return image_messages.decode_image(message)
    return _bridge.imgmsg_to_cv2(_without_padding(message, pixel_bytes), "rgb8")


def _without_padding(message: Image, pixel_bytes: int) -> SimpleNamespace:
    """An 8-bit image whose rows follow each other directly: cv_bridge 1.13 ignores `step`."""
    height, width, step = message.height, message.width, message.step
    row_bytes = width * pixel_bytes
    if not height or not width:
        raise ImageError(f"expected an image with pixels, got {width}x{height}")
    if step < row_bytes or height * step != len(message.data):
        raise ImageError(
            f"a {width}x{height} {message.encoding} image needs a step of at least {row_bytes} "
            f"bytes and height * step bytes of data, got step {step} and {len(message.data)} "
            "bytes; the camera driver fills in height, step or data wrongly"
        )
    require_pixels(height, width, f"raw image ({message.encoding})")
    data = message.data
    if step != row_bytes:
        rows = np.frombuffer(data, dtype=np.uint8).reshape(height, step)
        data = np.ascontiguousarray(rows[:, :row_bytes]).data
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=message.encoding,
        step=row_bytes,
        is_bigendian=0,
        data=data,
    )


def image_to_message(image: np.ndarray, header: Header, encoding: str = "rgb8") -> Image:
    """uint8 [H, W, 3] → a message. encoding: rgb8 or bgr8, as the channels are ordered."""
    message = Image(header=header, height=image.shape[0], width=image.shape[1], encoding=encoding)
    message.step = 3 * message.width
    message.data = array("B", image.tobytes())  # of bytes, older rclpy checks each
    return message


def stamp_to_ns(header: Header) -> int:
    """The stamp of a header in nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


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


def pose_stamped(map_from_base: Transform, header: Header) -> PoseStamped:
    """The pose of the vehicle at the header's stamp in the header's frame."""
    return PoseStamped(header=header, pose=transform_to_pose(map_from_base))


def pose_array(poses: list[Transform], header: Header) -> PoseArray:
    """Poses in their order."""
    return PoseArray(header=header, poses=[transform_to_pose(pose) for pose in poses])


def pose_with_covariance(
    map_from_base: Transform, covariance: np.ndarray, header: Header
) -> PoseWithCovarianceStamped:
    """Pose with a covariance [6, 6] (x y z rotX rotY rotZ) that every known consumer accepts."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = transform_to_pose(map_from_base)
    message.pose.covariance = publishable_covariance(covariance).ravel().tolist()
    return message


def covariance_of(message: PoseWithCovarianceStamped) -> np.ndarray:
    """The covariance [6, 6] of a message."""
    return np.array(message.pose.covariance).reshape(6, 6)


def publishable_covariance(covariance: np.ndarray) -> np.ndarray:
    """A covariance [6, 6] without a negative element, positive definite, no element above 1e9.

    nav2 rejects a message with any negative element, even off the diagonal. Variances are kept
    (those above 1e9 m² become 1e9). Negative correlations become 0. Should the rest no longer be
    positive definite, all correlations shrink by one factor until the smallest eigenvalue of the
    correlation matrix is 0.01.
    Raises GeometryError unless all elements are finite and the variances positive.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    variances = np.diag(covariance)
    if not np.isfinite(covariance).all() or (variances <= 0).any():
        raise GeometryError(
            f"expected a finite covariance with positive variances, got {covariance.tolist()}"
        )
    deviations = np.sqrt(variances)
    correlation = np.clip(covariance / np.outer(deviations, deviations), 0.0, 1.0)
    correlation = (correlation + correlation.T) / 2
    np.fill_diagonal(correlation, 0.0)
    smallest = np.linalg.eigvalsh(correlation)[0]  # ≤ 0, as the trace is 0
    if 1.0 + smallest < MIN_EIGENVALUE:
        correlation *= (1.0 - MIN_EIGENVALUE) / -smallest
    np.fill_diagonal(correlation, 1.0)
    deviations = np.minimum(deviations, np.sqrt(MAX_VARIANCE))
    return correlation * np.outer(deviations, deviations)


def place_of(fix: NavSatFix) -> tuple[float, float] | None:
    """Latitude and longitude [deg]; None without a fix or where they are invalid."""
    finite = np.isfinite(fix.latitude) and np.isfinite(fix.longitude)
    if fix.status.status < 0 or not finite or abs(fix.latitude) > 90 or abs(fix.longitude) > 180:
        return None
    return fix.latitude, fix.longitude


def fix_covariance(fix: NavSatFix) -> np.ndarray:
    """Covariance [2, 2] of east and north [m²]. Raises PriorError where it is unknown."""
    if fix.position_covariance_type == NavSatFix.COVARIANCE_TYPE_UNKNOWN:
        raise PriorError("its position_covariance_type is unknown; let the receiver fill it in")
    return np.array(fix.position_covariance).reshape(3, 3)[:2, :2]


def check_odometry(message: Odometry) -> Transform:
    """`odom_from_base` of an Odometry. Raises GeometryError unless pose and twist are finite."""
    twist = message.twist.twist
    speeds = [getattr(v, axis) for v in (twist.linear, twist.angular) for axis in "xyz"]
    if not np.isfinite(speeds).all():
        raise GeometryError(f"expected a finite twist, got {speeds}; check the odometry source")
    return pose_to_transform(message.pose.pose)


def check_camera_info(info: CameraInfo) -> None:
    """Raise GeometryError for intrinsics that cannot be used, saying why."""
    camera_of_info(info).check()


def vehicle_camera(
    info: CameraInfo | None, mapped: Camera | None, base_from_camera: Transform
) -> Camera:
    """The vehicle's camera with the intrinsics of its CameraInfo, else with the map's.

    It is not calibrated where neither is, or where its CameraInfo cannot be used.
    """
    camera = mapped or UNKNOWN
    of_size = info is not None and info.distortion_model == EQUIRECTANGULAR
    if info is not None and (of_size or min(info.k[0], info.k[4]) > 0):
        try:
            camera = camera_of_info(info)
            camera.check()
        except GeometryError:
            camera = UNKNOWN
    return replace(camera, base_from_camera=base_from_camera)
