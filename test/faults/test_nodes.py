# SPDX-License-Identifier: Apache-2.0
"""Faults of the localizer node's input, one after the other on one running node.

After each the process lives, a good image is answered rightly, and every image has one answer.
"""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import DescribeParameters, GetParameters, GetParameterTypes
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix, NavSatStatus
from std_msgs.msg import String
from support.data import detailed, save_tiny_model
from support.maps import base_pose, save_tiny_map
from support.messages import image_message, odometry_message, values
from support.node_process import RELIABLE, node_process
from support.robot import NODE
from support.ros import Client
from support.tf import tf2_ros
from support.vehicle import OTHER, PLACES, Vehicle, transform_message

from disam_ros.geometry import Transform
from disam_ros.nodes.conversions import transform_to_pose

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
TF_STAND_IN = f"import sys; sys.path.insert(0, {str(Path(tf2_ros.__file__).parent)!r})"
NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, a map of it, and a map of another model."""
    folder = tmp_path_factory.mktemp("world")
    options = {"picture": detailed, "place": (48.0, 11.0)}
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"), PLACES, **options)
    save_tiny_map(folder / "other", save_tiny_model(folder / "model_2", seed=5), PLACES, **options)
    return folder


@pytest.fixture(scope="module")
def node(world):
    parameters = {
        "map": world / "map",
        "model": world / "model",
        "localizer.domain.override": "day",
        "loop_closure.enabled": True,
        "stale_after": 60.0,
        **RELIABLE,
    }
    log = world / "log"
    with (
        node_process("localizer.node", log, parameters, fresh=True, before=TF_STAND_IN) as process,
        Vehicle(process) as vehicle,
    ):
        yield vehicle


@pytest.fixture
def vehicle(node):
    """The vehicle; whatever happens in a test, the next image is answered."""
    yield node
    node.check()


# Images.


def image(encoding="rgb8", channels=3, kind=np.uint8, rows=None, **fields):
    """A raw image of place 1 in other clothes: its fields are as given."""
    pixels = detailed(OTHER) if rows is None else rows
    message = Image(height=240, width=320, encoding=encoding, step=320 * channels * kind().itemsize)
    message.data = np.ascontiguousarray(pixels, dtype=kind).tobytes()
    for name, value in fields.items():
        setattr(message, name, value)
    message.header.frame_id = "camera"
    return message


def flat(level):
    return np.full((240, 320, 3), level, np.uint8)


RGB = detailed(OTHER)
BGR, ALPHA = RGB[..., ::-1], np.full((240, 320, 1), 9, np.uint8)
BROKEN_IMAGES = {
    "no height": (lambda: image(height=0), "expected an image with pixels, got 320x0"),
    "no width": (lambda: image(width=0), "expected an image with pixels, got 0x240"),
    "no size and no data": (lambda: image(height=0, width=0, data=b""), "an image with pixels"),
    "short step": (lambda: image(step=959), "a step of at least 960 bytes"),
    "step 0": (lambda: image(step=0), "a step of at least 960 bytes"),
    "long step": (lambda: image(step=1000), "got step 1000 and 230400 bytes"),
    "no data": (lambda: image(data=b""), "step 960 and 0 bytes"),
    "data cut off": (lambda: image(rows=RGB[:100]), "step 960 and 96000 bytes"),
    "too much data": (lambda: image(rows=np.concatenate([RGB, RGB])), "and 460800 bytes"),
    "huge height": (lambda: image(height=2**32 - 1), "got step 960 and 230400 bytes"),
    "huge step": (lambda: image(step=2**32 - 1), "height, step or data wrongly"),
    "unknown encoding": (lambda: image("rgb9"), "'rgb9' is unknown; known: rgb8"),
    "empty encoding": (lambda: image(""), "'' is unknown; known: rgb8"),
    "encoding of a megabyte": (lambda: image("x" * MEGABYTE), "characters …]"),
    "depth": (lambda: image("16UC1", 1, np.uint16), "'16UC1' is unknown"),
    "metres": (lambda: image("32FC1", 1, np.float32), "'32FC1' is unknown"),
    "16 bit promised": (lambda: image("rgb16", 3), "a row of 320 rgb16 pixels has 1920 bytes"),
    "odd nv12": (lambda: image("nv12", width=319, step=319), "an even size, got 319x240"),
    "nv21 without chroma": (lambda: image("nv21", 1, rows=RGB[..., 0]), "expected 360 rows"),
    "odd yuyv": (lambda: image("yuyv", 2, width=319), "an even width, got 319|expected 240 rows"),
    "black": (lambda: image(rows=flat(2)), "black"),
    "white": (lambda: image(rows=flat(255)), "white"),
    "grey": (lambda: image(rows=flat(128)), "one colour"),
}
ENCODINGS = {
    "rgb8": lambda: image(),
    "bgr8": lambda: image("bgr8", rows=BGR),
    "rgba8": lambda: image("rgba8", 4, rows=np.concatenate([RGB, ALPHA], -1)),
    "8UC3": lambda: image("8UC3", rows=BGR),
    "8UC4": lambda: image("8UC4", 4, rows=np.concatenate([BGR, ALPHA], -1)),
    "rgb16": lambda: image("rgb16", 3, np.uint16, RGB * np.uint16(257)),
    "bgr16 big-endian": lambda: image(
        "bgr16", 3, np.dtype(">u2").type, (BGR * np.uint16(257)).byteswap(), is_bigendian=1
    ),
    "nv12": lambda: image("nv12", 1, rows=planes("nv12")),
    "nv21": lambda: image("nv21", 1, rows=planes("nv21")),
    "padded rows": lambda: image(step=1000, rows=np.pad(RGB.reshape(240, -1), ((0, 0), (0, 40)))),
    "frame of a megabyte": lambda: framed("f" * MEGABYTE),
    "no frame": lambda: framed(""),
}


def planes(encoding):
    """4:2:0 of the image, from cv2's planar form."""
    import cv2

    planar = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    pair = planar[240:].reshape(2, 120, 160)
    order = pair if encoding == "nv12" else pair[::-1]
    return np.concatenate([planar[:240], np.stack(order, -1).reshape(120, 320)])


