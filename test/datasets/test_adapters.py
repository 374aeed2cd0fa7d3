# SPDX-License-Identifier: Apache-2.0
"""Each format as a tiny hand-made instance; expected centres and axes are worked out by hand.

The recurring rotation: a camera that looks along the world's x axis with z up. Its axes right,
down, forward are -y, -z, x of the world, so world→camera is [[0,-1,0], [0,0,-1], [1,0,0]], the
quaternion (w x y z) 0.5 0.5 -0.5 0.5; a centre C = (10, 20, 2) has the translation (20, 2, -10).
"""

import logging

import cv2
import numpy as np
import pytest
from support.data import texture

from disam_ros.cli import main
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.formats import FORMATS, cmu_seasons, robotcar_seasons
from disam_ros.datasets.formats.cmu_seasons import CmuSeasons
from disam_ros.datasets.formats.robotcar_seasons import RobotcarSeasons
from disam_ros.datasets.formats.tum import Tum
from disam_ros.domains.domain import load_rules
from disam_ros.errors import DatasetError
from disam_ros.evaluation.answers import ANSWER_COLUMNS
from disam_ros.evaluation.submission import answered_poses
from disam_ros.image import read as read_image

LOOKS_ALONG_X = "0.5 0.5 -0.5 0.5"  # camera_from_world, w x y z
REFERENCE = 1303398475046031  # µs of an image of the reference drive, 4 Apr 2011
SNOW = 1292959720000000  # 21 Dec 2010
C0 = "c0 OPENCV 64 48 868.99 866.06 525.94 420.04 -0.399431 0.188924 0.000153 0.000571"
C1 = "c1 OPENCV 64 48 873.38 876.49 529.32 397.27 -0.397066 0.181925 0.000176 -0.000579"


