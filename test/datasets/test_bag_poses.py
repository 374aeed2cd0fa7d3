# SPDX-License-Identifier: Apache-2.0
"""Which poses of a bag are those of the drive."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from support.bags import CAMERA, SECOND, START, picture, pose_at, search_of

from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.options import BagOptions
from disam_ros.datasets.bags.pose_sources import TopicPoses
from disam_ros.datasets.bags.poses import find_poses, is_intention, read_poses
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.report import report_on
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.errors import BagError
from disam_ros.geometry import Transform, distance

RELIABLE = messages.RELIABLE_QOS
STEP = SECOND // 10
COUNT = 60
MAP_FROM_ODOM = Transform.from_xyz_rpy([7.0, -3.0, 0.0, 0.0, 0.0, 0.8])


def pose(number: float) -> Transform:
    """map_from_base, at 1 m/s round a bend."""
    return Transform.from_xyz_rpy([number / 10, (number / 50) ** 2, 0, 0, 0, number / 100])


def write(path, sources):
    """A drive of images every 0.1 s. sources: writes of the bag at each moment."""
    with BagWriter(path) as bag:
        bag.tf_static(START, {"front": CAMERA.base_from_camera})
        for number in range(COUNT):
            stamp = START + number * STEP
            bag.raw_image("front", stamp, picture(number))
            for source in sources:
                source(bag, number, stamp)
    return path


def stamped(topic, every=1, frame="map", offset=0.0):
    def source(bag, number, stamp):
        if number % every == 0:
            place = Transform(np.array([offset, 0, 0]), Transform.identity().quaternion)
            message = messages.pose_stamped(stamp, frame, place @ pose(number))
            bag.write(topic, message, stamp, messages.RELIABLE_QOS)

    return source


def odometry(bag, number, stamp):
    bag.odom(stamp, MAP_FROM_ODOM.inverse() @ pose(number))


def jumping(bag, number, stamp):
    message = messages.pose_stamped(stamp, "map", pose_at(100.0 * (number % 2)))
    bag.write("/somewhere", message, stamp, messages.RELIABLE_QOS)


def test_sparse_corrections_are_continued_by_odometry(tmp_path):
    path = write(tmp_path / "bag", [stamped("/amcl_pose", every=15), odometry])
    with BagReader(path) as reader:
        best = find_poses(search_of(reader))[0]
        assert (best.name, best.odometry) == ("/amcl_pose", "/odom")
        stamps, poses = read_poses(search_of(reader))
    assert len(stamps) == COUNT
    for stamp, estimate in zip(stamps.tolist(), poses, strict=True):
        truth = pose((stamp - START) / STEP)
        assert distance(estimate, truth) == pytest.approx((0, 0), abs=1e-3)


def test_goals_setpoints_and_own_answers_are_no_poses():
    for topic in ("/goal_pose", "/mavros/setpoint_position/local", "/initialpose", "/target_pose",
                  "/waypoints/next", "/localizer/pose", "/arm/cmd/pose"):  # fmt: skip
        assert is_intention(topic), topic
    for topic in ("/pose", "/amcl_pose", "/planar/pose"):
        assert not is_intention(topic), topic


def test_goals_are_not_taken_however_many_they_are(tmp_path):
    path = write(tmp_path / "bag", [stamped("/goal_pose", offset=50.0), stamped("/slam", every=2)])
    with BagReader(path) as reader:
        assert [candidate.name for candidate in find_poses(search_of(reader))] == ["/slam"]


def test_a_source_that_jumps_is_taken_only_by_its_name(tmp_path):
    path = write(tmp_path / "bag", [jumping])
    with BagReader(path) as reader:
        with pytest.raises(BagError, match=r"/somewhere.*jumps 59 times.*--pose-topic"):
            read_poses(search_of(reader))
        assert len(read_poses(search_of(reader), "/somewhere").poses) == COUNT


def test_a_source_that_covers_less_than_half_gives_way_to_one_that_covers_all(tmp_path):
    def late(bag, number, stamp):
        if number > 50:
            stamped("/slam")(bag, number, stamp)

    path = write(tmp_path / "bag", [odometry, late])
    with BagReader(path) as reader:
        best, *others = find_poses(search_of(reader))
    assert best.covered > 0.9
    assert any(other.name == "/slam" and other.covered < 0.5 for other in others)


def test_tf_comes_first_where_it_ends_a_little_earlier(tmp_path):
    def tf(bag, number, stamp):
        base = (stamp, "odom", "base_link", pose(number))
        edges = [base] if number > 54 else [base, (stamp, "map", "odom", MAP_FROM_ODOM)]
        transforms = [messages.transform_stamped(*edge) for edge in edges]
        bag.write("/tf", messages.make(messages.TF, transforms=transforms), stamp, RELIABLE)

    path = write(tmp_path / "bag", [tf, stamped("/amcl_pose", every=15), odometry])
    with BagReader(path) as reader:
        search = replace(search_of(reader), max_gap_ns=2 * STEP)
        tf_poses, *others = find_poses(search)
    assert (tf_poses.name, others[0].name) == ("/tf", "/amcl_pose")
    assert 0.85 < tf_poses.covered < others[0].covered


@pytest.mark.parametrize("frame", ["slam", "odom"])
def test_poses_of_another_frame_come_with_the_option_that_keeps_its_name(frame, tmp_path, caplog):
    path = write(tmp_path / "bag", [stamped("/slam", frame=frame)])
    with BagReader(path) as reader, caplog.at_level(logging.WARNING):
        read_poses(search_of(reader))
    assert f"--map-frame {frame}" in caplog.text
    assert ("odometry drifts" in caplog.text) == (frame == "odom")


def test_sources_that_disagree_are_reported_with_their_distance(tmp_path, caplog):
    path = write(tmp_path / "bag", [stamped("/slam"), stamped("/vicon", every=2, offset=4.0)])
    with BagReader(path) as reader, caplog.at_level(logging.WARNING):
        read_poses(search_of(reader))
    assert "/slam (60 poses) and /vicon (30) are apart by 4.0 m" in caplog.text
    assert "--pose-topic /vicon" in caplog.text


def test_the_report_tells_what_is_used_and_what_would_change_it(tmp_path):
    path = write(tmp_path / "bag", [stamped("/slam"), odometry])
    report = report_on(path, BagOptions())
    text = "\n".join(report.lines())
    assert not report.fault and text.endswith("a map can be built")
    assert "/camera/front/image_raw: 60 images" in text
    assert "or poses" in text and "--pose-topic /odom" in text
    assert any("assuming a focal length" in line for line in report.oddities)
    with BagWriter(tmp_path / "without") as bag:
        bag.raw_image("front", START, picture())
    report = report_on(tmp_path / "without", BagOptions())
    assert "--base-from-camera" in report.fault or "no poses" in report.fault
    assert report.lines()[-1].startswith("no map can be built of it")


@pytest.mark.parametrize("stands", [True, False])
def test_odometry_that_stands_still_on_a_drive_is_reported(stands, tmp_path):
    def still(bag, number, stamp):
        bag.odom(stamp, pose(0))

    path = write(tmp_path / "bag", [stamped("/slam"), still if stands else odometry])
    report = report_on(path, BagOptions(), TopicPoses())
    assert any("/odom stands still" in line for line in report.oddities) == stands
