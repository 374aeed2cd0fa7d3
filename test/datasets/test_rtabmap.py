# SPDX-License-Identifier: Apache-2.0
"""Databases of rtabmap: hand-made as its DBDriverSqlite3 writes them, and what is refused."""

import sqlite3
import struct
import zlib

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.data import texture

from disam_ros.cli import main
from disam_ros.datasets.dataset import Dataset
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance
from disam_ros.image import decode

COUNT = 4
VERSION = "0.21.4"
HEADER = (0, 21, 4)
WIDTH, HEIGHT = 64, 48
MATRIX = [50.0, 0, 31.5, 0, 51.0, 23.5, 0, 0, 1]
BEHIND = np.diag([-1.0, -1.0, 1.0]) @ BODY_FROM_OPTICAL
MOUNT = Transform.from_rotation(np.array([0.3, 0.0, 0.5]), BODY_FROM_OPTICAL)


def matrix_of(pose):
    return np.column_stack([pose.rotation, pose.translation]).astype("<f4")


def model(lens=(0.1, 0.0, 0.0, 0.0, 0.0), matrix=MATRIX, mount=MOUNT, projection=()):
    """CameraModel::serialize."""
    counts = len(matrix), len(lens), 0, len(projection), 12
    head = struct.pack("<11i", *HEADER, 0, WIDTH, HEIGHT, *counts)
    numbers = [*matrix, *lens, *projection]
    return head + struct.pack(f"<{len(numbers)}d", *numbers) + matrix_of(mount).tobytes()


def stereo():
    """StereoCameraModel::serialize."""
    left, right = model(), model(mount=Transform.identity())
    counts = 9, 3, 0, 0
    head = struct.pack("<10i", *HEADER, 1, *counts, len(left), len(right))
    return head + struct.pack("<12d", *range(12)) + left + right


def compressed(values, kind):
    """compressData2 of a matrix [1, N]."""
    return zlib.compress(values.tobytes()) + struct.pack("<3i", 1, values.size, kind)


def base(node):
    turn = Rotation.from_euler("z", 5 * node, degrees=True)
    return Transform(np.array([2.0 * node, 0.5, 0.0]), turn.as_quat())


def image(node, parts=1):
    pictures = [cv2.resize(texture(10 * node + part), (WIDTH, HEIGHT)) for part in range(parts)]
    return np.hstack(pictures)


def database(path, calibration=None, parts=1, version=VERSION, optimized=COUNT):
    """Nodes 1 to COUNT with images, then an intermediate one without. optimized: of the first."""
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE Node (id INTEGER, map_id INTEGER, stamp FLOAT, pose BLOB)")
        made.execute("CREATE TABLE Data (id INTEGER, image BLOB, depth BLOB, calibration BLOB)")
        made.execute("CREATE TABLE Admin (version TEXT, opt_ids BLOB, opt_poses BLOB)")
        for node in range(1, COUNT + 1):
            code = cv2.imencode(".png", image(node, parts)[..., ::-1])[1].tobytes()
            stamp = 1.7e9 + 0.25 * node
            pose = matrix_of(Transform.identity()).tobytes()
            made.execute("INSERT INTO Node VALUES (?, 0, ?, ?)", (node, stamp, pose))
            made.execute(
                "INSERT INTO Data VALUES (?, ?, NULL, ?)", (node, code, calibration or model())
            )
        made.execute("INSERT INTO Node VALUES (?, 0, 1.8e9, NULL)", (COUNT + 1,))
        made.execute("INSERT INTO Data VALUES (?, NULL, NULL, NULL)", (COUNT + 1,))
        nodes = np.arange(1, optimized + 1, dtype="<i4")
        poses = np.concatenate([matrix_of(base(node)).ravel() for node in nodes] or [[]])
        blobs = compressed(nodes, 4), compressed(poses.astype("<f4"), 5)
        made.execute(
            "INSERT INTO Admin VALUES (?, ?, ?)", (version, *(blobs if optimized else (None,) * 2))
        )
    made.close()
    return path


def convert(path, output):
    return main(
        ["convert", "rtabmap", "--input", str(path), "--domain", "summer_day"]
        + ["--output", str(output)]
    )


def test_the_images_of_a_database_have_the_optimized_poses_of_their_camera(tmp_path):
    path = database(tmp_path / "rtabmap.db")
    before = path.read_bytes()
    assert convert(path, tmp_path / "out") == 0
    found = Dataset(tmp_path / "out")
    assert len(found) == COUNT and path.read_bytes() == before
    lens = found.info.cameras["front"]
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (50.0, 51.0, 31.5, 23.5)
    assert lens.distortion == (0.1, 0.0, 0.0, 0.0, 0.0)
    for node, record in enumerate(found.records, 1):
        assert record.stamp_ns == round((1.7e9 + 0.25 * node) * 1e9)
        assert max(distance(record.map_from_camera, base(node) @ MOUNT)) < 1e-3
        difference = decode(found.path(record).read_bytes()).astype(int) - image(node)
        assert np.abs(difference).mean() < 4.0  # JPEG


