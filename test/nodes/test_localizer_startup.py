# SPDX-License-Identifier: Apache-2.0
"""Localizer nodes with other cameras, parameters and maps: how they start and how they end."""

import math
import shutil
import signal
from dataclasses import replace

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import Parameter, ParameterType
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, NavSatFix, NavSatStatus
from std_msgs.msg import String
from support.data import save_tiny_model, texture
from support.localize import localize
from support.maps import BASE_FROM_CAMERA, CAMERA, START_S, base_pose, beside, save_tiny_map
from support.messages import compressed_message, image_message, values
from support.node_process import RELIABLE, SINGLE, NodeProcess, node_process
from support.robot import NODE
from support.ros import Client

from disam_ros.config import LocalizerConfig
from disam_ros.geometry import Transform, distance
from disam_ros.localization.areas import AGREEING
from disam_ros.localization.localizer import Localizer
from disam_ros.models.model import load_model
from disam_ros.nodes.conversions import pose_to_transform

SHIFT = Transform.from_xyz_rpy([0.0, 500.0, 0.0, 0.0, 0.0, 0.0])


@pytest.fixture
def model(places):
    """The model of the localizer."""
    return load_model(places["model"])


@pytest.fixture
def client():
    with Client(NODE) as client:
        yield client


@pytest.fixture
def start(places, tmp_path):
    """Starts a localizer of these parameters, active or not."""

    def start(*arguments, **parameters):
        settings = {**places, **SINGLE, **parameters}
        return node_process("localizer.node", tmp_path / "log", settings, *arguments)

    return start


def same_place(pose, index: int) -> bool:
    return beside(pose_to_transform(pose), base_pose(index))


def test_compressed_images_with_own_extrinsics_and_a_clean_end_on_sigint(places, start_localizer):
    pose_of_camera = [1.0, 0.0, 2.0, -math.pi / 2, 0.0, -math.pi / 2]
    parameters = {"image_transport": "compressed", "base_from_camera": pose_of_camera, **SINGLE}
    topic = "image/compressed"
    with start_localizer(parameters, fresh=True) as robot:
        sent = robot.send(compressed_message(texture(3)), topic)
        pose = robot.of_image(robot.poses, sent)
        result, mount = pose_to_transform(pose.pose), Transform.from_xyz_rpy(pose_of_camera)
        assert beside(result, base_pose(3) @ BASE_FROM_CAMERA @ mount.inverse())
        localizer = Localizer.open(places["map"], places["model"], LocalizerConfig())
        lens = replace(CAMERA, base_from_camera=mount)
        answer = localize(localizer, texture(3), (START_S + robot.second) * 10**9, lens=lens)
        metres, degrees = distance(result, answer.map_from_base)
        assert metres < 1e-3 and degrees < 0.05
        before, broken = robot.client.now(), compressed_message(texture(3), form=".jpg")
        broken.data = broken.data[:200]
        robot.send(broken, topic)
        robot.client.problem("truncated JPEG", before)
        assert robot.process.stop(signal.SIGINT) == 0


def test_the_only_camera_of_a_map_needs_no_name(model, client, start, tmp_path):
    save_tiny_map(tmp_path / "map", model, cameras=("cam0",))
    save_tiny_map(tmp_path / "other", model, cameras=("cam1",))
    poses = client.collect(PoseStamped, f"{NODE}/pose")
    with start(map=tmp_path / "map"):
        client.repeat("image", image_message(texture(2)), lambda: poses, "a pose")
        assert client.set_parameter("map", str(tmp_path / "other")).successful
        assert (
            "the map has camera cam1, this node listens to cam0" in client.trigger("reload").message
        )


def test_of_several_cameras_those_of_the_vehicle_are_asked_for(model, client, start, tmp_path):
    shifted = Transform.from_xyz_rpy([0.0, -0.5, 0.0, 0.0, 0.0, 0.0]) @ BASE_FROM_CAMERA
    stereo = {"left": CAMERA, "right": replace(CAMERA, base_from_camera=shifted)}
    save_tiny_map(tmp_path / "map", model, cameras=stereo)
    before = client.now()
    with start(map=tmp_path / "map"):
        client.problem("set 'cameras' to those of this vehicle, of left, right", before)
        assert client.set_parameter("cameras", ["right"]).successful
        assert client.transition("configure")


