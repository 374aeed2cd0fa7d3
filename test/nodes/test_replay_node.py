# SPDX-License-Identifier: Apache-2.0
"""Laws of replay over real DDS: one process plays a bag, this one listens."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from disam_ros.camera import Camera
from disam_ros.config import ReplayNodeConfig
from disam_ros.datasets.bags import BagReader, BagWriter
from disam_ros.errors import BagError, DisamError
from disam_ros.geometry import Transform
from disam_ros.image import encode_jpeg

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 client library (pip: disam_ros[ros])")

from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from disam_ros.nodes.replay import player  # noqa: E402
from disam_ros.nodes.replay.node import replay  # noqa: E402

SECOND = 10**9
START = 1_700_000_000 * SECOND
REPOSITORY = Path(__file__).parents[2]
IMAGES = "/camera/front/image_raw/compressed"
BEST_EFFORT = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=200,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
CAMERA = Camera(32, 24, 30.0, 31.0, 16.0, 12.0, (0.1, -0.2, 0.0, 0.0, 0.3))
PATIENCE = 60.0  # seconds; only a broken replay needs them
_calls = itertools.count()

PLAY = """
import json, sys
from disam_ros.config import ReplayNodeConfig
from disam_ros.nodes.replay.node import replay
print("published", replay(ReplayNodeConfig(**json.loads(sys.argv[1]))), flush=True)
"""


@pytest.fixture
def domain(monkeypatch):
    """A ROS domain of this test's own, on this machine only."""
    number = 1 + (os.getpid() * 7 + next(_calls)) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return number