def framed(name):
    message = image()
    message.header.frame_id = name
    return message


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_an_image_that_cannot_be_used_is_answered_once_with_the_reason(vehicle, name):
    make, words = BROKEN_IMAGES[name]
    before = vehicle.client.now()
    answer = values(vehicle.ask(make()).status[0])
    assert answer["outcome"] == "unreadable"
    assert any(word in answer["reason"] for word in words.split("|")), answer
    assert len(answer["reason"]) < 1000
    vehicle.client.problem("image skipped", before)


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_image_in_any_clothes_is_known(vehicle, name):
    answer = values(vehicle.ask(ENCODINGS[name]()).status[0])
    assert (answer["outcome"], answer["map image"]) == ("known", "1"), answer


@pytest.mark.parametrize(
    ("second", "words"),
    [(0, "carry no stamp"), (-5, "go backwards"), (-(2**31), "go backwards"), (1, "go backwards")],
)
def test_a_stamp_that_is_no_capture_time_is_reported_and_the_image_answered(vehicle, second, words):
    before, count = vehicle.client.now(), len(vehicle.answers)
    message = image_message(detailed(OTHER))
    message.header.stamp.sec, message.header.stamp.nanosec = second, 0
    vehicle.client.publish("image", message)
    answer = vehicle.of_image(vehicle.answers, message, count)
    assert values(answer.status[0])["map image"] == "1"
    vehicle.sees(words, before)


# Intrinsics.

K = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]


def info(d=(), k=None, width=64, height=48, model="plumb_bob"):
    return CameraInfo(
        width=width, height=height, k=k or K, d=[float(v) for v in d], distortion_model=model
    )


def k_with(index, value):
    return [value if i == index else v for i, v in enumerate(K)]


INFOS = {
    "three distortion coefficients": (info([0.1, 0.2, 0.3]), "coefficients, got 3"),
    "six distortion coefficients": (info([0.1] * 6), "coefficients, got 6"),
    "distortion of nan": (info([NAN] * 5), "finite intrinsics"),
    "distortion of inf": (info([INF] * 5), "finite intrinsics"),
    "focal length of nan": (info(k=k_with(0, NAN)), "finite intrinsics"),
    "focal length of 0": (info(k=k_with(0, 0.0)), "focal lengths above 0"),
    "negative focal length": (info(k=k_with(4, -50.0)), "focal lengths above 0"),
    "all zero": (info(k=[0.0] * 9), "focal lengths above 0"),
    "principal point of inf": (info(k=k_with(2, INF)), "finite intrinsics"),
    "principal point outside": (info(k=k_with(2, 500.0)), "principal point (500, 24)"),
    "no size": (info(width=0, height=0), "the size of the image, got 0x0"),
    "unknown model": (info([0.1] * 4, model="wide"), "distortion model 'wide'"),
    "fisheye without coefficients": (info(model="equidistant"), "of the fisheye model, got 0"),
    "fisheye of three": (info([0.1] * 3, model="equidistant"), "of the fisheye model, got 3"),
    "fisheye of five": (info([0.1] * 5, model="equidistant"), "of the fisheye model, got 5"),
    "fisheye of no focal length": (
        info([0.1] * 4, [0.0] * 9, model="equidistant"),
        "focal lengths above 0",
    ),
    "half a sphere": (info(model="equirectangular"), "twice as wide as high, this one is of 64x48"),
    "model of a megabyte": (info(model="x" * MEGABYTE), "distortion model 'xxx"),
    "another shape": (info(width=64, height=36, k=k_with(5, 18.0)), "have 320x240"),
}


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


