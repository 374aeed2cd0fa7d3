# SPDX-License-Identifier: Apache-2.0
"""Messages with any values in any fields, in any order, on the topics of running nodes.

A localizer lives, gives each image one answer, raises no error that it does not handle, and
localizes as before once it has started over; a map builder completes a map that opens. FUZZ=30
draws thirty times as many.
"""

import math
import os
import random
import re
from typing import Any

import pytest

pytest.importorskip("rclpy")

import numpy as np
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import String
from support.data import detailed
from support.maps import START_S, base_pose
from support.messages import image_message
from support.node_process import node_process
from support.survey import AT_ONCE, Survey, builder_parameters
from support.unusable import fix, info, odometry, prior
from support.vehicle import OTHER, driving, write_town

from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.conversions import transform_to_pose

pytestmark = pytest.mark.slow

SEEDS = range(2 * int(os.environ.get("FUZZ", "1")))
MESSAGES = 25  # of a seed
LARGEST = 100_000  # bytes of an image that is drawn longer than its shape says
NUMBERS = [0.0, -0.0, 1.0, -1.0, 1e-300, 1e9, -1e9, 1e300, math.nan, math.inf, -math.inf]
TEXTS = ["", "/", "map", "rgb8", "mono16", "bayer_rggb8", "32FC1", "nv21", "\n\x1b[31m", "x" * 5000]
UNFORESEEN = re.compile(r"Traceback|\(\w+ at \S+\.py:\d+\)")  # errors that nobody handles
MAKERS = {
    "image": lambda: image_message(detailed(OTHER)),
    "camera_info": info,
    "odom": odometry,
    "prior": prior,
    "fix": fix,
    "weather": lambda: String(data="rain"),
    "domain": lambda: String(data="night"),
}


@pytest.fixture(scope="module")
def parameters(tmp_path_factory) -> dict[str, Any]:
    return write_town(tmp_path_factory.mktemp("town"), **{"loop_closure.enabled": True})


@pytest.fixture(scope="module")
def vehicle(parameters, tmp_path_factory):
    with driving(parameters, tmp_path_factory.mktemp("node") / "log") as vehicle:
        yield vehicle


def spoil(message: Any, chance: random.Random) -> None:
    """Sets a field of a message, or of a part of it, to a value that its type allows."""
    fields = message.get_fields_and_field_types()
    name = chance.choice(sorted(fields))
    kind, value = fields[name], getattr(message, name)
    if hasattr(value, "get_fields_and_field_types"):
        return spoil(value, chance)
    setattr(message, name, drawn(kind, value, chance))
    return None


def drawn(kind: str, value: Any, chance: random.Random) -> Any:
    """A value of a primitive type, or of an array or sequence of one, for the one that it has."""
    if kind in ("double", "float"):
        return chance.choice(NUMBERS) if kind == "double" else chance.choice(NUMBERS[:4])
    if kind == "boolean":
        return not value
    if kind == "string":
        return chance.choice(TEXTS)
    if "[" in kind or kind.startswith("sequence"):
        return items(kind, value, chance)
    bits, signed = int("".join(filter(str.isdigit, kind)) or 8), not kind.startswith("u")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return chance.choice([0, 1, low, high, max(low, min(high, int(value) + 1)), high // 2])


def items(kind: str, value: Any, chance: random.Random) -> Any:
    """Some items of an array are others, or a sequence has another length."""
    if len(value) == 0 or ("[" not in kind and chance.random() < 0.5):
        length = chance.choice([0, 1, 5, len(value) // 2, len(value) + 1, LARGEST])
        return type(value)(value.typecode, [1] * length)
    changed, primitive = value[:], "double" if "double" in kind else "uint8"
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(changed))
        changed[place] = drawn(primitive, changed[place], chance)
    return changed


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_goes_on_whatever_its_messages_say(vehicle, seed):
    chance = random.Random(seed)
    vehicle.set("localizer.prior.source", chance.choice(["none", "topic", "fix"]))
    vehicle.set("localizer.sequence.enabled", chance.random() < 0.5)
    for _ in range(MESSAGES):
        topic = chance.choice(sorted(MAKERS))
        message = MAKERS[topic]()
        for _ in range(chance.randint(1, 3)):
            spoil(message, chance)
        if topic == "image":
            vehicle.ask(message)
        else:
            vehicle.client.deliver(topic, message)
            vehicle.ask(image_message(detailed(OTHER)))
        assert vehicle.process.returncode is None
    log = vehicle.process.log
    assert not UNFORESEEN.search(log), log[-3000:]
    vehicle.set("localizer.prior.source", "none")
    vehicle.set("localizer.sequence.enabled", False)
    vehicle.restart()
    vehicle.check()


def posed(second: int) -> PoseStamped:
    message = PoseStamped(pose=transform_to_pose(base_pose(second)))
    message.header.frame_id, message.header.stamp.sec = "town", START_S + second
    return message


@pytest.mark.parametrize("seed", SEEDS)
def test_a_map_builder_completes_a_map_whatever_its_messages_say(parameters, tmp_path, seed):
    chance, output = random.Random(seed), tmp_path / "map"
    settings = builder_parameters(parameters["model"], output, **AT_ONCE)
    with (
        node_process("map_builder.node", tmp_path / "log", settings) as process,
        Survey() as survey,
    ):
        survey.camera_info()
        survey.drive(0)
        survey.holds(1)
        for second in range(2, 2 + 2 * MESSAGES, 2):
            topic = chance.choice(["image", "camera_info", "pose", "fix"])
            message = posed(second) if topic == "pose" else MAKERS[topic]()
            for _ in range(chance.randint(1, 3)):
                spoil(message, chance)
            survey.deliver(topic, message)
            survey.drive(second)
        assert survey.trigger("finish").success
        assert not UNFORESEEN.search(process.log), process.log[-3000:]
    place_map = PlaceMap(output)
    assert len(place_map) >= 1
    assert np.isfinite(place_map.poses).all()
