# SPDX-License-Identifier: Apache-2.0
"""Images, intrinsics and messages that cannot be used, and what a node says of them."""

import math

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, NavSatFix, NavSatStatus
from std_msgs.msg import String

from disam_ros.geometry import Transform
from disam_ros.nodes.conversions import transform_to_pose
from support.data import detailed
from support.maps import base_pose
from support.messages import image_message, odometry_message
from support.vehicle import OTHER

NAN = math.nan
MEGABYTE = 1_000_000


def image(**fields):
    """A raw image of a place where no vehicle is; its fields are as given."""
    message = image_message(detailed(OTHER))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def framed(name):
    return image_message(detailed(OTHER), frame=name)


BROKEN_IMAGES = {
    "data cut off": (lambda: image(data=bytes(96_000)), "expected 240 rows of 960 bytes"),
    "encoding of a megabyte": (lambda: image(encoding="x" * MEGABYTE), "characters …]"),
}
FRAMES = {"frame of a megabyte": "f" * MEGABYTE, "no frame": ""}

# Intrinsics.

K = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]


def info(k=K, height=48, model="plumb_bob"):
    return CameraInfo(width=64, height=height, k=k, distortion_model=model)


INFOS = {
    "model of a megabyte": (info(model="x" * MEGABYTE), "distortion model 'xxx"),
    "another shape": (info([*K[:5], 18.0, *K[6:]], height=36), "have 320x240"),
}


# Other topics.


def odometry(x=0.0):
    message = odometry_message(Transform.identity())
    message.pose.pose.position.x = x
    return message


def prior(frame="town", x=0.0):
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    message.pose.pose = transform_to_pose(base_pose(1))
    message.pose.pose.position.x = x
    message.pose.covariance = np.eye(6).ravel()
    return message


def fix(latitude=48.0, longitude=11.0, kind=NavSatFix.COVARIANCE_TYPE_KNOWN):
    return NavSatFix(
        latitude=latitude,
        longitude=longitude,
        position_covariance=np.eye(3).ravel(),
        position_covariance_type=kind,
        status=NavSatStatus(status=NavSatStatus.STATUS_FIX),
    )


MESSAGES = {  # topic, message, source of the prior, words of the report
    "odometry at nan": ("odom", odometry(x=NAN), "none", "odometry ignored"),
    "odometry far away": ("odom", odometry(x=1e7), "none", "odometry jumped"),
    "prior in a frame of a megabyte": ("prior", prior("f" * MEGABYTE), "topic", "in frame 'fff"),
    "prior at nan": ("prior", prior(x=NAN), "topic", "prior ignored"),
    "fix far away without covariance": ("fix", fix(kind=0, latitude=-48.0), "fix", "fix not used"),
    "fix at 0, 0": ("fix", fix(0.0, 0.0), "fix", "nothing on 'fix'"),
    "weather of a megabyte": ("weather", String(data="r" * MEGABYTE), "none", "send words"),
    "domain of a megabyte": ("domain", String(data="r" * MEGABYTE), "none", "known are day, night"),
}
