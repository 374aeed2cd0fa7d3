# SPDX-License-Identifier: Apache-2.0
"""A localizer whose parameters, transitions and clock come in any order, and which runs for long.

After each test the process lives, a good image is answered rightly, and every image has one answer.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rosgraph_msgs.msg import Clock
from support.data import detailed, save_tiny_model
from support.maps import START_S, save_tiny_map
from support.messages import image_message
from support.node_process import RELIABLE, SINGLE, node_process
from support.vehicle import PLACES, Vehicle

from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.node import is_live
from disam_ros.nodes.rclpy_extra.parameters import leaves

pytestmark = pytest.mark.slow

HOUR = 3600  # [s]
DAY = 24 * HOUR
LOAD = 40  # images that come at once
OPERATIONS = ("deactivate", "activate", "cleanup", "configure", "reload", "relocalize")
TEXTS = {
    "localizer.domain.override": ["day", "night", "no such domain"],
    "localizer.domain.weather": ["snow", "no such weather"],
    "map": ["/nowhere"],
    "model": ["/nowhere"],
}


@pytest.fixture(scope="module")
def parameters(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("world")
    model = save_tiny_model(folder / "model")
    save_tiny_map(folder / "map", model, PLACES, picture=detailed, place=(48.0, 11.0))
    return {
        "map": str(folder / "map"),
        "model": str(folder / "model"),
        "localizer.domain.override": "day",
        "stale_after": 60.0,
        **RELIABLE,
        **SINGLE,
    }


@pytest.fixture(scope="module")
def node(parameters, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    with (
        node_process("localizer.node", log, parameters, fresh=True) as process,
        Vehicle(process) as vehicle,
    ):
        yield vehicle


@pytest.fixture
def vehicle(node):
    yield node
    node.check()


def choices(field: Any, name: str, default: Any) -> list[Any]:
    """Values of a parameter, wrong ones of texts among them."""
    if isinstance(default, bool):
        return [True, False]
    if isinstance(default, str):
        return list(field.metadata["choices"]) or TEXTS[name]
    return [field.metadata["minimum"], field.metadata["maximum"]]


@pytest.mark.parametrize("seed", range(3))
def test_parameters_may_be_set_in_any_order_and_set_back_in_any_other(vehicle, parameters, seed):
    chance = random.Random(seed)
    live = {name: (field, value) for name, field, value in leaves(LocalizerNodeConfig())}
    live = {name: entry for name, entry in live.items() if is_live(name)}
    before = {name: parameters.get(name, value) for name, (_, value) in live.items()}
    for turn, name in enumerate(chance.sample(sorted(live), len(live))):
        field, default = live[name]
        result = vehicle.client.set_parameter(name, chance.choice(choices(field, name, default)))
        assert result.successful or len(result.reason) > 5, name
        outcome = vehicle.answer(detailed(turn % PLACES))["outcome"]
        assert outcome in ("known", "unknown"), name
    remaining = chance.sample(sorted(before), len(before))
    while remaining:
        refused = [
            n for n in remaining if not vehicle.client.set_parameter(n, before[n]).successful
        ]
        assert len(refused) < len(remaining), refused
        remaining = refused


@pytest.mark.parametrize("seed", range(3))
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
        message = vehicle.send(image_message(detailed(turn % PLACES)))
    vehicle.of_image(vehicle.answers, message, answered)
    vehicle.set("use_sim_time", False)
    now_received, now_dropped = counts(vehicle)
    received, dropped = now_received - received, now_dropped - dropped
    assert len(vehicle.answers) - answered == received - dropped > 0


def test_a_day_of_images_is_answered_as_its_first_minute(vehicle):
    vehicle.set("use_sim_time", True)
    end = vehicle.second + DAY
    while vehicle.second < end:
        vehicle.second += 5 * 60
        vehicle.client.publish("/clock", clock(START_S + vehicle.second))
        vehicle.drive()
    vehicle.set("use_sim_time", False)
