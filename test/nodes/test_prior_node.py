# SPDX-License-Identifier: Apache-2.0
"""The localizer node with a prior of the place from topics, over DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovariance, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import NavSatFix, NavSatStatus
from support.data import texture
from support.maps import base_pose, save_tiny_map
from support.messages import values
from support.node_process import RELIABLE, SINGLE

from disam_ros.config import DescriptorConfig, PriorConfig
from disam_ros.errors import ConfigError
from disam_ros.geodesy import Origin
from disam_ros.mapping.place_map import MapHeader
from disam_ros.models.model import load_model
from disam_ros.nodes.conversions import transform_to_pose
from disam_ros.nodes.localizer.loaded import map_origin

COUNT = 30  # map images, two metres apart; image 25 looks like image 3
ORIGINAL, TWIN = 3, 25
METRES_PER_DEGREE = 111_195.0  # on a sphere; near the origin 0.0, 0.0 that is right to 1 %


@pytest.fixture(scope="module")
def node(start_localizer, places, tmp_path_factory):
    """A robot on a map with two places that look the same."""
    twins = tmp_path_factory.mktemp("twins") / "map"
    save_tiny_map(
        twins,
        load_model(places["model"]),
        COUNT,
        place=(0.0, 0.0),
        seeds=lambda index: ORIGINAL if index == TWIN else index,
    )
    parameters = {"map": str(twins), "localizer.domain.override": "day", **RELIABLE, **SINGLE}
    with start_localizer(parameters) as robot:
        yield robot


@pytest.fixture
def robot(node, request):
    """The robot; its node takes the prior from one source."""
    node.second += 60  # what came before is old
    node.set("localizer.prior.source", "none")  # forgets the last one's
    node.set("localizer.prior.source", request.param)
    return node


def with_source(source):
    return pytest.mark.parametrize("robot", [source], indirect=True)


def found(robot, seed):
    """The key-values of the answer to a texture."""
    return robot.answer(texture(seed))


def warned(robot, words, since):
    assert robot.client.problem(words, since).level == DiagnosticStatus.WARN


def pose(index, frame="town"):
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    at = base_pose(index).translation
    message.pose.pose.position.x, message.pose.pose.position.y = at[0], at[1]
    covariance = np.zeros((6, 6))
    covariance[:2, :2] = 4.0 * np.eye(2)
    message.pose.covariance = covariance.ravel().tolist()
    return message


@with_source("topic")
def test_a_prior_by_topic_distinguishes_twins_and_bad_ones_are_reported_and_ignored(robot):
    before = robot.client.now()
    assert found(robot, 7)["prior"] == "none"
    warned(robot, "nothing on 'prior' within 1 s of the image", before)
    for place, frame in ((ORIGINAL, "town"), (TWIN, "/town")):
        robot.deliver("prior", pose(place, frame=frame))
        answer = found(robot, ORIGINAL)
        assert (answer["map image"], answer["prior"]) == (str(place), "used")
    robot.deliver("prior", pose(TWIN))
    answer = found(robot, 10)
    assert (answer["map image"], answer["prior"]) == ("10", "overruled")
    warned(robot, "the prior was overruled", before)
    robot.second += 5  # the last good one is old
    robot.deliver("prior", pose(TWIN, frame="odom"))
    warned(robot, "prior in frame 'odom' ignored: expected 'town'", before)
    answer = found(robot, 8)
    assert (answer["map image"], answer["prior"]) == ("8", "none")
    robot.deliver("prior", pose(1000))
    answer = found(robot, 9)
    assert (answer["map image"], answer["prior"]) == ("9", "off the map")
    warned(robot, "the prior is off the map and not used", before)
    status = robot.client.diagnosis(
        lambda s: values(s)["prior"].startswith("off the map"), "the last prior"
    )
    last = values(status)
    assert int(last["priors used"]) >= 2 and int(last["priors overruled"]) >= 1
    assert last["priors refused"] == "1"
    assert last["prior"].startswith("off the map: (2000.0, 1.0) m, 2.0 m (1 sigma)")


def fix(index, kind=NavSatFix.COVARIANCE_TYPE_KNOWN):
    x, y, _ = base_pose(index).translation
    message = NavSatFix(latitude=y / METRES_PER_DEGREE, longitude=x / METRES_PER_DEGREE)
    message.position_covariance = np.diag([4.0, 4.0, 9.0]).ravel().tolist()
    message.position_covariance_type, message.status.status = kind, NavSatStatus.STATUS_FIX
    return message


@with_source("fix")
def test_a_fix_distinguishes_twins_with_a_covariance_or_without_unless_it_is_old(robot):
    before = robot.client.now()
    for kind in (NavSatFix.COVARIANCE_TYPE_KNOWN, NavSatFix.COVARIANCE_TYPE_UNKNOWN):
        for place in (ORIGINAL, TWIN):
            robot.deliver("fix", fix(place, kind))
            answer = found(robot, ORIGINAL)
            assert (answer["map image"], answer["prior"]) == (str(place), "used")
    robot.second += 10
    assert found(robot, ORIGINAL)["prior"] == "none"
    warned(robot, "nothing on 'fix' within 1 s of the image", before)


def odometry(odom_from_base):
    return Odometry(pose=PoseWithCovariance(pose=transform_to_pose(odom_from_base)))


@with_source("odom")
def test_odometry_carries_the_last_answer_to_the_twin(robot):
    before = robot.client.now()
    robot.deliver("odom", odometry(base_pose(0)))
    assert found(robot, 20)["prior"] == "none"
    robot.deliver("odom", odometry(base_pose(0) @ base_pose(20).inverse() @ base_pose(TWIN)))
    answer = found(robot, ORIGINAL)
    assert (answer["map image"], answer["prior"]) == (str(TWIN), "used")
    robot.second += 10
    assert found(robot, ORIGINAL)["prior"] == "none"
    warned(robot, "nothing on 'odom' within 1 s of the image", before)


@with_source("none")
def test_the_source_of_priors_changes_while_the_node_runs(robot):
    def change(name, value):
        return robot.client.set_parameter(f"localizer.prior.{name}", value)

    assert found(robot, ORIGINAL)["prior"] == "none"
    assert change("source", "topic").successful
    robot.deliver("prior", pose(TWIN))
    answer = found(robot, ORIGINAL)
    assert (answer["map image"], answer["prior"]) == (str(TWIN), "used")
    assert change("origin_latitude", 3.0).successful  # of no effect without fixes
    refused = change("source", "fix")
    assert not refused.successful and "got only one" in refused.reason
    assert change("outlier_ratio", 1.0).successful  # priors have no say
    robot.deliver("prior", pose(TWIN))
    assert found(robot, 7)["map image"] == "7"
    assert change("source", "none").successful
    assert found(robot, 8)["prior"] == "none"


def header(latitude=None, longitude=None):
    return MapHeader("", "", "town", {}, DescriptorConfig(), latitude, longitude)


def test_the_origin_is_the_configured_one_or_the_maps_and_never_half_of_one():
    assert map_origin(PriorConfig(), header(1.0, 2.0)) == Origin(1.0, 2.0)
    settings = PriorConfig(origin_latitude=3.0, origin_longitude=4.0, origin_yaw=0.5)
    assert map_origin(settings, header(1.0, 2.0)) == Origin(3.0, 4.0, 0.5)
    with pytest.raises(ConfigError, match="got only one"):
        map_origin(PriorConfig(source="fix", origin_latitude=3.0), header(1.0, 2.0))
    assert map_origin(PriorConfig(origin_latitude=3.0), header(1.0, 2.0)) is None
    with pytest.raises(ConfigError, match="has no place on Earth"):
        map_origin(PriorConfig(source="fix"), header())
    assert map_origin(PriorConfig(), header()) is None
