# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.data import texture

from disam_ros.errors import ImageError
from disam_ros.image import decode, read, to_tensor


def test_black_is_minus_one_and_white_is_one():
    image = np.zeros((4, 4, 3), np.uint8)
    image[2:] = 255
    tensor = to_tensor(image, (4, 4))
    assert torch.equal(tensor[:, :2], -torch.ones(3, 2, 4))
    assert torch.equal(tensor[:, 2:], torch.ones(3, 2, 4))


def test_any_size_becomes_the_networks_size():
    assert to_tensor(texture(0, 100, 300), (48, 64)).shape == (3, 48, 64)
    assert to_tensor(texture(0, 10, 10), (48, 64)).shape == (3, 48, 64)


def test_decoding_gives_rgb():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    data = cv2.imencode(".png", cv2.cvtColor(red, cv2.COLOR_RGB2BGR))[1].tobytes()
    assert np.array_equal(decode(data), red)


def test_a_photo_is_read_as_stored_or_on_request_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image = texture(0)
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png"), image)
    assert np.array_equal(read(tmp_path / "a.png", upright=True), np.rot90(image, -1))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        None,
    ],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(ImageError, match="expected"):
        to_tensor(image, (4, 4))
