# SPDX-License-Identifier: Apache-2.0
"""Replay of bags over DDS: one process plays, this one listens."""

import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 client library (pip: disam_ros[ros])")

from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import String
from support.node_process import CommandProcess
from support.ros import DEADLINE, Client

from disam_ros.camera import Camera
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.errors import BagError, DisamError
from disam_ros.geometry import Transform
from disam_ros.image import encode_jpeg
from disam_ros.node_config import ReplayConfig
from disam_ros.nodes.replay import player
from disam_ros.nodes.replay.replay import replay

SECOND = 10**9
START = 1_700_000_000 * SECOND
IMAGES = "/camera/front/image_raw/compressed"
BEST_EFFORT = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=200,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
CAMERA = Camera(32, 24, 30.0, 31.0, 16.0, 12.0, (0.1, -0.2, 0.0, 0.0, 0.3))


class Listener(Client):
    """Keeps the messages of the topics that it subscribes to."""

    def __init__(self) -> None:
        super().__init__("/nobody", "listener")

    def subscribe(self, kind, topic, qos, raw=False):
        heard: list = []
        self.node.create_subscription(kind, topic, heard.append, qos, raw=raw)
        return heard


@pytest.fixture
def listener():
    with Listener() as listener:
        yield listener


@pytest.fixture
def play(tmp_path):
    """Starts `disam replay` in another process."""
    running = []

    def start(bag, **settings):
        line = ["replay", str(bag)]
        for name, value in {"start_delay": DEADLINE, **settings}.items():
            values = value if isinstance(value, list) else [] if value is True else [value]
            line += [f"--{name.replace('_', '-')}", *map(str, values)]
        running.append(CommandProcess(tmp_path / "log", line))
        return running[-1]

    yield start
    for process in running:  # killed, it could leave memory locked that the listener shares
        process.stop()


