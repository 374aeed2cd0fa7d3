# SPDX-License-Identifier: Apache-2.0
"""The map builder node in its own process, and the localizer's core on what it built."""

import importlib.util
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import NavSatFix, NavSatStatus
from support.data import texture
from support.localize import localize
from support.maps import START_S, base_pose, beside
from support.messages import values
from support.node_process import NodeProcess, node_process
from support.survey import Survey, builder_parameters
from support.tf import tf2_ros
from support.vehicle import TF_STAND_IN, transform_message

from disam_ros.config import LocalizerConfig
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.conversions import transform_to_pose

PLACE = Origin(50.2, 8.6, 0.5)


class Drive(Survey):
    """With fixes."""

    def fix(self, second: int, place: Origin = PLACE) -> None:
        message = NavSatFix()
        message.header.stamp.sec = START_S + second
        message.status.status = NavSatStatus.STATUS_FIX
        message.latitude, message.longitude = place.to_geodetic(base_pose(second).translation)
        self.deliver("fix", message)


@pytest.fixture
def model(places):
    return places["model"]


@pytest.fixture
def start(model, tmp_path):
    """Starts a map builder that writes tmp_path / "map"; gives its process and a drive.

    changes: of its parameters. options: of the process.
    """

    @contextmanager
    def start(changes=None, **options):
        parameters = builder_parameters(model, tmp_path / "map", **(changes or {}))
        with (
            node_process("map_builder.node", tmp_path / "log", parameters, **options) as process,
            Drive() as drive,
        ):
            yield process, drive

    return start


def test_images_become_a_map_at_the_poses_between_which_they_were_taken(model, start, tmp_path):
    output = tmp_path / "map"
    with start(fresh=True) as (process, drive):
        before = drive.now()
        drive.camera_info()
        assert "no image with a pose came yet" in drive.trigger("finish").message
        drive.pose(0)
        for second in range(4):
            drive.image(second)
            drive.pose(second + 1)
        drive.image(4, half=False)  # at the very stamp of a pose
        drive.image(1)  # an old one: its stamp goes backwards
        drive.pose(7)
        drive.image(5)  # the poses around it are three seconds apart
        drive.pose(8)
        drive.problem("stamps of camera", before)
        assert drive.facts()["poses received"] == "7"
        answer = drive.trigger("finish")
        assert answer.success
        left_out = "left out (images without pose: 1, stamps refused: 1)"
        assert answer.message == f"map complete: {output}, 5 images; {left_out}"
        assert drive.trigger("finish").message == answer.message
        assert process.stop() == 0
    place_map = PlaceMap(output)
    assert place_map.header.map_frame == "town"
    camera = place_map.header.cameras["front"]
    assert (camera.width, camera.fx) == (64, 50.0)
    mount = camera.base_from_camera.inverse()
    at = [(record.map_from_camera @ mount).translation for record in place_map.records]
    assert np.allclose(at, [[x, 1.0, 0.0] for x in (1.0, 3.0, 5.0, 7.0, 8.0)], atol=1e-3)
    localizer = Localizer.open(output, model, LocalizerConfig(device="cpu"))
    found = localize(localizer, texture(2), camera="front")
    assert found.record.id == 2
    assert beside(found.map_from_base, Transform.from_xyz_rpy([5.0, 1.0, 0.0, 0.0, 0.0, 0.25]))


def test_what_was_built_survives_the_end_of_the_node_and_is_resumed(start, tmp_path):
    output = tmp_path / "map"
    for part, expected in ((0, 3), (10, 6)):
        with start({"pose_source": "odom"}) as (process, drive):
            drive.camera_info()
            for second in range(part, part + 3):
                drive.pose(second, Odometry, "odom")
                drive.image(second)
            drive.pose(part + 3, Odometry, "odom")
            drive.holds(expected)
            if part == 0:
                assert process.stop() == 0
                assert "3 images are safe" in process.log
                assert "NOT yet a map" in process.log
                assert not output.exists()
            else:
                assert "resuming an interrupted build of 3 images" in process.log
                assert drive.trigger("finish").success
    assert len(PlaceMap(output)) == 6


