# SPDX-License-Identifier: Apache-2.0
"""Stamps of images that come without any; topics of rectified images."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from support.messages import image_message

from disam_ros.nodes.conversions import stamp_to_ns
from disam_ros.nodes.image_input import ImageInput
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor


@pytest.mark.parametrize("stamps", ["header", "received"])
def test_on_request_images_are_stamped_with_the_time_at_which_they_come(make_node, stamps):
    node, images = make_node(), []

    def keep(message, _):
        images.append(message)

    receiver = ImageInput(node, "front", "image", "raw", keep, Monitor("probe"), stamps)
    receiver.listen()
    publisher = node.create_publisher(Image, "image", 10)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    before = node.get_clock().now().nanoseconds
    while not images:
        if receiver.publisher_count():
            publisher.publish(image_message(np.zeros((24, 32, 3), np.uint8)))
        executor.spin_once(timeout_sec=0.1)
    assert (stamp_to_ns(images[0].header) >= before) == (stamps == "received")
    receiver.destroy()


@pytest.mark.parametrize(
    ("remapping", "transport", "rectified"),
    [
        ("image:=/left/image_rect_color", "raw", True),
        ("image/compressed:=/left/image_rect/compressed", "compressed", True),
        ("image:=/left/image_raw", "raw", False),
        ("image:=/left/image_rect", "compressed", False),  # another topic than the one that is read
    ],
)
def test_the_resolved_topic_says_whether_images_are_rectified(
    make_node, remapping, transport, rectified
):
    node = make_node("-r", remapping)
    receiver = ImageInput(node, "front", "image", transport, print, Monitor("probe"))
    assert receiver.rectified == rectified
    receiver.destroy()