def write_drive(path: Path, count: int = 20, period_ns: int = SECOND // 10) -> Path:
    """Images and odometry messages, ten a second; weather and calibration at the start."""
    random = np.random.default_rng(0)
    with BagWriter(path) as bag:
        bag.weather(START, "snow")
        bag.camera_info("front", START, CAMERA)
        for i in range(count):
            stamp = START + i * period_ns
            image = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            bag.compressed_image("front", stamp, encode_jpeg(image))
            bag.odom(stamp, Transform.from_xyz_rpy([i, 0, 0, 0, 0, 0]))
    return path


def nanoseconds(stamp) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def finished(listener, process) -> str:
    """Listen until the process ends by itself; its log.

    All that it sent to reliable subscribers has arrived then, though not all has been heard yet.
    """
    listener.until(lambda: process.returncode is not None, "the end of the replay")
    assert process.wait() == 0
    return process.log


def assert_same_bytes(heard: list[bytes], recorded: list[bytes]) -> None:
    """Equal but for the zeros with which DDS fills a message up to a multiple of four bytes."""
    assert len(heard) == len(recorded)
    for got, sent in zip(heard, recorded, strict=True):
        assert got[: len(sent)] == sent
        assert len(got) - len(sent) < 4 and not any(got[len(sent) :])


def test_every_message_arrives_byte_by_byte_at_both_kinds_of_subscribers(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag")
    reliable = listener.subscribe(CompressedImage, IMAGES, RELIABLE, raw=True)
    best_effort = listener.subscribe(CompressedImage, IMAGES, BEST_EFFORT, raw=True)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE, raw=True)
    weather = listener.subscribe(String, "/weather", RELIABLE)
    infos = listener.subscribe(CameraInfo, "/camera/front/camera_info", RELIABLE)
    output = finished(listener, play(bag, rate=2.0))
    assert "bag ended: 42 messages published" in output
    listener.until(lambda: len(reliable) + len(odometry) >= 40, "all images and odometry")
    listener.until(lambda: weather and infos, "weather and calibration")
    with BagReader(bag) as reader:
        images = [bytes(raw.data) for raw in reader.raw([IMAGES])]
        odoms = [bytes(raw.data) for raw in reader.raw(["/odom"])]
    assert_same_bytes([bytes(m) for m in reliable], images)
    assert_same_bytes([bytes(m) for m in odometry], odoms)
    assert [m.data for m in weather] == ["snow"]
    (info,) = infos
    assert (info.width, info.height, info.k[4], tuple(info.d)) == (32, 24, 31.0, CAMERA.distortion)
    # Best effort promises nothing, yet some arrive, and as they were.
    assert best_effort
    for message in best_effort:
        assert any(bytes(message).startswith(image) for image in images)


def test_the_clock_never_runs_back_and_follows_the_rate(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag", count=11)  # one second of recording
    clock = listener.subscribe(Clock, "/clock", RELIABLE)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    listener.subscribe(CompressedImage, IMAGES, BEST_EFFORT)
    finished(listener, play(bag, rate=0.5, topics=["/odom", IMAGES]))
    listener.until(lambda: len(odometry) >= 11, "all odometry")
    listener.until(lambda: nanoseconds(clock[-1].clock) == START + SECOND, "the last of the clock")
    stamps = [nanoseconds(message.clock) for message in clock]
    assert stamps == sorted(stamps) and stamps[0] == START
    recorded = {nanoseconds(message.header.stamp) for message in odometry}
    assert recorded < set(stamps)  # it also runs between the messages


def test_a_message_is_due_after_its_time_in_the_recording_divided_by_the_rate(monkeypatch):
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(player, "time", SimpleNamespace(monotonic=lambda: clock.now))
    slow, at_once = player.Pacer(START, 0.5), player.Pacer(START, 0.0)
    clock.now += 1.5
    assert slow.now_ns() == START + 3 * SECOND // 4
    assert slow.seconds_until(START + SECOND) == pytest.approx(0.5)
    assert slow.seconds_until(START) == pytest.approx(-1.5)
    assert at_once.seconds_until(START + 1000 * SECOND) == 0.0


def test_a_latched_topic_reaches_who_comes_late(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag")
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    process = play(bag, rate=0.05, start_delay=0.5)
    listener.until(lambda: len(odometry) > 1, "odometry")
    weather = listener.subscribe(String, "/weather", LATCHED)
    listener.until(lambda: weather or process.returncode is not None, "the weather")
    assert [m.data for m in weather] == ["snow"]


@pytest.mark.parametrize("rate", [1e6, 0])
def test_only_chosen_topics_are_played_under_a_prefix_and_a_high_rate_or_0_does_not_wait(
    tmp_path, listener, play, rate
):
    bag = write_drive(tmp_path / "bag", count=50, period_ns=60 * SECOND)  # 49 minutes
    odometry = listener.subscribe(Odometry, "/replayed/odom", RELIABLE)
    output = finished(listener, play(bag, rate=rate, topics=["/odom"], prefix="replayed"))
    listener.until(lambda: len(odometry) >= 50, "all odometry")
    assert "bag ended: 50 messages published" in output


def test_at_rate_0_the_next_message_waits_until_the_image_was_answered(tmp_path, listener):
    bag = write_drive(tmp_path / "bag", count=4)
    published, asked = [], []
    with BagReader(bag) as reader:
        config = ReplayConfig(rate=0.0, start_delay=0.0)

        def answers(stamp: int) -> int:
            asked.append(stamp)
            published.append(replaying.published)
            return asked.count(stamp) // 3  # the third time it is asked

        replaying = player.Player(listener.node, reader, config, answers)
        replaying.play()
        replaying.close()
    stamps = [START + i * SECOND // 10 for i in range(4)]
    assert replaying.sent == stamps
    assert asked == [stamp for stamp in stamps for _ in range(3)]
    # Asked before and twice after each image; odometry comes only then.
    assert published == [2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9]
    assert replaying.unanswered == 0


def test_an_image_without_an_answer_is_given_up_and_counted(tmp_path, listener, monkeypatch, capfd):
    monkeypatch.setattr(player, "ANSWER_TIMEOUT", 0.1)
    bag = write_drive(tmp_path / "bag", count=2)
    with BagReader(bag) as reader:
        config = ReplayConfig(rate=0.0, start_delay=0.0)
        replaying = player.Player(listener.node, reader, config, lambda stamp: 0)
        replaying.play()
        replaying.close()
    assert (replaying.published, replaying.unanswered) == (6, 2)
    assert f"no answer within 0.1 s to image {START} ns" in "".join(capfd.readouterr())


def test_playing_needs_somebody_who_is_ready_if_that_is_asked_for(tmp_path, listener):
    bag = write_drive(tmp_path / "bag", count=2)
    with BagReader(bag) as reader:
        config = ReplayConfig(start_delay=0.1, topics=["/odom"])
        config.prefix = "/without_subscriber"  # the graph keeps those of other tests for a while
        replaying = player.Player(listener.node, reader, config, ready=lambda: True)
        with pytest.raises(DisamError, match="topics without a subscriber: /odom"):
            replaying.play()
        replaying.close()


def test_a_loop_starts_again_and_says_so(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag", count=3)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    process = play(bag, topics=["/odom"], loop=True)
    listener.until(lambda: len(odometry) > 6, "the second turn")
    assert process.stop(signal.SIGINT) == 130
    assert "starting again" in process.log
    first, *rest = (int(m.pose.pose.position.x) for m in odometry[:6])
    assert rest == [(first + k) % 3 for k in range(1, 6)]  # DDS may lose what came before it knew


def test_a_type_that_is_not_installed_is_skipped_by_name(tmp_path, capfd):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("int32 x", "nowhere_msgs/msg/Thing"))
    kind, text = (store.types[t] for t in ("nowhere_msgs/msg/Thing", "std_msgs/msg/String"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, message in (("/thing", kind(x=1)), ("/weather", text(data="fog"))):
            name = message.__msgtype__
            connection = writer.add_connection(topic, name, typestore=store)
            writer.write(connection, START, store.serialize_cdr(message, name))
    assert replay(tmp_path / "bag", ReplayConfig(start_delay=0.0)) == 1
    logged = "".join(capfd.readouterr())
    assert "/thing is not played" in logged and "nowhere_msgs/msg/Thing" in logged


def test_what_cannot_be_played_is_a_bag_error(tmp_path):
    bag = str(write_drive(tmp_path / "bag"))
    for path, topics, message in (
        (bag + "x", [""], "does not exist"),
        (bag, ["/odmo"], "did you mean /odom"),
    ):
        with pytest.raises(BagError, match=message):
            replay(path, ReplayConfig(topics=topics))
