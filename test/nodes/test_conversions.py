# SPDX-License-Identifier: Apache-2.0
"""Messages ↔ core types."""

import math

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Pose
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.data import texture
from support.messages import image_message

from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.errors import GeometryError, ImageError
from disam_ros.geometry import Transform
from disam_ros.nodes import conversions
from disam_ros.nodes.conversions import candidate_markers, image_from_message
from disam_ros.nodes.match_picture import overlay_heat


@pytest.mark.parametrize("encoding", [*conversions.CV_BRIDGE_BYTES, "mono16", "bayer_grbg8"])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big_endian", [False, True])
def test_images_come_out_as_bags_decode_them(encoding, padding, big_endian):
    step = 8 * conversions.CV_BRIDGE_BYTES.get(encoding, 2) + padding
    data = np.random.default_rng(0).integers(0, 256, 4 * step, np.uint8).tobytes()
    message = Image(height=4, width=8, encoding=encoding, step=step, data=data)
    message.is_bigendian = int(big_endian)
    if encoding == "bayer_grbg8":
        message.step, message.data = 8, data[:32]
    pixels = image_from_message(message)
    assert pixels.shape == (4, 8, 3) and (pixels == decode_image(message)).all()


@pytest.mark.parametrize("change", [{"step": 4}, {"height": 3}, {"width": 0}, {"data": b""}])
def test_sizes_that_do_not_fit_are_refused(change):
    message = conversions.image_to_message(texture(0), Header())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError):
        image_from_message(message)


def test_an_rgb_image_survives_the_way_into_a_message_and_back():
    image = texture(2)
    message = conversions.image_to_message(image, Header(frame_id="camera"))
    assert message.header.frame_id == "camera"
    assert (image_from_message(message) == image).all()


@pytest.mark.parametrize(
    ("frame", "name"),
    [("map", "map"), ("/map", "map"), ("/robot1/odom", "robot1/odom"), ("", ""), ("//a", "/a")],
)
def test_a_frame_loses_one_leading_slash(frame, name):
    assert conversions.frame_of(Header(frame_id=frame)) == name


def test_a_pose_survives_the_way_into_a_message_and_back():
    transform = Transform.from_xyz_rpy([1.0, -2.0, 3.0, 0.1, 0.2, -3.0])
    back = conversions.pose_to_transform(conversions.transform_to_pose(transform))
    assert np.allclose(back.translation, transform.translation)
    assert np.allclose(back.quaternion, transform.quaternion)


def test_a_pose_that_is_not_finite_is_refused():
    pose = Pose()
    pose.position.x = math.nan
    with pytest.raises(GeometryError, match="finite"):
        conversions.pose_to_transform(pose)


def test_stamps_keep_their_nanoseconds():
    message = image_message(texture(0), second=3, nanosecond=999_999_999)
    assert conversions.stamp_to_ns(message.header) == 1_700_000_003_999_999_999


def test_odometry_must_be_finite_in_pose_and_twist():
    good = Odometry()
    conversions.check_odometry(good)
    for part in (good.pose.pose.position, good.twist.twist.angular):
        part.z = math.inf
        with pytest.raises(GeometryError, match="finite"):
            conversions.check_odometry(good)
        part.z = 0.0


def test_markers_begin_by_removing_the_old_ones_and_show_every_score():
    header = Header(frame_id="town")
    poses = [Transform.identity()] * 3
    markers = candidate_markers(poses, [0.9, 0.8, 0.7], True, header).markers
    assert markers[0].action == markers[0].DELETEALL
    assert [m.text for m in markers if m.text] == ["0.90", "0.80", "0.70"]
    assert all(m.header.frame_id == "town" for m in markers)
    unknown = candidate_markers(poses, [0.9, 0.8, 0.7], False, header).markers
    assert len({(m.color.r, m.color.g, m.color.b) for m in unknown[1:]}) == 1


def test_heat_leaves_cold_pixels_as_they_are():
    image = texture(3)
    heat = np.zeros((8, 8), np.float32)
    assert (overlay_heat(image, heat) == image).all()
    heat[0, 0] = 1.0
    changed = (overlay_heat(image, heat) != image).any(-1)
    assert changed[0, 0]
    assert not changed[24:, 32:].any()
