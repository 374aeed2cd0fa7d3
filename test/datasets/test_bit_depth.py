# SPDX-License-Identifier: Apache-2.0
"""16-bit images that use fewer bits, thermal images, and compressed mosaics."""

from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support.bags import START, picture, write_messages

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.bit_depth import FIRST, BitDepth
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.images import BagImages, pixels_of
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.pose_sources import TopicPoses
from disam_ros.errors import ConfigError

GREY = np.ascontiguousarray(picture()[..., 0])
GREY[0, :2] = 0, 255  # all of the range


def raw(values, encoding):
    rows = np.ascontiguousarray(values.astype("<u2"))
    return SimpleNamespace(
        height=rows.shape[0],
        width=rows.shape[1],
        encoding=encoding,
        step=rows[0].nbytes,
        is_bigendian=0,
        data=rows.tobytes(),
    )


def compressed(pixels, kind, form):
    ok, data = cv2.imencode(kind, pixels)
    assert ok
    return SimpleNamespace(format=form, data=data.tobytes())


def in_bits(image, bits):
    """The values of a sensor of so many bits that sees an 8-bit image."""
    return np.rint(image.astype(float) * (2**bits - 1) / 255).astype(np.uint16)


def mosaic_of(rgb, pattern):
    mosaic = np.zeros(rgb.shape[:2], np.uint8)
    for i, colour in enumerate(pattern):
        place = slice(i // 2, None, 2), slice(i % 2, None, 2)
        mosaic[place] = rgb[(*place, "rgb".index(colour))]
    return mosaic


MESSAGES = {
    "mono16": lambda values: raw(values, "mono16"),
    "bayer_rggb16": lambda values: raw(values, "bayer_rggb16"),
    "rgb16": lambda values: raw(np.stack([values] * 3, -1), "rgb16"),
    "png": lambda values: compressed(values, ".png", "mono16; png compressed "),
    "png of colours": lambda values: compressed(
        np.stack([values] * 3, -1), ".png", "rgb16; png compressed bgr16"
    ),
}


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", MESSAGES)
def test_images_of_any_bits_are_as_bright_as_of_eight(name, bits):
    message = MESSAGES[name](in_bits(GREY, bits))
    expected = decode_image(MESSAGES[name](GREY * np.uint16(257)))
    for bit_depth in (BitDepth(), BitDepth("front", bits)):
        got = decode_image(message, bit_depth=bit_depth)
        assert np.abs(got.astype(int) - expected).max() <= 1


def test_bits_are_kept_for_the_drive_and_said_in_one_line():
    lines = []
    bit_depth = BitDepth("front", 0, lines.append)
    values = in_bits(GREY, 12)
    for dark in [1, 8, *[1] * FIRST]:
        got = decode_image(raw(values // dark, "mono16"), bit_depth=bit_depth)
        assert abs(int(got.max()) - 255 // dark) <= 1
    assert len(lines) == 1 and "of camera 'front' use 12 bits" in lines[0]
    assert "bit_depth" in lines[0]


def test_all_images_of_a_drive_have_the_range_of_the_first_ones(tmp_path):
    """The second one is the brightest; all have twelve bits."""
    greys = [picture(k)[..., 0] // (1 if k == 1 else 4) for k in range(4)]
    rows = []
    for k, grey in enumerate(greys):
        message = messages.raw_image(START + k, "front", picture(k))
        message.encoding, message.step = "mono16", 2 * message.width
        message.data = (16 * grey.astype("<u2")).view(np.uint8).ravel()
        rows.append((START + k, message))
    path = write_messages(tmp_path / "bag", "/front/image_raw", rows)
    for options, divisor in ((BagOptions(), 1), (BagOptions(bit_depth=14), 4)):
        images = BagImages(path, options, poses=TopicPoses(required=False))
        for item in (*images, *images):
            got = pixels_of(item, path)[..., 0].astype(int)
            assert np.abs(got - greys[item.number] / divisor).max() <= 1.5


def test_a_value_of_more_bits_counts_at_any_time():
    lines = []
    bit_depth = BitDepth("front", 0, lines.append)
    for _ in range(FIRST):
        decode_image(raw(in_bits(GREY, 10), "mono16"), bit_depth=bit_depth)
    got = decode_image(raw(in_bits(GREY, 12), "mono16"), bit_depth=bit_depth)
    assert np.abs(got[..., 0].astype(int) - GREY).max() <= 1
    assert [line.split(" use ")[1][:2] for line in lines] == ["10", "12"]


def test_a_camera_that_uses_all_bits_needs_no_word():
    lines = []
    bit_depth = BitDepth("front", 0, lines.append)
    for _ in range(2 * FIRST):
        decode_image(raw(GREY * np.uint16(257), "mono16"), bit_depth=bit_depth)
    assert bit_depth.settled and not lines


def thermal(offset=0):
    """Temperatures in hundredths of a kelvin."""
    return 29_000 + offset + 6 * GREY.astype(np.uint16)


def test_thermal_images_fill_the_range_and_change_slowly():
    lines = []
    bit_depth = BitDepth("front", 0, lines.append)
    images = [
        decode_image(raw(thermal(2 * k), "mono16"), bit_depth=bit_depth)[..., 0].astype(int)
        for k in range(3 * FIRST)
    ]
    for image in images:
        assert np.percentile(image, 1) < 30 and np.percentile(image, 99) > 225
    assert max(np.abs(a - b).mean() for a, b in pairwise(images)) < 3
    assert len(lines) == 1 and "thermal" in lines[0] and "bit_depth" in lines[0]


def test_a_covered_thermal_camera_stays_of_one_grey():
    bit_depth = BitDepth()
    for _ in range(FIRST):
        decode_image(raw(thermal(), "mono16"), bit_depth=bit_depth)
    flat = decode_image(raw(np.full_like(thermal(), 29_500), "mono16"), bit_depth=bit_depth)
    assert np.ptp(flat) == 0


@pytest.mark.parametrize("said", [True, False])
def test_only_narrow_bands_of_grey_are_thermal_and_none_where_the_bits_are_said(said):
    bit_depth = BitDepth("front", 16 if said else 0)
    values = thermal() if said else in_bits(GREY, 16) // 2 + 2**15
    expected = decode_image(raw(values, "mono16"))
    for _ in range(FIRST):
        got = decode_image(raw(values, "mono16"), bit_depth=bit_depth)
    assert (got == expected).all()


def test_impossible_bits_are_refused():
    with pytest.raises(ConfigError, match="bit_depth: expected 0 or 8 to 16, got 7"):
        BitDepth("front", 7)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("coloured", [False, True])
def test_a_compressed_mosaic_is_demosaiced_with_its_pattern(pattern, coloured):
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[:, :16], rgb[:, 16:] = (200, 40, 90), (10, 160, 230)
    mosaic = mosaic_of(rgb, pattern)
    pixels = np.stack([mosaic] * 3, -1) if coloured else mosaic
    for kind, tail in ((".png", "png compressed "), (".jpg", "jpeg compressed bgr8")):
        got = decode_image(compressed(pixels, kind, f"bayer_{pattern}8; {tail}"))
        inside = (slice(4, -4), [4, 5, 6, 7, 24, 25, 26, 27])
        tolerance = 0 if kind == ".png" else 60
        assert np.abs(got[inside].astype(int) - rgb[inside]).max() <= tolerance


def test_a_compressed_mosaic_of_16_bits_is_scaled_and_demosaiced():
    rgb = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    values = in_bits(mosaic_of(rgb, "grbg"), 12)
    values[0, 0] = 4095
    got = decode_image(
        compressed(values, ".png", "bayer_grbg16; png compressed "), False, BitDepth()
    )
    assert np.abs(got[4:-4, 4:-4].astype(int) - rgb[4:-4, 4:-4]).max() <= 1


def test_colours_under_the_name_of_a_mosaic_are_taken_as_they_are():
    rgb = picture()
    message = compressed(rgb[..., ::-1], ".png", "bayer_rggb8; png compressed bgr8")
    assert (decode_image(message) == rgb).all()