def test_poses_with_covariance_and_fixes_make_a_map_that_knows_its_place(start, tmp_path):
    changes = {"pose_source": "pose_with_covariance", "builder.domain": ""}
    with start(changes) as (process, drive):
        drive.camera_info()
        drive.fix(0)  # before its pose
        for second in range(25):
            drive.pose(second, PoseWithCovarianceStamped)
            if second < 12:  # 16 wait for a slow encoder, of more the oldest are dropped
                drive.image(second)
            drive.fix(second + 1)
        drive.pose(25, PoseWithCovarianceStamped)
        drive.holds(12)
        assert int(drive.facts()["fixes used"]) == 26
        assert (
            "\x1b" not in process.log and "10 images in the map, 9 s after the first" in process.log
        )
        assert drive.trigger("finish").success
        assert f"set localizer.prior.origin_yaw of the localizer to {PLACE.yaw:.2f}" in process.log
    place_map = PlaceMap(tmp_path / "map")
    found = Origin(place_map.header.latitude, place_map.header.longitude)
    assert np.linalg.norm(PLACE.to_enu(found.latitude, found.longitude)[:2]) < 0.1
    assert {record.domain for record in place_map.records} == {"night"}  # START_S there: 23:13


@pytest.mark.parametrize(
    ("there", "shift", "words"),
    [
        (PLACE, 3e6, "the origin of the poses lies more than 100 km from the fixes"),
        (None, 0.0, "are these metres"),
    ],
)
def test_fixes_that_do_not_fit_the_poses_are_reported_and_give_no_place(
    start, tmp_path, there, shift, words
):
    with start() as (process, drive):
        drive.camera_info()
        for second in range(6):
            message = PoseStamped()
            message.header.frame_id, message.header.stamp.sec = "town", START_S + second
            x = shift + 20.0 * second
            message.pose = transform_to_pose(Transform.from_xyz_rpy([x, shift, 0, 0, 0, 0]))
            drive.deliver("pose", message)
            drive.fix(second, there or Origin(50.2, 8.6 + 0.01 * (second % 2)))
            drive.image(second)
        drive.holds(5)
        assert drive.trigger("finish").success
        assert words in process.log and "the map gets no place on Earth" in process.log
    assert PlaceMap(tmp_path / "map").header.latitude is None


def test_poses_come_from_tf(start, tmp_path):
    changes = {"pose_source": "tf", "map_frame": "town"}
    with start(changes, fresh=True, before=TF_STAND_IN) as (process, drive):
        before = drive.now()
        drive.problem("no TF town ← base_link yet", before)
        drive.camera_info()
        for second in range(4):
            message = transform_message("town", "base_link", base_pose(second))
            message.header.stamp.sec = START_S + second
            drive.deliver(tf2_ros.TOPIC, message)
            drive.diagnosis(
                lambda s, n=second: values(s).get("poses received") == str(n + 1), "a pose of TF"
            )
            drive.image(second)
        drive.holds(3)
        assert drive.trigger("finish").success
        assert process.returncode is None
    place_map = PlaceMap(tmp_path / "map")
    mount = place_map.header.cameras["front"].base_from_camera.inverse()
    at = [(record.map_from_camera @ mount).translation for record in place_map.records]
    assert np.allclose(at, [[1.0, 1.0, 0.0], [3.0, 1.0, 0.0], [5.0, 1.0, 0.0]], atol=1e-3)
    assert place_map.header.map_frame == "town"


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is there")
def test_poses_from_tf_need_tf2_ros(model, tmp_path):
    parameters = builder_parameters(model, tmp_path / "map", pose_source="tf")
    process = NodeProcess("map_builder.node", tmp_path / "log", parameters)
    assert process.wait() == 1 and "tf2_ros is not installed: install it" in process.log


def test_images_that_wait_in_vain_for_poses_are_reported(start):
    with start() as (_, drive):
        before = drive.now()
        for second in range(20):  # 16 may wait
            drive.image(100 + second)
        drive.problem("images wait in vain", before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": ""}, "'output' is empty"),
        ({"model": "/nowhere"}, "not a model directory"),
        ({"base_from_camera": [0.0] * 6}, "no extrinsics: set base_from_camera"),
        ({"identity_extrinsics": True}, "take one"),
    ],
)
def test_wrong_parameters_end_the_node_with_a_clear_message(model, tmp_path, changes, words):
    parameters = builder_parameters(model, tmp_path / "map") | changes
    process = NodeProcess("map_builder.node", tmp_path / "log", parameters)
    assert process.wait() == 1
    (line,) = [line for line in process.log.splitlines() if "[FATAL]" in line]
    assert words in line and "Traceback" not in process.log
