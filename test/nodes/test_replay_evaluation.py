# SPDX-License-Identifier: Apache-2.0
"""A bag played to the real localizer node in its own process: its answers, counted and recorded."""

import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 client library (pip: disam_ros[ros])")

from support.data import save_tiny_model, texture
from support.maps import BASE_FROM_CAMERA, START_S, base_pose, save_tiny_map
from support.messages import values
from support.node_process import SINGLE, localizers_in_forks

from disam_ros.cli import main
from disam_ros.datasets.bags.messages import stamp_ns
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.sources import open_images
from disam_ros.errors import BagError, ConfigError, DisamError, MapError, OutputError
from disam_ros.geometry import Transform, distance
from disam_ros.image import encode_jpeg
from disam_ros.localization.query import KNOWN, MISSING
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.nodes.replay import node_run
from disam_ros.nodes.replay.answer_recorder import AnswerRecorder
from disam_ros.nodes.replay.bag_topics import find_topics
from disam_ros.nodes.replay.domain import own_domain
from disam_ros.nodes.replay.node_run import NodeOptions, run_node_on_bag
from disam_ros.nodes.replay.replay_drive import replay_drive

SECOND = 10**9
FRAMES = 10
BROKEN = 6  # of the drive's images
NOON, MIDNIGHT = (0.0, -150.0), (48.0, 11.0)  # where it is day and night at START_S
IMAGES = "/camera/front/image_raw/compressed"
FLOOD = 300
AS_SINGLE = NodeOptions(parameters=SINGLE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, its map and bags."""
    folder = tmp_path_factory.mktemp("world")
    model = save_tiny_model(folder / "model")
    save_tiny_map(folder / "map", model)
    save_tiny_map(folder / "map_two", model, cameras=("left", "right"))
    save_tiny_map(folder / "map_other", save_tiny_model(folder / "model_other", seed=5))
    write_drive(folder / "drive")
    write_flood(folder / "flood")
    return folder


def write_drive(path):
    """Compressed images a second apart; weather and place change on the way; one is broken."""
    with BagWriter(path, map_frame="town") as bag:
        bag.tf_static(START_S * SECOND - SECOND, {"front": BASE_FROM_CAMERA})
        for index in range(FRAMES):
            stamp = (START_S + index) * SECOND
            before = stamp - SECOND // 10
            bag.weather(before, "snow" if index % 4 < 2 else "light rain")
            bag.fix(before, *(NOON if index < FRAMES // 2 else MIDNIGHT))
            bag.odom(before, base_pose(index))
            jpeg = encode_jpeg(texture(index % 8))  # the map shows six
            bag.compressed_image("front", stamp, jpeg[:100] if index == BROKEN else jpeg)
            bag.ground_truth(stamp, base_pose(index))


def write_flood(path):
    """Raw images a millisecond apart without any pose; one has no pixels."""
    with BagWriter(path) as bag:
        for index in range(FLOOD):
            stamp = START_S * SECOND + index * SECOND // 1000
            bag.raw_image("other", stamp, texture(index % 6))


@pytest.fixture
def forked(monkeypatch, tmp_path):
    """Localizer nodes start quickly, in forks; the list of those that were started."""
    started = []
    process = localizers_in_forks(started, tmp_path / "log")
    monkeypatch.setattr(node_run, "localizer_process", process)
    return started


def replayed(world, name="drive", options=AS_SINGLE, record=None):
    """A bag through the node. record: of its answers."""
    return replay_drive(
        place_map=PlaceMap(world / "map"),
        model_dir=world / "model",
        bag=world / name,
        source=open_images(world / name, "town"),
        name=name,
        options=options,
        record=record and BagWriter(record, map_frame="town"),
    )


@pytest.fixture(scope="module")
def recorded(world):
    """The drive through the node at rate 0, and the bag of its answers."""
    return replayed(world, record=world / "recorded"), world / "recorded"


def told(bag, topic):
    """The messages of a topic by stamp."""
    with BagReader(bag) as reader:
        return {stamp_ns(message): message for _, message in reader.messages([topic])}


def transform_of(pose):
    at, turn = pose.position, pose.orientation
    return Transform(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))


def test_the_run_tells_what_became_of_the_images_and_how_fast(recorded):
    run = recorded[0].run
    assert (run["images sent"], run["answered"], run["unreadable"]) == (FRAMES, FRAMES - 1, 1)
    assert run["dropped"] == run["lost in transport"] == run["failed"] == 0
    assert 0 < run["latency p50 (ms)"] <= run["latency p99 (ms)"]
    assert run["memory peak (MiB)"] > 0
    assert run["images per second"] > 0
    assert recorded[0].seconds == pytest.approx(run["wall seconds"], abs=0.01)


def test_the_recorded_bag_says_what_the_drive_says(recorded):
    drive, bag = recorded
    poses, answers = told(bag, "/localizer/pose"), told(bag, "/localizer/answer")
    covariances = told(bag, "/localizer/pose_with_covariance")
    assert len(answers) == FRAMES
    for answer in drive.answers:
        stamp = answer.record.stamp_ns
        said = values(*answers[stamp].status)
        assert answers[stamp].header.frame_id == "town"
        assert said["outcome"] == answer.outcome
        if answer.outcome != KNOWN:
            assert stamp not in poses
            continue
        pose = transform_of(poses[stamp].pose)
        assert distance(pose @ BASE_FROM_CAMERA, answer.map_from_camera) < (1e-6, 1e-4)
        assert transform_of(covariances[stamp].pose.pose) == pose
        assert np.array_equal(covariances[stamp].pose.covariance, answer.covariance.ravel())
        assert float(said["score"]) == answer.score
        assert said["candidates"] == ",".join(str(record.id) for record in answer.ranking)
        assert said["domain reason"] == answer.domain_reason


def test_the_recorded_bag_holds_truth_route_images_and_diagnostics_at_their_stamps(world, recorded):
    _, bag = recorded
    stamps = [(START_S + index) * SECOND for index in range(FRAMES)]
    truth = told(bag, "/ground_truth/pose")
    assert list(truth) == stamps
    assert transform_of(truth[stamps[3]].pose) == base_pose(3)
    ((stamp, route),) = told(bag, "/map/route").items()
    assert stamp == stamps[0]
    assert len(route.poses) == 6
    for index, pose in enumerate(route.poses):
        assert pose.header.frame_id == "town"
        assert distance(transform_of(pose.pose), base_pose(index)) < (5e-3, 0.1)
    with BagReader(bag) as reader, BagReader(world / "drive") as original:
        assert reader.qos("/map/route")[0].durability.name == "TRANSIENT_LOCAL"
        assert reader.topics()["/diagnostics"].count > 0
        assert "/tf" not in reader.topics()
        assert all(raw.stamp_ns == stamp_ns(message) for raw, message in reader.messages())
        images = [bytes(raw.data) for raw in reader.raw([IMAGES])]
        assert images == [bytes(raw.data) for raw in original.raw([IMAGES])]
    assert open_images(bag, "town").total == FRAMES


@pytest.mark.slow
def test_images_that_come_too_fast_are_dropped_and_the_counts_add_up(world, forked, tmp_path):
    record = tmp_path / "recorded"
    drive = replayed(world, "flood", NodeOptions(1e6, "other", SINGLE), record)
    run = drive.run
    assert run["images sent"] == FLOOD == len(drive.answers)
    counted = ("answered", "unreadable", "failed", "dropped", "lost in transport")
    assert sum(run[key] for key in counted) == FLOOD, run
    missing = sum(answer.outcome == MISSING for answer in drive.answers)
    assert missing == run["dropped"] + run["lost in transport"] > 0
    # Another camera name, no true pose, raw images.
    answers = [answer for answer in drive.answers if answer.outcome == KNOWN]
    assert answers and all(answer.record.camera == "front" for answer in answers)
    assert any("no ground truth" in note for note in drive.notes)
    with BagReader(record) as reader:
        assert reader.topics()[IMAGES].count == FLOOD
        assert "/ground_truth/pose" not in reader.topics()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_answered(world, forked, monkeypatch, tmp_path):
    def interrupted(self, stamp):
        if len(self.answers) == 3:
            raise KeyboardInterrupt
        return int(stamp in self.answers)

    monkeypatch.setattr(AnswerRecorder, "count", interrupted)
    record = tmp_path / "recorded"
    drive = replayed(world, record=record)
    assert drive.interrupted
    assert [answer.outcome for answer in drive.answers] == [KNOWN] * 3
    assert "interrupted after 3 of 10 images: figures of these" in drive.notes
    assert len(told(record, "/localizer/answer")) == 3
    assert len(told(record, "/ground_truth/pose")) == 3
    assert len(told(record, IMAGES)) == 3


@pytest.mark.slow
def test_the_counts_of_an_interrupted_run_add_up(world, forked, monkeypatch):
    """Counters of the node come once a second, long after the images that they count."""
    asked = []

    def interrupted(self, stamp):
        asked.append(stamp)
        if len(asked) > FLOOD // 2:
            raise KeyboardInterrupt(signal.SIGTERM)
        return 0

    monkeypatch.setattr(AnswerRecorder, "count", interrupted)
    drive = replayed(world, "flood", NodeOptions(1e6, "other", SINGLE))
    assert drive.interrupted == signal.SIGTERM
    run = drive.run
    assert run["images sent"] == FLOOD // 2 and run["lost in transport"] >= 0
    counted = ("answered", "unreadable", "failed", "dropped", "lost in transport")
    assert sum(run[key] for key in counted) == FLOOD // 2, run
    known = sum(answer.outcome != MISSING for answer in drive.answers)
    assert known == run["answered"] + run["unreadable"] > 0


@pytest.mark.slow
def test_a_node_with_other_extrinsics_is_an_error(world, forked):
    parameters = {"base_from_camera": [0.0, 0.0, 1.0, 0.0, 0.0, 0.0], **SINGLE}
    with pytest.raises(DisamError, match="places the camera elsewhere on the vehicle"):
        replayed(world, options=NodeOptions(parameters=parameters))


@pytest.mark.slow
def test_a_node_that_cannot_start_says_why(world, forked):
    with pytest.raises(DisamError, match="was built with model 'model_other'"):
        run_node_on_bag(world / "drive", world / "map_other", world / "model", NodeOptions())
    with pytest.raises(DisamError, match="ended with status 1"):
        replayed(world, options=NodeOptions(parameters={"nonsense": 1}))


@pytest.mark.slow
def test_a_node_that_ends_early_ends_the_replay(world, forked, own_domain, monkeypatch):
    def ending(self, stamp):
        forked[0].kill()
        forked[0].wait()
        return 0

    monkeypatch.setattr(AnswerRecorder, "count", ending)
    with pytest.raises(DisamError, match="ended with status -9"):
        replayed(world, options=NodeOptions(4.0))


def test_a_camera_that_is_not_there_is_an_error_that_lists_what_is(world, tmp_path):
    bag = world / "drive"
    with pytest.raises(BagError, match=r"no camera 'back'; it holds: front \(/camera/front"):
        find_topics(bag, ["front"], "back")
    with pytest.raises(BagError, match=f"no images on /odom; image topics: {IMAGES}"):
        find_topics(bag, ["front"], "/odom")
    with pytest.raises(MapError, match="camera 'front' is none of the map's: left, right"):
        run_node_on_bag(bag, world / "map_two", world / "model", NodeOptions())
    with BagWriter(tmp_path / "two") as writer:
        for camera in ("left", "right"):
            writer.raw_image(camera, START_S * SECOND, texture(0))
    with pytest.raises(BagError, match=r"several cameras: name one; it holds: left \("):
        find_topics(tmp_path / "two", ["left", "right"])
    with pytest.raises(ConfigError, match=f"{IMAGES} is compressed"):
        replayed(world, options=NodeOptions(parameters={"image_transport": "raw"}))


def test_the_topics_of_a_bag_are_found_by_type_and_name(world):
    topics = find_topics(world / "drive", ["front"])
    assert topics.remappings == {
        "weather": "/weather",
        "fix": "/fix",
        "odom": "/odom",
        "image/compressed": IMAGES,
    }
    assert topics.played[-1] == IMAGES
    assert (topics.camera, topics.transport, topics.images) == ("front", "compressed", FRAMES)
    topics = find_topics(world / "flood", ["front"], "/camera/other/image_raw")
    assert (topics.camera, topics.mapped, topics.transport) == ("other", "front", "raw")


def test_a_bag_that_exists_is_refused_before_anything_starts(world, monkeypatch):
    def start(*_):
        raise AssertionError("a node was started")

    monkeypatch.setattr(node_run, "localizer_process", start)
    with pytest.raises(OutputError, match="exists: choose another output"):
        replayed(world, record=world / "flood")
    with pytest.raises(AssertionError, match="a node was started"):
        replayed(world, record=world / "new")
    assert not (world / "new").exists()


def test_without_a_domain_in_the_environment_one_is_chosen(monkeypatch):
    assert own_domain() is None
    monkeypatch.delenv("ROS_DOMAIN_ID")
    chosen = [own_domain() for _ in range(3)]
    assert len(set(chosen)) == 3 and all(1 <= number <= 100 for number in chosen)


def test_one_command_plays_a_drive_with_its_page_and_evaluates_it(world, forked, tmp_path, capsys):
    arguments = ["--map", str(world / "map"), "--model", str(world / "model"), "--single"]
    output = ["--output", str(tmp_path / "run"), "--port", "0", "--rate", "4"]
    assert main(["run", "--bag", str(world / "drive"), *arguments, *output]) == 0
    assert f"of {FRAMES} images judged" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "run/report.html").exists()
