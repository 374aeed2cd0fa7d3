# SPDX-License-Identifier: Apache-2.0
"""A recording of a TurtleBot that navigates becomes a map without an option."""

import logging
import re

import numpy as np
import pytest
from support.bags import SECOND, START
from support.data import save_tiny_model, texture

from disam_ros.camera import Camera
from disam_ros.cli import main
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.geometry import Transform
from disam_ros.image import encode_jpeg
from disam_ros.mapping.place_map import PlaceMap

SECONDS, IMAGE_RATE = 16, 5
IMAGES = SECONDS * IMAGE_RATE
OPTICAL = "camera_color_optical_frame"
LENS = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
BASE_FROM_CAMERA = Transform.from_xyz_rpy([0.07, 0.0, 0.14, -np.pi / 2, 0.0, -np.pi / 2])
FIXED = {  # pose in its parent, by frame
    "base_link": ("base_footprint", Transform.from_xyz_rpy([0.0, 0.0, 0.01, 0.0, 0.0, 0.0])),
    "camera_link": ("base_link", Transform.from_xyz_rpy([0.07, 0.0, 0.14, 0.0, 0.0, 0.0])),
    OPTICAL: (
        "camera_link",
        Transform.from_xyz_rpy([0.0, 0.0, 0.0, -np.pi / 2, 0.0, -np.pi / 2]),
    ),
}


def odom_from_base(seconds):
    """A drive on a circle at 0.5 m/s."""
    turn = 0.1 * seconds
    place = [5 * np.sin(turn), 5 - 5 * np.cos(turn), 0.0]
    return Transform.from_xyz_rpy([*place, 0.0, 0.0, turn])


def map_from_odom(seconds):
    """A start that is elsewhere, and odometry that turns slowly."""
    return Transform.from_xyz_rpy([-2.0, -0.5, 0.0, 0.0, 0.0, 0.3 + 0.01 * seconds])


def transforms(*edges):
    stamped = [messages.transform_stamped(*edge) for edge in edges]
    return messages.make(messages.TF, transforms=stamped)


def with_covariance(stamp, pose):
    covariance = messages.make(
        "geometry_msgs/msg/PoseWithCovariance", pose=messages.pose(pose), covariance=np.zeros(36)
    )
    return messages.make(
        messages.POSE_WITH_COVARIANCE, header=messages.header(stamp, "map"), pose=covariance
    )


def depth(stamp, frame):
    image = messages.depth_image(stamp, frame, np.ones((48, 32)))
    image.encoding, image.width = "16UC1", 64
    return image


def image_rows(number):
    """The camera's topics at one time, with what drivers and detectors publish beside them."""
    stamp, picture = START + number * SECOND // IMAGE_RATE, texture(number)
    info = messages.camera_info(stamp, OPTICAL, LENS)
    depth_info = messages.camera_info(stamp, "camera_depth_optical_frame", LENS)
    jpeg = messages.compressed_image(stamp, OPTICAL, encode_jpeg(picture))
    yield stamp, "/camera/color/camera_info", info
    yield stamp, "/camera/color/image_raw", messages.raw_image(stamp, OPTICAL, picture)
    yield stamp, "/camera/color/image_raw/compressed", jpeg
    yield stamp, "/camera/depth/camera_info", depth_info
    yield stamp, "/camera/depth/image_raw", depth(stamp, "camera_depth_optical_frame")
    yield stamp, "/camera/aligned_depth_to_color/camera_info", info
    yield stamp, "/camera/aligned_depth_to_color/image_raw", depth(stamp, OPTICAL)
    yield stamp, "/detector/debug_image", messages.raw_image(stamp, OPTICAL, picture[::-1])


def rows():
    """Stamp, topic and message of what such a robot publishes that shows or places something."""
    edges = [(START, parent, name, pose) for name, (parent, pose) in FIXED.items()]
    yield START, "/tf_static", transforms(*edges)
    for number in range(IMAGES):
        yield from image_rows(number)
    for number in range(SECONDS * 30):
        stamp, base = START + number * SECOND // 30, odom_from_base(number / 30)
        edge = (stamp, "odom", "base_footprint", base)
        yield stamp, "/tf", transforms(edge)
        yield stamp, "/odom", messages.odometry(stamp, "odom", "base_footprint", base, 0.5, 0.1)
    for number in range(SECONDS * 10):
        stamp = START + number * SECOND // 10
        yield stamp, "/tf", transforms((stamp, "map", "odom", map_from_odom(number / 10)))
    for second in range(0, SECONDS, 4):
        stamp, goal = START + second * SECOND, Transform.from_xyz_rpy([30.0, 9.0, 0, 0, 0, 0])
        pose = map_from_odom(second) @ odom_from_base(second)
        yield stamp, "/amcl_pose", with_covariance(stamp, pose)
        yield stamp, "/initialpose", with_covariance(stamp, goal)
        yield stamp, "/goal_pose", messages.pose_stamped(stamp, "map", goal)
        yield stamp, "/plan", messages.path(stamp, "map", [pose, goal])


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("turtlebot") / "everything"
    with BagWriter(path) as writer:
        for stamp, topic, message in sorted(rows(), key=lambda row: row[0]):
            writer.write(topic, message, stamp, messages.RELIABLE_QOS)
    return path


def test_the_doctor_names_what_is_used_of_it(bag, capsys):
    assert main(["doctor", str(bag)]) == 0
    report = capsys.readouterr().out
    assert "/camera/color/image_raw: 80 images" in report
    assert f"TF base_link ← {OPTICAL}" in report
    assert re.search(r"^poses +/tf \(4\d\d poses in 'map'", report, re.MULTILINE)
    assert "a map can be built" in report
    for topic in ("/goal_pose", "/initialpose", "/plan", "odd"):
        assert topic not in report


def test_it_becomes_a_map_of_its_images_without_an_option(bag, tmp_path, caplog):
    save_tiny_model(tmp_path / "model")
    line = ["build-map", "--bag", str(bag), "--model", str(tmp_path / "model")]
    output = ["--output", str(tmp_path / "map"), "--domain", "day", "--keyframe-distance", "0"]
    with caplog.at_level(logging.INFO):
        assert main([*line, *output]) == 0
    assert "poses come from /tf (" in caplog.text
    assert "camera 'color': /camera/color/image_raw, intrinsics from" in caplog.text
    assert f"mount from TF base_link ← {OPTICAL}" in caplog.text
    built = PlaceMap(tmp_path / "map")
    assert 0.95 * IMAGES < len(built) <= IMAGES
    lens = built.header.cameras["color"]
    assert (lens.fx, lens.width) == (LENS.fx, LENS.width)
    mount = lens.base_from_camera
    assert np.allclose(mount.translation, BASE_FROM_CAMERA.translation)
    assert np.allclose(mount.rotation, BASE_FROM_CAMERA.rotation, atol=1e-9)
    last = (IMAGES - 1) / IMAGE_RATE
    for row, seconds in ((0, 0.0), (-1, last)):
        base = map_from_odom(seconds) @ odom_from_base(seconds)
        assert np.allclose(built.poses[row, :2], (base @ mount).translation[:2], atol=0.02)
