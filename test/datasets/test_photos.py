# SPDX-License-Identifier: Apache-2.0
"""Photos with EXIF, and models of COLMAP: hand-made in the exact format, and what is refused."""

import struct

import numpy as np
import pymap3d
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from scipy.spatial.transform import Rotation
from support.data import texture

from disam_ros.camera import FISHEYE
from disam_ros.cli import main
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.formats.exif import Exif, read_exif
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance
from disam_ros.image import read

NS = 10**9
PLACE = 51.05, 13.74
COUNT = 12
CAMERAS = """\
# Camera list with one line of data per camera:
#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
# Number of cameras: 1
1 SIMPLE_RADIAL 64 48 50.5 32.5 24.5 -0.01
"""


def rational(value, parts=1000):
    return IFDRational(round(value * parts), parts)


def sexagesimal(degrees):
    degrees = abs(degrees)
    minutes = degrees % 1 * 60
    return (*map(rational, (int(degrees), int(minutes))), rational(minutes % 1 * 60, 10**6))


def photo(
    path, seed=0, second=None, place=None, heading=None, zone="+02:00", orientation=1, turns=0
):
    """A JPEG with what a phone writes into it; its pixels turned to the left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if second is not None:
        details = exif.get_ifd(0x8769)
        details[0x9003] = f"2024:05:01 14:00:{int(second):02d}"
        details[0x9291] = f"{round(second % 1 * 1000):03d}"
        details[0x9011] = zone
    if place is not None:
        gps = exif.get_ifd(0x8825)
        gps[1], gps[2] = "N" if place[0] >= 0 else "S", sexagesimal(place[0])
        gps[3], gps[4] = "E" if place[1] >= 0 else "W", sexagesimal(place[1])
        gps[5], gps[6] = b"\x00", rational(120)
        if heading is not None:
            gps[16], gps[17] = "T", rational(heading)
    Image.fromarray(np.rot90(texture(seed), turns)).save(path, exif=exif, quality=95)


def base(index):
    """map_from_base of a drive with a bend, east of PLACE."""
    return Transform.from_xyz_rpy([3 * index, 0.1 * index**2, 0, 0, 0, 0.06 * index])


def camera(index):
    return base(index) @ Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)


def place(index):
    return pymap3d.enu2geodetic(*base(index).translation, *PLACE, 0)[:2]


def convert(name, root, *options):
    """Status of a conversion."""
    line = ["convert", name, "--input", root, "--output", root.parent / "out", "--domain", "day"]
    return main([str(word) for word in [*line, *options]])


@pytest.mark.parametrize("degrees", [(51.05, 13.74), (-33.9, -151.2), (0.0, 0.0)])
def test_exif_gives_time_with_its_zone_and_the_place(tmp_path, degrees):
    photo(tmp_path / "a.jpg", second=7.25, place=degrees, heading=123.5)
    found = read_exif(tmp_path / "a.jpg")
    assert found.taken_ns == 1714564807_250_000_000  # 12:00:07.25 UTC
    assert (found.latitude, found.longitude) == pytest.approx(degrees, abs=1e-8)
    assert (found.altitude, found.heading) == (120, 123.5)


def test_a_file_without_exif_and_one_that_is_damaged_have_neither_time_nor_place(tmp_path):
    photo(tmp_path / "a.jpg", second=1, place=PLACE)
    data = (tmp_path / "a.jpg").read_bytes()
    for cut in range(0, 400, 7):
        (tmp_path / "cut.jpg").write_bytes(data[:cut] + bytes(60) + data[cut + 60 :])
        read_exif(tmp_path / "cut.jpg")
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    assert read_exif(tmp_path / "b.jpg") == Exif()


def test_photos_become_a_dataset_east_and_north_of_the_first(tmp_path):
    for k in range(COUNT):
        photo(tmp_path / "in" / f"IMG_{k}.jpg", k, second=k, place=place(k))
    assert convert("photos", tmp_path / "in") == 0
    found = Dataset(tmp_path / "out")
    assert (found.info.latitude, found.info.longitude) == pytest.approx(PLACE, abs=1e-7)
    assert [r.stamp_ns for r in found.records] == [1714564800 * NS + k * NS for k in range(COUNT)]
    for k, record in enumerate(found.records):
        metres, degrees = distance(record.map_from_camera, camera(k))
        assert metres < 0.02 and degrees < 5


def test_a_photo_looks_where_its_exif_says_and_without_a_place_it_has_no_pose(tmp_path):
    for k in range(3):
        photo(tmp_path / "in" / f"{k}.jpg", k, second=k, place=place(k), heading=90 - 10 * k)
    photo(tmp_path / "in" / "3.jpg", 3, second=3)
    assert convert("photos", tmp_path / "in") == 0
    *seen, last = Dataset(tmp_path / "out").records
    for k, record in enumerate(seen):
        forward = Rotation.from_quat(record.map_from_camera.quaternion).apply([0, 0, 1])
        assert np.degrees(np.arctan2(forward[1], forward[0])) == pytest.approx(10 * k, abs=1e-3)
    assert last.map_from_camera is None


def test_photos_without_places_are_refused_and_nothing_is_written(tmp_path, capsys):
    photo(tmp_path / "in" / "1.jpg", second=1)
    photo(tmp_path / "in" / "2.jpg", second=2)
    assert convert("photos", tmp_path / "in") == 1
    assert "0 of 2 photos have a place in their EXIF" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


INTRINSICS = 50, 51, 30.5, 24.5, -0.1, 0.02, 0.003, -0.004


def shown(dataset, record):
    """What an image of a dataset shows, in grey."""
    return read(dataset.path(record)).astype(float).mean(2)


HELD = {1: 0, 3: 2, 6: 1, 8: 3}  # orientation → turns to the left of what a phone stores


@pytest.mark.parametrize("orientation", HELD)
def test_photos_are_stored_as_players_show_them(tmp_path, orientation):
    held = {"orientation": orientation, "turns": HELD[orientation]}
    for k in range(3):
        photo(tmp_path / "in" / f"{k}.jpg", k, second=k, place=place(k), **held)
    assert convert("photos", tmp_path / "in") == 0
    dataset = Dataset(tmp_path / "out")
    assert list(dataset.info.cameras) == ["front"]
    for k, record in enumerate(dataset.records):
        assert np.abs(shown(dataset, record) - texture(k).astype(float).mean(2)).mean() < 6


@pytest.mark.parametrize("by_exif", [True, False])
def test_upright_and_level_photos_are_two_cameras(tmp_path, by_exif):
    for k in range(5):
        held = {"orientation": 6 if by_exif and k % 2 else 1, "turns": not by_exif and k % 2}
        photo(tmp_path / "in" / f"{k}.jpg", k, second=k, place=place(k), **held)
    assert convert("photos", tmp_path / "in", "--intrinsics", *INTRINSICS) == 0
    dataset = Dataset(tmp_path / "out")
    assert [r.camera for r in dataset.records] == ["front", "front_upright"] * 2 + ["front"]
    level, upright = dataset.info.cameras["front"], dataset.info.cameras["front_upright"]
    assert (level.width, level.height, level.cx) == (64, 48, 30.5)
    assert (upright.width, upright.height) == (48, 64)
    for record in dataset.records:
        camera = dataset.info.cameras[record.camera]
        assert read(dataset.path(record)).shape[:2] == (camera.height, camera.width)
    x, y = np.array([5.0, 60.0, 33.0]), np.array([4.0, 40.0, 11.0])
    rays = level.rays(np.column_stack([x, y]))
    turned = upright.rays(np.column_stack([47 - y, x]))  # clockwise
    assert np.allclose(turned, np.column_stack([-rays[:, 1], rays[:, 0], rays[:, 2]]), atol=1e-6)


def test_photos_of_several_sizes_and_shapes_are_all_kept(tmp_path):
    sizes = [(64, 48), (64, 48), (128, 96), (64, 36), (48, 64)]
    for k, size in enumerate(sizes):
        photo(tmp_path / "in" / f"{k}.jpg", k, second=k, place=place(k))
        with Image.open(tmp_path / "in" / f"{k}.jpg") as picture:
            picture.resize(size).save(tmp_path / "in" / f"{k}.jpg", exif=picture.getexif())
    assert convert("photos", tmp_path / "in") == 0
    cameras = [record.camera for record in Dataset(tmp_path / "out").records]
    assert cameras == ["front", "front", "front", "front_2", "front_upright"]


# COLMAP


def model_pose(index, scale):
    """camera_from_world of COLMAP: any unit, first camera's axes; w x y z tx ty tz."""
    world = camera(0).inverse() @ camera(index)
    pose = Transform(world.translation / scale, world.quaternion).inverse()
    return [*pose.quaternion[[3, 0, 1, 2]], *pose.translation]