def put_image(path, seed=0, width=64, height=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = cv2.resize(texture(seed), (width, height))
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def put_text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def convert(name, root, *options):
    """Convert `root` by the command line; the dataset, or None where it failed."""
    output = root.parent / "converted"
    status = main(["convert", name, "--input", str(root), "--output", str(output), *options])
    assert status == (0 if (output / "images.csv").exists() else 1)
    return None if status else Dataset(output)


def check_looks_along_x(pose, center):
    assert np.allclose(pose.translation, center, atol=1e-6)
    right, down, forward = pose.rotation.T
    assert np.allclose(forward, [1, 0, 0]) and np.allclose(right, [0, -1, 0])
    assert np.allclose(down, [0, 0, -1])


# --- CMU-Seasons ---


@pytest.fixture
def extended_cmu(tmp_path):
    root = tmp_path / "extended"
    names = {
        "database": [f"img_00122_c0_{REFERENCE}us", f"img_00123_c1_{REFERENCE + 66_000}us"],
        "query": [f"img_00500_c0_{SNOW}us", f"img_00501_c0_{SNOW + 66_000}us"],
    }
    for folder, stems in names.items():
        for number, stem in enumerate(stems):
            put_image(root / "slice2" / folder / f"{stem}.jpg", number)
    put_text(root / "intrinsics.txt", "# [Camera ID] [model] …", "", C0, C1)
    put_text(
        root / "slice2" / "ground-truth-database-images-slice2.txt",
        f"{names['database'][0]}.jpg {LOOKS_ALONG_X} 10 20 2",
        f"{names['database'][1]}.jpg {LOOKS_ALONG_X} 11 20 2",
    )
    put_text(
        root / "slice2" / "camera-poses" / "slice2-9.txt",
        f"{names['query'][0]}.jpg {LOOKS_ALONG_X} 10 19 2",
    )
    put_text(root / "slice2" / "camera-poses" / "slice2-10.txt")
    put_text(root / "slice2" / "test-images-slice2.txt", *(f"{n}.jpg" for n in names["query"]))
    return root


@pytest.fixture
def cmu(tmp_path, monkeypatch):
    monkeypatch.setattr(cmu_seasons, "SIZE", (64, 48))
    root = tmp_path / "cmu"
    images = root / "images" / "slice2"
    put_image(images / "database" / f"img_00122_c0_{REFERENCE}us_rect.jpg")
    put_image(images / "query" / f"img_00500_c1_{SNOW}us_rect.jpg")
    for camera in ("c0", "c1"):
        lines = ("868.99 0 525.94", "0 866.06 420.04", "0 0 1")
        put_text(root / "intrinsics" / f"{camera}_calib.txt", *lines)
    put_text(
        root / "3D-models" / "nvm_models" / "slice2.nvm",
        "NVM_V3 ",
        "",
        "1",
        f"database/img_00122_c0_{REFERENCE}us_rect.jpg 867.5 {LOOKS_ALONG_X} 10 20 2 0 0",
        "",
        "1",
        "0.1 0.2 0.3 255 0 0 1 0 7 1.5 2.5",
    )
    return root


def test_extended_cmu_lists_hold_camera_centres(extended_cmu):
    dataset = convert("cmu-seasons", extended_cmu, "--slice", "2")
    snow, snow_unknown, first, second = dataset.records
    check_looks_along_x(first.map_from_camera, [10, 20, 2])
    check_looks_along_x(second.map_from_camera, [11, 20, 2])
    check_looks_along_x(snow.map_from_camera, [10, 19, 2])
    assert snow_unknown.map_from_camera is None
    assert [first.camera, second.camera] == ["c0", "c1"]
    assert first.stamp_ns == REFERENCE * 1000
    assert first.domain == "cmu_sunny_no_foliage" and snow.domain == "cmu_low_sun_snow"
    assert first.source == f"slice2/database/img_00122_c0_{REFERENCE}us.jpg"


def test_extended_cmu_cameras_carry_the_published_distortion(extended_cmu):
    camera = convert("cmu-seasons", extended_cmu, "--slice", "2").info.cameras["c0"]
    assert (camera.fx, camera.fy) == (868.99, 866.06)
    assert (camera.cx, camera.cy) == (525.94, 420.04)
    assert camera.distortion == (-0.399431, 0.188924, 0.000153, 0.000571, 0.0)


def test_cmu_models_hold_camera_centres_and_images_have_no_distortion(cmu):
    dataset = convert("cmu-seasons", cmu, "--slice", "2")
    query, reference = dataset.records
    check_looks_along_x(reference.map_from_camera, [10, 20, 2])
    assert query.map_from_camera is None and query.camera == "c1"
    camera = dataset.info.cameras["c0"]
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (868.99, 866.06, 525.94, 420.04)
    assert camera.distortion == ()


def test_jpegs_are_stored_as_they_are(cmu):
    dataset = convert("cmu-seasons", cmu, "--slice", "2")
    for record in dataset.records:
        assert dataset.path(record).read_bytes() == (cmu / record.source).read_bytes()


def test_only_the_domains_asked_for_are_kept(extended_cmu):
    dataset = convert("cmu-seasons", extended_cmu, "--slice", "2", "--domains", "cmu_low_sun_snow")
    assert dataset.domains() == ["cmu_low_sun_snow"] and len(dataset) == 2


def test_an_absent_domain_is_answered_with_those_there_are(extended_cmu, capsys):
    assert convert("cmu-seasons", extended_cmu, "--slice", "2", "--domains", "night") is None
    assert "only of cmu_low_sun_snow, cmu_sunny_no_foliage" in capsys.readouterr().err


def test_an_absent_slice_is_answered_with_the_folders_expected(cmu, capsys):
    assert convert("cmu-seasons", cmu, "--slice", "3") is None
    assert "images/slice3" in capsys.readouterr().err


def test_a_cmu_image_of_an_unknown_drive_is_refused(cmu, capsys):
    put_image(cmu / "images" / "slice2" / "query" / "img_1_c0_1400000000000000us_rect.jpg")
    assert convert("cmu-seasons", cmu, "--slice", "2") is None
    assert "begins with one of 12833" in capsys.readouterr().err


def test_images_of_another_size_than_their_camera_are_refused(cmu, capsys):
    put_image(cmu / "images/slice2/query" / f"img_1_c0_{SNOW + 1}us_rect.jpg", 1, 32, 24)
    assert convert("cmu-seasons", cmu, "--slice", "2") is None
    assert "32x24 pixels, its camera 64x48" in capsys.readouterr().err


def test_a_damaged_image_is_left_out_and_counted(cmu, capsys):
    bad = cmu / "images/slice2/query" / f"img_00501_c0_{SNOW + 1}us_rect.jpg"
    bad.write_bytes(b"\xff\xd8\xff no image")
    assert len(convert("cmu-seasons", cmu, "--slice", "2")) == 2
    printed = capsys.readouterr().out
    assert "3 images: 2 kept, 1 damaged, 1 without pose" in printed


def test_a_model_that_is_cut_off_is_refused(cmu, capsys):
    put_text(cmu / "3D-models/nvm_models/slice2.nvm", "NVM_V3", "", "5")
    assert convert("cmu-seasons", cmu, "--slice", "2") is None
    assert "expected 5 cameras, got 0" in capsys.readouterr().err


def test_a_malformed_pose_names_file_and_line(extended_cmu):
    path = extended_cmu / "slice2" / "ground-truth-database-images-slice2.txt"
    put_text(path, f"img_00122_c0_{REFERENCE}us.jpg 0.5 0.5 -0.5 0.5 10 20")
    with pytest.raises(DatasetError, match=r"slice2.txt line 1: expected the numbers qw qx .* cz"):
        CmuSeasons(2).read(extended_cmu)
    put_text(path, f"img_00122_c0_{REFERENCE}us.jpg 5 5 5 5 10 20 2")
    with pytest.raises(DatasetError, match=r"line 1: expected finite metres up to 1e\+08 and a un"):
        CmuSeasons(2).read(extended_cmu)


def test_poses_without_their_images_are_logged(extended_cmu, caplog):
    next((extended_cmu / "slice2" / "database").glob("*_c1_*")).unlink()
    with caplog.at_level(logging.WARNING):
        CmuSeasons(2).read(extended_cmu)
    assert "1 poses without an image, such as img_00123_c1" in caplog.text


def test_all_condition_domains_have_rules():
    domains = {f"robotcar_{name.replace('-', '_')}" for name in robotcar_seasons.CONDITIONS}
    assert domains | set(cmu_seasons.DOMAINS.values()) <= set(load_rules())


# --- RobotCar-Seasons ---


@pytest.fixture
def robotcar(tmp_path, monkeypatch):
    monkeypatch.setattr(robotcar_seasons, "SIZE", (64, 48))
    root = tmp_path / "robotcar"
    put_image(root / "images/overcast-reference/rear/1417176458999821.jpg")
    put_image(root / "images/overcast-reference/left/1417176458999821.jpg")
    put_image(root / "images/night-rain/rear/1418840534000000.jpg")
    put_image(root / "images/night-rain/rear/1418840535000000.jpg")
    for camera in robotcar_seasons.CAMERAS:
        lines = ("fx 400.000000", "fy 400.100000", "cx 508.222931", "cy 498.187378")
        put_text(root / "intrinsics" / f"{camera}_intrinsics.txt", *lines)
    put_text(
        root / "3D-models/all-merged/all.nvm",
        "NVM_V3",
        "",
        "2",
        f"./overcast-reference/rear/1417176458999821.png 400 {LOOKS_ALONG_X} 10 20 2 0 0",
        f"./overcast-reference/left/1417176458999821.png 400 {LOOKS_ALONG_X} 10 21 2 0 0",
        "0",
    )
    put_text(  # camera→world: columns right = -y, down = -z, forward = x, centre
        root / "robotcar_v2_train.txt",
        "night-rain/rear/1418840534000000.jpg 0 0 1 5 -1 0 0 6 0 -1 0 7 0 0 0 1",
    )
    return root


def test_robotcar_poses_come_from_the_model_and_the_training_list(robotcar):
    dataset = convert("robotcar-seasons", robotcar)
    left, rear, night, night_unknown = dataset.records
    check_looks_along_x(rear.map_from_camera, [10, 20, 2])
    check_looks_along_x(left.map_from_camera, [10, 21, 2])
    check_looks_along_x(night.map_from_camera, [5, 6, 7])
    assert night_unknown.map_from_camera is None
    assert (rear.camera, rear.domain) == ("rear", "robotcar_overcast_reference")
    assert (night.camera, night.domain) == ("rear", "robotcar_night_rain")
    assert rear.stamp_ns == 1417176458999821000
    camera = dataset.info.cameras["rear"]
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (400.0, 400.1, 508.222931, 498.187378)


def test_robotcar_queries_need_no_model(robotcar):
    (robotcar / "3D-models/all-merged/all.nvm").unlink()
    with pytest.raises(DatasetError, match=r"all.nvm not found"):
        RobotcarSeasons().read(robotcar)
    for path in (robotcar / "images/overcast-reference").rglob("*.jpg"):
        path.unlink()
    for folder in ("left", "rear", ""):
        (robotcar / "images/overcast-reference" / folder).rmdir()
    assert RobotcarSeasons().read(robotcar).domains() == {"robotcar_night_rain": 2}


# --- Aligned folders ---


def test_image_i_of_an_aligned_folder_lies_i_metres_along_x(tmp_path):
    root = tmp_path / "gardens"
    for folder in ("day_left", "night_right"):
        for number in (0, 2, 10):  # 10 sorts after 2
            put_image(root / folder / f"Image{number}.jpg", number)
    dataset = convert("aligned", root)
    assert dataset.domains() == ["day_left", "night_right"]
    names = [record.source for record in dataset.records]
    assert names[:3] == [f"day_left/Image{number}.jpg" for number in (0, 2, 10)]
    for place, record in enumerate(dataset.records[3:]):
        check_looks_along_x(record.map_from_camera, [place, 0, 0])
        assert record.stamp_ns == place * 10**9


def test_aligned_folders_of_different_lengths_are_refused(tmp_path, capsys):
    for name in ("summer/1.png", "summer/2.png", "winter/1.png"):
        put_image(tmp_path / "nordland" / name)
    assert convert("aligned", tmp_path / "nordland") is None
    assert "got summer 2, winter 1" in capsys.readouterr().err


# --- TUM ---


@pytest.fixture
def tum_drive(tmp_path):
    root = tmp_path / "tum"
    for stamp in ("1305031102.175304", "1305031102.211214", "1305031109.000000"):
        put_image(root / "rgb" / f"{stamp}.png")
    put_text(  # the camera in the world: x y z w of the inverse of LOOKS_ALONG_X
        root / "groundtruth.txt",
        "# ground truth trajectory",
        "# timestamp tx ty tz qx qy qz qw",
        "1305031102.1753 10 20 2 -0.5 0.5 -0.5 0.5",
        "1305031102.2753 11 20 2 -0.5 0.5 -0.5 0.5",
    )
    put_text(root / "calibration.txt", "525.0 526.0 319.5 239.5")
    return root


def test_tum_poses_are_interpolated_to_the_images(tum_drive):
    dataset = convert("tum", tum_drive, "--domain", "day")
    first, second, late = dataset.records
    assert first.stamp_ns == 1305031102175304000
    check_looks_along_x(first.map_from_camera, [10 + 0.00004, 20, 2])
    check_looks_along_x(second.map_from_camera, [10 + 0.35914, 20, 2])
    assert late.map_from_camera is None
    camera = dataset.info.cameras["front"]
    assert (camera.width, camera.height, camera.fx, camera.cy) == (64, 48, 525.0, 239.5)


def test_images_named_in_nanoseconds_and_poses_in_milliseconds_are_of_one_clock(tum_drive):
    for file in (tum_drive / "rgb").iterdir():
        file.rename(file.with_name(f"{file.stem.replace('.', '')}000.png"))
    put_text(
        tum_drive / "groundtruth.txt",
        "1305031102175 10 20 2 -0.5 0.5 -0.5 0.5",
        "1305031102275 11 20 2 -0.5 0.5 -0.5 0.5",
    )
    records = Tum("day").read(tum_drive).images
    assert [item.stamp_ns for item in records[:2]] == [1305031102175304000, 1305031102211214000]
    assert records[0].map_from_camera is not None


def test_png_images_become_jpegs_that_look_the_same(tum_drive):
    dataset = convert("tum", tum_drive, "--domain", "day")
    record = dataset.records[0]
    stored, original = read_image(dataset.path(record)), read_image(tum_drive / record.source)
    assert dataset.path(record).read_bytes()[:2] == b"\xff\xd8"
    assert np.abs(stored.astype(int) - original).mean() < 12


def test_a_tum_list_names_images_freely(tum_drive):
    put_image(tum_drive / "rgb" / "a.jpg")
    put_text(tum_drive / "list.txt", "# rgb depth", "1305031102.2753 rgb/a.jpg 0.1 depth/a.png")
    options = ("--images", "list.txt", "--intrinsics", "1", "2", "3", "4", "--domain", "day")
    (record,) = (dataset := convert("tum", tum_drive, *options)).records
    check_looks_along_x(record.map_from_camera, [11, 20, 2])
    assert record.source == "rgb/a.jpg" and dataset.info.cameras["front"].fy == 2


def test_a_trajectory_on_another_clock_is_refused(tum_drive):
    put_text(tum_drive / "groundtruth.txt", "5.5 0 0 0 0 0 0 1", "6.5 0 0 0 0 0 0 1")
    with pytest.raises(DatasetError, match=r"poses at 5.500 to 6.500 s.*one clock"):
        Tum("day").read(tum_drive)


@pytest.mark.parametrize("numbers", ["525.0 526.0 319.5", "1 2 3 4 5 6", "a b c d"])
def test_malformed_intrinsics_name_the_file(tum_drive, numbers):
    put_text(tum_drive / "calibration.txt", numbers)
    with pytest.raises(DatasetError, match=r"(calibration.txt|intrinsics): expected .*fx fy cx cy"):
        Tum("day").read(tum_drive)


# --- KITTI ---


@pytest.fixture
def kitti(tmp_path):
    root = tmp_path / "kitti"
    folder = root / "sequences" / "00"
    for number in range(2):
        put_image(folder / "image_2" / f"{number:06d}.png", number)
    put_text(folder / "times.txt", "0.000000e+00", "1.037690e-01")
    put_text(
        folder / "calib.txt",
        "P0: 700 0 600 0 0 700 180 0 0 0 1 0",
        "P2: 700 0 600 42 0 700 180 0 0 0 1 0",  # camera 0 lies 42/700 = 0.06 m to its right
        "Tr: 0 -1 0 0 0 0 -1 0 1 0 0 0",
    )
    put_text(  # then 10 m ahead and turned right: right = -z, forward = x of the first frame
        root / "poses" / "00.txt",
        "1 0 0 0 0 1 0 0 0 0 1 0",
        "0 0 1 0 0 1 0 0 -1 0 0 10",
    )
    return root


def test_kitti_poses_are_those_of_the_colour_camera_in_rep_103_axes(kitti):
    dataset = convert("kitti-odometry", kitti, "--sequence", "00", "--domain", "day")
    first, second = (record.map_from_camera for record in dataset.records)
    check_looks_along_x(first, [0, 0.06, 0])  # left of camera 0
    assert np.allclose(second.translation, [10.06, 0, 0])  # left of a camera that looks right
    right, down, forward = second.rotation.T
    assert np.allclose(forward, [0, -1, 0]) and np.allclose(right, [-1, 0, 0])
    assert np.allclose(down, [0, 0, -1])
    assert [record.stamp_ns for record in dataset.records] == [0, 103769000]
    camera = dataset.info.cameras["front"]
    assert (camera.fx, camera.cx, camera.cy) == (700, 600, 180)
    assert np.allclose(camera.base_from_camera.translation, [0, 0.06, 0])


def test_a_kitti_sequence_without_poses_keeps_its_images(kitti):
    (kitti / "poses" / "00.txt").unlink()
    dataset = convert("kitti-odometry", kitti, "--sequence", "00", "--domain", "day")
    assert [record.map_from_camera for record in dataset.records] == [None, None]


def test_an_absent_kitti_sequence_is_answered_with_those_there_are(kitti, capsys):
    assert convert("kitti-odometry", kitti, "--sequence", "0", "--domain", "day") is None
    assert "holds the sequences ['00']" in capsys.readouterr().err


# --- What all share ---


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("aligned", {}),
        ("cmu-seasons", {"slice": 2}),
        ("kitti-odometry", {"sequence": "00", "domain": "day"}),
        ("robotcar-seasons", {}),
        ("tum", {"domain": "day"}),
    ],
)
def test_a_missing_directory_is_an_error(tmp_path, name, settings):
    with pytest.raises(DatasetError, match=r"not found|holds no"):
        FORMATS[name](**settings).read(tmp_path / "absent")


