# SPDX-License-Identifier: Apache-2.0
"""Images of bags: every encoding, and fields that do not fit."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.bags import picture

from disam_ros.datasets.bags.image_messages import KNOWN_ENCODINGS, decode_image, to_rgb
from disam_ros.errors import ImageError


def yuv_of(rgb: np.ndarray, luma_first: bool) -> np.ndarray:
    """Packed 4:2:2 of an image whose pixel pairs share a colour. uint8 [H, W, 2]."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = (128 - 0.148 * r - 0.291 * g + 0.439 * b)[:, ::2]
    v = (128 + 0.439 * r - 0.368 * g - 0.071 * b)[:, ::2]
    colour = np.stack([u, v], axis=-1).reshape(y.shape)
    pair = (y, colour) if luma_first else (colour, y)
    return np.stack(pair, axis=-1).round().astype(np.uint8)


def planes_of(rgb: np.ndarray, v_first: bool) -> np.ndarray:
    """4:2:0, luma above chroma, of an image whose blocks of 2×2 share a colour. [H * 3 / 2, W]."""
    packed = yuv_of(rgb, True)
    chroma = packed[::2, :, 1].reshape(len(rgb) // 2, -1, 2)
    if v_first:
        chroma = chroma[..., ::-1]
    return np.concatenate([packed[..., 0], chroma.reshape(len(rgb) // 2, -1)])


def bayer_of(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with this colour filter (such as 'rggb', row by row) sees. uint8 [H, W]."""
    mosaic = np.zeros(rgb.shape[:2], np.uint8)
    for i, colour in enumerate(pattern):
        rows, columns = slice(i // 2, None, 2), slice(i % 2, None, 2)
        mosaic[rows, columns] = rgb[rows, columns, "rgb".index(colour)]
    return mosaic


def encoded(rgb: np.ndarray, encoding: str, big_endian: bool) -> tuple[np.ndarray, np.ndarray]:
    """Message pixels as bytes [H, row bytes] and the RGB expected back, both from numpy alone."""
    grey = np.repeat(rgb[..., :1], 3, axis=-1)
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    wide = ">u2" if big_endian else "<u2"
    if encoding.startswith("bayer"):
        pixels, expected = bayer_of(rgb, encoding[6:10]), rgb
    elif encoding in ("yuv422", "yuv422_uyvy", "uyvy", "yuv422_yuy2", "yuyv"):
        pixels, expected = yuv_of(rgb, encoding in ("yuv422_yuy2", "yuyv")), rgb
    else:
        pixels, expected = {
            "rgb8": (rgb, rgb),
            "bgr8": (rgb[..., ::-1], rgb),
            "rgba8": (np.concatenate([rgb, alpha], -1), rgb),
            "bgra8": (np.concatenate([rgb[..., ::-1], alpha], -1), rgb),
            "mono8": (rgb[..., 0], grey),
            "mono16": (rgb[..., 0], grey),
            "8UC1": (rgb[..., 0], grey),
            "8UC3": (rgb[..., ::-1], rgb),
            "8UC4": (np.concatenate([rgb[..., ::-1], alpha], -1), rgb),
            "nv12": (planes_of(rgb, False), rgb),
            "nv21": (planes_of(rgb, True), rgb),
            "rgb16": (rgb, rgb),
            "bgr16": (rgb[..., ::-1], rgb),
            "rgba16": (np.concatenate([rgb, alpha], -1), rgb),
            "bgra16": (np.concatenate([rgb[..., ::-1], alpha], -1), rgb),
        }[encoding]
    if encoding.endswith("16"):
        pixels = (pixels.astype(np.uint16) * 257 + 100).clip(0, 65535).astype(wide)
    return np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8), expected


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", KNOWN_ENCODINGS)
def test_every_encoding_decodes_to_the_same_rgb(encoding, big_endian, padding):
    # Halves of one colour each: exact under demosaicing and chroma sharing, away from the border.
    rgb = np.zeros((8, 16, 3), np.uint8)
    rgb[:, :8], rgb[:, 8:] = (200, 40, 90), (10, 160, 230)
    rows, expected = encoded(rgb, encoding, big_endian)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=13)
    got = to_rgb(8, 16, encoding, rows.shape[1], big_endian, rows.tobytes())
    assert got.dtype == np.uint8 and got.shape == (8, 16, 3)
    inside = (slice(2, -2), [2, 3, 4, 5, 10, 11, 12, 13])
    yuv = "y" in encoding[:2] or encoding.startswith("nv")
    tolerance = 3 if yuv else 0
    assert np.abs(got[inside].astype(int) - expected[inside]).max() <= tolerance


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.2)])
@pytest.mark.parametrize(("called", "holds"), [("yuv422", "yuyv"), ("yuv422_yuy2", "uyvy")])
def test_luma_and_chroma_in_the_other_order_than_named_are_recognized(called, holds, colour):
    rgb = np.rint(picture(3)[..., :1] * np.array(colour)).astype(np.uint8)
    rows, _ = encoded(rgb, holds, False)
    height, width = rgb.shape[:2]
    right = to_rgb(height, width, holds, width * 2, False, rows.tobytes())
    assert np.array_equal(to_rgb(height, width, called, width * 2, False, rows.tobytes()), right)


def test_rgb8_is_decoded_without_a_copy():
    data = picture().tobytes()
    got = to_rgb(24, 32, "rgb8", 96, False, data)
    assert np.shares_memory(got, np.frombuffer(data, np.uint8))


def test_mono16_fills_the_8_bit_range():
    values = np.array([[0, 128, 129, 32768, 65535, 65407]], "<u2")
    got = to_rgb(1, 6, "mono16", 12, False, values.tobytes())
    assert got[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((4, 4, "32FC1", 16, False, bytes(64)), "unknown; known: rgb8, bgr8"),
        ((4, 4, "rgb8", 11, False, bytes(44)), "step 11 is too small"),
        ((4, 4, "rgb8", 12, False, bytes(47)), "= 48 bytes, got 47"),
        ((4, 4, "mono16", 4, False, bytes(16)), "a row of 4 mono16 pixels has 8 bytes"),
        ((0, 4, "rgb8", 12, False, b""), "with pixels, got 4x0"),
        ((4, 0, "rgb8", 0, False, b""), "with pixels, got 0x4"),
        ((2, 3, "yuyv", 6, False, bytes(12)), "even width"),
        ((2, 3, "nv12", 3, False, bytes(9)), "an even size, got 3x2"),
        ((3, 2, "nv21", 2, False, bytes(9)), "an even size, got 2x3"),
        ((4, 4, "nv21", 4, False, bytes(16)), "= 24 bytes, got 16"),
        ((2, 2, "bayer_rggb8", 2, False, bytes(4)), "at least 3x3"),
    ],
)
def test_fields_that_do_not_fit_are_an_image_error(fields, message):
    with pytest.raises(ImageError, match=message):
        to_rgb(*fields)


def test_a_compressed_depth_image_is_no_picture():
    with pytest.raises(ImageError, match="colour image topic"):
        decode_image(SimpleNamespace(format="16UC1; compressedDepth png", data=b"x"))
