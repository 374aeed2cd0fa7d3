# SPDX-License-Identifier: Apache-2.0
"""The law "offline equals node": a bag gets the same answers offline as from the running node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 client library (pip: disam_ros[ros])")

from rclpy.parameter import Parameter
from support import scene
from support.data import DESCRIPTOR, save_tiny_model, texture
from support.maps import BASE_FROM_CAMERA, CAMERA, START_S
from support.node_process import localizers_in_forks
from support.ring import LAP, MAP_FROM_ODOM, ring

from disam_ros import evaluation
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.bags import messages
from disam_ros.datasets.bags.writer import BagWriter, optical_frame
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance, publishable_covariance
from disam_ros.image import encode_jpeg
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import KNOWN, UNKNOWN, UNREADABLE
from disam_ros.mapping.builder import build_map
from disam_ros.nodes.localizer.publishers.answer_status import candidate_ids
from disam_ros.nodes.rclpy_extra import parameters
from disam_ros.nodes.replay import node_run
from disam_ros.nodes.replay.node_run import NodeOptions, run_node_on_bag
from disam_ros.nodes.replay.replay_drive import replay_drive

SECOND = 10**9
PERIOD, ODOMETRY_PERIOD = 0.5, 0.05  # of images and odometry [s]
PHASE = 0.013  # of odometry against images [s]
LATENCY = 0.12  # from an image's stamp to its recording [s]: newer odometry is recorded before it
APART = 60.0  # between two parts of a bag [s]
MIDNIGHT, NOON = (48.0, 11.0), (0.0, -150.0)  # where it is night and day at START_S
IDENTITY = Transform.identity()
BLACK = np.zeros((48, 64, 3), np.uint8)
MODES = {
    "single image": {"sequence.enabled": False, "min_probability": 0.3},
    "sequence": {"min_probability": 0.3},
}


class Recording:
    """What a vehicle on the ring records, two places a second. All times in s since START_S."""

    def __init__(self) -> None:
        self.begin = 0.0
        self.count = 0  # images
        self._recorded: list[tuple[float, Callable[[BagWriter, int], None]]] = []

    def image(self, at: float, pixels: np.ndarray, stamp: float | None = None) -> None:
        """Taken at a moment; stamp: None: that of the moment; nan: zero."""
        stamp = at if stamp is None else stamp
        stamp_ns = 0 if np.isnan(stamp) else self._ns(stamp)
        message = messages.compressed_image(stamp_ns, optical_frame("front"), encode_jpeg(pixels))
        self.count += 1
        self._add(at + LATENCY, "/camera/front/image_raw/compressed", message)

    def odometry(
        self, at: float, odom_from_base: Transform, stamp: float | None = None, speed: float = 0.0
    ) -> None:
        stamp_ns = self._ns(at if stamp is None else stamp)
        message = messages.odometry(stamp_ns, "odom", "base_link", odom_from_base, speed, 0.0)
        self._add(at, "/odom", message)

    def fix(self, at: float, place: tuple[float, float]) -> None:
        message = messages.nav_sat_fix(self._ns(at), "gnss", *place, 0.0, 1.0)
        self._add(at, "/fix", message)

    def weather(self, at: float, word: str) -> None:
        self._add(at, "/weather", messages.make(messages.STRING, data=word))

    def images(self, count: int, seen: Callable[[int], np.ndarray] | None = None) -> None:
        """An image per place; seen: what place `index` looks like, by default as in the map."""
        for index in range(count):
            self.image(PERIOD * index, seen(index) if seen else texture(index % LAP))

    def motion(
        self,
        begin: float,
        end: float,
        frame: Transform = IDENTITY,
        delay: float = 0.0,
        shift: float = 0.0,
    ) -> None:
        """Odometry between two moments; frame: odometry's, in that of before; delay: until it is
        recorded; shift: of its stamps, into the past."""
        for at in np.arange(begin + PHASE, end, ODOMETRY_PERIOD).tolist():
            self.odometry(at, frame @ pose_at(at - delay), stamp=at - delay - shift)

    def drive(self, count: int, seen: Callable[[int], np.ndarray] | None = None) -> None:
        """Images and odometry."""
        self.motion(-PERIOD, PERIOD * count)
        self.images(count, seen)

    def write(self, bag: BagWriter) -> None:
        """In the order of the log times."""
        for at, topic, message in sorted(self._recorded, key=lambda item: item[0]):
            bag.write(topic, message, round((START_S + at) * SECOND), messages.RELIABLE_QOS)

    def _ns(self, at: float) -> int:
        return START_S * SECOND + round((self.begin + at) * SECOND)

    def _add(self, at: float, topic: str, message: object) -> None:
        self._recorded.append((self.begin + at, topic, message))


def pose_at(at: float) -> Transform:
    """odom_from_base on the ring, at a speed that changes."""
    return MAP_FROM_ODOM.inverse() @ ring(at / PERIOD + 0.2 * np.sin(5.0 * at))


def normal(recording):
    recording.drive(8)


def before_the_first_fix(recording):
    recording.drive(4)
    recording.fix(1.3, MIDNIGHT)
    recording.weather(1.3, "snow")
    recording.weather(1.31, "frogs")


def black_image(recording):
    recording.drive(6, lambda index: BLACK if index == 3 else texture(index))


def frozen_camera(recording):
    recording.drive(8, lambda index: texture(2) if 2 <= index < 6 else texture(index))


def repeated_without_odometry(recording):
    recording.images(9, lambda index: texture(3))


def repeated_at_rest(recording):
    for at in np.arange(-PERIOD, 4.5, ODOMETRY_PERIOD).tolist():
        recording.odometry(at, pose_at(1.5))
    recording.images(9, lambda index: texture(3))


def other_places(recording):
    recording.drive(6, lambda index: texture(50 + index))


def odometry_that_jumps(recording):
    recording.motion(-PERIOD, 1.7)
    far = Transform.from_xyz_rpy([900.0, 900.0, 0.0, 0.0, 0.0, 2.0])
    recording.motion(1.7, 4.0, frame=far)
    recording.images(8)


def odometry_that_stops(recording):
    recording.motion(-PERIOD, 1.2)
    recording.motion(2.9, 5.0)
    recording.images(9)


def odometry_whose_stamps_go_back(recording):
    recording.motion(-PERIOD, 1.7)
    recording.motion(1.7, 4.0, shift=0.4)
    recording.images(8)


def odometry_that_arrives_late(recording):
    recording.motion(-PERIOD, 4.0, delay=0.3)
    recording.images(8)


def odometry_that_is_not_finite(recording):
    recording.drive(6)
    recording.odometry(1.21, pose_at(2.5), speed=float("nan"))
    recording.odometry(1.22, pose_at(2.5), speed=float("inf"))


def images_out_of_order(recording):
    recording.drive(3)
    recording.motion(PERIOD * 3, 5.0)
    recording.image(1.5, texture(3), stamp=0.75)
    recording.image(2.0, texture(4))
    recording.image(2.5, texture(5), stamp=float("nan"))
    recording.image(3.0, texture(6))
    recording.image(3.5, texture(7))


# What is recorded, and how many images of it are readable, known and repeated in a sequence.
PARTS = {
    normal: (8, 8, 0),
    before_the_first_fix: (4, 4, 0),
    black_image: (5, 5, 0),
    frozen_camera: (5, 5, 0),
    repeated_without_odometry: (9, None, 5),  # known is a matter of calibration
    repeated_at_rest: (9, 9, 0),
    other_places: (6, 0, 0),
    odometry_that_jumps: (8, 8, 0),
    odometry_that_stops: (9, 9, 0),
    odometry_whose_stamps_go_back: (8, 8, 0),
    odometry_that_arrives_late: (8, 8, 0),
    odometry_that_is_not_finite: (6, 6, 0),
    images_out_of_order: (8, 8, 0),
}


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """A bag of all parts; the images of each part."""
    folder = tmp_path_factory.mktemp("drive")
    recording, images = Recording(), {}
    for part in PARTS:
        recording.begin += APART
        first = recording.count
        part(recording)
        images[part] = slice(first, recording.count)
    with BagWriter(folder / "bag", map_frame="town") as bag:
        bag.camera_info("front", START_S * SECOND, CAMERA)
        bag.tf_static(START_S * SECOND, {"front": BASE_FROM_CAMERA})
        recording.write(bag)
    return folder / "bag", images


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Nodes start quickly."""
    with pytest.MonkeyPatch.context() as patch:
        process = localizers_in_forks([], tmp_path_factory.mktemp("log") / "log")
        patch.setattr(node_run, "localizer_process", process)
        yield