# Other topics.


def odometry(x=0.0, z=0.0, quaternion=(0.0, 0.0, 0.0, 1.0), speed=0.0):
    message = odometry_message(Transform.identity())
    message.pose.pose.position.x, message.pose.pose.position.z = x, z
    turn = message.pose.pose.orientation
    turn.x, turn.y, turn.z, turn.w = quaternion
    message.twist.twist.linear.x = speed
    return message


def prior(frame="town", x=0.0, variance=1.0, covariance=None):
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    message.pose.pose = transform_to_pose(base_pose(1))
    message.pose.pose.position.x = x
    covariance = np.diag([variance] * 6) if covariance is None else covariance
    message.pose.covariance = covariance.ravel()
    return message


def fix(
    latitude=48.0, longitude=11.0, variance=1.0, kind=NavSatFix.COVARIANCE_TYPE_KNOWN, status=0
):
    return NavSatFix(
        latitude=latitude,
        longitude=longitude,
        position_covariance=np.diag([variance] * 3).ravel(),
        position_covariance_type=kind,
        status=NavSatStatus(status=status),
    )


SKEW = np.eye(6) + np.diag([9.0], 5) + np.diag([9.0] * 5, 1)
MESSAGES = {
    "odometry at nan": ("odom", odometry(x=NAN), "none", "odometry ignored"),
    "odometry at inf": ("odom", odometry(z=INF), "none", "odometry ignored"),
    "odometry without turn": ("odom", odometry(quaternion=(0.0,) * 4), "none", "odometry ignored"),
    "odometry turned by nan": (
        "odom",
        odometry(quaternion=(NAN, 0.0, 0.0, 1.0)),
        "none",
        "odometry ignored",
    ),
    "odometry with speed nan": ("odom", odometry(speed=NAN), "none", "a finite twist"),
    "odometry far away": ("odom", odometry(x=1e300), "none", "odometry jumped"),
    "prior in another frame": ("prior", prior("elsewhere"), "topic", "in frame 'elsewhere'"),
    "prior in a frame of a megabyte": ("prior", prior("f" * MEGABYTE), "topic", "in frame 'fff"),
    "prior at nan": ("prior", prior(x=NAN), "topic", "prior ignored"),
    "prior at inf": ("prior", prior(x=INF), "topic", "prior ignored"),
    "prior of variance nan": ("prior", prior(variance=NAN), "topic", "prior ignored"),
    "prior of variance inf": ("prior", prior(variance=INF), "topic", "prior ignored"),
    "prior of variance 0": ("prior", prior(variance=0.0), "topic", "prior ignored"),
    "prior of negative variance": ("prior", prior(variance=-1.0), "topic", "prior ignored"),
    "prior of no covariance": ("prior", prior(covariance=SKEW), "topic", "prior ignored"),
    "prior far away": ("prior", prior(x=1e7), "topic", "off the map"),
    "fix without covariance": ("fix", fix(kind=0), "fix", "position_covariance_type is unknown"),
    "fix of variance nan": ("fix", fix(variance=NAN), "fix", "fix not used"),
    "fix of negative variance": ("fix", fix(variance=-1.0), "fix", "fix not used"),
    "fix at nan": ("fix", fix(latitude=NAN), "fix", "nothing on 'fix'"),
    "fix beyond the pole": ("fix", fix(latitude=91.0), "fix", "nothing on 'fix'"),
    "fix without a fix": ("fix", fix(status=-1), "fix", "nothing on 'fix'"),
    "weather unknown": ("weather", String(data="raspberry"), "none", "raspberry"),
    "weather of a megabyte": ("weather", String(data="r" * MEGABYTE), "none", "send words"),
    "weather of many words": ("weather", String(data="snow " * 200_000), "none", "send words"),
    "weather with markup": ("weather", String(data="<b>&\n"), "none", "ignored"),
    "domain unknown": ("domain", String(data="raspberry"), "none", "'raspberry' ignored"),
    "domain of a megabyte": ("domain", String(data="r" * MEGABYTE), "none", "known are day, night"),
}


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

