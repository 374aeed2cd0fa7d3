# SPDX-License-Identifier: Apache-2.0
"""Parameter files fit the nodes; launch files start them where launch_ros is installed."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from support import logs

from disam_ros.errors import ConfigError
from disam_ros.files.paths import find_config
from disam_ros.node_config import LocalizerNodeConfig, MapBuilderNodeConfig
from disam_ros.settings import from_dict

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds; only a launch that hangs needs them
CONFIGS = {
    "cpu_robot": LocalizerNodeConfig,
    "gpu_vehicle": LocalizerNodeConfig,
    "two_cameras": LocalizerNodeConfig,
    "map_builder": MapBuilderNodeConfig,
}
LAUNCHES = {
    "relocalization": {"map", "model"},
    "build_map": {"output", "model"},
    "replay_evaluation": {"bag", "map", "model"},
}


def test_every_parameter_file_is_known_to_these_tests():
    found = {path.stem for path in (ROOT / "config").glob("*.yaml")}
    assert {name for name in found if not name.startswith("train_")} == set(CONFIGS)


@pytest.mark.parametrize(("name", "cls"), CONFIGS.items())
def test_a_parameter_file_fits_its_node_and_explains_every_value(name, cls):
    text = (ROOT / "config" / f"{name}.yaml").read_text()
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    from_dict(cls, values)
    lines = [line.strip() for line in text.splitlines()]
    settings = [line for line in lines if ": " in line and not line.startswith("#")]
    unexplained = [line for line in settings if "#" not in line and "base_from" not in line]
    assert not unexplained


@pytest.mark.parametrize(("name", "cls"), CONFIGS.items())
def test_ros_reads_a_parameter_file_as_yaml_does(name, cls):
    pytest.importorskip("rclpy")
    import rclpy
    from rclpy.context import Context
    from support.ros import DOMAIN_ID

    from disam_ros.nodes.parameters import declare

    path = ROOT / "config" / f"{name}.yaml"
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN_ID)
    cli = ["--ros-args", "--params-file", str(path)]
    node = rclpy.create_node("probe", context=context, cli_args=cli)
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert str(declare(node, cls)) == str(from_dict(cls, values))  # text: nan differs from itself
    node.destroy_node()
    context.try_shutdown()


# What the localizer publishes, and what a recorded replay evaluation also holds.
PUBLISHED = {"pose", "pose_with_covariance", "candidates", "markers", "activation_map", "answer"}
PUBLISHED |= {"match_image", "map_poses", "probability", "state"}
RECORDED = {"/ground_truth/pose", "/map/route", "/camera/front/image_raw/compressed"}
KNOWN_TOPICS = {f"/localizer/{name}" for name in PUBLISHED} | RECORDED | {"/diagnostics"}


def test_the_rviz_layout_is_yaml_with_displays_of_our_topics():
    layout = yaml.safe_load((ROOT / "config" / "relocalization.rviz").read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = {d["Topic"]["Value"] for d in displays if "Topic" in d}
    assert {f"/{topic.lstrip('/')}" for topic in topics} <= KNOWN_TOPICS
    assert topics >= RECORDED
    live = ("pose_with_covariance", "markers", "match_image", "map_poses")
    assert {f"localizer/{name}" for name in live} <= topics  # of any namespace


LAYOUTS = {  # of Foxglove, and topics that they show
    "replay_evaluation": RECORDED | {"/localizer/pose", "/localizer/answer", "/diagnostics"},
    "live": {f"/localizer/{name}" for name in ("match_image", "map_poses", "probability", "state")},
}


def foxglove(name: str) -> str:
    return (ROOT / "config" / f"{name}.foxglove.json").read_text()


@pytest.mark.parametrize(("name", "shown"), LAYOUTS.items())
def test_a_foxglove_layout_is_json_with_panels_of_our_topics(name, shown):
    layout = json.loads(foxglove(name))
    panels = layout["configById"]
    assert set(leaves(layout["layout"])) == set(panels)
    assert {panel.split("!")[0] for panel in panels} >= {"3D", "Image", "Plot"}
    topics = set(re.findall(r'"(/[\w/]+)', json.dumps(panels)))
    assert topics <= KNOWN_TOPICS
    assert topics >= shown


def leaves(tree) -> list[str]:
    """Names of the panels in a tree of splits."""
    if isinstance(tree, str):
        return [tree]
    return leaves(tree["first"]) + leaves(tree["second"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_keys_that_a_foxglove_layout_plots_are_those_of_an_answer(name):
    pytest.importorskip("rclpy")
    from types import SimpleNamespace as Fake

    from disam_ros.nodes.localizer.publishers import answer_status

    best = Fake(record=Fake(id=1), fine_score=0.5, coarse_score=0.5)
    found = Fake(
        best=best,
        record=best.record,
        known=True,
        confidence=0.5,
        tracked=False,
        informative=True,
        alone="",
        doubt=0.0,
        domain=Fake(name="day", reason=""),
        candidates=[best],
        timings_ms={"encode": 1.0},
        camera="front",
        prior="",
    )
    status = answer_status.localized(found, 2.0)
    text = foxglove(name)
    plotted = set(re.findall(r'key==\\"([^\\]+)', text))
    assert plotted and plotted <= {pair.key for pair in status.values}
    answer = json.loads(text)["configById"]["DiagnosticStatusPanel!answer"]
    assert answer["selectedName"] == status.name


@pytest.mark.parametrize(("name", "required"), LAUNCHES.items())
def test_a_launch_file_describes_its_arguments(name, required):
    pytest.importorskip("launch_ros")
    from launch.actions import DeclareLaunchArgument

    found = runpy.run_path(str(ROOT / "launch" / f"{name}.launch.py"))
    entities = found["generate_launch_description"]().entities
    arguments = [e for e in entities if isinstance(e, DeclareLaunchArgument)]
    assert {a.name for a in arguments if a.default_value is None} == required
    assert all(a.description for a in arguments)


@pytest.mark.parametrize("name", ["relocalization", "build_map"])
def test_on_request_nodes_that_are_launched_later_get_the_profile_for_large_images(
    name, monkeypatch
):
    pytest.importorskip("launch_ros")
    from launch import LaunchContext
    from launch.actions import SetEnvironmentVariable
    from launch_ros.actions import Node

    from disam_ros.files.paths import PROFILE_VARIABLES

    for variable in (*PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(variable, raising=False)
    found = runpy.run_path(str(ROOT / "launch" / f"{name}.launch.py"))

    def started(**given):
        context = LaunchContext()
        for argument, (default, *_) in found["ARGUMENTS"].items():
            context.launch_configurations[argument] = given.get(argument, default or "outdoor")
        return found["start"](context)

    assert [type(entity) for entity in started()] == [Node]
    first, *rest = started(large_images="true")
    assert isinstance(first, Node)  # it keeps its memory: who publishes needs it
    names = {entity.name[0].text for entity in rest if isinstance(entity, SetEnvironmentVariable)}
    assert names == set(PROFILE_VARIABLES)
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert [type(entity) for entity in started(large_images="true")] == [Node]


@pytest.mark.parametrize("name", ["cpu_robot", "cpu_robot.yaml", "~/mine.yaml"])
def test_a_parameter_file_is_named_by_its_path_or_as_it_is_called_in_config(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").touch()
    own = str(tmp_path / "mine.yaml")
    found = own if name.startswith("~") else str(ROOT / "config" / "cpu_robot.yaml")
    assert find_config(name) == found


@pytest.mark.parametrize("name", ["cpu_robt", "config/cpu_robot", "/nowhere/cpu_robot.yaml", ""])
def test_a_parameter_file_that_does_not_exist_is_refused_with_the_known_names(name):
    with pytest.raises(ConfigError, match=r"does not exist.*cpu_robot, gpu_vehicle, map_builder"):
        find_config(name)


def test_launch_files_import_no_package_that_the_system_may_lack():
    heavy = {"torch", "rosbags", "faiss", "numpy", "scipy", "yaml", "cv2"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(heavy)}));"
        "import disam_ros.slam.consumers, disam_ros.files.paths as paths;"
        "paths.find_config('cpu_robot')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for name in LAUNCHES:
        text = (ROOT / "launch" / f"{name}.launch.py").read_text()
        imported = set(re.findall(r"^(?:from|import) (disam_ros[\w.]*)", text, re.MULTILINE))
        assert imported <= {"disam_ros.files.paths", "disam_ros.slam.consumers"}


def test_the_topics_of_a_bag_are_printed_for_launch_files(tmp_path, capsys):
    from disam_ros.nodes.replay.bag_topics import main

    save_drive(tmp_path, 3)
    assert main([str(tmp_path / "bag"), str(tmp_path / "map"), ""]) == 0
    topics = json.loads(capsys.readouterr().out)
    assert topics["parameters"]["image_transport"] == "raw"
    assert topics["remappings"]["image"] == "/camera/front/image_raw"
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "map"), ""]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def save_drive(folder, images):
    """A model, a map, and a bag of a drive through it."""
    from support.data import save_tiny_model, texture
    from support.maps import START_S, base_pose, save_tiny_map

    from disam_ros.datasets.bags.writer import BagWriter

    save_tiny_map(folder / "map", save_tiny_model(folder / "model"))
    with BagWriter(folder / "bag", map_frame="town") as bag:
        for index in range(images):
            stamp_ns = (START_S + index) * 10**9
            bag.raw_image("front", stamp_ns, texture(index))
            bag.ground_truth(stamp_ns, base_pose(index))


@pytest.fixture
def installed(tmp_path):
    """An install prefix that holds this working tree, and the environment that finds it."""
    pytest.importorskip("launch_ros", reason="launch_ros comes with ROS 2 only, not from PyPI")
    prefix = tmp_path / "install"
    share = prefix / "share"
    (share / "ament_index" / "resource_index" / "packages").mkdir(parents=True)
    (share / "ament_index" / "resource_index" / "packages" / "disam_ros").touch()
    (share / "disam_ros").mkdir()
    for name in ("launch", "config", "package.xml"):
        (share / "disam_ros" / name).symlink_to(ROOT / name)
    scripts = prefix / "lib" / "disam_ros"
    scripts.mkdir(parents=True)
    modules = {
        "localizer_node": "localizer.node",
        "map_builder_node": "map_builder.node",
        "replay_evaluation": "replay.evaluation",
        "replay_node": "replay.node",
    }
    for name, module in modules.items():
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m disam_ros.nodes.{module} "$@"\n')
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


def test_the_localizer_answers_from_its_launch_file_and_two_signals_end_it_cleanly(
    installed, tmp_path
):
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import Image
    from support.data import save_tiny_model, texture
    from support.maps import save_tiny_map
    from support.messages import image_message, values
    from support.ros import Client

    save_tiny_map(tmp_path / "map", save_tiny_model(tmp_path / "model"))
    arguments = {
        "map": str(tmp_path / "map"),
        "model": str(tmp_path / "model"),
        "image": "/camera/front/image_raw",
        "namespace": "robot",
        "config": str(single_images(tmp_path)),
        "rviz": "true",  # which is not installed
    }
    with launched("relocalization", arguments, installed, tmp_path / "log") as launch:
        with Client("/robot/localizer") as client:
            poses = client.collect(PoseStamped, "/robot/localizer/pose")
            found = client.collect(DiagnosticArray, "/diagnostics")
            launch.until(
                client, lambda: any(values(m.status[0]).get("state") == "active" for m in found)
            )
            publisher = client.node.create_publisher(Image, "/camera/front/image_raw", 1)
            message = image_message(texture(2))
            launch.until(client, lambda: poses, again=lambda: publisher.publish(message))
        assert "rviz2 is not installed" in launch.log
        launch.interrupt_twice()
        assert launch.wait() == 0
        launch.assert_clean("localizer_node")


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


def test_a_replay_is_answered_judged_and_recorded_and_ends_the_launch(installed, tmp_path):
    from disam_ros.datasets.bags import BagReader
    from disam_ros.evaluation import read_results

    save_drive(tmp_path, 6)
    with launched("replay_evaluation", replay(tmp_path), installed, tmp_path / "log") as launch:
        assert launch.wait() == 0
    results = read_results(tmp_path / "output")
    assert results["overall"]["metrics"]["answered"] == 1.0
    with BagReader(tmp_path / "record") as reader:
        assert reader.topics()["/localizer/pose"].count == 6


def test_two_signals_end_a_replay_and_what_was_answered_is_written(installed, tmp_path):
    from diagnostic_msgs.msg import DiagnosticArray
    from support.ros import Client

    save_drive(tmp_path, 60)
    arguments = replay(tmp_path) | {"rate": "0.2"}  # minutes
    with launched("replay_evaluation", arguments, installed, tmp_path / "log") as launch:
        with Client("/localizer") as client:
            answers = client.collect(DiagnosticArray, "/localizer/answer")
            launch.until(client, lambda: answers)
        launch.interrupt_twice()
        assert launch.wait() == 0
        launch.assert_clean("replay_evaluation")
    assert (tmp_path / "output" / "results.json").exists()


def test_a_launch_with_a_parameter_file_that_does_not_exist_ends_with_the_known_ones(
    installed, tmp_path
):
    arguments = {"map": "map", "model": "outdoor", "config": "cpu_robt"}
    with launched("relocalization", arguments, installed, tmp_path / "log") as launch:
        assert launch.wait() != 0
        assert "'cpu_robt' does not exist; expected a path, or one of cpu_robot" in launch.log
        assert "process started" not in launch.log


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"consumer": "amlc"}, "amlc"),
        ({"image": "/l/image,/r/image"}, "for 1 cameras: name as many"),
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


def test_two_cameras_a_consumer_and_parameters_are_arguments(installed, tmp_path):
    from geometry_msgs.msg import PoseStamped
    from rcl_interfaces.srv import GetParameters
    from sensor_msgs.msg import Image
    from support.data import save_tiny_model, texture
    from support.maps import save_tiny_map
    from support.messages import image_message
    from support.ros import Client

    model = save_tiny_model(tmp_path / "model")
    save_tiny_map(tmp_path / "map", model, cameras=("left", "right"))
    arguments = {
        "map": str(tmp_path / "map"),
        "model": str(tmp_path / "model"),
        "config": str(single_images(tmp_path)),
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
    }
    subscribed = {f"/two/{side}/{name}" for side in "lr" for name in ("image_raw", "camera_info")}
    subscribed |= {f"/two/{name}" for name in ("odom", "fix", "weather", "prior")}
    subscribed |= {"/robot2/amcl_pose"}
    name = "/robot2/localizer"
    with (
        launched("relocalization", arguments, installed, tmp_path / "log") as launch,
        Client(name) as client,
    ):
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
        found = client.call(GetParameters, f"{name}/get_parameters", request).values
        assert found[0].string_value == "recover" and found[2].bool_value
        assert list(found[1].string_array_value) == ["left", "right"]
        assert "[INFO] [1" not in launch.log  # of the node: log_level


def test_a_localizer_that_dies_is_started_again_on_request(installed, tmp_path):
    arguments = {"map": "nowhere", "model": "outdoor", "respawn": "true"}
    with launched("relocalization", arguments, installed, tmp_path / "log") as launch:
        launch.until_logged("process started with pid")
        pid = int(re.findall(r"process started with pid \[(\d+)\]", launch.log)[0])
        launch.until_logged("nowhere")  # in the reason why it stays unconfigured
        os.kill(pid, signal.SIGKILL)
        launch.until(None, lambda: launch.log.count("process started with pid") == 2)
        launch.interrupt_twice()
        launch.wait()


def replay(folder):
    """Arguments of an evaluation of `save_drive`."""
    arguments = {name: str(folder / name) for name in ("bag", "map", "model", "output", "record")}
    return arguments | {"config": str(single_images(folder))}


def single_images(folder):
    """A parameter file with which each image is answered alone: a few say little of a sequence."""
    return parameters(folder, localizer={"sequence": {"enabled": False}})


def parameters(folder, **values):
    """A parameter file for any node."""
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return path


LAUNCH = """\
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
given = [tuple(argument.split("=", 1)) for argument in sys.argv[2:]]
service = LaunchService()
include = IncludeLaunchDescription(sys.argv[1], launch_arguments=given)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


class Launch:
    """A launch file run by LaunchService, in a session of its own with all that it starts."""

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

    def interrupt_twice(self) -> None:
        """What Ctrl-C does in a terminal, by somebody impatient."""
        os.killpg(self._process.pid, signal.SIGINT)
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
    path = ROOT / "launch" / f"{name}.launch.py"
    given = [f"{key}={value}" for key, value in arguments.items()]
    logs.follow(log)
    launch = Launch([sys.executable, "-c", LAUNCH, str(path), *given], environment, log)
    try:
        yield launch
    finally:
        launch.kill()
        logs.end(log)
