# SPDX-License-Identifier: Apache-2.0
"""The localizer node in its own process, talked to over DDS."""

import math
import shutil

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, NavSatFix
from std_msgs.msg import String
from std_srvs.srv import Trigger
from support.ros import (
    BASE_FROM_CAMERA,
    START_S,
    Client,
    NodeProcess,
    base_pose,
    compressed_message,
    image_message,
    node_process,
    save_tiny_map,
    save_tiny_model,
    texture,
    values,
)
from visualization_msgs.msg import MarkerArray

from disam_ros.geometry import Transform, distance
from disam_ros.nodes.conversions import pose_to_transform

NODE = "/localizer"
FRESH = {"relocalize_timeout": 2.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with models, maps and logs."""
    folder = tmp_path_factory.mktemp("world")
    model = save_tiny_model(folder / "model")
    save_tiny_map(folder / "map", model)
    save_tiny_map(folder / "map_two", model, cameras=("left", "right"))
    save_tiny_map(folder / "map_other", save_tiny_model(folder / "model_other", seed=5))
    return folder


def options(world, **changes):
    return {"map": str(world / "map"), "model": str(world / "model"), **FRESH, **changes}


@pytest.fixture
def client():
    client = Client()
    yield client
    client.close()


class Robot:
    """A client of one running localizer node."""

    def __init__(self, process: NodeProcess) -> None:
        self.process = process
        self.client = Client()
        self.poses = self.client.collect(PoseStamped, f"{NODE}/pose")
        self.covariances = self.client.collect(
            PoseWithCovarianceStamped, f"{NODE}/pose_with_covariance"
        )
        self.candidates = self.client.collect(PoseArray, f"{NODE}/candidates")
        self.answers = self.client.collect(DiagnosticArray, f"{NODE}/answer")
        self.second = 0

    def send(self, message):
        """Publish an image, one second later than the last."""
        self.second += 1
        message.header.stamp.sec = START_S + self.second
        self.client.publish("image", message)
        return message

    def localize(self, index: int) -> PoseStamped:
        """Send map image `index` and return the pose that comes back."""
        self.second += 1
        message = image_message(texture(index), self.second)
        found = self.client.ask("image", message, self.answer(self.poses, message), "a pose")
        self.poses.clear()
        return found

    def answer(self, messages: list, sent):
        """A function that finds the message with the stamp of another."""
        return lambda: next((m for m in messages if m.header.stamp == sent.header.stamp), None)

    def wait_for(self, messages: list, sent):
        """The message with the stamp of another; all that were collected are forgotten."""
        found = self.client.until(self.answer(messages, sent), f"an answer to {sent.header.stamp}")
        messages.clear()
        return found


@pytest.fixture(scope="module")
def robot(world):
    with node_process("localizer.node", world / "robot.log", options(world)) as process:
        robot = Robot(process)
        robot.client.diagnosis(lambda s: values(s)["state"] == "active", "active", 60.0)
        yield robot
        robot.client.close()


def same_place(pose, index: int) -> bool:
    metres, degrees = distance(pose_to_transform(pose), base_pose(index))
    return metres < 1e-6 and degrees < 1e-4


# One running node, one camera.


@pytest.mark.parametrize("index", [0, 3, 5])
def test_the_pose_is_that_of_the_map_image_with_stamp_of_the_image_and_frame_of_the_map(
    robot, index
):
    pose = robot.localize(index)
    assert same_place(pose.pose, index)
    assert pose.header.frame_id == "town"
    assert pose.header.stamp.sec == START_S + robot.second


def test_pose_with_covariance_and_candidates_belong_to_the_same_image(robot):
    pose = robot.localize(2)
    found = robot.wait_for(robot.covariances, pose)
    assert found.header.frame_id == "town"
    assert found.pose.pose == pose.pose
    covariance = np.array(found.pose.covariance).reshape(6, 6)
    assert (covariance >= 0).all()
    assert np.linalg.eigvalsh(covariance)[0] > 0
    candidates = robot.wait_for(robot.candidates, pose)
    assert candidates.header == pose.header
    assert candidates.poses[0] == pose.pose
    assert len(candidates.poses) == 3


def told(answer: DiagnosticArray) -> tuple[DiagnosticStatus, dict[str, str]]:
    """The only status of an answer and its key-values."""
    (status,) = answer.status
    return status, values(status)


def test_an_answer_says_with_the_stamp_of_the_image_what_was_found_and_how_long_it_took(robot):
    pose = robot.localize(3)
    answer = robot.wait_for(robot.answers, pose)
    assert answer.header == pose.header
    status, said = told(answer)
    assert (status.name, status.hardware_id) == ("localizer: answer", "front")
    assert (status.level, said["outcome"]) == (DiagnosticStatus.OK, "known")
    assert status.message == "known: map image 3, score 1.000"
    assert (said["domain"], said["map image"]) == ("day", "3")
    assert "day" in said["domain reason"]
    assert said["candidates"].split(",")[0] == "3" and len(said["candidates"].split(",")) == 3
    assert float(said["score"]) == pytest.approx(1.0, abs=1e-3)
    assert -1 <= float(said["coarse score"]) <= 1
    total, published = float(said["total (ms)"]), float(said["callback to published (ms)"])
    assert 0 < float(said["encode (ms)"]) < total < published


def test_markers_and_activation_map_come_when_somebody_listens(robot):
    markers = robot.client.collect(MarkerArray, f"{NODE}/markers")
    heat = robot.client.collect(Image, f"{NODE}/activation_map")
    robot.client.spin(0.5)
    robot.localize(1)
    robot.client.until(lambda: markers and heat, "markers and heat")
    assert heat[-1].header.stamp.sec == START_S + robot.second
    assert (heat[-1].encoding, heat[-1].width, heat[-1].height) == ("rgb8", 64, 48)
    assert markers[-1].markers[1].header.frame_id == "town"


def truncated_jpeg_like():
    message = image_message(texture(0))
    message.data = message.data[:100]
    return message


def unknown_encoding():
    message = image_message(texture(0))
    message.encoding = "h264"
    return message


def wrong_step():
    message = image_message(texture(0))
    message.step = 7
    return message


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (truncated_jpeg_like, "height * step bytes"),
        (unknown_encoding, "'h264' is unknown"),
        (wrong_step, "step 7"),
        (Image, "is unknown"),
        (lambda: Image(encoding="rgb8"), "with pixels, got 0x0"),
    ],
)
def test_a_broken_image_is_told_and_the_next_good_one_is_answered(robot, broken, words):
    sent = robot.send(broken())
    assert robot.client.told(words).level == DiagnosticStatus.WARN
    status, said = told(robot.wait_for(robot.answers, sent))
    assert (status.level, said["outcome"]) == (DiagnosticStatus.ERROR, "unreadable")
    assert words in status.message and words in said["reason"]
    assert same_place(robot.localize(4).pose, 4)


def test_stamp_zero_is_localized_with_its_stamp_kept_and_told(robot):
    message = image_message(texture(2))
    message.header.stamp.sec = 0
    robot.client.publish("image", message)
    assert same_place(robot.wait_for(robot.poses, message).pose, 2)
    assert robot.client.told("carry no stamp").level == DiagnosticStatus.WARN


def test_a_stamp_that_goes_backwards_is_localized_and_told(robot):
    robot.localize(1)
    robot.second -= 10
    assert same_place(robot.localize(2).pose, 2)
    robot.client.told("go backwards")
    robot.second += 20


def test_an_unknown_weather_word_is_told_until_a_known_one_comes(robot):
    robot.client.publish("weather", String(data="snow"))
    for _ in range(2):
        robot.client.publish("weather", String(data="raspberry"))
    status = robot.client.told("'raspberry'")
    assert status.level == DiagnosticStatus.WARN
    robot.localize(1)
    robot.client.diagnosis(lambda s: "snow" in values(s)["domain reason"], "previous weather")
    robot.client.publish("weather", String(data="light rain"))
    robot.client.diagnosis(lambda s: "raspberry" not in s.message, "weather understood")
    assert robot.process.log.count("raspberry") == 2  # one line, which names it twice


def test_the_domain_can_be_set_and_released_by_topic(robot):
    robot.client.publish("domain", String(data="night"))
    robot.client.spin(0.2)
    robot.localize(1)
    robot.client.diagnosis(lambda s: values(s)["domain"] == "night", "domain night")
    robot.client.publish("domain", String(data="noon"))
    robot.client.told("'noon' ignored: known are day, night")
    robot.client.publish("domain", String(data=""))
    robot.client.spin(0.2)
    robot.localize(1)
    robot.client.diagnosis(lambda s: values(s)["domain"] == "day", "domain day")


def test_the_fix_tells_where_the_sun_stands(robot):
    fix = NavSatFix(latitude=48.0, longitude=11.0)
    fix.status.status = 0
    robot.client.publish("fix", fix)
    robot.client.spin(0.2)
    robot.localize(1)
    robot.client.diagnosis(lambda s: "sun −" in values(s)["domain reason"], "sun below horizon")
    robot.client.diagnosis(lambda s: values(s)["domain"] == "night", "domain night")


def test_odometry_that_is_not_finite_is_told_and_ignored(robot):
    odometry = Odometry()
    odometry.pose.pose.position.x = math.nan
    robot.client.publish("odom", odometry)
    robot.client.told("odometry ignored")
    assert same_place(robot.localize(3).pose, 3)


def test_a_camera_with_another_field_of_view_is_told(robot):
    info = CameraInfo(width=64, height=48)
    info.k = [20.0, 0.0, 32.0, 0.0, 20.0, 24.0, 0.0, 0.0, 1.0]
    robot.client.publish("camera_info", info)
    robot.client.told("sees 116° across, the map's saw 65°")
    info.k[0] = 50.0
    robot.client.publish("camera_info", info)
    robot.client.diagnosis(lambda s: "across" not in s.message, "field of view as in the map")


def test_below_the_threshold_no_pose_comes_but_diagnostics_tell(robot):
    robot.localize(0)
    setting = "localizer.score_threshold"
    assert robot.client.set_parameter(NODE, setting, 0.99).successful
    try:
        sent = robot.send(image_message(texture(77)))
        robot.client.told("unknown place, score")
        robot.wait_for(robot.candidates, sent)
        assert not robot.poses
        status, said = told(robot.wait_for(robot.answers, sent))
        assert (status.level, said["outcome"]) == (DiagnosticStatus.WARN, "unknown")
        assert float(said["score"]) < 0.99 and said["map image"] == said["candidates"][0]
        assert same_place(robot.localize(3).pose, 3)  # an image of the map is known all the same
        robot.client.diagnosis(lambda s: "unknown place" not in s.message, "known again")
    finally:
        robot.client.set_parameter(NODE, setting, -1.0)


def test_parameters_are_checked_when_they_change(robot):
    def reason(name, value):
        result = robot.client.set_parameter(NODE, name, value)
        return "" if result.successful else result.reason

    assert "out of range" in reason("localizer.score_threshold", 3.0)
    assert "deactivate and clean it up first" in reason("localizer.device", "cpu")
    assert "not a known weather word" in reason("localizer.domain.weather", "raspberry")
    assert "available: day, night" in reason("localizer.domain.override", "noon")
    assert not reason("localizer.domain.weather", "fog")
    assert not reason("localizer.domain.weather", "")


def test_relocalize_answers_only_after_a_fresh_image(robot):
    robot.localize(1)
    answer = robot.client.request(Trigger, f"{NODE}/relocalize", Trigger.Request())
    robot.client.spin(0.5)
    assert not answer.done()
    robot.send(image_message(texture(2)))
    robot.client.until(answer.done, "an answer")
    assert answer.result().success
    assert "map image 2" in answer.result().message


def test_relocalize_times_out_with_the_reason_and_blocks_nothing(robot):
    answer = robot.client.request(Trigger, f"{NODE}/relocalize", Trigger.Request())
    robot.client.spin(0.3)
    assert robot.client.set_parameter(NODE, "localizer.domain.weather", "").successful
    robot.client.until(answer.done, "an answer")
    assert not answer.result().success
    assert "timeout after 2 s: no image arrived" in answer.result().message
    answer = robot.client.request(Trigger, f"{NODE}/relocalize", Trigger.Request())
    robot.client.spin(0.3)
    robot.send(wrong_step())
    robot.client.until(answer.done, "an answer")
    assert "step 7" in answer.result().message


def test_missing_images_are_told(robot):
    robot.client.told("no image of camera 'front' for more than 2 s")
    robot.localize(1)
    robot.client.diagnosis(lambda s: "no image" not in s.message, "images again")


def test_diagnostics_name_rates_latencies_device_map_and_model(robot):
    robot.localize(1)
    last = values(robot.client.diagnosis(lambda s: True, "anything"))
    assert float(last["images in (Hz)"]) > 0
    assert float(last["callback to published p99 (ms)"]) > 0
    assert float(last["localize encode p50 (ms)"]) > 0
    assert last["device"].startswith(("cpu", "cuda"))
    assert last["map"].endswith("map, 6 images")
    assert last["model"].startswith("model ")
    assert int(last["places known"]) > 0
    assert int(last["images undecodable"]) > 0
    assert (last["image publishers"], last["answer subscribers"]) == ("1", "1")
    assert 50 < float(last["memory peak (MiB)"]) < 2000


def test_deactivate_stops_publishing_and_activate_resumes(robot):
    robot.localize(1)
    waiting = robot.client.request(Trigger, f"{NODE}/relocalize", Trigger.Request())
    robot.client.spin(0.2)
    assert robot.client.transition(NODE, "deactivate")
    robot.client.until(waiting.done, "an answer")
    assert "deactivated" in waiting.result().message
    assert "not active" in robot.client.trigger(f"{NODE}/relocalize").message
    robot.poses.clear()
    robot.send(image_message(texture(1)))
    robot.client.spin(0.7)
    assert not robot.poses
    assert robot.client.transition(NODE, "activate")
    assert same_place(robot.localize(2).pose, 2)


def test_cleanup_and_configure_begin_anew(robot):
    assert robot.client.transition(NODE, "deactivate")
    assert robot.client.transition(NODE, "cleanup")
    robot.client.diagnosis(lambda s: values(s)["state"] == "unconfigured", "unconfigured")
    assert robot.client.transition(NODE, "configure")
    assert robot.client.transition(NODE, "activate")
    robot.client.spin(0.5)
    assert same_place(robot.localize(5).pose, 5)


def test_a_transition_that_does_not_fit_is_refused_without_harm(robot):
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not robot.client.call(ChangeState, f"{NODE}/change_state", request).success
    assert same_place(robot.localize(1).pose, 1)


@pytest.mark.slow
def test_memory_is_steady(robot):
    def send(count: int) -> None:
        publisher = robot.client.publisher(Image, "image")
        message = image_message(texture(1))
        for _ in range(count):
            robot.second += 1
            message.header.stamp.sec = START_S + robot.second
            publisher.publish(message)
            robot.client.spin(0.003)

    send(500)
    before = robot.process.memory()
    send(2000)
    growth = robot.process.memory() - before
    assert growth < 4e6, f"{growth / 1e6:.1f} MB more after 2000 images"
    robot.client.spin(0.5)
    assert same_place(robot.localize(1).pose, 1)


def test_it_ends_with_exit_code_zero_on_sigint(robot):  # the last on the shared node
    assert robot.process.stop() == 0
    assert "Traceback" not in robot.process.log


# Nodes of their own.


def test_compressed_images_with_own_extrinsics(world, client):
    pose_of_camera = [1.0, 0.0, 2.0, -math.pi / 2, 0.0, -math.pi / 2]
    parameters = options(world, image_transport="compressed", base_from_camera=pose_of_camera)
    with node_process("localizer.node", world / "compressed.log", parameters):
        poses = client.collect(PoseStamped, f"{NODE}/pose")
        client.ask("image/compressed", compressed_message(texture(3)), lambda: poses, "a pose")
        base_from_camera = Transform.from_xyz_rpy(pose_of_camera)
        expected = base_pose(3) @ BASE_FROM_CAMERA @ base_from_camera.inverse()
        metres, degrees = distance(pose_to_transform(poses[0].pose), expected)
        assert metres < 1e-6
        assert degrees < 1e-4
        broken = compressed_message(texture(3), 1, ".jpg")
        broken.data = broken.data[:200]
        client.publish("image/compressed", broken)
        client.told("truncated JPEG")


def test_each_of_two_cameras_is_searched_in_its_own_map_images(world, client):
    parameters = options(world, map=str(world / "map_two"), cameras=["left", "right"])
    with node_process("localizer.node", world / "two.log", parameters) as process:
        poses = client.collect(PoseStamped, f"{NODE}/pose")
        for second, (name, seed, index) in enumerate([("left", 2, 2), ("right", 104, 4)]):
            poses.clear()
            message = image_message(texture(seed), second)
            client.ask(f"{name}/image", message, lambda: poses, "a pose")
            assert same_place(poses[0].pose, index)
        assert process.stop(signum=15) == 0


def test_without_activation_maps_images_are_answered_all_the_same_and_that_is_told(world, client):
    save_tiny_map(world / "map_whole", save_tiny_model(world / "model_whole"), cells=1)
    parameters = options(world, map=str(world / "map_whole"), model=str(world / "model_whole"))
    with node_process("localizer.node", world / "whole.log", parameters) as process:
        heat = client.collect(Image, f"{NODE}/activation_map")
        poses = client.collect(PoseStamped, f"{NODE}/pose")
        for second in range(2):
            poses.clear()
            client.ask("image", image_message(texture(1), second), lambda: poses, "a pose")
        status = client.diagnosis(lambda s: "activation map" in values(s), "no activation map")
        assert values(status)["activation map"] == "none: images are described as a whole"
        assert (status.level, values(status)["inference errors"]) == (DiagnosticStatus.OK, "0")
        assert not heat and process.log.count("described as a whole") == 1


def test_without_autostart_a_manager_leads_through_the_states(world, client):
    with node_process("localizer.node", world / "manual.log", options(world, autostart=False)):
        client.diagnosis(lambda s: values(s)["state"] == "unconfigured", "unconfigured", 60.0)
        assert client.transition(NODE, "configure")
        assert client.transition(NODE, "activate")
        assert client.transition(NODE, "deactivate")
        assert client.transition(NODE, "cleanup")
        assert client.transition(NODE, "shutdown")


def test_a_wrong_map_or_model_fails_to_configure_and_can_be_mended(world, client, tmp_path):
    late = tmp_path / "late"
    parameters = options(world, map=str(late))
    with node_process("localizer.node", world / "wrong.log", parameters) as process:
        status = client.told("late is not a map", 60.0)
        assert status.level == DiagnosticStatus.ERROR
        assert values(status)["state"] == "unconfigured"
        part = late.with_name("late.part")
        part.mkdir()
        assert not client.transition(NODE, "configure")
        client.told("holds a half-built map")
        part.rmdir()
        assert client.set_parameter(NODE, "map", str(world / "map_other")).successful
        assert not client.transition(NODE, "configure")
        client.told("was built with model 'model_other'")
        assert client.set_parameter(NODE, "map", str(late)).successful
        shutil.copytree(world / "map", late)
        (late / "fine.npy").write_bytes((late / "fine.npy").read_bytes()[:-8])
        assert not client.transition(NODE, "configure")
        client.told("is damaged")
        shutil.copy(world / "map" / "fine.npy", late / "fine.npy")
        assert client.transition(NODE, "configure")
        assert client.transition(NODE, "activate")
        client.diagnosis(lambda s: values(s)["state"] == "active", "active")
        assert process.alive


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonsense", "unknown setting 'nonsense'"),
        ("localizer.candidate", "did you mean 'candidates'?"),
    ],
)
def test_an_unknown_parameter_ends_the_node_with_a_clear_message(world, name, words):
    process = NodeProcess("localizer.node", world / "nonsense.log", options(world, **{name: 1}))
    assert process.wait() == 1
    assert words in process.log
    assert "Traceback" not in process.log


def test_images_of_a_best_effort_publisher_are_taken_by_default(world, client):
    with node_process("localizer.node", world / "auto.log", options(world)) as process:
        poses = client.collect(PoseStamped, f"{NODE}/pose")
        client.publisher(Image, "image", reliable=False)
        client.ask("image", image_message(texture(2)), lambda: poses, "a pose")
        assert same_place(poses[0].pose, 2)
        assert "/image is offered as best effort" in process.log


@pytest.mark.parametrize("name", ["reliability", "qos_overrides./image.subscription.reliability"])
def test_a_reliability_that_does_not_fit_is_told_with_the_remedy(world, client, name):
    publisher = client.node.create_publisher(Image, "image", qos_profile_sensor_data)
    parameters = options(world, **{name: "reliable"})
    with node_process("localizer.node", world / "qos.log", parameters) as process:
        client.told("set the parameter reliability to best_effort", 60.0)
        client.until(lambda: "RELIABILITY does not fit" in process.log, "a line in the log")
    client.node.destroy_publisher(publisher)