@pytest.fixture(scope="module", params=MODES)
def both(request, ring_places, drive, forks):
    """The run of the node; records and answers offline, in order; the images of each part."""
    bag, images = drive
    place_map, model = ring_places["map"], ring_places["model"]
    settings = MODES[request.param]
    node = {f"localizer.{name}": value for name, value in settings.items()}
    run = run_node_on_bag(bag, place_map, model, NodeOptions(parameters=node))
    localizer = open_localizer(place_map, model, settings)
    source = open_images(bag, localizer.map.header.map_frame)
    offline = [
        (record, localized and localized.answer)
        for record, localized in localize_drive(Pipeline(localizer), source)
    ]
    return run, offline, images


def open_localizer(map_dir, model_dir, settings):
    changes = [Parameter(name, value=value) for name, value in settings.items()]
    config = parameters.with_changes(LocalizerConfig(), changes)
    return Localizer.open(map_dir, model_dir, config)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_offline_answers_every_image_as_the_node_does(both, part):
    run, offline, images = both
    assert run.sent[images[part]] == [record.stamp_ns for record, _ in offline[images[part]]]
    for record, answer in offline[images[part]]:
        values, stamp_ns = run.answers[record.stamp_ns], record.stamp_ns
        if answer is None:
            assert values["outcome"] == UNREADABLE
            continue
        assert values["outcome"] == (KNOWN if answer.known else UNKNOWN)
        assert values["map image"] == str(answer.record.id)
        assert candidate_ids(values) == [c.record.id for c in answer.candidates]
        assert values["domain"] == answer.domain.name
        assert values["domain reason"] == answer.domain.reason
        assert float(values["score"]) == pytest.approx(answer.best.fine_score, abs=1e-6)
        assert ("image" in values) == (not answer.informative)
        assert float(values["probability"]) == pytest.approx(answer.probability, abs=1e-6)
        assert ("on map" in values) == answer.tracked
        if answer.tracked:
            assert float(values["on map"]) == pytest.approx(answer.on_map, abs=1e-6)
        if answer.known:
            assert_same_pose(run.poses[stamp_ns], answer.map_from_base)
            covariance = publishable_covariance(answer.covariance)
            assert np.allclose(run.covariances[stamp_ns], covariance, rtol=1e-6, atol=1e-6)
        else:
            assert stamp_ns not in run.poses


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_the_parts_of_the_bag_are_what_their_names_say(both, part):
    _, offline, images = both
    answers = [answer for _, answer in offline[images[part]] if answer is not None]
    readable, known, repeated = PARTS[part]
    assert len(answers) == readable
    assert sum(not answer.informative for answer in answers) == repeated
    if (
        answers[0].tracked and known is not None
    ):  # of single images an untrained model is not sure of anything
        assert sum(answer.known for answer in answers) == known


