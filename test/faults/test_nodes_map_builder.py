# SPDX-License-Identifier: Apache-2.0
"""Faults of the map builder's input: extrinsics, intrinsics, images, poses, parameters."""

import math

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from support.maps import BASE_FROM_CAMERA
from support.node_process import NodeProcess, node_process
from support.survey import AT_ONCE, Survey, builder_parameters
from support.tf import tf2_ros
from support.vehicle import TF_STAND_IN, transform_message

from disam_ros.geometry import distance
from disam_ros.mapping.place_map import PlaceMap

pytestmark = pytest.mark.slow


def test_an_output_that_exists_is_refused_with_what_this_node_can_do(model, tmp_path):
    (tmp_path / "map").mkdir()
    (tmp_path / "map" / "mine").touch()
    p = NodeProcess(
        "map_builder.node", tmp_path / "log", builder_parameters(model.directory, tmp_path / "map")
    )
    assert p.wait() == 1
    words = "exists: set the parameter output to another directory, or move it away"
    assert words in p.log and "--overwrite" not in p.log


def test_a_map_waits_for_tf_and_is_not_turned_without_it(model, tmp_path):
    nowhere = {**AT_ONCE, "base_from_camera": [0.0] * 6}
    parameters = builder_parameters(model.directory, tmp_path / "map", **nowhere)
    with (
        node_process(
            "map_builder.node", tmp_path / "log", parameters, fresh=True, before=TF_STAND_IN
        ) as process,
        Survey() as survey,
    ):
        before = survey.now()
        survey.drive(0)
        status = survey.problem("nothing is built: no TF base_link ← 'camera'", before)
        assert status.level == DiagnosticStatus.ERROR
        assert "set base_from_camera" in process.log
        assert not survey.trigger("finish").success
        assert not (tmp_path / "map.part").exists()
        survey.deliver(tf2_ros.TOPIC, transform_message("base_link", "camera", BASE_FROM_CAMERA))
        survey.drive(2)
        survey.holds(2)  # with the image that waited
        survey.diagnosis(lambda s: "nothing is built" not in s.message, "no problem")
        assert survey.trigger("finish").success
    camera = PlaceMap(tmp_path / "map").header.cameras["front"]
    metres, degrees = distance(camera.base_from_camera, BASE_FROM_CAMERA)
    assert metres < 5e-3 and degrees < 0.1


def test_what_cannot_be_used_is_refused_and_the_rest_becomes_a_map(model, tmp_path):
    changes = {**AT_ONCE, "camera_info_timeout": 3600.0}
    parameters = builder_parameters(model.directory, tmp_path / "map", **changes)
    with (
        node_process("map_builder.node", tmp_path / "log", parameters) as process,
        Survey() as survey,
    ):
        before = survey.now()
        survey.camera_info(d=[0.1] * 3)
        survey.problem("/camera_info is not used", before)
        survey.camera_info()
        survey.drive(0)
        survey.holds(1)
        before = survey.now()
        survey.drive(2, step=7)
        survey.problem("an image was left out", before)
        survey.camera_info(d=[0.1] * 3)
        before = survey.now()
        for fields in ({"x": math.nan}, {"y": math.inf}, {"frame": "elsewhere"}):
            survey.pose(4, **fields)
        survey.problem("a pose was refused", before)
        survey.drive(5)
        end = survey.trigger("finish").message
        assert end.endswith("2 images; left out (images undecodable: 1)")
        assert process.returncode is None
    place_map = PlaceMap(tmp_path / "map")
    assert len(place_map) == 2
    assert np.isfinite(place_map.poses).all()
