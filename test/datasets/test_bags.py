# SPDX-License-Identifier: Apache-2.0
"""Laws of reading and writing bags, on small bags made here. No ROS needed."""

import logging
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.bags import (
    CAMERA,
    SECOND,
    START,
    STORAGES,
    picture,
    pose_at,
    search_of,
    write_drive,
    write_messages,
)
from support.extraction import extracted

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.cameras import forward_camera
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.bags.image_messages import decode_image
from disam_ros.datasets.bags.image_topics import camera_name
from disam_ros.datasets.bags.poses import read_poses
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.tf import TfTree
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.datasets.keyframes import KeyframeSelector
from disam_ros.datasets.sources import open_images
from disam_ros.errors import BagError, DatasetError
from disam_ros.geodesy import Origin
from disam_ros.geometry import BODY_FROM_OPTICAL, distance
from disam_ros.image import encode_jpeg


def write_dataset(directory: Path, count: int = 10, domain: str = "summer_day") -> Path:
    info = DatasetInfo("test", {"front": CAMERA}, latitude=47.0, longitude=8.5)
    with DatasetWriter(directory, info) as writer:
        for i in range(count):
            pose = pose_at(i, yaw=0.1 * i) @ CAMERA.base_from_camera
            jpeg = encode_jpeg(picture(i))
            writer.add(jpeg, START + i * SECOND // 10, "front", domain, pose)
    return directory


# --- Round trips -----------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_written_is_read_back(tmp_path, storage):
    jpeg, raw = encode_jpeg(picture(3)), picture(4)
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.compressed_image("front", START, jpeg)
        bag.raw_image("rear", START, raw)
        bag.camera_info("front", START, CAMERA)
        bag.odom(START, pose_at(3.0, 0.4), speed=1.5, turn_rate=-0.2)
        bag.fix(START, 47.25, 8.5, 410.0, 2.0)
        bag.weather(START, "light rain")
        bag.ground_truth(START, pose_at(7.0))
        bag.tf_static(START, {"front": CAMERA.base_from_camera})
    with BagReader(tmp_path / "bag") as reader:
        found = {raw.topic: (raw, message) for raw, message in reader.messages()}
        assert {name: s.count for name, s in reader.topics().items()} == dict.fromkeys(found, 1)
        assert len(found) == 8
    got = {topic: message for topic, (_, message) in found.items()}
    assert bytes(got["/camera/front/image_raw/compressed"].data) == jpeg
    assert (decode_image(got["/camera/rear/image_raw"]) == raw).all()
    assert got["/camera/front/camera_info"].k[4] == CAMERA.fy
    assert tuple(got["/camera/front/camera_info"].d) == CAMERA.distortion
    odom = got["/odom"]
    assert (odom.header.frame_id, odom.child_frame_id) == ("odom", "base_link")
    assert (odom.twist.twist.linear.x, odom.twist.twist.angular.z) == (1.5, -0.2)
    assert odom.pose.pose.position.x == 3.0
    assert got["/fix"].latitude == 47.25
    assert got["/fix"].position_covariance[0] == 2.0
    assert got["/weather"].data == "light rain"
    assert got["/ground_truth/pose"].header.frame_id == "map"
    assert all(raw.stamp_ns == START for raw, _ in found.values())


@pytest.mark.parametrize("storage", STORAGES)
def test_messages_come_in_time_order_however_written(tmp_path, storage):
    stamps = [START + i * SECOND for i in (3, 1, 2, 0)]
    with BagWriter(tmp_path / "bag", storage) as bag:
        for stamp in stamps:
            bag.weather(stamp, "snow")
            bag.raw_image("front", stamp, picture(0, 500, 900))  # over 1 MB: one mcap chunk each
    with BagReader(tmp_path / "bag") as reader:
        found = [raw.stamp_ns for raw in reader.raw(["/weather"])]
        everything = [raw.stamp_ns for raw in reader.raw()]
    assert found == sorted(stamps)
    assert everything == sorted(stamps * 2)


@pytest.mark.parametrize(("storage", "suffix"), [("mcap", "*.mcap"), ("sqlite3", "*.db3")])
def test_a_single_file_reads_like_its_directory(tmp_path, storage, suffix):
    bag = write_drive(tmp_path / "bag", storage)
    (file,) = bag.glob(suffix)
    with BagReader(bag) as whole, BagReader(file) as alone:
        assert whole.topics() == alone.topics()
        assert list(whole.raw()) == list(alone.raw())


def test_the_recorded_quality_of_service_latches_tf_static(tmp_path):
    with BagReader(write_drive(tmp_path / "bag")) as reader:
        (latched,) = reader.qos("/tf_static")
        (sensor,) = reader.qos("/camera/front/image_raw/compressed")
    assert latched.durability.name == "TRANSIENT_LOCAL"
    assert (sensor.reliability.name, sensor.durability.name) == ("BEST_EFFORT", "VOLATILE")


# --- What goes wrong -------------------------------------------------------------------------


def test_an_unknown_topic_lists_what_there_is(tmp_path):
    with (
        BagReader(write_drive(tmp_path / "bag")) as reader,
        pytest.raises(BagError, match=r"did you mean /odom\?.*/fix \(sensor_msgs/msg/NavSatFix"),
    ):
        list(reader.raw(["/odmo"]))


def test_an_absent_bag_says_so(tmp_path):
    with pytest.raises(BagError, match="does not exist"):
        BagReader(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BagError, match="ros2 bag reindex"):
        BagReader(tmp_path / "folder")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0")
    with pytest.raises(BagError, match=r"old\.bag cannot be read"):
        BagReader(tmp_path / "old.bag")


# --- Poses -----------------------------------------------------------------------------------


def test_poses_are_sorted_and_repeated_and_non_finite_ones_are_dropped(tmp_path, caplog):
    stamps = [START + i * SECOND for i in (2, 0, 1, 1, 3)]
    found = [(s, messages.pose_stamped(s, "map", pose_at(i))) for i, s in enumerate(stamps)]
    found[4][1].pose.position.x = float("nan")
    bag = write_messages(tmp_path / "bag", "/pose", found)
    with BagReader(bag) as reader, caplog.at_level(logging.WARNING):
        got, poses = read_poses(search_of(reader))
    assert got.tolist() == sorted(set(stamps[:4]))
    assert [p.translation[0] for p in poses] == [1, 2, 0]
    assert "skipped 1 poses of /pose: not finite" in caplog.text


def test_the_true_pose_is_preferred_then_a_dense_one_then_tf_then_odometry(tmp_path):
    def bag(name: str, topics: list[str]) -> Path:
        with BagWriter(tmp_path / name) as writer:
            for i in range(3):
                stamp, marks = START + i * SECOND, {"/ground_truth/pose": 1, "/slam": 2}
                for topic in topics:
                    if topic == "/odom":
                        writer.odom(stamp, pose_at(4))
                    elif topic == "/tf":
                        edge = messages.transform_stamped(stamp, "map", "base_link", pose_at(3))
                        tree = messages.make(messages.TF, transforms=[edge])
                        writer.write("/tf", tree, stamp, messages.RELIABLE_QOS)
                    else:
                        message = messages.pose_stamped(stamp, "map", pose_at(marks[topic]))
                        writer.write(topic, message, stamp, messages.RELIABLE_QOS)
        return tmp_path / name

    topics = ["/odom", "/tf", "/slam", "/ground_truth/pose"]
    for count, chosen in ((4, 1), (3, 2), (2, 3), (1, 4)):
        with BagReader(bag(f"bag{count}", topics[:count])) as reader:
            _, poses = read_poses(search_of(reader))
        assert poses[0].translation[0] == chosen


def test_tf_is_followed_from_the_base_through_odom_to_the_map(tmp_path):
    map_from_odom, base_from_head = pose_at(5, 1.0), pose_at(0.2, 0.3)
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(5):
            stamp = START + i * SECOND // 10
            edges = [messages.transform_stamped(stamp, "odom", "base_link", pose_at(i, 0.1 * i))]
            if i in (0, 4):
                edges.append(messages.transform_stamped(stamp, "map", "odom", map_from_odom))
            tree = messages.make(messages.TF, transforms=edges)
            bag.write("/tf", tree, stamp, messages.RELIABLE_QOS)
        head = messages.transform_stamped(START, "base_link", "head", base_from_head)
        eye = messages.transform_stamped(START, "head", "eye", CAMERA.base_from_camera)
        tree = messages.make(messages.TF, transforms=[head, eye])
        bag.write("/tf_static", tree, START, messages.LATCHED_QOS)
    with BagReader(tmp_path / "bag") as reader:
        stamps, poses = read_poses(search_of(reader), "/tf")
        base_from_eye = TfTree(reader).fixed("base_link", "eye")
        assert TfTree(reader).fixed("base_link", "unknown") is None
        with pytest.raises(BagError, match=r"odom→base_link"):
            read_poses(search_of(reader, map_frame="world"), "/tf")
    assert len(stamps) == 5
    for i, pose in enumerate(poses):
        assert distance(pose, map_from_odom @ pose_at(i, 0.1 * i)) == pytest.approx(
            (0, 0), abs=1e-5
        )
    expected = base_from_head @ CAMERA.base_from_camera
    assert distance(base_from_eye, expected) == pytest.approx((0, 0), abs=1e-5)


def test_a_bag_without_poses_says_what_it_holds(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.weather(START, "snow")
    with (
        BagReader(tmp_path / "bag") as reader,
        pytest.raises(BagError, match=r"holds no poses.*/weather \(std_msgs/msg/String\)"),
    ):
        read_poses(search_of(reader))


# --- What a vehicle hears ---------------------------------------------------------------------


def test_odometry_comes_as_recorded_and_images_know_how_much_came_before(tmp_path):
    """Stamps may go back; poses and twists that are not finite are left out."""
    seconds, speeds = (0, 2, 1, 3, 4), (1.0, 1.0, math.nan, 1.0, 1.0)
    with BagWriter(tmp_path / "bag") as bag:
        for at, (second, speed) in enumerate(zip(seconds, speeds, strict=True)):
            pose, stamp = pose_at(second), START + second * SECOND
            message = messages.odometry(stamp, "odom", "base_link", pose, speed, 0.0)
            bag.write("/odom", message, START + at * SECOND, messages.RELIABLE_QOS)
            bag.raw_image("front", START + at * SECOND + 1, picture())
    source = open_images(tmp_path / "bag", "map")
    stamps, poses = source.odometry
    assert stamps.tolist() == [START + second * SECOND for second in (0, 2, 3, 4)]
    assert poses == [pose_at(second) for second in (0, 2, 3, 4)]
    assert [item.odometry for item in source.images] == [1, 2, 2, 3, 4]


def test_a_fix_counts_from_when_it_was_recorded(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for at in (0, 2):
            bag.raw_image("front", START + at, picture())
        bag.fix(START + 1, 47.0, 8.5)
    source = open_images(tmp_path / "bag", "map")
    assert [item.place for item in source.images] == [None, (47.0, 8.5)]
    assert source.info.latitude is None  # without a pose no place follows for the map's origin


@pytest.mark.parametrize("spoiled", ["nothing", "the first at 0, 0", "a third elsewhere"])
def test_the_map_frame_is_registered_on_earth_by_fixes_and_poses(spoiled, tmp_path, caplog):
    """Its origin is a kilometre from the drive, its x axis 0.6 rad north of east."""
    origin = Origin(51.05, 13.74, 0.6)
    with BagWriter(tmp_path / "bag") as bag:
        for number in range(60):
            stamp, pose = START + number * SECOND // 2, pose_at(1000.0 + number, yaw=0.3)
            bag.raw_image("front", stamp, picture(number))
            bag.ground_truth(stamp, pose)
            latitude, longitude = origin.to_geodetic(pose.translation)
            if spoiled == "the first at 0, 0" and number < 3:
                latitude, longitude = 0.0, 0.0
            if spoiled == "a third elsewhere" and number < 20:
                latitude += 0.03
            bag.fix(stamp, latitude, longitude, 100.0, float("nan"))
    with caplog.at_level(logging.INFO):
        info = open_images(tmp_path / "bag", "map").info
    place = Origin(info.latitude, info.longitude)
    assert np.linalg.norm(origin.to_enu(place.latitude, place.longitude)[:2]) < 1.0
    assert "localizer.prior.origin_yaw of the localizer to 0.60" in caplog.text
    assert ("3 of 60 fixes of /fix ignored" in caplog.text) == (spoiled == "the first at 0, 0")


def test_a_bag_whose_poses_are_no_metres_from_its_fixes_gets_no_place_and_says_so(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        for number in range(5):
            stamp = START + number * SECOND // 2
            bag.raw_image("front", stamp, picture(number))
            bag.ground_truth(stamp, pose_at(2e6))  # y: 4000 km
            bag.fix(stamp, 47.0, 8.5)
    info = open_images(tmp_path / "bag", "map").info
    assert info.latitude is None
    assert "gets no place on Earth: the origin of the poses lies more than 100 km" in caplog.text


def test_what_a_bag_does_not_say_of_its_camera_is_as_in_the_map(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.raw_image("other", START, picture())
    assert open_images(tmp_path / "bag", "map", mapped={"front": CAMERA}).info.cameras == {
        "other": CAMERA
    }
    assumed = open_images(tmp_path / "bag", "map").info.cameras["other"]
    assert (assumed.fx, assumed.base_from_camera) == (32.0, forward_camera())
    with BagWriter(tmp_path / "described") as bag:
        bag.camera_info("front", START, replace(CAMERA, fx=20.0))
        bag.raw_image("front", START, picture())
    own = open_images(tmp_path / "described", "map", mapped={"front": CAMERA}).info.cameras["front"]
    assert (own.fx, own.base_from_camera) == (20.0, CAMERA.base_from_camera)


def test_a_camera_of_another_shape_than_the_maps_is_said_to_be_so(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.raw_image("front", START, picture())
    mapped = replace(CAMERA, width=3 * CAMERA.width)
    camera = open_images(tmp_path / "bag", "map", mapped={"front": mapped}).info.cameras["front"]
    assert camera.fx == 32.0
    assert f"another shape than those of the map's camera, {mapped.width}×" in caplog.text


# --- Bag ↔ dataset ---------------------------------------------------------------------------


def test_poses_are_interpolated_to_the_image_stamps_and_never_over_a_gap(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.tf_static(START, {"front": CAMERA.base_from_camera})
        for i in (0, 1, 3):
            bag.ground_truth(START + i * SECOND, pose_at(10.0 * i))
        for tenths in (5, 15, 25, 35):
            bag.raw_image("front", START + tenths * SECOND // 10, picture())
    counts = extracted(tmp_path / "bag", tmp_path / "data", "night", max_pose_gap=1.0)
    (record,) = Dataset(tmp_path / "data").records
    assert (counts.images, counts.kept, counts.without_pose) == (4, 1, 3)
    expected = pose_at(5.0) @ CAMERA.base_from_camera
    assert distance(record.map_from_camera, expected) == pytest.approx((0, 0), abs=1e-4)
    assert record.stamp_ns == START + SECOND // 2


@pytest.mark.parametrize("spacing", [0.25, 0.3])
def test_kept_images_are_at_least_the_keyframe_distance_apart(tmp_path, spacing):
    bag = write_drive(tmp_path / "bag", count=20)
    step = np.linalg.norm(pose_at(0.1).translation - pose_at(0.0).translation)
    counts = extracted(bag, tmp_path / "data", "x", keyframe_distance=spacing)
    track = [r.map_from_camera for r in Dataset(tmp_path / "data").records]
    gaps = [distance(a, b)[0] for a, b in pairwise(track)]
    assert min(gaps) >= spacing and max(gaps) < spacing + step
    assert counts.kept + counts.near_keyframe == counts.images == 20


@pytest.mark.parametrize("factor", [2, 3])
def test_a_camera_info_of_images_of_another_shape_is_not_used(factor, tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.camera_info("front", START, CAMERA.resized(2 * CAMERA.width, factor * CAMERA.height))
        for i in range(2):
            bag.ground_truth(START + i * SECOND, pose_at(i))
            image = encode_jpeg(picture(i, CAMERA.height, CAMERA.width))
            bag.compressed_image("front", START + i * SECOND, image)
    found = open_images(tmp_path / "bag", "map").info.cameras["front"]
    assert ("camera_info is not used" in caplog.text) == (factor == 3)
    assert (found.fx == found.width == CAMERA.width) == (factor == 3)


def test_a_turn_makes_a_keyframe_without_any_distance():
    selector = KeyframeSelector(distance=1.0, angle=20.0)
    assert selector.keeps("front", pose_at(0))
    assert not selector.keeps("front", pose_at(0, np.radians(19)))
    assert selector.keeps("front", pose_at(0, np.radians(21)))
    assert selector.keeps("rear", pose_at(0, np.radians(21)))
    flat = KeyframeSelector(distance=1.0)
    assert flat.keeps("front", pose_at(0)) and not flat.keeps("front", pose_at(0, 3.0))


def test_images_damaged_repeated_or_of_another_shape_are_counted_not_kept(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(5):
            bag.ground_truth(START + i * SECOND, pose_at(i))
            jpeg = encode_jpeg(picture(i, *((9, 48) if i == 1 else ())))
            bag.compressed_image("front", START + i * SECOND, jpeg if i != 2 else jpeg[:100])
        bag.compressed_image("front", START, encode_jpeg(picture()))
    counts = extracted(tmp_path / "bag", tmp_path / "data", "x", max_pose_gap=1.0)
    assert (counts.images, counts.kept, counts.damaged, counts.repeated) == (6, 3, 2, 1)
    assert "it has 48x9 pixels" in caplog.text
    assert "assuming camera 'front' at its origin" in caplog.text
    assert "assuming a focal length of 32 pixels" in caplog.text
    pose = Dataset(tmp_path / "data").info.cameras["front"].base_from_camera
    assert np.allclose(pose.rotation, BODY_FROM_OPTICAL)


def test_a_bag_no_image_of_which_can_be_kept_leaves_no_dataset(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(2):
            bag.ground_truth(START + i * SECOND, pose_at(i))
        bag.raw_image("front", START + SECOND // 2, picture())
    with pytest.raises(BagError, match=r"1 images: 0 kept, 1 without pose.* --max-pose-gap"):
        extracted(tmp_path / "bag", tmp_path / "data", "x")
    with pytest.raises(DatasetError):
        Dataset(tmp_path / "data")


def test_cameras_are_named_by_their_topics():
    assert camera_name("/camera/front/image_raw/compressed") == "front"
    assert camera_name("/left/image") == "left"
    assert camera_name("/image_raw") == "camera"


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_dataset_survives_the_way_through_a_bag(tmp_path, storage, raw):
    before = Dataset(write_dataset(tmp_path / "before"))
    dataset_to_bag(before, tmp_path / "bag", storage, raw=raw, show_progress=False)
    extracted(tmp_path / "bag", tmp_path / "after", "summer_day")
    after = Dataset(tmp_path / "after")
    assert len(after) == len(before)
    for a, b in zip(after.records, before.records, strict=True):
        assert (a.stamp_ns, a.camera, a.domain, a.path) == (b.stamp_ns, b.camera, b.domain, b.path)
        assert distance(a.map_from_camera, b.map_from_camera) == pytest.approx((0, 0), abs=1e-4)
        same = after.path(a).read_bytes() == before.path(b).read_bytes()
        assert same or raw
        mine, theirs = (cv2.imread(str(d.path(r))) for d, r in ((after, a), (before, b)))
        assert np.abs(mine.astype(int) - theirs).mean() < 3
    camera = after.info.cameras["front"]
    assert (camera.fx, camera.fy, camera.distortion) == (CAMERA.fx, CAMERA.fy, CAMERA.distortion)
    assert distance(camera.base_from_camera, CAMERA.base_from_camera)[0] < 1e-9


def test_odometry_and_fixes_of_a_dataset_go_into_its_bag(tmp_path):
    data = write_dataset(tmp_path / "data")
    late = START + 1000 * SECOND
    (data / "odom.csv").write_text(
        "stamp_ns,tx,ty,tz,qx,qy,qz,qw,vx,wz\n"
        f"{START + 5},1,2,0,0,0,0,1,3.5,0.25\n{late},1,2,0,0,0,0,1,0,0\n"
    )
    (data / "fix.csv").write_text(
        f"stamp_ns,latitude,longitude,altitude,variance\n{START + 7},47.5,8.25,400,4\n"
    )
    dataset_to_bag(data, tmp_path / "bag", weather="fog", show_progress=False)
    with BagReader(tmp_path / "bag") as reader:
        ((odom_raw, odom),) = reader.messages(["/odom"])
        ((_, fix),) = reader.messages(["/fix"])
        ((_, weather),) = reader.messages(["/weather"])
        assert reader.topics()["/ground_truth/pose"].count == 10
        assert set(reader.topics()) == {
            "/camera/front/image_raw/compressed", "/camera/front/camera_info", "/odom", "/fix",
            "/weather", "/ground_truth/pose", "/tf_static",
        }  # fmt: skip
    assert odom_raw.stamp_ns == START + 5
    assert (odom.pose.pose.position.y, odom.twist.twist.linear.x) == (2.0, 3.5)
    assert (fix.latitude, fix.position_covariance[4]) == (47.5, 4.0)
    assert weather.data == "fog"
    extracted(tmp_path / "bag", tmp_path / "again", "summer_day")
    info = Dataset(tmp_path / "again").info
    assert (info.latitude, info.longitude) == pytest.approx((47.5, 8.25), abs=1e-9)


def test_a_fix_without_a_variance_has_an_unknown_covariance(tmp_path):
    data = write_dataset(tmp_path / "data")
    row = f"{START},47.5,8.25,400"
    (data / "fix.csv").write_text(f"stamp_ns,latitude,longitude,altitude\n{row}\n")
    dataset_to_bag(data, tmp_path / "bag", show_progress=False)
    with BagReader(tmp_path / "bag") as reader:
        ((_, fix),) = reader.messages(["/fix"])
    assert fix.position_covariance_type == fix.COVARIANCE_TYPE_UNKNOWN
    assert not fix.position_covariance.any()


def test_a_drive_that_a_dataset_lacks_is_refused(tmp_path):
    data = write_dataset(tmp_path / "data")
    with pytest.raises(BagError, match="no domain 'winter'"):
        dataset_to_bag(data, tmp_path / "bag", domain="winter", show_progress=False)
    assert not (tmp_path / "bag").exists()
