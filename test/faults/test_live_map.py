# SPDX-License-Identifier: Apache-2.0
"""Faults of a map that is built live: images of unknown size, an end that fails."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.logging import get_logger
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage
from support.data import texture
from support.maps import CAMERA, START_S, base_pose
from support.messages import compressed_message, image_message, values
from support.node_process import node_process
from support.survey import AT_ONCE, Survey, builder_parameters

from disam_ros.config import MapBuilderConfig
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.node_config import MapBuilderNodeConfig
from disam_ros.nodes.map_builder.live_map import LiveMap, PosedMessage
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor

DEADLINE = 60.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def live_map(model, output) -> LiveMap:
    builder = MapBuilderConfig(domain="day", batch_size=1, keypoints=0)
    config = MapBuilderNodeConfig(
        output=str(output),
        model=str(model.directory),
        device="cpu",
        camera="front",
        builder=builder,
    )
    logger = get_logger("live_map")
    return LiveMap(config, Monitor("live map", logger), logger)


def drive(build: LiveMap, seconds: range) -> None:
    for second in seconds:
        message = image_message(texture(second), second)
        build.add(PosedMessage((START_S + second) * 10**9, message, base_pose(second)))


def test_all_who_ask_to_complete_a_map_at_once_are_answered(model, tmp_path):
    build = live_map(model, tmp_path / "map")
    build.begin(CAMERA, "town")
    drive(build, range(3))
    answers = [Future() for _ in range(40)]
    for answer in answers:
        build.finish(answer)
    drive(build, range(3, 40))  # too late
    until(lambda: all(answer.done() for answer in answers))
    ((success, text),) = {answer.result() for answer in answers}
    assert success and text.startswith(f"map complete: {tmp_path / 'map'}, 3 images")
    assert build.state == "complete"
    build.close()


def test_a_map_that_cannot_be_completed_ends_and_leaves_what_resumes(model, tmp_path):
    part = tmp_path / "map.part"
    build = live_map(model, tmp_path / "map")
    build.begin(CAMERA, "town")
    drive(build, range(3))
    in_the_way = part / "map.json" / "mine"
    in_the_way.mkdir(parents=True)
    answer = Future()
    build.finish(answer)
    until(answer.done)
    success, text = answer.result()
    assert not success and "start again with the same parameters to resume" in text
    assert build.state == "not building"
    drive(build, range(3, 6))
    assert build.close() == text
    in_the_way.rmdir()
    in_the_way.parent.rmdir()

    again = live_map(model, tmp_path / "map")
    assert again.begin(CAMERA, "town") == 3
    answer = Future()
    again.finish(answer)
    until(answer.done)
    assert answer.result()[0] and len(PlaceMap(tmp_path / "map")) == 3
    again.close()


def test_a_map_whose_header_nobody_could_read_is_refused_before_its_first_image(model, tmp_path):
    build = live_map(model, tmp_path / "map")
    assert not build.begin(CAMERA, "t" * 5000)
    assert "'map_frame' expects a text of up to 4096 characters" in build.close()
    assert not (tmp_path / "map.part").exists()


@pytest.mark.slow
def test_wild_poses_and_wrong_clocks_cost_no_other_image(model, tmp_path):
    parameters = builder_parameters(model.directory, tmp_path / "map", **AT_ONCE)
    with (
        node_process("map_builder.node", tmp_path / "log", parameters) as process,
        Survey() as client,
    ):
        before = client.now()
        for second in range(14):
            ahead = 3600 if second == 4 else 0
            client.deliver("image", image_message(texture(second), second + ahead))
            client.pose(second)
            if second == 2:
                client.pose(second, ahead=3600)
            if second == 6:
                client.pose(second, x=1e308)
            if second == 8:
                client.pose(second, x=1e6)
        client.problem("s after the newest pose: check both clocks", before)
        client.diagnosis(lambda s: values(s).get("images in map") == "13", "13 images")
        assert client.facts()["poses refused"] == "3"
        answer = client.trigger("finish")
        assert answer.success and "13 images; left out (images without pose: 1" in answer.message
        assert process.returncode is None
    place_map = PlaceMap(tmp_path / "map")
    assert np.abs(place_map.poses[:, :3]).max() < 50


@pytest.mark.slow
def test_compressed_images_without_camera_info_become_a_map_of_their_size(model, tmp_path):
    """An image that cannot be decoded tells no size, whatever its header says."""
    changes = {**AT_ONCE, "image_transport": "compressed"}
    parameters = builder_parameters(model.directory, tmp_path / "map", **changes)
    damaged = [b"", b"no image", bytes(compressed_message(texture(0), 0).data[:60])]
    with (
        node_process("map_builder.node", tmp_path / "log", parameters) as process,
        Survey() as client,
    ):
        for second in range(6):
            client.pose(second)
            message = compressed_message(texture(second), second)
            if second < len(damaged):
                message = CompressedImage(header=message.header, data=damaged[second])
            client.deliver("image/compressed", message)
        answer = client.trigger("finish")
        assert answer.success, answer.message
        assert process.returncode is None
    place_map = PlaceMap(tmp_path / "map")
    camera = place_map.header.cameras["front"]
    assert len(place_map) == 3
    assert (camera.height, camera.width) == texture(0).shape[:2]
    assert np.isfinite(place_map.poses).all()
