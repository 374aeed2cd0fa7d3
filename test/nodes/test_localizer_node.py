# SPDX-License-Identifier: Apache-2.0
"""The localizer node with one camera, in its own process, talked to over DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, Image, NavSatFix
from std_msgs.msg import String
from support.data import texture
from support.localize import localize
from support.maps import START_S, base_pose, beside
from support.messages import image_message, values
from support.node_process import RELIABLE, SINGLE
from support.robot import NODE
from visualization_msgs.msg import MarkerArray

from disam_ros.config import LocalizerConfig
from disam_ros.geometry import distance
from disam_ros.localization.localizer import Localizer
from disam_ros.nodes.conversions import pose_to_transform

COVARIANCE, CANDIDATES = f"{NODE}/pose_with_covariance", f"{NODE}/candidates"
TOPICS = {COVARIANCE: PoseWithCovarianceStamped, CANDIDATES: PoseArray}
PARAMETERS = {"stale_after": 60.0, **RELIABLE, **SINGLE}  # ~/relocalize has 2.5 times that


@pytest.fixture(scope="module")
def node(start_localizer):
    with start_localizer(PARAMETERS, topics=TOPICS) as robot:
        yield robot


@pytest.fixture
def robot(node):
    """The robot; parameters that a test changes are set back."""
    yield node
    for name in ("stale_after", "localizer.min_probability"):
        node.set(name, PARAMETERS[name])


def same_place(pose, index: int) -> bool:
    return beside(pose_to_transform(pose), base_pose(index))


def read(answer: DiagnosticArray) -> tuple[DiagnosticStatus, dict[str, str]]:
    """The only status of an answer and its key-values."""
    (status,) = answer.status
    return status, values(status)


def test_the_pose_is_the_localizers_beside_the_map_image_with_the_images_stamp_in_the_maps_frame(
    robot, places
):
    pose = robot.localize(5)
    assert same_place(pose.pose, 5)
    localizer = Localizer.open(places["map"], places["model"], LocalizerConfig())
    answer = localize(localizer, texture(5), (START_S + robot.second) * 10**9)
    metres, degrees = distance(pose_to_transform(pose.pose), answer.map_from_base)
    assert metres < 1e-3 and degrees < 0.05
    assert pose.header.frame_id == "town"
    assert pose.header.stamp.sec == START_S + robot.second


def test_pose_with_covariance_and_candidates_belong_to_the_same_image(robot):
    pose = robot.localize(2)
    result = robot.of_image(robot.heard[COVARIANCE], pose)
    assert result.header.frame_id == "town"
    assert result.pose.pose == pose.pose
    covariance = np.array(result.pose.covariance).reshape(6, 6)
    assert (covariance >= 0).all()
    assert np.linalg.eigvalsh(covariance)[0] > 0
    candidates = robot.of_image(robot.heard[CANDIDATES], pose)
    assert candidates.header == pose.header
    assert same_place(pose.pose, 2)
    metres, degrees = distance(pose_to_transform(candidates.poses[0]), base_pose(2))
    assert metres < 1e-3 and degrees < 0.05  # the map image's own
    assert len(candidates.poses) == 6


def test_an_answer_says_with_the_stamp_of_the_image_what_was_found_and_how_long_it_took(robot):
    pose = robot.localize(3)
    answer = robot.of_image(robot.answers, pose)
    assert answer.header == pose.header
    status, said = read(answer)
    assert (status.name, status.hardware_id) == ("localizer: answer", "front")
    assert (status.level, said["outcome"]) == (DiagnosticStatus.OK, "known")
    assert status.message == f"known: map image 3, probability {float(said['probability']):.3f}"
    assert -1 <= float(said["coarse score"]) <= 1
    total, published = float(said["total (ms)"]), float(said["callback to published (ms)"])
    assert 0 < float(said["encode (ms)"]) < total < published


def test_markers_and_activation_map_come_when_somebody_listens(robot):
    markers = robot.client.collect(MarkerArray, f"{NODE}/markers")
    heat = robot.client.collect(Image, f"{NODE}/activation_map")
    robot.client.until(
        lambda: markers and heat, "markers and heat", again=lambda: robot.localize(1)
    )
    assert START_S < heat[-1].header.stamp.sec <= START_S + robot.second
    assert (heat[-1].encoding, heat[-1].width, heat[-1].height) == ("rgb8", 64, 48)
    assert markers[-1].markers[1].header.frame_id == "town"


def wrong_step():
    message = image_message(texture(0))
    message.step = 7
    return message


def test_an_unknown_weather_word_is_reported_until_a_known_one_comes(robot):
    before = robot.client.now()
    for word in ("snow", "raspberry", "raspberry"):
        robot.deliver("weather", String(data=word))
    assert robot.client.problem("'raspberry'", before).level == DiagnosticStatus.WARN
    assert "snow" in robot.answer(texture(1))["domain reason"]
    robot.deliver("weather", String(data="light rain"))
    robot.client.diagnosis(lambda s: "raspberry" not in s.message, "weather understood")
    assert "rain" in robot.answer(texture(1))["domain reason"]
    assert robot.process.log.count("raspberry") == 2  # one line, which names it twice
    robot.deliver("weather", String(data=""))


def test_the_domain_can_be_set_and_released_by_topic(robot):
    before = robot.client.now()
    robot.deliver("domain", String(data="night"))
    assert robot.answer(texture(1))["domain"] == "night"
    robot.deliver("domain", String(data="noon"))
    robot.client.problem("'noon' ignored: known are day, night", before)
    assert robot.answer(texture(1))["domain"] == "night"
    robot.deliver("domain", String(data=""))
    assert robot.answer(texture(1))["domain"] == "day"


def test_the_fix_says_where_the_sun_stands(robot):
    try:
        for latitude, longitude, domain, sun in (
            (48.0, 11.0, "night", "sun −"),
            (0.0, -150.0, "day", "sun "),
        ):
            fix = NavSatFix(latitude=latitude, longitude=longitude)
            fix.status.status = 0
            robot.deliver("fix", fix)
            answer = robot.answer(texture(1))
            assert answer["domain"] == domain and sun in answer["domain reason"]
    finally:
        robot.restart()


def test_a_camera_that_sees_little_of_the_maps_view_is_reported(robot):
    before, info = robot.client.now(), CameraInfo(width=64, height=48)
    info.k = [200.0, 0.0, 32.0, 0.0, 200.0, 24.0, 0.0, 0.0, 1.0]
    robot.deliver("camera_info", info)
    robot.localize(3)
    words = "sees 6 %: scores suffer; if /camera_info is another camera's, remap it"
    robot.client.problem(words, before)
    robot.localize(3)
    assert robot.process.log.count(words) == 1
    info.k[0] = info.k[4] = 50.0
    robot.deliver("camera_info", info)
    assert same_place(robot.localize(3).pose, 3)
    robot.client.diagnosis(lambda s: "scores suffer" not in s.message, "the map's view")


def test_below_the_least_probability_no_pose_comes_and_diagnostics_say_why(robot):
    before = robot.client.now()
    robot.set("localizer.min_probability", 1.0)
    sent = robot.send(image_message(texture(77)))
    status, said = read(robot.of_image(robot.answers, sent))
    assert (status.level, said["outcome"]) == (DiagnosticStatus.WARN, "unknown")
    assert float(said["probability"]) < 1.0 and said["map image"] == said["candidates"][0]
    robot.of_image(robot.heard[CANDIDATES], sent)
    robot.client.problem("unknown place, probability", before)
    robot.set("localizer.min_probability", 0.0)
    assert same_place(robot.localize(3).pose, 3)
    assert sent.header.stamp not in [pose.header.stamp for pose in robot.poses]
    robot.client.diagnosis(lambda s: "unknown place" not in s.message, "known again")


def test_relocalize_answers_only_after_a_fresh_image(robot):
    robot.localize(1)
    answer = robot.client.ask("relocalize")
    robot.client.barrier()
    assert not answer.done()
    robot.client.until(
        answer.done, "an answer", again=lambda: robot.send(image_message(texture(2)))
    )
    assert answer.result().success
    assert "map image 2" in answer.result().message


def test_relocalize_times_out_with_the_reason_and_blocks_nothing(robot):
    robot.localize(1)
    robot.set("stale_after", 0.8)
    answer = robot.client.ask("relocalize")
    robot.set("localizer.domain.weather", "")  # answered meanwhile
    robot.client.until(answer.done, "an answer")
    assert not answer.result().success
    assert "timeout after 2 s: no image arrived" in answer.result().message
    answer = robot.client.ask("relocalize")
    robot.client.until(answer.done, "an answer", again=lambda: robot.send(wrong_step()))
    assert "step 7" in answer.result().message


def test_missing_images_are_reported(robot):
    before = robot.client.now()
    robot.localize(1)
    robot.set("stale_after", 0.5)
    robot.client.problem("no image of camera 'front' for more than 0.5 s", before)
    robot.set("stale_after", 60.0)
    robot.localize(1)
    robot.client.diagnosis(lambda s: "no image" not in s.message, "images again")


def test_diagnostics_name_rates_latencies_device_map_and_model(robot):
    robot.localize(1)
    robot.ask(wrong_step())
    robot.localize(1)
    last = values(
        robot.client.diagnosis(lambda s: float(values(s)["images in (Hz)"]) > 0, "a rate")
    )
    assert float(last["callback to published p99 (ms)"]) > 0
    assert float(last["localize encode p50 (ms)"]) > 0
    assert last["device"].startswith(("cpu", "cuda"))
    assert last["map"].endswith("map, 6 images")
    assert last["model"].startswith("model ")
    assert int(last["places known"]) > 0
    assert int(last["images undecodable"]) > 0
    assert (last["image publishers"], last["answer subscribers"]) == ("1", "1")
    assert 0 < float(last["memory (MiB)"]) <= float(last["memory peak (MiB)"]) + 1


def test_deactivate_stops_publishing_and_activate_resumes(robot):
    robot.localize(1)
    waiting = robot.client.ask("relocalize")
    robot.client.barrier()
    assert robot.client.transition("deactivate")
    robot.client.until(waiting.done, "an answer")
    assert waiting.result().message in (
        "the localizer was deactivated",
        "the localizer is not active",
    )
    assert "not active" in robot.client.trigger("relocalize").message
    sent = robot.send(image_message(texture(1)))
    robot.client.barrier()
    assert robot.client.transition("activate")
    assert same_place(robot.localize(2).pose, 2)
    assert sent.header.stamp not in [pose.header.stamp for pose in robot.poses]