# --- Submissions ---


def submit(root, dataset, benchmark, *poses):
    """Answer the images of `dataset` with `poses` (x y z qx qy qz qw); lines of the submission."""
    rows = [
        f"{dataset.path(record)},{record.stamp_ns},day,true,0.9,0,x,0.9,{pose}"
        for record, pose in zip(dataset.records, poses, strict=True)
    ]
    put_text(root / "answers.csv", ",".join(ANSWER_COLUMNS), *rows)
    status = main(
        ["submission", "--benchmark", benchmark, "--answers", str(root / "answers.csv")]
        + ["--dataset", str(dataset.directory), "--output", str(root / "eval.txt")]
    )
    return (root / "eval.txt").read_text().splitlines() if status == 0 else None


def test_a_cmu_submission_holds_translations_under_bare_names(cmu, tmp_path):
    options = ("--slice", "2", "--domains", "cmu_low_sun_snow")
    dataset = convert("cmu-seasons", cmu, *options)
    (line,) = submit(tmp_path, dataset, "cmu-seasons", "10,20,2,-0.5,0.5,-0.5,0.5")
    assert line == f"img_00500_c1_{SNOW}us_rect.jpg 0.5 0.5 -0.5 0.5 20 2 -10"


def test_a_robotcar_submission_names_the_camera_and_leaves_unknown_places_out(robotcar, tmp_path):
    dataset = convert("robotcar-seasons", robotcar, "--domains", "robotcar_night_rain")
    poses = (",,,,,,", "10,20,2,-0.5,0.5,-0.5,0.5")
    (line,) = submit(tmp_path, dataset, "robotcar-seasons", *poses)
    assert line == "rear/1418840535000000.jpg 0.5 0.5 -0.5 0.5 20 2 -10"


def test_answers_to_other_images_are_refused(cmu, tmp_path):
    dataset = convert("cmu-seasons", cmu, "--slice", "2")
    put_text(tmp_path / "answers.csv", ",".join(ANSWER_COLUMNS), "a/b.jpg,1,day,,,,,,,,,,,,")
    with pytest.raises(DatasetError, match=r"line 2: a/b.jpg is no image of"):
        answered_poses(tmp_path / "answers.csv", dataset, "cmu-seasons")
    put_text(tmp_path / "answers.csv", "path,x")
    with pytest.raises(DatasetError, match=r"lacks the columns"):
        answered_poses(tmp_path / "answers.csv", dataset, "cmu-seasons")
