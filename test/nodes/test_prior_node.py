# SPDX-License-Identifier: Apache-2.0
"""The localizer node with a prior of the place from topics, over DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovariance, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import NavSatFix, NavSatStatus
from support.ros import (
    BASE_FROM_CAMERA,
    START_S,
    Client,
    base_pose,
    image_message,
    node_process,
    save_tiny_model,
    texture,
    values,
)

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, MapBuilderConfig, PriorConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ConfigError
from disam_ros.geodesy import Origin
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import MapHeader
from disam_ros.nodes.conversions import transform_to_pose
from disam_ros.nodes.localizer.priors import map_origin

NODE = "/localizer"
COUNT = 30  # map images, two metres apart; image 25 looks like image 3
ORIGINAL, TWIN = 3, 25
METRES_PER_DEGREE = 111_195.0  # on a sphere; near the origin 0.0, 0.0 that is right to 1 %


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model and a map with two places that look the same."""
    folder = tmp_path_factory.mktemp("world")
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0, base_from_camera=BASE_FROM_CAMERA)
    info = DatasetInfo("twins", {"front": camera}, "town", latitude=0.0, longitude=0.0)
    looks = [ORIGINAL if i == TWIN else i for i in range(COUNT)]
    images = [
        PosedImage(
            ImageRecord(
                *(i, START_S * 10**9, "front", "day", f"{i}"), base_pose(i) @ BASE_FROM_CAMERA
            ),
            lambda seed=seed: texture(seed),
        )
        for i, seed in enumerate(looks)
    ]
    config = MapBuilderConfig(
        keyframe_distance=0.0, descriptor=DescriptorConfig(coarse_grid=4, fine_grid=8)
    )
    source = ImageSource(images, info, "twins", COUNT)
    model = save_tiny_model(folder / "model")
    build_map(source, model, folder / "map", config, show_progress=False)
    return folder


class Robot:
    """A client of a node whose prior comes from one source."""

    def __init__(self, process, client):
        self.process, self.client, self.second = process, client, 0
        self._answers = client.collect(DiagnosticArray, f"{NODE}/answer")

    def localize(self, seed):
        """The key-values of the answer to a texture, taken one second after the last message."""
        self.second += 1
        message = image_message(texture(seed), self.second)

        def answer():
            stamp = message.header.stamp
            return next((a for a in self._answers if a.header.stamp == stamp), None)

        return values(self.client.ask("image", message, answer, "an answer").status[0])

    def send(self, topic, message):
        """Publish a message with the stamp of the next image, and let it arrive."""
        message.header.stamp.sec = START_S + self.second + 1
        self.client.publish(topic, message)
        self.client.spin(0.2)

    def told(self, words):
        assert self.client.told(words).level == DiagnosticStatus.WARN


@pytest.fixture
def robot(world, request):
    parameters = {
        "map": str(world / "map"),
        "model": str(world / "model"),
        "localizer.domain.override": "day",
        "localizer.prior.temperature": 0.01,
        "localizer.prior.source": request.param,
    }
    client = Client()
    with node_process("localizer.node", world / "node.log", parameters) as process:
        yield Robot(process, client)
    client.close()


def with_source(source):
    return pytest.mark.parametrize("robot", [source], indirect=True)


def pose(index, sigma=2.0, frame="town"):
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    at = base_pose(index).translation
    message.pose.pose.position.x, message.pose.pose.position.y = at[0], at[1]
    covariance = np.zeros((6, 6))
    covariance[:2, :2] = sigma**2 * np.eye(2)
    message.pose.covariance = covariance.ravel().tolist()
    return message