def test_cameras_side_by_side_are_cameras_of_their_own(tmp_path):
    rear = Transform.from_rotation(np.array([-0.3, 0.0, 0.5]), BEHIND)
    calibration = model() + model(lens=(), mount=rear)
    assert convert(database(tmp_path / "two.db", calibration, parts=2), tmp_path / "out") == 0
    found = Dataset(tmp_path / "out")
    assert set(found.info.cameras) == {"camera0", "camera1"} and len(found) == 2 * COUNT
    for record in found.records:
        node, part = round((record.stamp_ns / 1e9 - 1.7e9) / 0.25), int(record.camera[-1])
        expected = image(node, 2)[:, part * WIDTH :][:, :WIDTH]
        assert np.abs(decode(found.path(record).read_bytes()).astype(int) - expected).mean() < 4.0
        pose = base(node) @ (MOUNT, rear)[part]
        assert max(distance(record.map_from_camera, pose)) < 1e-3


LENSES = {
    "fisheye": (model(lens=(0.1, 0.2, 0.0, 0.0, 0.3, 0.4)), "equidistant", (0.1, 0.2, 0.3, 0.4)),
    "stereo": (stereo(), "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0)),
    "rectified": (
        model((), (), projection=(50.0, 0, 31.5, 0, 0, 51.0, 23.5, 0, 0, 0, 1, 0)),
        "plumb_bob",
        (),
    ),
}


@pytest.mark.parametrize("kind", LENSES)
def test_other_calibrations_are_read(tmp_path, kind):
    calibration, lens_model, distortion = LENSES[kind]
    assert convert(database(tmp_path / "a.db", calibration), tmp_path / "out") == 0
    (lens,) = Dataset(tmp_path / "out").info.cameras.values()
    assert (lens.fx, lens.cy, lens.distortion) == (50.0, 23.5, distortion)
    assert (lens.model == "pinhole") == (lens_model == "plumb_bob")


def test_nodes_outside_of_the_graph_have_no_pose(tmp_path):
    assert convert(database(tmp_path / "a.db", optimized=2), tmp_path / "out") == 0
    known = [r.map_from_camera is not None for r in Dataset(tmp_path / "out").records]
    assert known == [True, True, False, False]


def broken(path, sql, *values):
    return execute(database(path), sql, *values)


def execute(path, sql, *values):
    with sqlite3.connect(path) as made:
        made.execute(sql, values)
    made.close()
    return path


BOMB = zlib.compress(bytes(10**7)) + struct.pack("<3i", 1, 4, 4)
FAULTS = {
    "not there": (lambda path: path, "expected a database of rtabmap"),
    "text": (lambda path: path.write_text("x" * 4096) and path, "no database of rtabmap"),
    "another database": (lambda path: execute(path, "CREATE TABLE t (x)"), "no such table"),
    "old": (lambda path: database(path, version="0.17.6"), "rtabmap-reprocess"),
    "killed": (lambda path: database(path, optimized=0), "has no optimized poses"),
    "cut poses": (
        lambda path: broken(path, "UPDATE Admin SET opt_poses = ?", b"\x00" * 30),
        "opt_poses is damaged",
    ),
    "a bomb": (
        lambda path: broken(path, "UPDATE Admin SET opt_ids = ?", BOMB),
        "opt_ids is damaged",
    ),
    "cut calibration": (
        lambda path: broken(path, "UPDATE Data SET calibration = ? WHERE id = 2", model()[:70]),
        "node 2: its calibration is damaged",
    ),
    "no calibration": (
        lambda path: broken(path, "UPDATE Data SET calibration = NULL WHERE id = 2"),
        "node 2: its image has no calibration",
    ),
    "no stamp": (lambda path: broken(path, "UPDATE Node SET stamp = 'x'"), "expected a stamp"),
    "another size": (
        lambda path: broken(
            path,
            "UPDATE Data SET image = ? WHERE id = 1",
            cv2.imencode(".png", image(1)[:20])[1].tobytes(),
        ),
        "has 64x20 pixels, its calibration 64x48",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_usable_database_is_one_line_and_writes_nothing(tmp_path, capsys, fault):
    make, expected = FAULTS[fault]
    assert convert(make(tmp_path / "rtabmap.db"), tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert expected in error.splitlines()[-1] and "Traceback" not in error
    assert not (tmp_path / "out").exists()