def text_model(folder, poses, names):
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(CAMERAS)
    lines = ["# Image list with two lines of data per image:", "#   IMAGE_ID, QW, …", "#", "#"]
    for k, (pose, name) in enumerate(zip(poses, names, strict=True), 1):
        lines += [f"{k} {' '.join(f'{v:.15g}' for v in pose)} 1 {name}"]
        lines += ["" if k == 2 else "12.5 13.5 -1 20 30.25 7"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def binary_model(folder, poses, names):
    folder.mkdir(parents=True)
    lens = struct.pack("<QIiQQ4d", 1, 1, 2, 64, 48, 50.5, 32.5, 24.5, -0.01)
    (folder / "cameras.bin").write_bytes(lens)
    data = struct.pack("<Q", len(poses))
    for k, (pose, name) in enumerate(zip(poses, names, strict=True), 1):
        data += struct.pack("<I7dI", k, *pose, 1) + name.encode() + b"\0"
        points = [] if k == 2 else [(12.5, 13.5, 2**64 - 1), (20.0, 30.25, 7)]
        data += struct.pack("<Q", len(points)) + b"".join(struct.pack("<ddQ", *p) for p in points)
    (folder / "images.bin").write_bytes(data)


def project(root, write, scale=4.0, poses=None, places=False):
    """A project of COLMAP with images whose names have a blank."""
    names = [f"left eye/{k:03d}.jpg" for k in range(COUNT)]
    for k, name in enumerate(names):
        photo(root / "images" / name, k, place=place(k) if places else None)
    write(root / "sparse" / "0", poses or [model_pose(k, scale) for k in range(COUNT)], names)
    return root


def check_steps(found):
    """The drive up to where it begins and where it heads."""
    assert len(found) == COUNT
    poses = [record.map_from_camera for record in found.records]
    for k in range(COUNT):
        step = poses[0].inverse() @ poses[k]
        metres, degrees = distance(step, camera(0).inverse() @ camera(k))
        assert metres < 1e-3 and degrees < 1e-3
        assert Rotation.from_quat(poses[k].quaternion).apply([0, 1, 0])[2] < -0.999  # z up


@pytest.mark.parametrize("write", [text_model, binary_model])
def test_a_model_of_colmap_with_a_scale_is_a_dataset_in_metres_with_z_up(tmp_path, write):
    assert convert("colmap", project(tmp_path / "in", write), "--scale", 4) == 0
    found = Dataset(tmp_path / "out")
    check_steps(found)
    lens = found.info.cameras["front"]
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (50.5, 50.5, 32, 24)  # ours has centres at 0
    assert lens.distortion == (-0.01, 0, 0, 0)


def test_a_fisheye_of_colmap_is_one(tmp_path):
    root = project(tmp_path / "in", text_model)
    text = "1 RADIAL_FISHEYE 64 48 30 32.5 24.5 0.1 0.02\n"
    (root / "sparse" / "0" / "cameras.txt").write_text(text)
    assert convert("colmap", root, "--scale", 4) == 0
    lens = Dataset(tmp_path / "out").info.cameras["front"]
    assert (lens.model, lens.fx, lens.distortion) == (FISHEYE, 30, (0.1, 0.02, 0, 0))


def test_places_in_the_exif_give_a_model_scale_heading_and_place_in_spite_of_outliers(tmp_path):
    root = project(tmp_path / "in", binary_model, places=True)
    for k in (4, 9):
        photo(root / "images" / "left eye" / f"{k:03d}.jpg", k, place=(51.06, 13.75))
    assert convert("colmap", root, "--georegister") == 0
    found = Dataset(tmp_path / "out")
    for k, record in enumerate(found.records):
        metres, degrees = distance(record.map_from_camera, camera(k))
        assert metres < 0.1 and degrees < 0.5
    assert (found.info.latitude, found.info.longitude) == pytest.approx(PLACE, abs=1e-6)


def test_places_that_do_not_fit_the_model_are_no_scale(tmp_path, capsys):
    root = project(tmp_path / "in", binary_model, places=True)
    for k in range(COUNT):
        away = np.random.default_rng(k).uniform(-0.01, 0.01, 2)
        photo(root / "images" / "left eye" / f"{k:03d}.jpg", k, place=np.add(PLACE, away))
    assert convert("colmap", root, "--georegister") == 1
    assert "agree with the model to 5 m" in capsys.readouterr().err


def test_a_model_in_earth_centred_metres_needs_no_scale(tmp_path):
    poses = []
    for k in range(COUNT):
        center = pymap3d.enu2ecef(*camera(k).translation, *PLACE, 120)
        axes = [pymap3d.enu2uvw(*axis, *PLACE) for axis in np.eye(3)]
        turn = Rotation.from_matrix(np.transpose(axes)) * Rotation.from_quat(camera(k).quaternion)
        pose = Transform(np.array(center), turn.as_quat()).inverse()
        poses.append([*pose.quaternion[[3, 0, 1, 2]], *pose.translation])
    assert convert("colmap", project(tmp_path / "in", binary_model, poses=poses)) == 0
    found = Dataset(tmp_path / "out")
    check_steps(found)
    assert distance(found.records[0].map_from_camera, camera(0)) == pytest.approx((0, 0), abs=1e-3)
    assert found.info.latitude == pytest.approx(PLACE[0])


def test_images_of_a_model_are_as_stored_whatever_their_exif_says(tmp_path):
    root = project(tmp_path / "in", text_model)
    for k in range(COUNT):
        photo(root / "images" / "left eye" / f"{k:03d}.jpg", k, orientation=6)
    assert convert("colmap", root, "--scale", 4) == 0
    dataset = Dataset(tmp_path / "out")
    for k, record in enumerate(dataset.records):
        assert np.abs(shown(dataset, record) - texture(k).astype(float).mean(2)).mean() < 6


FAULTS = {
    "cut": "ends",
    "unknown lens": "FOV cannot be undone",
    "no images": "not found; expected its images in",
    "no model": "expected cameras.bin and images.bin",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_usable_model_is_one_line_and_writes_nothing(tmp_path, capsys, fault):
    root = project(tmp_path / "in", text_model if fault == "unknown lens" else binary_model)
    model = root / "sparse" / "0"
    if fault == "cut":
        (model / "images.bin").write_bytes((model / "images.bin").read_bytes()[:-20])
    elif fault == "unknown lens":
        text = CAMERAS.replace("SIMPLE_RADIAL 64 48 50.5", "FOV 64 48 50 50")
        (model / "cameras.txt").write_text(text)
    elif fault == "no images":
        (root / "images").rename(root / "pictures")
    else:
        (model / "images.bin").unlink()
    assert convert("colmap", root, "--scale", 1) == 1
    error = capsys.readouterr().err
    assert FAULTS[fault] in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()
