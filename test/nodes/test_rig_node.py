# SPDX-License-Identifier: Apache-2.0
"""A localizer node with several cameras over DDS: one belief of all."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from support.data import texture
from support.maps import BASE_FROM_CAMERA, CAMERA, START_S, base_pose, save_tiny_map
from support.messages import image_message, values

from disam_ros.geometry import Transform, distance
from disam_ros.models.model import load_model
from disam_ros.nodes.conversions import pose_to_transform

FRONT = [1.0, 0.2, 1.5, -math.pi / 2, 0.0, -math.pi / 2]
REAR = [-1.0, 0.2, 1.5, -math.pi / 2, 0.0, math.pi / 2]
LEFT = [0.0, 0.6, 1.5, -math.pi / 2, 0.0, 0.0]
RIGHT = [0.0, -0.6, 1.5, -math.pi / 2, 0.0, math.pi]
RIG = {"front": FRONT, "left": LEFT, "rear": REAR, "right": RIGHT}
EVERY_PLACE = {"localizer.min_probability": 0.0}  # counts as known


def test_a_vehicle_that_drives_back_is_localized_by_its_rear_camera(start_localizer):
    rig = {"cameras": ["front", "rear"], "base_from_camera": FRONT + REAR}
    rear_from_base = Transform.from_xyz_rpy(REAR).inverse()
    with start_localizer({**rig, **EVERY_PLACE}) as robot:
        for index in (5, 4, 3, 2):
            status = robot.ask(image_message(texture(index), frame="rear"), "rear/image").status[0]
        assert (status.hardware_id, values(status)["outcome"]) == ("rear", "known")
        assert "not joined" not in values(status)
        pose = pose_to_transform(robot.poses[-1].pose)
        metres, degrees = distance(pose, base_pose(2) @ BASE_FROM_CAMERA @ rear_from_base)
        assert metres < 2.0 and degrees < 15.0
        black = image_message(np.zeros((48, 64, 3), np.uint8), frame="front")
        refused = robot.ask(black, "front/image").status[0]
        assert values(refused)["outcome"] == "unreadable" and "'front'" in refused.message
        again = robot.ask(image_message(texture(1), frame="rear"), "rear/image").status[0]
        assert values(again)["outcome"] == "known"
        assert len(robot.answers) == robot.second  # one for each image
        robot.client.until(
            lambda: "front (vehicle turned by 180°)" in robot.process.log,
            "what rear is compared with",
        )


def test_four_cameras_are_one_belief_and_each_of_their_images_has_one_answer(
    places, start_localizer, tmp_path
):
    mounts = {name: Transform.from_xyz_rpy(mount) for name, mount in RIG.items()}
    lenses = {name: replace(CAMERA, base_from_camera=mount) for name, mount in mounts.items()}
    save_tiny_map(tmp_path / "map", load_model(places["model"]), cameras=lenses)
    parameters = {
        "map": str(tmp_path / "map"),
        "cameras": list(RIG),
        "base_from_camera": [value for mount in RIG.values() for value in mount],
        **EVERY_PLACE,
    }
    covered = np.zeros((48, 64, 3), np.uint8)
    with start_localizer(parameters) as robot:

        def moment(index, **instead):
            """Statuses by camera; `instead`: images of cameras, None: not sent."""
            robot.second += 1
            pictures = {name: texture(100 * c + index) for c, name in enumerate(RIG)} | instead
            sent = {
                name: image_message(picture, frame=name)
                for name, picture in pictures.items()
                if picture is not None
            }
            for name, message in sent.items():
                message.header.stamp.sec = START_S + robot.second
                robot.client.publish(f"{name}/image", message)
            answers = robot.client.until(
                lambda: robot.of_moment(START_S + robot.second, len(sent)), "answers to a moment"
            )
            result = {answer.status[0].hardware_id: answer.status[0] for answer in answers}
            assert len(answers) == len(result) and set(result) == set(sent)
            return {name: values(status)["outcome"] for name, status in result.items()}

        for index in range(4):
            outcomes = moment(index)
        assert set(outcomes.values()) == {"known"}
        for pose in robot.poses[-4:]:
            metres, degrees = distance(pose_to_transform(pose.pose), base_pose(3))
            assert metres < 2.0 and degrees < 15.0
        assert moment(4, left=covered) == {
            "front": "known",
            "left": "unreadable",
            "rear": "known",
            "right": "known",
        }
        assert moment(5, front=None) == dict.fromkeys(("left", "rear", "right"), "known")
