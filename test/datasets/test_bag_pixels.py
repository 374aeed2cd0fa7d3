# SPDX-License-Identifier: Apache-2.0
"""Bags: the range of 16-bit images, and the camera_info of rectified, binned and cropped images."""

import copy

import numpy as np
import pytest
from support.bags import CAMERA, SECOND, START, picture, pose_at

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.images import BagImages, pixels_of
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.writer import BagWriter, optical_frame

FRAME = optical_frame("front")


def grey_image(stamp, values):
    height, width = values.shape
    return messages.make(
        messages.IMAGE,
        header=messages.header(stamp, FRAME),
        height=height,
        width=width,
        encoding="mono16",
        is_bigendian=0,
        step=2 * width,
        data=np.ascontiguousarray(values, "<u2").view(np.uint8).reshape(-1),
    )


def write_bag(path, image_of, info=None, name="image_raw", count=4):
    with BagWriter(path) as bag:
        bag.tf_static(START, {"front": CAMERA.base_from_camera})
        for k in range(count):
            stamp = START + k * SECOND // 10
            described = copy.deepcopy(info or messages.camera_info(stamp, FRAME, CAMERA))
            bag.write("/camera/front/camera_info", described, stamp, messages.RELIABLE_QOS)
            topic = f"/camera/front/{name}"
            bag.write(topic, image_of(stamp, k), stamp, messages.RELIABLE_QOS)
            bag.ground_truth(stamp, pose_at(k / 10))
    return path


def brightness(k):
    """The second image is the brightest."""
    return picture(k)[..., 0] // (1 if k == 1 else 4)


def test_all_images_of_a_drive_have_the_range_of_the_first_ones(tmp_path):
    factor = 16  # twelve bits
    path = write_bag(
        tmp_path / "bag", lambda t, k: grey_image(t, brightness(k) * np.uint16(factor))
    )
    for options, divisor in ((BagOptions(), 1), (BagOptions(bit_depth=14), 4)):
        images = BagImages(path, options)
        for _ in range(2):
            for item in images:
                got = pixels_of(item, path)[..., 0].astype(int)
                assert np.abs(got - brightness(item.number) / divisor).max() <= 1.5


def info_of_the_sensor(**changes):
    """A camera_info of twice the resolution: K and D of the raw image, P of the rectified one."""
    info = messages.camera_info(START, FRAME, CAMERA)
    info.width, info.height = 2 * CAMERA.width, 2 * CAMERA.height
    info.k = np.array([60.0, 0, 33.0, 0, 62.0, 24.0, 0, 0, 1])
    info.p = np.array([50.0, 0, 31.0, -9.0, 0, 51.0, 23.0, 0, 0, 0, 1, 0])
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def roi(x, y, width, height):
    values = {"x_offset": x, "y_offset": y, "width": width, "height": height}
    return messages.make("sensor_msgs/msg/RegionOfInterest", **values, do_rectify=True)


INFOS = {
    "binned": ("image_raw", {"binning_x": 2, "binning_y": 2}, (30.0, 31.0, 16.5, 12.0)),
    "rectified": ("image_rect", {"binning_x": 2, "binning_y": 2}, (25.0, 25.5, 15.5, 11.5)),
    "cropped": ("image_raw", {"roi": roi(10, 6, 32, 24)}, (60.0, 62.0, 23.0, 18.0)),
    "both": ("image_rect_color", {"roi": roi(10, 6, 32, 24)}, (50.0, 51.0, 21.0, 17.0)),
}


@pytest.mark.parametrize("name", INFOS)
def test_the_camera_of_a_bag_is_that_of_its_images(tmp_path, name):
    topic, changes, expected = INFOS[name]
    info = info_of_the_sensor(**changes)
    path = write_bag(
        tmp_path / "bag", lambda t, k: messages.raw_image(t, FRAME, picture(k)), info, topic
    )
    (camera,) = BagImages(path).info.cameras.values()
    assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == expected
    assert (camera.distortion == ()) == topic.startswith("image_rect")


def test_a_crop_without_its_region_is_not_described_and_said_so(tmp_path, caplog):
    path = write_bag(
        tmp_path / "bag",
        lambda t, k: messages.raw_image(t, FRAME, picture(k)[:12]),
        messages.camera_info(START, FRAME, CAMERA),
    )
    (camera,) = BagImages(path).info.cameras.values()
    assert camera.is_assumed
    assert "crop, whose place its roi has to say" in caplog.text