@with_source("topic")
def test_a_prior_by_topic_tells_twins_apart_and_bad_ones_are_told_and_ignored(robot):
    assert robot.localize(7)["prior"] == "none"
    robot.told("nothing on 'prior' within 1 s of the image")
    for place in (ORIGINAL, TWIN):
        robot.send("prior", pose(place))
        answer = robot.localize(ORIGINAL)
        assert (answer["map image"], answer["prior"]) == (str(place), "used")
    robot.send("prior", pose(TWIN))
    answer = robot.localize(10)
    assert (answer["map image"], answer["prior"]) == ("10", "overruled")
    robot.told("the prior was overruled")
    for sigma, frame, words in (
        (0.0, "town", "positive variances"),
        (np.nan, "town", "finite values"),
        (2.0, "odom", "prior in frame 'odom' ignored: expected 'town'"),
    ):
        robot.second += 5  # the last good one is old
        robot.send("prior", pose(TWIN, sigma, frame))
        robot.told(words)
        answer = robot.localize(8)
        assert (answer["map image"], answer["prior"]) == ("8", "none")
    robot.send("prior", pose(1000))
    answer = robot.localize(9)
    assert (answer["map image"], answer["prior"]) == ("9", "off the map")
    robot.told("the prior is off the map and not used")
    last = values(robot.client.diagnosis(lambda s: True, "anything"))
    assert int(last["priors used"]) >= 2 and int(last["priors overruled"]) >= 1
    assert last["priors refused"] == "3"
    assert last["prior"].startswith("off the map: (2000.0, 1.0) m, 2.0 m (1 sigma)")


def fix(index, kind=NavSatFix.COVARIANCE_TYPE_KNOWN):
    x, y, _ = base_pose(index).translation
    message = NavSatFix(latitude=y / METRES_PER_DEGREE, longitude=x / METRES_PER_DEGREE)
    message.position_covariance = np.diag([4.0, 4.0, 9.0]).ravel().tolist()
    message.position_covariance_type, message.status.status = kind, NavSatStatus.STATUS_FIX
    return message


@with_source("fix")
def test_a_fix_tells_twins_apart_unless_it_is_old_or_tells_no_covariance(robot):
    for place in (ORIGINAL, TWIN):
        robot.send("fix", fix(place))
        answer = robot.localize(ORIGINAL)
        assert (answer["map image"], answer["prior"]) == (str(place), "used")
    robot.second += 10
    robot.send("fix", fix(ORIGINAL, NavSatFix.COVARIANCE_TYPE_UNKNOWN))
    robot.told("position_covariance_type is unknown")
    assert robot.localize(ORIGINAL)["prior"] == "none"
    robot.told("nothing on 'fix' within 1 s of the image")


def odometry(odom_from_base):
    return Odometry(pose=PoseWithCovariance(pose=transform_to_pose(odom_from_base)))


@with_source("odom")
def test_odometry_carries_the_last_answer_to_the_twin(robot):
    robot.send("odom", odometry(base_pose(0)))
    assert robot.localize(20)["prior"] == "none"
    robot.send("odom", odometry(base_pose(0) @ base_pose(20).inverse() @ base_pose(TWIN)))
    answer = robot.localize(ORIGINAL)
    assert (answer["map image"], answer["prior"]) == (str(TWIN), "used")
    robot.second += 10
    assert robot.localize(ORIGINAL)["prior"] == "none"
    robot.told("nothing on 'odom' within 1 s of the image")


@with_source("none")
def test_the_source_of_priors_changes_while_the_node_runs(robot):
    def change(name, value):
        return robot.client.set_parameter(NODE, f"localizer.prior.{name}", value)

    assert robot.localize(ORIGINAL)["prior"] == "none"
    assert change("source", "topic").successful
    robot.send("prior", pose(TWIN))
    answer = robot.localize(ORIGINAL)
    assert (answer["map image"], answer["prior"]) == (str(TWIN), "used")
    assert change("origin_latitude", 3.0).successful  # of no effect without fixes
    refused = change("source", "fix")
    assert not refused.successful and "got only one" in refused.reason
    assert change("outlier_share", 1.0).successful  # priors have no say
    robot.send("prior", pose(TWIN))
    assert robot.localize(7)["map image"] == "7"
    assert change("source", "none").successful
    assert robot.localize(8)["prior"] == "none"


def header(latitude=None, longitude=None):
    return MapHeader("", "", "town", {}, DescriptorConfig(), latitude, longitude)


def test_the_origin_is_the_configured_one_or_the_maps_and_never_half_of_one():
    assert map_origin(PriorConfig(), header(1.0, 2.0)) == Origin(1.0, 2.0)
    settings = PriorConfig(origin_latitude=3.0, origin_longitude=4.0, origin_yaw=0.5)
    assert map_origin(settings, header(1.0, 2.0)) == Origin(3.0, 4.0, 0.5)
    with pytest.raises(ConfigError, match="got only one"):
        map_origin(PriorConfig(origin_latitude=3.0), header(1.0, 2.0))
    with pytest.raises(ConfigError, match="does not tell where on Earth"):
        map_origin(PriorConfig(), header())
