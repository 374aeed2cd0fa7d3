# SPDX-License-Identifier: Apache-2.0
"""A stand-in for AMCL (support/amcl.py) is started and recovered by the localizer, over DDS."""

from functools import partial

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from support.amcl import StandInAmcl
from support.data import texture
from support.maps import START_S, save_tiny_map
from support.messages import odometry_message, values
from support.node_process import RELIABLE
from support.robot import NODE, Robot
from support.tf import tf2_ros
from support.vehicle import TF_STAND_IN, transform_message

from disam_ros.geometry import Transform, distance
from disam_ros.models.model import load_model

PLACES = 40  # two metres apart; place i shows texture(i)
CARRIED = 25  # places that the robot is carried on
INITIAL_POSE = ("-r", "~/initial_pose:=/initialpose")
REMAPPINGS = (*INITIAL_POSE, "-r", "consumer_pose:=/amcl_pose")


def straight(index: float) -> Transform:
    return Transform.from_xyz_rpy([2.0 * index, 1.0, 0.0, 0.0, 0.0, 0.0])


class Rider(Robot):
    """Passes places one a second; its odometry does not notice that it is carried elsewhere."""

    def __init__(self, process, topics, **consumer):
        super().__init__(process, topics)
        self.amcl = StandInAmcl(self.client.node.context, **consumer)
        self.client.add(self.amcl)
        self.states: list[str] = []
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.client.node.create_subscription(
            String, f"{NODE}/state", lambda m: self.states.append(m.data), latched
        )
        self._metres = 0.0

    def drive(self, *places: int) -> list[str]:
        """The outcomes of images at these places."""
        outcomes = []
        for place in places:
            self._metres += 2.0
            moved = Transform.from_xyz_rpy([self._metres, 0.0, 0.0, 0.0, 0.0, 0.0])
            self.deliver("odom", odometry_message(moved))
            outcomes.append(self.answer(texture(place))["outcome"])
        return outcomes

    def off(self, place: int) -> float:
        """Distance [m] of where AMCL believes to be from a place."""
        return distance(self.amcl.map_from_base, straight(place))[0]

    def consumer(self, state: str) -> None:
        """Return once diagnostics say that of the consumer."""
        self.client.diagnosis(lambda s: values(s).get("consumer") == state, f"consumer {state}")


@pytest.fixture(scope="module")
def parameters(places, tmp_path_factory):
    route = tmp_path_factory.mktemp("route") / "map"
    save_tiny_map(route, load_model(places["model"]), PLACES, pose=straight)
    return {
        "map": route,
        "localizer.prior.max_age": 1.5,  # of odometry: as old as the images are apart
        "stale_after": 600.0,
        **RELIABLE,
    }


@pytest.fixture
def start(parameters, start_localizer):
    """Starts a robot with AMCL and a localizer that is to initialize it."""

    def start(initialize, *remappings, consumer=None, changes=None, **options):
        settings = {**parameters, "initialize": initialize, **(changes or {})}
        kind = partial(Rider, **(consumer or {}))
        return start_localizer(settings, *(remappings or REMAPPINGS), kind=kind, **options)

    return start


def test_amcl_starts_once_answers_agree_and_a_kidnapped_robot_recovers_within_ten_seconds(start):
    with start("recover") as rider:
        rider.drive(0, 1, 2)
        assert not rider.amcl.starts
        rider.drive(*range(3, 14))
        assert len(rider.amcl.starts) == 1 and rider.off(13) < 0.5
        rider.consumer("agrees")
        assert "consumer_lost" not in rider.states
        kidnapped = rider.second
        rider.drive(*range(14 + CARRIED - 10, 14 + CARRIED))
        assert len(rider.amcl.starts) == 2 and not rider.amcl.refused
        taken = rider.amcl.starts[1].header.stamp.sec - START_S
        assert taken - kidnapped <= 10  # seconds of message time
        assert rider.off(13 + CARRIED) < 0.5
        rider.consumer("agrees")
        rider.client.until(lambda: rider.states[-1] == "known", "the state after recovery")
        assert "consumer_lost" in rider.states


def test_once_never_starts_amcl_again_but_says_that_it_is_lost(start):
    with start("once") as rider:
        rider.drive(*range(12))
        before = rider.client.now()
        rider.drive(*range(12 + 15, 12 + 27))
        rider.client.problem("consumer_lost", before)
        assert "call ~/relocalize, or set initialize to recover" in rider.process.log
        assert rider.process.log.count("consumer_lost") == 1
        assert len(rider.amcl.starts) == 1
        asked = rider.client.ask("relocalize")
        rider.client.barrier()
        rider.drive(39)
        rider.client.until(asked.done, "an answer of ~/relocalize")
        rider.client.until(lambda: len(rider.amcl.starts) == 2, "the pose that was asked for")


def test_answers_that_always_count_as_known_start_nobody(start):
    with start("once", changes={"localizer.min_probability": 0.0}) as rider:
        before = rider.client.now()
        assert set(rider.drive(*range(8))) == {"known"}
        rider.client.problem("set localizer.min_probability above 0", before)
        assert not rider.amcl.starts
        rider.set("localizer.min_probability", 0.5)
        rider.drive(*range(8, 16))
        rider.client.until(lambda: len(rider.amcl.starts) == 1, "a start by probability")


@pytest.mark.parametrize(
    ("remappings", "deaf", "words"),
    [
        (("-r", "~/initial_pose:=/nowhere"), False, "nothing subscribes to /nowhere: start the"),
        (INITIAL_POSE, False, "remap consumer_pose (now /consumer_pose) to its pose"),
        (REMAPPINGS, True, "although it got an initial pose: check that its map"),
    ],
)
def test_a_consumer_that_does_not_answer_is_reported_in_one_line(start, remappings, deaf, words):
    with start("once", *remappings, consumer={"deaf": deaf}) as rider:
        before = rider.client.now()
        rider.drive(0, 1)
        if deaf:
            rider.amcl.map_from_odom = straight(500)
        rider.drive(*range(2, 25))
        rider.client.problem(words, before)
        assert rider.process.log.count(words) == 1
        warned = [line for line in rider.process.log.splitlines() if "[WARN]" in line]
        assert len(warned) == 1


def test_poses_of_a_consumer_in_another_frame_are_reported(start):
    with start("once", consumer={"frame": "odom"}) as rider:
        rider.drive(0)
        rider.amcl.map_from_odom = straight(-1)
        before = rider.client.now()
        rider.drive(1, 2)
        rider.client.problem("its frame is 'odom', expected 'town'", before)


def test_tf_shows_the_pose_of_a_consumer_that_publishes_none(start):
    options = {"fresh": True, "before": TF_STAND_IN}
    with start("recover", *INITIAL_POSE, **options) as rider:
        for place in range(20):
            theirs = transform_message("town", "base_link", straight(place))
            rider.deliver(tf2_ros.TOPIC, theirs)
            rider.drive(place)
        rider.consumer("agrees")
        assert not rider.amcl.starts
        rider.drive(*range(20, 32))  # TF stays behind, the odometry of its stamp does not
        assert not rider.amcl.starts
        theirs.header.stamp.sec = START_S + rider.second
        rider.client.deliver(tf2_ros.TOPIC, theirs)
        rider.drive(*range(32, 38))
        rider.client.until(lambda: rider.amcl.starts, "a pose for a robot that TF has elsewhere")