def test_without_activation_maps_images_are_answered_and_that_is_reported(
    model, start_localizer, tmp_path
):
    save_tiny_map(tmp_path / "map", model, cells=1)
    heat, parameters = f"{NODE}/activation_map", {"map": str(tmp_path / "map"), **SINGLE}
    with start_localizer(parameters, topics={heat: Image}) as robot:
        for _ in range(2):
            robot.localize(1)
        status = robot.client.diagnosis(lambda s: "activation map" in values(s), "none")
        said = values(status)
        assert said["activation map"] == "none: the model has one global descriptor per image"
        assert (status.level, said["inference errors"]) == (DiagnosticStatus.OK, "0")
        assert not robot.heard[heat]
        assert robot.process.log.count("one global descriptor") == 1


def test_what_a_node_dumped_is_taken_again_and_nothing_else_while_it_runs(client, start):
    with start():
        client.diagnosis(lambda s: values(s)["state"] == "active", "active")
        service = f"{NODE}/list_parameters"
        names = client.call(ListParameters, service, ListParameters.Request()).result.names
        get = GetParameters.Request(names=names)
        dumped = client.call(GetParameters, f"{NODE}/get_parameters", get).values
        unset = [v for v in dumped if math.isnan(v.double_value)]
        assert unset
        for value in unset:  # as 'ros2 param load' reads the text .nan
            value.type, value.string_value = ParameterType.PARAMETER_STRING, "nan"
        load = SetParameters.Request(
            parameters=[Parameter(name=n, value=v) for n, v in zip(names, dumped, strict=True)]
        )
        results = client.call(SetParameters, f"{NODE}/set_parameters", load).results
        refused = {n: r.reason for n, r in zip(names, results, strict=True) if not r.successful}
        assert not {n: r for n, r in refused.items() if "read-only" not in r}  # those of rclpy
        assert not client.set_parameter("base_frame", "elsewhere").successful


def test_without_autostart_a_manager_leads_a_node_of_any_namespace_through_the_states(start):
    with (
        start("-r", "__ns:=/truck", autostart=False) as process,
        Client("/truck/localizer") as client,
    ):
        status = client.diagnosis(lambda s: values(s)["state"] == "unconfigured", "unconfigured")
        assert status.name == "truck/localizer: relocalization"
        words = "for a lifecycle manager; by hand 'ros2 lifecycle set /truck/localizer configure'"
        assert words in process.log
        for label in ("configure", "activate", "deactivate", "cleanup", "shutdown"):
            assert client.transition(label), label


def test_a_wrong_map_or_model_fails_to_configure_and_can_be_mended(places, client, start, tmp_path):
    late, before = tmp_path / "late", client.now()
    save_tiny_map(tmp_path / "other", save_tiny_model(tmp_path / "model_other", seed=5))
    with start(map=late) as process:
        status = client.problem("late is not a map", before)
        remedy = "'ros2 lifecycle set /localizer configure'"
        client.until(lambda: remedy in process.log, "the remedy")
        assert status.level == DiagnosticStatus.ERROR
        assert values(status)["state"] == "unconfigured"
        part = late.with_name("late.part")
        part.mkdir()
        assert not client.transition("configure")
        client.problem("holds a half-built map", before)
        part.rmdir()
        assert client.set_parameter("map", str(tmp_path / "other")).successful
        assert not client.transition("configure")
        client.problem("was built with model 'model_other'", before)
        assert client.set_parameter("map", str(late)).successful
        shutil.copytree(places["map"], late)
        (late / "fine.npy").write_bytes((late / "fine.npy").read_bytes()[:-8])
        assert not client.transition("configure")
        client.problem("is damaged", before)
        shutil.copytree(places["map"], late, dirs_exist_ok=True)
        assert client.transition("configure")
        assert client.transition("activate")
        client.diagnosis(lambda s: values(s)["state"] == "active", "active")


