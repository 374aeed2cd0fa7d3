# SPDX-License-Identifier: Apache-2.0
"""Real nodes in their own processes, and a client in this one that talks to them over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterValue, SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo, ImageRecord
from disam_ros.datasets.sources import PosedImage
from disam_ros.domains.domain import Domain
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.mapping.builder import MapBuilder
from disam_ros.models.model import Model, create_model, load_model, save_model
from disam_ros.models.networks import NetworkConfig

DOMAIN_ID = os.getpid() % 100 + 1
ENVIRONMENT = {
    **os.environ,
    "ROS_DOMAIN_ID": str(DOMAIN_ID),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

START_S = 1_700_000_000  # stamp of the first image
HEIGHT, WIDTH = 48, 64
SETTLE = 0.5  # seconds for discovery to be mutual
BASE_FROM_CAMERA = Transform.from_rotation(np.array([1.0, 0.2, 1.5]), BODY_FROM_OPTICAL)
DOMAINS = [Domain("day", sun_elevation=(0.0, 90.0)), Domain("night", (-90.0, 0.0))]


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A random blotchy image, uint8 RGB [H, W, 3]; the same for the same seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def detailed(seed: int) -> np.ndarray:
    """The same at 320×240, and fine enough to have points, uint8 RGB [240, 320, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    fine = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    return texture(seed, 240, 320) // 2 + fine // 2


def base_pose(index: int) -> Transform:
    """`map_from_base` of the index-th map image."""
    return Transform.from_xyz_rpy([2.0 * index, 1.0, 0.0, 0.0, 0.0, 0.1 * index])


def save_tiny_model(directory: Path, seed: int = 0) -> Model:
    """An untrained model with the domains day and night."""
    network = NetworkConfig(width=4, encoder_blocks=1, image_size=(64, 64))
    save_model(create_model(network, DOMAINS, seed=seed), directory)
    return load_model(directory)


def save_tiny_map(
    directory: Path,
    model: Model,
    count: int = 6,
    cameras: tuple[str, ...] = ("front",),
    cells: int = 8,
    pose: Callable[[int], Transform] = base_pose,
    frame: str = "town",
    place: tuple[float | None, float | None] = (None, None),
) -> None:
    """A map of textures; camera number c shows texture 100 * c + index at `pose(index)`.

    cells: of the fine descriptors, along the longer side. frame: the map's. place: latitude and
    longitude of its origin.
    """
    camera = Camera(WIDTH, HEIGHT, 50.0, 50.0, 32.0, 24.0, base_from_camera=BASE_FROM_CAMERA)
    info = DatasetInfo("textures", dict.fromkeys(cameras, camera), frame, *place)
    images = [
        PosedImage(
            ImageRecord(0, (START_S + i) * 10**9, name, "day", "", pose(i) @ BASE_FROM_CAMERA),
            lambda seed=100 * c + i: texture(seed),
        )
        for i in range(count)
        for c, name in enumerate(cameras)
    ]
    config = MapBuilderConfig(descriptor=DescriptorConfig(coarse_grid=4, fine_grid=cells))
    with MapBuilder(info, model, directory, config) as builder:
        for item in images:
            builder.add(item)
        builder.finish()


class NodeProcess:
    """A node of this package in its own process; its log is kept."""

    def __init__(self, module: str, log: Path, parameters: dict[str, Any], *extra: str) -> None:
        arguments = ["--ros-args", *extra]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={_yaml(value)}"]
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"disam_ros.nodes.{module}", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def memory(self) -> int:
        """Resident bytes."""
        fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait(self, timeout: float = 60.0) -> int:
        """Exit code."""
        return self._process.wait(timeout)

    def stop(self, signum: int = signal.SIGINT, timeout: float = 30.0) -> int:
        """Send a signal and return the exit code."""
        if self.alive:
            self._process.send_signal(signum)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


@contextmanager
def node_process(
    module: str, log: Path, parameters: dict[str, Any], *extra: str
) -> Iterator[NodeProcess]:
    """A node that is stopped at the end; shows its log when the test fails."""
    process = NodeProcess(module, log, parameters, *extra)
    try:
        yield process
    except BaseException:
        print(process.log)
        raise
    finally:
        process.stop()


class Client:
    """A node in this process: publishes, collects and calls services."""

    def __init__(self, name: str = "client") -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self._statuses: list[DiagnosticStatus] = []
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self._statuses.extend(m.status), 50
        )

    def add(self, node: Any) -> None:
        """Spin another node of this process, too."""
        self._executor.add_node(node)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def collect(self, kind: type, topic: str) -> list:
        """A list that grows with the messages of a topic."""
        messages: list = []
        self.node.create_subscription(kind, topic, messages.append, 50)
        return messages

    def publisher(self, kind: type, topic: str, reliable: bool = True) -> Any:
        """The publisher of a topic, connected to at least one subscriber."""
        if topic not in self._publishers:
            reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            qos = QoSProfile(depth=10, reliability=reliability)
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
            self.until(self._publishers[topic].get_subscription_count, f"a subscriber of {topic}")
            self.spin(SETTLE)  # the other side matches later: best effort would lose the first
        return self._publishers[topic]

    def forget_publishers(self) -> None:
        """So that the next message waits for a new node to subscribe."""
        for publisher in self._publishers.values():
            self.node.destroy_publisher(publisher)
        self._publishers.clear()

    def publish(self, topic: str, message: Any) -> None:
        self.publisher(type(message), topic).publish(message)

    def ask(self, topic: str, message: Any, answered: Callable[[], Any], what: str) -> Any:
        """Publish a message, again every two seconds (best effort may lose it), until answered."""
        for _ in range(15):
            self.publish(topic, message)
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                if value := answered():
                    return value
                self._executor.spin_once(timeout_sec=0.05)
        raise AssertionError(f"sent {topic} 15 times in vain for {what}")

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
        """Spin until a condition holds; returns its value."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {timeout:g} s in vain for {what}"
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def request(self, kind: type, name: str, request: Any) -> Any:
        """A future with the answer of a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name}", 60.0)
        return client.call_async(request)

    def call(self, kind: type, name: str, request: Any, timeout: float = 30.0) -> Any:
        """The answer of a service."""
        future = self.request(kind, name, request)
        self.until(future.done, f"an answer of {name}", timeout)
        return future.result()

    def transition(self, node: str, label: str) -> bool:
        request = ChangeState.Request(transition=Transition(label=label))
        return self.call(ChangeState, f"{node}/change_state", request).success

    def set_parameter(self, node: str, name: str, value: Any) -> SetParametersResult:
        parameter = Parameter(name, value=value).to_parameter_msg()
        assert isinstance(parameter.value, ParameterValue)
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]

    def trigger(self, name: str, timeout: float = 30.0) -> Trigger.Response:
        return self.call(Trigger, name, Trigger.Request(), timeout)

    def diagnosis(
        self, condition: Callable[[DiagnosticStatus], bool], what: str, timeout: float = 30.0
    ) -> DiagnosticStatus:
        """The next diagnostic status, from now on, that fulfils a condition."""
        self._statuses.clear()

        def found() -> DiagnosticStatus | None:
            return next((s for s in self._statuses if condition(s)), None)

        try:
            return self.until(found, f"diagnostics that say: {what}", timeout)
        except AssertionError as error:
            last = self._statuses[-1].message if self._statuses else "nothing"
            raise AssertionError(f"{error}; they said last: {last}") from None

    def told(self, words: str, timeout: float = 30.0) -> DiagnosticStatus:
        """The next diagnostic status whose message contains some words."""
        return self.diagnosis(lambda s: words in s.message, words, timeout)


def values(status: DiagnosticStatus) -> dict[str, str]:
    """The key-value pairs of a status."""
    return {pair.key: pair.value for pair in status.values}


def image_message(
    image: np.ndarray, second: int = 0, nanosecond: int = 0, frame: str = "camera"
) -> Image:
    """An rgb8 message, stamped START_S + second."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8")
    message.step = 3 * message.width
    message.data = image.tobytes()
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = START_S + second, nanosecond
    return message


def compressed_message(image: np.ndarray, second: int = 0, form: str = ".png") -> CompressedImage:
    """A compressed message, stamped START_S + second."""
    message = CompressedImage(format=form.removeprefix("."))
    message.data = cv2.imencode(form, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    message.header.stamp.sec = START_S + second
    return message


def odometry_message(odom_from_base: Transform, second: int = 0) -> Odometry:
    """Odometry in the frame odom, stamped START_S + second."""
    at, turn = odom_from_base.translation.tolist(), odom_from_base.quaternion.tolist()
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id, message.header.stamp.sec = "odom", START_S + second
    pose = message.pose.pose
    pose.position.x, pose.position.y, pose.position.z = at
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = turn
    return message


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
