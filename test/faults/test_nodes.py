# SPDX-License-Identifier: Apache-2.0
"""Faults of the localizer node's input, and its order, one after the other on one running node.

After each the process lives, a good image is answered rightly, and every image has one answer.
"""

import math
import os
import random
import shutil
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import DescribeParameters, GetParameters, GetParameterTypes
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from support.data import detailed
from support.maps import START_S
from support.messages import image_message, values
from support.robot import NODE
from support.tf import tf2_ros
from support.unusable import BROKEN_IMAGES, FRAMES, INFOS, MEGABYTE, MESSAGES, framed, info
from support.vehicle import OTHER, PLACES, driving, transform_message, write_town

from disam_ros.geometry import Transform
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.node import is_live
from disam_ros.nodes.rclpy_extra.parameters import leaves

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model and a map of it."""
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def parameters(world) -> dict[str, Any]:
    return write_town(world, **{"loop_closure.enabled": True})


@pytest.fixture(scope="module")
def node(world, parameters):
    with driving(parameters, world / "log") as vehicle:
        yield vehicle


@pytest.fixture
def vehicle(node):
    """The vehicle; whatever happens in a test, the next image is answered."""
    yield node
    node.check()


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_an_image_that_cannot_be_used_is_answered_once_with_the_reason(vehicle, name):
    make, words = BROKEN_IMAGES[name]
    before = vehicle.client.now()
    answer = values(vehicle.ask(make()).status[0])
    assert answer["outcome"] == "unreadable"
    assert words in answer["reason"], answer
    assert len(answer["reason"]) < 1000
    vehicle.client.problem("image skipped", before)


@pytest.mark.parametrize("name", FRAMES)
def test_an_image_is_known_whatever_its_frame(vehicle, name):
    answer = values(vehicle.ask(framed(FRAMES[name])).status[0])
    assert (answer["outcome"], answer["map image"]) == ("known", "1"), answer


@pytest.mark.parametrize(
    ("second", "words"),
    [(0, "carry no stamp"), (-5, "go backwards"), (1, "go backwards")],
)
def test_a_stamp_that_is_no_capture_time_is_reported_and_the_image_answered(vehicle, second, words):
    before, count = vehicle.client.now(), len(vehicle.answers)
    message = image_message(detailed(OTHER))
    message.header.stamp.sec, message.header.stamp.nanosec = second, 0
    vehicle.client.publish("image", message)
    answer = vehicle.of_image(vehicle.answers, message, count)
    assert values(answer.status[0])["map image"] == "1"
    vehicle.sees(words, before)


@pytest.mark.parametrize("name", INFOS)
def test_intrinsics_that_cannot_be_used_are_refused_and_loops_are_closed_on(vehicle, name):
    message, words = INFOS[name]
    before = vehicle.client.now()
    vehicle.deliver("camera_info", message)
    vehicle.deliver("camera_info", message)
    vehicle.drive()
    vehicle.sees(words, before)
    assert "/camera_info is" in vehicle.process.log
    vehicle.deliver("camera_info", info())
    vehicle.drive()
    vehicle.goes_on(words)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_cannot_be_used_is_reported(vehicle, name):
    topic, message, source, words = MESSAGES[name]
    before = vehicle.client.now()
    vehicle.set("localizer.prior.source", source)
    vehicle.deliver(topic, message)
    if topic != "odom":
        vehicle.drive()
    vehicle.sees(words, before)
    for name in ("weather", "domain"):
        vehicle.deliver(name, String())
    vehicle.set("localizer.prior.source", "none")


# Parameters.

VALUES = [
    ("localizer.prior.max_age", math.nan),
    ("localizer.candidates", "many"),
    ("localizer.domain.weather", "r" * MEGABYTE),
    ("localizer.domain.override", "raspberry"),
    ("localizer.device", "cpu"),
]


@pytest.mark.parametrize(("name", "value"), VALUES, ids=lambda value: str(value)[:40])
def test_a_value_that_cannot_be_is_refused_with_a_reason(vehicle, name, value):
    result = vehicle.client.set_parameter(name, value)
    assert not result.successful
    assert 5 < len(result.reason) < 1500
    words = (name, "type", "known", "undeclared", "model")
    assert any(word in result.reason for word in words), result.reason


@pytest.mark.parametrize("value", [0.1, 86400.0])
def test_the_shortest_and_the_longest_timeout_can_be_waited_for(vehicle, value):
    vehicle.set("stale_after", value)
    answer = vehicle.client.ask("relocalize")
    vehicle.client.barrier()
    vehicle.drive()
    vehicle.client.until(answer.done, "an answer to ~/relocalize")
    vehicle.set("stale_after", 60.0)


# Services.


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (DescribeParameters, "describe_parameters"),
        (GetParameters, "get_parameters"),
        (GetParameterTypes, "get_parameter_types"),
    ],
)
def test_a_parameter_that_is_not_there_can_be_asked_for(vehicle, kind, name):
    vehicle.client.call(kind, f"{NODE}/{name}", kind.Request(names=["raspberry", ""]))


@pytest.mark.parametrize("number", [Transition.TRANSITION_ACTIVATE, 255, 99])
def test_a_transition_that_does_not_fit_is_refused(vehicle, number):
    request = ChangeState.Request(transition=Transition(id=number))
    assert not vehicle.client.call(ChangeState, f"{NODE}/change_state", request).success


# The map in use.


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def copied(vehicle, world, tmp_path):
    """A copy of the map, in use during the test."""
    shutil.copytree(world / "map", tmp_path / "map")
    vehicle.set("map", str(tmp_path / "map"))
    assert vehicle.client.trigger("reload").success
    yield tmp_path / "map"
    vehicle.set("map", str(world / "map"))
    assert vehicle.client.trigger("reload").success


@pytest.mark.parametrize("name", ["fine.npy", "images.csv"])
def test_a_map_that_is_cut_off_in_use_is_reported_and_no_image_answered(vehicle, copied, name):
    before = vehicle.client.now()
    halve(copied / name)
    answer = values(vehicle.ask(image_message(detailed(OTHER))).status[0])
    assert answer["outcome"] == "failed"
    assert f"{name} was changed while in use" in answer["reason"]
    vehicle.sees(f"{name} was changed while in use", before)


@pytest.mark.parametrize("change", [halve, os.unlink])
def test_what_was_read_into_memory_may_change(vehicle, copied, change):
    for name in ("coarse.npy", "poses.npy", "mean.npy", "map.json"):
        change(copied / name)
    vehicle.drive()


# The graph.


def test_a_negative_clock_is_reported(vehicle):
    vehicle.set("use_sim_time", True)
    message = Clock()
    message.clock.sec = -5
    words = "a message of /clock failed"
    vehicle.client.repeat("/clock", message, lambda: words in vehicle.process.log, words)
    vehicle.drive()
    vehicle.set("use_sim_time", False)


def test_another_node_of_the_same_name_is_reported(vehicle):
    before, words = vehicle.client.now(), f"2 nodes are called {NODE}"
    twin = rclpy.create_node(
        NODE[1:], context=vehicle.client.node.context, start_parameter_services=False
    )
    vehicle.sees(words, before)
    vehicle.sees("stop the others, or rename one", before)
    assert vehicle.process.log.count(words) == 1
    twin.destroy_node()
    vehicle.client.diagnosis(lambda s: words not in s.message, "one node of the name")


def test_a_camera_that_sits_elsewhere_than_the_maps_is_reported(vehicle):
    before = vehicle.client.now()
    elsewhere = transform_message("base_link", "tf_camera", Transform.identity())
    vehicle.deliver(tf2_ros.TOPIC, elsewhere)
    answer = values(vehicle.ask(framed("tf_camera")).status[0])
    assert answer["outcome"] == "known"
    words = "sits 1.8 m and 120° from where the map's camera sat"
    vehicle.sees(words, before)
    vehicle.sees("correct its extrinsics, or build the map again", before)
    vehicle.ask(framed("tf_camera"))
    assert vehicle.process.log.count(words) == 1


# Parameters, transitions and clocks in any order, for long.

HOUR = 3600  # [s]
DAY = 24 * HOUR
LOAD = 40  # images that come at once, of places that no vehicle drives by: none repeats the last
OPERATIONS = ("deactivate", "activate", "cleanup", "configure", "reload", "relocalize")
TEXTS = {
    "localizer.domain.override": ["day", "night", "no such domain"],
    "localizer.domain.weather": ["snow", "no such weather"],
    "map": ["/nowhere"],
    "model": ["/nowhere"],
}


def choices(field: Any, name: str, default: Any) -> list[Any]:
    """Values of a parameter, wrong ones of texts among them."""
    if isinstance(default, bool):
        return [True, False]
    if isinstance(default, str):
        return list(field.metadata["choices"]) or TEXTS[name]
    return [field.metadata["minimum"], field.metadata["maximum"]]


@pytest.mark.parametrize("seed", range(2))
def test_parameters_may_be_set_in_any_order_and_set_back_in_any_other(vehicle, parameters, seed):
    chance = random.Random(seed)
    live = {name: (field, value) for name, field, value in leaves(LocalizerNodeConfig())}
    live = {name: entry for name, entry in live.items() if is_live(name)}
    before = {name: parameters.get(name, value) for name, (_, value) in live.items()}
    for turn, name in enumerate(chance.sample(sorted(live), len(live))):
        field, default = live[name]
        result = vehicle.client.set_parameter(name, chance.choice(choices(field, name, default)))
        assert result.successful or len(result.reason) > 5, name
        outcome = vehicle.answer(detailed(PLACES + turn % 5))["outcome"]
        assert outcome in ("known", "unknown"), name
    remaining = chance.sample(sorted(before), len(before))
    while remaining:
        refused = [
            n for n in remaining if not vehicle.client.set_parameter(n, before[n]).successful
        ]
        assert len(refused) < len(remaining), refused
        remaining = refused


@pytest.mark.parametrize("seed", range(2))
def test_transitions_and_services_may_come_in_any_order(vehicle, seed):
    chance, asked = random.Random(seed), []
    for operation in chance.choices(OPERATIONS, k=20):
        if operation in ("reload", "relocalize"):
            asked.append(vehicle.client.ask(operation))
        else:
            vehicle.client.transition(operation)
    for label in ("deactivate", "cleanup", "configure", "activate"):
        vehicle.client.transition(label)
    vehicle.reconnect()
    vehicle.client.until(lambda: all(answer.done() for answer in asked), "all answers")


def clock(second: float) -> Clock:
    message = Clock()
    message.clock.sec = int(second)
    return message


def counts(vehicle) -> tuple[int, int]:
    facts = vehicle.client.facts()
    return int(facts["images received"]), int(facts["images dropped"])


def test_a_clock_that_jumps_under_load_loses_no_image(vehicle):
    received, dropped = counts(vehicle)
    answered, message = len(vehicle.answers), None
    vehicle.set("use_sim_time", True)
    for turn in range(LOAD):
        jump = (0, HOUR, -HOUR, DAY)[turn % 4]
        vehicle.client.publish("/clock", clock(START_S + vehicle.second + jump))
        message = vehicle.send(image_message(detailed(PLACES + turn % 5)))
    vehicle.of_image(vehicle.answers, message, answered)
    vehicle.set("use_sim_time", False)
    now_received, now_dropped = counts(vehicle)
    received, dropped = now_received - received, now_dropped - dropped
    assert len(vehicle.answers) - answered == received - dropped > 0


def test_a_day_of_images_is_answered_as_its_first_minute(vehicle):
    vehicle.set("use_sim_time", True)
    end = vehicle.second + DAY
    while vehicle.second < end:
        vehicle.second += HOUR
        vehicle.client.publish("/clock", clock(START_S + vehicle.second))
        vehicle.drive()
    vehicle.set("use_sim_time", False)
