# SPDX-License-Identifier: Apache-2.0
"""Images, intrinsics and messages that cannot be used, and what a node says of them."""

import math

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, Image, NavSatFix, NavSatStatus
from std_msgs.msg import String

from disam_ros.geometry import Transform
from disam_ros.nodes.conversions import transform_to_pose
from support.data import detailed
from support.maps import base_pose
from support.messages import odometry_message
from support.vehicle import OTHER

NAN, INF = math.nan, math.inf
MEGABYTE = 1_000_000


def image(encoding="rgb8", channels=3, kind=np.uint8, rows=None, **fields):
    """A raw image of place 1 in other clothes: its fields are as given."""
    pixels = detailed(OTHER) if rows is None else rows
    message = Image(height=240, width=320, encoding=encoding, step=320 * channels * kind().itemsize)
    message.data = np.ascontiguousarray(pixels, dtype=kind).tobytes()
    for name, value in fields.items():
        setattr(message, name, value)
    message.header.frame_id = "camera"
    return message


def flat(level):
    return np.full((240, 320, 3), level, np.uint8)


RGB = detailed(OTHER)
BROKEN_IMAGES = {
    "data cut off": (lambda: image(rows=RGB[:100]), "expected 240 rows of 960 bytes"),
    "encoding of a megabyte": (lambda: image("x" * MEGABYTE), "characters …]"),
    "black": (lambda: image(rows=flat(2)), "black"),
}
FRAMES = {"frame of a megabyte": "f" * MEGABYTE, "no frame": ""}


def framed(name):
    message = image()
    message.header.frame_id = name
    return message


# Intrinsics.

K = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]


def info(d=(), k=None, width=64, height=48, model="plumb_bob"):
    return CameraInfo(
        width=width, height=height, k=k or K, d=[float(v) for v in d], distortion_model=model
    )


def k_with(index, value):
    return [value if i == index else v for i, v in enumerate(K)]


INFOS = {
    "negative focal length": (info(k=k_with(4, -50.0)), "focal lengths above 0"),
    "model of a megabyte": (info(model="x" * MEGABYTE), "distortion model 'xxx"),
    "fisheye of three": (info([0.1] * 3, model="equidistant"), "of the fisheye model, got 3"),
    "another shape": (info(width=64, height=36, k=k_with(5, 18.0)), "have 320x240"),
}


# Other topics.


def odometry(x=0.0, z=0.0, quaternion=(0.0, 0.0, 0.0, 1.0), speed=0.0):
    message = odometry_message(Transform.identity())
    message.pose.pose.position.x, message.pose.pose.position.z = x, z
    turn = message.pose.pose.orientation
    turn.x, turn.y, turn.z, turn.w = quaternion
    message.twist.twist.linear.x = speed
    return message


def prior(frame="town", x=0.0, variance=1.0):
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    message.pose.pose = transform_to_pose(base_pose(1))
    message.pose.pose.position.x = x
    covariance = np.diag([variance] * 6)
    message.pose.covariance = covariance.ravel()
    return message


def fix(
    latitude=48.0, longitude=11.0, variance=1.0, kind=NavSatFix.COVARIANCE_TYPE_KNOWN, status=0
):
    return NavSatFix(
        latitude=latitude,
        longitude=longitude,
        position_covariance=np.diag([variance] * 3).ravel(),
        position_covariance_type=kind,
        status=NavSatStatus(status=status),
    )


MESSAGES = {
    "odometry at nan": ("odom", odometry(x=NAN), "none", "odometry ignored"),
    "odometry without turn": ("odom", odometry(quaternion=(0.0,) * 4), "none", "odometry ignored"),
    "odometry with speed nan": ("odom", odometry(speed=NAN), "none", "a finite twist"),
    "odometry far away": ("odom", odometry(x=1e7), "none", "odometry jumped"),
    "odometry beyond the Earth": ("odom", odometry(x=1e300), "none", "odometry ignored"),
    "prior in a frame of a megabyte": ("prior", prior("f" * MEGABYTE), "topic", "in frame 'fff"),
    "prior at nan": ("prior", prior(x=NAN), "topic", "prior ignored"),
    "prior of negative variance": ("prior", prior(variance=-1.0), "topic", "prior ignored"),
    "prior far away": ("prior", prior(x=1e7), "topic", "off the map"),
    "fix far away without covariance": ("fix", fix(kind=0, latitude=-48.0), "fix", "fix not used"),
    "fix far away of variance nan": ("fix", fix(-48.0, variance=NAN), "fix", "fix not used"),
    "fix at 0, 0": ("fix", fix(0.0, 0.0), "fix", "nothing on 'fix'"),
    "fix beyond the pole": ("fix", fix(latitude=91.0), "fix", "nothing on 'fix'"),
    "fix without a fix": ("fix", fix(status=-1), "fix", "nothing on 'fix'"),
    "weather unknown": ("weather", String(data="raspberry"), "none", "raspberry"),
    "weather of a megabyte": ("weather", String(data="r" * MEGABYTE), "none", "send words"),
    "weather with markup": ("weather", String(data="<b>&\n"), "none", "ignored"),
    "domain of a megabyte": ("domain", String(data="r" * MEGABYTE), "none", "known are day, night"),
}
