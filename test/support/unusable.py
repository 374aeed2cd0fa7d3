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
BGR, ALPHA = RGB[..., ::-1], np.full((240, 320, 1), 9, np.uint8)
BROKEN_IMAGES = {
    "no height": (lambda: image(height=0), "expected an image with pixels, got 320x0"),
    "no width": (lambda: image(width=0), "expected an image with pixels, got 0x240"),
    "no size and no data": (lambda: image(height=0, width=0, data=b""), "an image with pixels"),
    "short step": (lambda: image(step=959), "a step of at least 960 bytes"),
    "step 0": (lambda: image(step=0), "a step of at least 960 bytes"),
    "long step": (lambda: image(step=1000), "got step 1000 and 230400 bytes"),
    "no data": (lambda: image(data=b""), "step 960 and 0 bytes"),
    "data cut off": (lambda: image(rows=RGB[:100]), "step 960 and 96000 bytes"),
    "too much data": (lambda: image(rows=np.concatenate([RGB, RGB])), "and 460800 bytes"),
    "huge height": (lambda: image(height=2**32 - 1), "got step 960 and 230400 bytes"),
    "huge step": (lambda: image(step=2**32 - 1), "height, step or data wrongly"),
    "unknown encoding": (lambda: image("rgb9"), "'rgb9' is unknown; known: rgb8"),
    "empty encoding": (lambda: image(""), "'' is unknown; known: rgb8"),
    "encoding of a megabyte": (lambda: image("x" * MEGABYTE), "characters …]"),
    "depth": (lambda: image("16UC1", 1, np.uint16), "'16UC1' is unknown"),
    "metres": (lambda: image("32FC1", 1, np.float32), "'32FC1' is unknown"),
    "16 bit promised": (lambda: image("rgb16", 3), "a row of 320 rgb16 pixels has 1920 bytes"),
    "odd nv12": (lambda: image("nv12", width=319, step=319), "an even size, got 319x240"),
    "nv21 without chroma": (lambda: image("nv21", 1, rows=RGB[..., 0]), "expected 360 rows"),
    "odd yuyv": (lambda: image("yuyv", 2, width=319), "an even width, got 319|expected 240 rows"),
    "black": (lambda: image(rows=flat(2)), "black"),
    "white": (lambda: image(rows=flat(255)), "white"),
    "grey": (lambda: image(rows=flat(128)), "one colour"),
}
ENCODINGS = {
    "rgb8": lambda: image(),
    "bgr8": lambda: image("bgr8", rows=BGR),
    "rgba8": lambda: image("rgba8", 4, rows=np.concatenate([RGB, ALPHA], -1)),
    "8UC3": lambda: image("8UC3", rows=BGR),
    "8UC4": lambda: image("8UC4", 4, rows=np.concatenate([BGR, ALPHA], -1)),
    "rgb16": lambda: image("rgb16", 3, np.uint16, RGB * np.uint16(257)),
    "bgr16 big-endian": lambda: image(
        "bgr16", 3, np.dtype(">u2").type, (BGR * np.uint16(257)).byteswap(), is_bigendian=1
    ),
    "nv12": lambda: image("nv12", 1, rows=planes("nv12")),
    "nv21": lambda: image("nv21", 1, rows=planes("nv21")),
    "padded rows": lambda: image(step=1000, rows=np.pad(RGB.reshape(240, -1), ((0, 0), (0, 40)))),
    "frame of a megabyte": lambda: framed("f" * MEGABYTE),
    "no frame": lambda: framed(""),
}