def test_an_unknown_parameter_ends_the_node_with_a_clear_message(places, tmp_path):
    process = NodeProcess("localizer.node", tmp_path / "log", {**places, "candidates": 1})
    assert process.wait() == 1
    assert "did you mean 'localizer.candidates'?" in process.log
    assert "Traceback" not in process.log


def test_images_of_a_best_effort_publisher_are_taken_by_default(client, start):
    poses = client.collect(PoseStamped, f"{NODE}/pose")
    with start() as process:
        client.publisher(Image, "image", reliable=False)
        client.repeat("image", image_message(texture(2)), lambda: poses, "a pose")
        assert same_place(poses[0].pose, 2)
        assert "/image is offered as best effort" in process.log


def test_a_reliability_that_does_not_fit_is_reported_with_the_remedy(client, start):
    before, name = client.now(), "qos_overrides./image.subscription.reliability"
    client.node.create_publisher(Image, "image", qos_profile_sensor_data)
    with start(**{name: "reliable"}) as process:
        client.problem(f"set {name} to what the publisher offers", before)
        assert "RELIABILITY does not fit" in process.log


def test_a_node_that_waits_says_for_what_and_how_to_get_it(client, start):
    with start(image_transport="compressed", stale_after=0.3) as process:
        client.problem("no images are published at all: start the camera", 0)
        assert "waiting for images on /image/compressed (sensor_msgs/msg/Comp" in process.log
        raw = client.node.create_publisher(Image, "/image", 1)
        client.problem("but /image is: set image_transport to raw", 0)
        client.node.destroy_publisher(raw)
        other = client.node.create_publisher(CompressedImage, "/cam/image/compressed", 1)
        client.problem("remap image/compressed, images are on /cam/image/compressed", 0)
        text = client.node.create_publisher(String, "/image/compressed", 1)
        client.problem("is published as std_msgs/msg/String: remap image/compressed", 0)
        client.node.destroy_publisher(text)
        silent = client.node.create_publisher(CompressedImage, "/image/compressed", 1)
        client.problem("the publisher of /image/compressed sends nothing: check the camera", 0)
        assert process.log.count("sends nothing: check the camera") == 1
        assert process.log.count("are published at all") == 1
        assert process.log.count("set image_transport to raw") == 1
        client.node.destroy_publisher(other)
        client.node.destroy_publisher(silent)


def test_fixes_on_another_map_take_it_and_fixes_nowhere_take_none(model, start_localizer, tmp_path):
    near, far = tmp_path / "near", tmp_path / "far"
    save_tiny_map(near, model, place=(48.0, 9.0))
    options_far = {"place": (48.1, 9.0), "frame": "village"}
    save_tiny_map(far, model, pose=lambda i: SHIFT @ base_pose(i), **options_far)
    changes = {"areas": [str(near), str(far)], "localizer.domain.override": "day"}
    parameters = {"map": str(near), **changes, **SINGLE, **RELIABLE}

    def fix(latitude):
        status = NavSatStatus(status=NavSatStatus.STATUS_FIX)
        return NavSatFix(status=status, latitude=latitude, longitude=9.0)

    with start_localizer(parameters) as robot:
        assert same_place(robot.localize(3).pose, 3)
        for _ in range(AGREEING + 1):
            robot.deliver("fix", fix(60.0))
        assert "fixes lie on the map" not in robot.process.log
        assert same_place(robot.localize(3).pose, 3)
        village = 48.1 + 500.0 / 111_200.0  # its images lie 500 m north of its origin
        for _ in range(AGREEING):
            robot.deliver("fix", fix(village))
        robot.client.diagnosis(lambda s: values(s).get("map frame") == "village", "the other map")
        assert beside(pose_to_transform(robot.localize(4).pose), SHIFT @ base_pose(4))
        assert robot.process.log.count("fixes lie on the map") == 1
