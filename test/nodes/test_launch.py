# SPDX-License-Identifier: Apache-2.0
"""`ros2 launch` starts, ends and refuses what it should, where ROS 2 is installed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from support import logs

from disam_ros.entry import MODULES

ROOT = Path(__file__).resolve().parents[2]
LAUNCHES = [path.name for path in sorted((ROOT / "launch").glob("*.launch.py"))]
PATIENCE = 600.0  # seconds; only a launch that hangs needs them


@pytest.fixture
def installed(tmp_path):
    """An install prefix that holds this working tree, and the environment that finds it."""
    pytest.importorskip("ros2launch", reason="ros2 launch comes with ROS 2 only, not from PyPI")
    if shutil.which("ros2") is None:
        pytest.skip("the command ros2 is not on the PATH: source ROS 2")
    prefix = tmp_path / "install"
    share = prefix / "share"
    (share / "ament_index" / "resource_index" / "packages").mkdir(parents=True)
    (share / "ament_index" / "resource_index" / "packages" / "disam_ros").touch()
    (share / "disam_ros" / "launch").mkdir(parents=True)
    for name in ("config", "package.xml", *(f"launch/{file}" for file in LAUNCHES)):
        (share / "disam_ros" / name).symlink_to(ROOT / name)
    scripts = prefix / "lib" / "disam_ros"
    scripts.mkdir(parents=True)
    for name in MODULES:
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m disam_ros.entry {name} "$@"\n')
        script.chmod(0o755)

    def before(variable, first):
        return os.pathsep.join([str(first), *filter(None, [os.environ.get(variable)])])

    return {
        **os.environ,
        "AMENT_PREFIX_PATH": before("AMENT_PREFIX_PATH", prefix),
        "PYTHONPATH": before("PYTHONPATH", ROOT),
        "PATH": before("PATH", Path(sys.executable).parent),
        "ROS_LOG_DIR": str(tmp_path / "ros_log"),
    }


def test_a_map_is_built_from_its_launch_file_and_two_signals_end_it_cleanly(installed, tmp_path):
    from support.data import save_tiny_model

    save_tiny_model(tmp_path / "model")
    arguments = {"output": str(tmp_path / "map"), "model": str(tmp_path / "model")}
    arguments["config"] = str(parameters(tmp_path, identity_extrinsics=True))
    with launched("build_map", arguments, installed, tmp_path / "log") as launch:
        launch.until_logged("call ~/finish to complete it")
        launch.interrupt_twice()
        assert launch.wait() == 0
        launch.assert_clean("map_builder_node")


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("relocalization", ("map", "model")),
        ("build_map", ("output", "model")),
    ],
)
def test_a_signal_while_nodes_load_their_libraries_ends_the_launch_cleanly(
    installed, tmp_path, name, required
):
    arguments = {key: str(tmp_path / key) for key in required}
    with launched(name, arguments, installed, tmp_path / "log") as launch:
        launch.until(None, lambda: any(map(heeds_signals, launch.started)))
        launch.interrupt()
        assert launch.wait() == 0
        assert "Traceback" not in launch.log
        assert len(launch.ends) == 1
        # 255: launch did not see the status of one that ended in the same moment.
        assert set(launch.ends) <= {"finished cleanly", "exit code 130", "exit code 255"}


def heeds_signals(pid: int) -> bool:
    """Whether a process handles SIGTERM, as ours do from the first line and Python does not."""
    status = Path(f"/proc/{pid}/status")
    with suppress(OSError):
        (caught,) = re.findall(r"^SigCgt:\t(\w+)$", status.read_text(), re.MULTILINE)
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"consumer": "amlc"}, "amlc"),
        ({"odm": "/odom"}, "argument odm:=/odom: unknown name 'odm'; did you mean 'odom'?"),
        ({"config": "cpu_robt"}, "'cpu_robt' does not exist; expected a path, or one of cpu_robot"),
        ({"cameras": "left,right", "image": "/l/image"}, "for 2 cameras: name as many"),
    ],
)
def test_a_launch_with_wrong_arguments_ends_before_anything_starts(
    installed, tmp_path, changes, words
):
    arguments = {"map": "map", "model": "outdoor", **changes}
    with launched("relocalization", arguments, installed, tmp_path / "log") as launch:
        assert launch.wait() != 0
        assert words in launch.log
        assert "process started" not in launch.log


def test_a_localizer_answers_with_all_its_arguments_and_two_signals_end_it_cleanly(
    installed, tmp_path
):
    from geometry_msgs.msg import PoseStamped
    from rcl_interfaces.srv import GetParameters
    from sensor_msgs.msg import Image
    from support.data import save_tiny_model, texture
    from support.maps import save_tiny_map
    from support.messages import image_message
    from support.ros import Client

    model = save_tiny_model(tmp_path / "model")
    save_tiny_map(tmp_path / "map", model, cameras=("left", "right"))
    single = {"sequence": {"enabled": False}}  # a few images say little of a sequence
    arguments = {
        "map": str(tmp_path / "map"),
        "model": str(tmp_path / "model"),
        "config": str(parameters(tmp_path, localizer=single)),
        "namespace": "robot2",
        "cameras": "left, right",
        "image": "/two/l/image_raw,/two/r/image_raw",
        "consumer": "amcl",
        "initialize": "recover",
        "odom": "/two/odom",
        "fix": "/two/fix",
        "weather": "/two/weather",
        "prior": "/two/prior",
        "publish_tf": "true",
        "log_level": "warn",
        "rviz": "true",  # which is not installed
    }
    subscribed = {f"/two/{side}/{name}" for side in "lr" for name in ("image_raw", "camera_info")}
    subscribed |= {f"/two/{name}" for name in ("odom", "fix", "weather", "prior")}
    subscribed |= {"/robot2/amcl_pose"}
    name = "/robot2/localizer"
    with launched("relocalization", arguments, installed, tmp_path / "log") as launch:
        with Client(name) as client:
            poses = client.collect(PoseStamped, f"{name}/pose")
            publisher = client.node.create_publisher(Image, "/two/r/image_raw", 1)
            image = image_message(texture(102))  # the second camera's, at the third place
            launch.until(client, lambda: poses, again=lambda: publisher.publish(image))
            graph = client.node.get_subscriber_names_and_types_by_node("localizer", "/robot2")
            assert {topic for topic, _ in graph} >= subscribed
            graph = client.node.get_publisher_names_and_types_by_node("localizer", "/robot2")
            assert "/robot2/initialpose" in {topic for topic, _ in graph}
            names = ["initialize", "cameras", "publish_tf"]
            request = GetParameters.Request(names=names)
            result = client.call(GetParameters, f"{name}/get_parameters", request).values
            assert result[0].string_value == "recover" and result[2].bool_value
            assert list(result[1].string_array_value) == ["left", "right"]
        assert "[INFO] [1" not in launch.log  # of the node: log_level
        assert "rviz2 is not installed" in launch.log
        launch.interrupt_twice()
        assert launch.wait() == 0
        launch.assert_clean("localizer_node")


def test_a_localizer_that_dies_is_started_again_on_request(installed, tmp_path):
    arguments = {"map": "nowhere", "model": "outdoor", "respawn": "true"}
    with launched("relocalization", arguments, installed, tmp_path / "log") as launch:
        launch.until_logged("nowhere")  # in the reason why it stays unconfigured
        os.kill(launch.started[0], signal.SIGKILL)
        launch.until(None, lambda: len(launch.started) == 2)
        launch.interrupt_twice()
        launch.wait()


def parameters(folder, **values):
    """A parameter file for any node."""
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return path


class Launch:
    """A running `ros2 launch`, in a session of its own with all that it starts."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, client, condition, again=None) -> None:
        """Return once a condition holds; fails at once where the launch has ended."""
        end, next_time = time.monotonic() + PATIENCE, 0.0
        while not condition():
            assert self._process.poll() is None, f"the launch ended early\n{self.log}"
            assert time.monotonic() < end, f"waited {PATIENCE} s in vain\n{self.log}"
            if again is not None and time.monotonic() >= next_time:
                again()
                next_time = time.monotonic() + 0.5
            if client is None:
                time.sleep(0.05)
            else:
                client.spin()

    def until_logged(self, words: str) -> None:
        self.until(None, lambda: words in self.log)

    @property
    def started(self) -> list[int]:
        """The processes so far."""
        return [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", self.log)]

    @property
    def ends(self) -> list[str]:
        """How processes ended."""
        return re.findall(r"process has (?:died .*?)?(finished cleanly|exit code -?\d+)", self.log)

    def interrupt(self) -> None:
        """What Ctrl-C does in a terminal; the launch passes it on, so that nodes get it twice."""
        os.killpg(self._process.pid, signal.SIGINT)

    def interrupt_twice(self) -> None:
        """The same by somebody impatient."""
        self.interrupt()
        time.sleep(0.2)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)

    def wait(self) -> int:
        return self._process.wait(PATIENCE)

    def assert_clean(self, executable: str) -> None:
        """Fails unless a process ended by itself with status 0, and nothing printed a traceback."""
        finished = rf"\[{executable}-\d+\]: process has finished cleanly"
        assert re.search(finished, self.log) and "Traceback" not in self.log, self.log

    def kill(self) -> None:
        """End all that runs, whatever happened."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def launched(name, arguments, environment, log):
    """A launch file of this package that runs; killed at the end with all that it started."""
    given = [f"{key}:={value}" for key, value in arguments.items()]
    logs.follow(log)
    command = ["ros2", "launch", "disam_ros", f"{name}.launch.py", *given]
    launch = Launch(command, environment, log)
    try:
        yield launch
    finally:
        launch.kill()
        logs.end(log)