def planes(encoding):
    """4:2:0 of the image, from cv2's planar form."""
    import cv2

    planar = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    pair = planar[240:].reshape(2, 120, 160)
    order = pair if encoding == "nv12" else pair[::-1]
    return np.concatenate([planar[:240], np.stack(order, -1).reshape(120, 320)])


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
    "three distortion coefficients": (info([0.1, 0.2, 0.3]), "coefficients, got 3"),
    "six distortion coefficients": (info([0.1] * 6), "coefficients, got 6"),
    "distortion of nan": (info([NAN] * 5), "finite intrinsics"),
    "distortion of inf": (info([INF] * 5), "finite intrinsics"),
    "focal length of nan": (info(k=k_with(0, NAN)), "finite intrinsics"),
    "focal length of 0": (info(k=k_with(0, 0.0)), "focal lengths above 0"),
    "negative focal length": (info(k=k_with(4, -50.0)), "focal lengths above 0"),
    "all zero": (info(k=[0.0] * 9), "focal lengths above 0"),
    "principal point of inf": (info(k=k_with(2, INF)), "finite intrinsics"),
    "principal point outside": (info(k=k_with(2, 500.0)), "principal point (500, 24)"),
    "no size": (info(width=0, height=0), "the size of the image, got 0x0"),
    "unknown model": (info([0.1] * 4, model="wide"), "distortion model 'wide'"),
    "fisheye without coefficients": (info(model="equidistant"), "of the fisheye model, got 0"),
    "fisheye of three": (info([0.1] * 3, model="equidistant"), "of the fisheye model, got 3"),
    "fisheye of five": (info([0.1] * 5, model="equidistant"), "of the fisheye model, got 5"),
    "fisheye of no focal length": (
        info([0.1] * 4, [0.0] * 9, model="equidistant"),
        "focal lengths above 0",
    ),
    "half a sphere": (info(model="equirectangular"), "twice as wide as high, this one is of 64x48"),
    "model of a megabyte": (info(model="x" * MEGABYTE), "distortion model 'xxx"),
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


def prior(frame="town", x=0.0, variance=1.0, covariance=None):
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    message.pose.pose = transform_to_pose(base_pose(1))
    message.pose.pose.position.x = x
    covariance = np.diag([variance] * 6) if covariance is None else covariance
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


SKEW = np.eye(6) + np.diag([9.0], 5) + np.diag([9.0] * 5, 1)
MESSAGES = {
    "odometry at nan": ("odom", odometry(x=NAN), "none", "odometry ignored"),
    "odometry at inf": ("odom", odometry(z=INF), "none", "odometry ignored"),
    "odometry without turn": ("odom", odometry(quaternion=(0.0,) * 4), "none", "odometry ignored"),
    "odometry turned by nan": (
        "odom",
        odometry(quaternion=(NAN, 0.0, 0.0, 1.0)),
        "none",
        "odometry ignored",
    ),
    "odometry with speed nan": ("odom", odometry(speed=NAN), "none", "a finite twist"),
    "odometry far away": ("odom", odometry(x=1e300), "none", "odometry jumped"),
    "prior in another frame": ("prior", prior("elsewhere"), "topic", "in frame 'elsewhere'"),
    "prior in a frame of a megabyte": ("prior", prior("f" * MEGABYTE), "topic", "in frame 'fff"),
    "prior at nan": ("prior", prior(x=NAN), "topic", "prior ignored"),
    "prior at inf": ("prior", prior(x=INF), "topic", "prior ignored"),
    "prior of variance nan": ("prior", prior(variance=NAN), "topic", "prior ignored"),
    "prior of variance inf": ("prior", prior(variance=INF), "topic", "prior ignored"),
    "prior of variance 0": ("prior", prior(variance=0.0), "topic", "prior ignored"),
    "prior of negative variance": ("prior", prior(variance=-1.0), "topic", "prior ignored"),
    "prior of no covariance": ("prior", prior(covariance=SKEW), "topic", "prior ignored"),
    "prior far away": ("prior", prior(x=1e7), "topic", "off the map"),
    "fix without covariance": ("fix", fix(kind=0), "fix", "position_covariance_type is unknown"),
    "fix of variance nan": ("fix", fix(variance=NAN), "fix", "fix not used"),
    "fix of negative variance": ("fix", fix(variance=-1.0), "fix", "fix not used"),
    "fix at nan": ("fix", fix(latitude=NAN), "fix", "nothing on 'fix'"),
    "fix beyond the pole": ("fix", fix(latitude=91.0), "fix", "nothing on 'fix'"),
    "fix without a fix": ("fix", fix(status=-1), "fix", "nothing on 'fix'"),
    "weather unknown": ("weather", String(data="raspberry"), "none", "raspberry"),
    "weather of a megabyte": ("weather", String(data="r" * MEGABYTE), "none", "send words"),
    "weather of many words": ("weather", String(data="snow " * 200_000), "none", "send words"),
    "weather with markup": ("weather", String(data="<b>&\n"), "none", "ignored"),
    "domain unknown": ("domain", String(data="raspberry"), "none", "'raspberry' ignored"),
    "domain of a megabyte": ("domain", String(data="r" * MEGABYTE), "none", "known are day, night"),
}