def assert_same_pose(a, b):
    metres, degrees = distance(a, b)
    assert metres < 1e-6 and degrees < 1e-5


# Vehicles whose cameras differ from the map's, with geometric verification.

MAPPED = replace(scene.CAMERA, base_from_camera=BASE_FROM_CAMERA)
OTHER_MOUNT = Transform.from_rotation(np.array([-0.4, 0.3, 1.1]), BODY_FROM_OPTICAL)
VEHICLES = {
    "as the map's": MAPPED,
    "of another vehicle": replace(scene.CAMERA.resized(400, 300), base_from_camera=OTHER_MOUNT),
    "not recorded": None,
}
VERIFIED = {**MODES["sequence"], "verify.when": "always"}
DRIVEN = [  # by more than the filter's step, at which rounding would decide
    scene.pose(0.6 * index - 2.0, -0.1, 0.2, 1.0) for index in range(6)
]


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    """A folder with a model and a map of a wall that keeps keypoints with depths."""
    folder = tmp_path_factory.mktemp("wall")
    model = save_tiny_model(folder / "model")
    route = [scene.pose(x) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    data = scene.write_scene(folder / "data", route, depth=True, camera=MAPPED)
    config = MapBuilderConfig(keyframe_distance=0.0, keypoints=300, descriptor=DESCRIPTOR)
    build_map(open_dataset(data.directory), model, folder / "map", config, show_progress=False)
    return folder


def write_bag(path, camera):
    """Along the wall at 1.2 m/s; camera: of the vehicle; None: not recorded, and another name."""
    name = "front" if camera else "other"
    with BagWriter(path) as bag:
        if camera:
            bag.camera_info(name, START_S * SECOND, camera)
            bag.tf_static(START_S * SECOND, {name: camera.base_from_camera})
        mount = (camera or MAPPED).base_from_camera
        for index, map_from_camera in enumerate(DRIVEN):
            stamp_ns = START_S * SECOND + index * SECOND // 2
            bag.odom(stamp_ns, map_from_camera @ mount.inverse())
            size = (camera.width, camera.height) if camera else (320, 240)
            bag.raw_image(name, stamp_ns, cv2.resize(scene.render(map_from_camera)[0], size))


@pytest.mark.slow
@pytest.mark.parametrize("vehicle", VEHICLES)
def test_offline_verifies_with_the_camera_that_the_node_uses(wall, forks, tmp_path, vehicle):
    bag = tmp_path / "bag"
    write_bag(bag, VEHICLES[vehicle])
    localizer = open_localizer(wall / "map", wall / "model", VERIFIED)
    header = localizer.map.header
    source = open_images(bag, header.map_frame, mapped=header.cameras)
    offline = evaluation.evaluate_drive(localizer, source, "offline", show_progress=False)
    node = {f"localizer.{name}": value for name, value in VERIFIED.items()}
    what = (localizer.map, wall / "model", bag, source, "node")
    online = replay_drive(*what, NodeOptions(parameters=node))
    assert len(online.answers) == len(offline.answers) == 6
    for ours, theirs in zip(online.answers, offline.answers, strict=True):
        assert (ours.outcome, ours.best) == (theirs.outcome, theirs.best)
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-6)
        assert ours.score == pytest.approx(theirs.score, abs=1e-6)
        if ours.outcome == KNOWN:
            assert_same_pose(ours.pose, theirs.pose)
            covariance = publishable_covariance(theirs.covariance)
            assert np.allclose(ours.covariance, covariance, rtol=1e-6, atol=1e-6)
    assert distance(offline.answers[-1].pose, DRIVEN[-1])[0] < 0.25  # the map's are 0.5 m away