class Listener:
    """A node that notes what it hears: topic → [(message, wall time)]."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = {}

    def subscribe(self, kind, topic, qos, key="", raw=False):
        heard = self.heard.setdefault(key or topic, [])

        def note(message):
            heard.append((message, time.monotonic()))

        self.node.create_subscription(kind, topic, note, qos, raw=raw)
        return heard

    def spin_until(self, done):
        end = time.monotonic() + PATIENCE
        while not done() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listener(domain):
    listener = Listener(domain)
    yield listener
    listener.close()


@pytest.fixture
def play(domain):
    """Start replay in another process."""
    import json

    running = []

    def start(bag, **settings):
        config = {"bag": str(bag), "start_delay": 10.0, **settings}
        command = [sys.executable, "-c", PLAY, json.dumps(config)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=REPOSITORY)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def write_drive(path: Path, count: int = 20) -> Path:
    """Ten images and odometry messages a second; weather and calibration at the start."""
    random = np.random.default_rng(0)
    with BagWriter(path) as bag:
        bag.weather(START, "snow")
        bag.camera_info("front", START, CAMERA)
        for i in range(count):
            stamp = START + i * SECOND // 10
            image = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            bag.compressed_image("front", stamp, encode_jpeg(image))
            bag.odom(stamp, Transform.from_xyz_rpy([i, 0, 0, 0, 0, 0]))
    return path


def nanoseconds(stamp) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def finished(listener, process) -> str:
    """Listen until the process ends by itself; its output."""
    listener.spin_until(lambda: process.poll() is not None)
    listener.spin_for(0.3)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    return output + errors


def assert_same_bytes(heard: list[bytes], recorded: list[bytes]) -> None:
    """Equal but for the zeros with which DDS fills a message up to a multiple of four bytes."""
    assert len(heard) == len(recorded)
    for got, sent in zip(heard, recorded, strict=True):
        assert got[: len(sent)] == sent
        assert len(got) - len(sent) < 4 and not any(got[len(sent) :])


def test_every_message_arrives_byte_by_byte_at_both_kinds_of_subscribers(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag")
    reliable = listener.subscribe(CompressedImage, IMAGES, RELIABLE, "reliable", raw=True)
    best_effort = listener.subscribe(CompressedImage, IMAGES, BEST_EFFORT, "best", raw=True)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE, raw=True)
    weather = listener.subscribe(String, "/weather", RELIABLE)
    infos = listener.subscribe(CameraInfo, "/camera/front/camera_info", RELIABLE)
    output = finished(listener, play(bag, rate=2.0))
    assert "published 42" in output
    with BagReader(bag) as reader:
        images = [bytes(raw.data) for raw in reader.raw([IMAGES])]
        odoms = [bytes(raw.data) for raw in reader.raw(["/odom"])]
    assert_same_bytes([bytes(m) for m, _ in reliable], images)
    assert_same_bytes([bytes(m) for m, _ in odometry], odoms)
    assert [m.data for m, _ in weather] == ["snow"]
    (info,) = (m for m, _ in infos)
    assert (info.width, info.height, info.k[4], tuple(info.d)) == (32, 24, 31.0, CAMERA.distortion)
    # Best effort promises nothing, yet on an idle line little is lost.
    assert len(best_effort) >= len(images) // 2


def test_the_clock_never_runs_back_and_follows_the_rate(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag", count=11)  # one second of recording
    clock = listener.subscribe(Clock, "/clock", RELIABLE)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    listener.subscribe(CompressedImage, IMAGES, BEST_EFFORT)
    finished(listener, play(bag, rate=0.5, topics=["/odom", IMAGES]))
    stamps = [nanoseconds(m.clock) for m, _ in clock]
    assert stamps == sorted(stamps)
    assert (stamps[0], stamps[-1]) == (START, START + SECOND)
    assert {nanoseconds(m.header.stamp) for m, _ in odometry} <= set(stamps)
    assert len(set(stamps)) > 50  # 200 are due in two seconds
    took = odometry[-1][1] - odometry[0][1]
    assert 1.0 < took < 20.0  # two seconds, on a machine that may be busy


def test_a_latched_topic_reaches_who_comes_late(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag")
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    process = play(bag, rate=0.5, start_delay=5.0)
    listener.spin_until(lambda: len(odometry) > 2)
    weather = listener.subscribe(String, "/weather", LATCHED)
    listener.spin_until(lambda: weather or process.poll() is not None)
    assert [m.data for m, _ in weather] == ["snow"]


def test_only_chosen_topics_are_played_under_a_prefix_and_a_high_rate_does_not_wait(
    tmp_path, listener, play
):
    bag = write_drive(tmp_path / "bag", count=50)
    odometry = listener.subscribe(Odometry, "/replayed/odom", RELIABLE)
    output = finished(listener, play(bag, rate=1000.0, topics=["/odom"], prefix="replayed"))
    assert len(odometry) == 50
    assert "published 50" in output
    assert odometry[-1][1] - odometry[0][1] < 4.0  # of 4.9 s recorded


def test_at_rate_0_nothing_is_waited_for(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag", count=50)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    output = finished(listener, play(bag, rate=0, topics=["/odom"]))
    assert "published 50" in output
    assert odometry[-1][1] - odometry[0][1] < 4.0  # of 4.9 s recorded


def test_at_rate_0_the_next_message_waits_until_the_image_was_answered(tmp_path, listener):
    bag = write_drive(tmp_path / "bag", count=4)
    published, asked = [], []
    with BagReader(bag) as reader:
        config = ReplayNodeConfig(bag=str(bag), rate=0.0, start_delay=0.0)

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
        config = ReplayNodeConfig(bag=str(bag), rate=0.0, start_delay=0.0)
        replaying = player.Player(listener.node, reader, config, lambda stamp: 0)
        replaying.play()
        replaying.close()
    assert (replaying.published, replaying.unanswered) == (6, 2)
    assert f"no answer within 0.1 s to image {START} ns" in "".join(capfd.readouterr())


def test_playing_needs_somebody_who_is_ready_if_that_is_asked_for(tmp_path, listener):
    bag = write_drive(tmp_path / "bag", count=2)
    with BagReader(bag) as reader:
        config = ReplayNodeConfig(bag=str(bag), start_delay=0.1, topics=["/odom"])
        replaying = player.Player(listener.node, reader, config, ready=lambda: True)
        with pytest.raises(DisamError, match="topics without a subscriber: /odom"):
            replaying.play()
        replaying.close()


def test_interrupting_replay_ends_it_cleanly(tmp_path, listener, play):
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    process = play(write_drive(tmp_path / "bag"), rate=0.1, start_delay=5.0)
    listener.spin_until(lambda: odometry)
    process.send_signal(signal.SIGINT)
    output = finished(listener, process)
    assert "stopped after" in output
    assert "Traceback" not in output


def test_a_loop_starts_again_and_says_so(tmp_path, listener, play):
    bag = write_drive(tmp_path / "bag", count=3)
    odometry = listener.subscribe(Odometry, "/odom", RELIABLE)
    process = play(bag, topics=["/odom"], loop=True)
    listener.spin_until(lambda: len(odometry) > 6)
    process.send_signal(signal.SIGINT)
    assert "starting again" in finished(listener, process)
    xs = [m.pose.pose.position.x for m, _ in odometry[:6]]
    assert xs == [0, 1, 2, 0, 1, 2]


def test_a_type_that_is_not_installed_is_skipped_by_name(tmp_path, listener, capfd):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("int32 x", "nowhere_msgs/msg/Thing"))
    kind, text = (store.types[t] for t in ("nowhere_msgs/msg/Thing", "std_msgs/msg/String"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, message in (("/thing", kind(x=1)), ("/weather", text(data="fog"))):
            name = message.__msgtype__
            connection = writer.add_connection(topic, name, typestore=store)
            writer.write(connection, START, store.serialize_cdr(message, name))
    count = replay(ReplayNodeConfig(bag=str(tmp_path / "bag"), start_delay=0.0), listener.node)
    assert count == 1
    logged = "".join(capfd.readouterr())
    assert "/thing is not played" in logged and "nowhere_msgs/msg/Thing" in logged


def test_what_cannot_be_played_is_a_bag_error(tmp_path, listener):
    bag = str(write_drive(tmp_path / "bag"))
    for config, message in (
        (ReplayNodeConfig(), "no bag given"),
        (ReplayNodeConfig(bag=bag + "x"), "does not exist"),
        (ReplayNodeConfig(bag=bag, topics=["/odmo"]), "did you mean /odom"),
    ):
        with pytest.raises(BagError, match=message):
            replay(config, listener.node)