NUMBERS = ("localizer.prior.max_age", "stale_after", "localizer.max_speed")
NUMBERS += ("localizer.sequence.odometry_noise", "localizer.score_threshold")
VALUES = [
    *((name, value) for name in NUMBERS for value in (1e300, -1e300, NAN, INF, -INF)),
    *(("localizer.candidates", value) for value in (0, -1, 1001, 2**62)),
    ("localizer.candidates", "many"),
    ("localizer.candidates", 3.5),
    ("localizer.prior.source", "raspberry"),
    ("localizer.domain.weather", "raspberry"),
    ("localizer.domain.weather", "r" * MEGABYTE),
    ("localizer.domain.latitude", 91.0),
    ("localizer.domain.override", "raspberry"),
    ("localizer.prior.origin_yaw", 1e300),
    ("localizer.device", "cpu"),
    ("localizer.verify.budget_ms", NAN),
    ("base_from_camera", [NAN] * 6),
    ("cameras", ["left"]),
    ("relocalize_timeout", 1e300),
    ("loop_closure.keypoints", 10),
]


@pytest.mark.parametrize(("name", "value"), VALUES, ids=lambda value: str(value)[:40])
def test_a_value_that_cannot_be_is_refused_with_a_reason(vehicle, name, value):
    result = vehicle.client.set_parameter(name, value)
    assert not result.successful
    assert 5 < len(result.reason) < 1500
    words = (name, "type", "known", "undeclared", "model")
    assert any(word in result.reason for word in words), result.reason


@pytest.mark.parametrize("value", [1e-300, 0.1, 3600.0, 0.0], ids=lambda value: f"{value:g} s")
def test_every_age_that_is_accepted_can_be_lived_with(vehicle, value):
    vehicle.set("localizer.prior.max_age", value)
    vehicle.drive()
    vehicle.set("localizer.prior.max_age", 1.0)


@pytest.mark.parametrize("value", [0.1, 86400.0])
def test_every_timeout_that_is_accepted_can_be_waited_for(vehicle, value):
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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "'map' is empty"),
        ("nowhere", "is not a map"),
        ("model", "is not a map"),
        ("log", "is not a map"),
        ("other", "was built with model"),
    ],
)
def test_a_map_that_cannot_be_used_is_not_taken(vehicle, world, name, words):
    before = vehicle.client.now()
    vehicle.set("map", str(world / name) if name else "")
    answer = vehicle.client.trigger("reload")
    assert not answer.success and words in answer.message
    vehicle.sees(words, before)
    vehicle.set("map", str(world / "map"))
    assert vehicle.client.trigger("reload").success


# The map in use.


def overwrite(path):
    path.write_bytes(bytes(path.stat().st_size))


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


CHANGES = {
    "emptied": lambda path: os.truncate(path, 0),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "overwritten": overwrite,
    "grown": grow,
}


@pytest.fixture
def copied(vehicle, world, tmp_path):
    """A copy of the map, in use during the test."""
    shutil.copytree(world / "map", tmp_path / "map")
    vehicle.set("map", str(tmp_path / "map"))
    assert vehicle.client.trigger("reload").success
    yield tmp_path / "map"
    vehicle.set("map", str(world / "map"))
    assert vehicle.client.trigger("reload").success


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["fine.npy", "images.csv"])
def test_a_map_that_is_changed_in_use_is_reported_and_no_image_answered(
    vehicle, copied, name, change
):
    before = vehicle.client.now()
    CHANGES[change](copied / name)
    answer = values(vehicle.ask(image_message(detailed(OTHER))).status[0])
    assert answer["outcome"] == "failed"
    assert f"{name} was changed while in use" in answer["reason"]
    vehicle.sees(f"{name} was changed while in use", before)


@pytest.mark.parametrize("change", [*CHANGES, "removed"])
@pytest.mark.parametrize("name", ["coarse.npy", "poses.npy", "mean.npy", "map.json"])
def test_what_was_read_into_memory_may_change(vehicle, copied, name, change):
    CHANGES.get(change, os.unlink)(copied / name)
    vehicle.drive()


def test_a_map_that_is_moved_away_or_removed_stays_in_use(vehicle, copied, tmp_path):
    copied.rename(tmp_path / "old")
    vehicle.drive()
    shutil.rmtree(tmp_path / "old")
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


def test_the_wrong_type_on_a_topic_is_no_message(vehicle):
    with Client(NODE, "stranger") as stranger:
        for topic, kind in (("image", CompressedImage), ("odom", NavSatFix), ("weather", Clock)):
            stranger.node.create_publisher(kind, topic, 1).publish(kind())
        stranger.barrier()
