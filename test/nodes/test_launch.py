# SPDX-License-Identifier: Apache-2.0
"""Parameter files fit the nodes; launch files start them where launch_ros is installed."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from support import logs

from disam_ros.config import LocalizerNodeConfig, MapBuilderNodeConfig
from disam_ros.settings import from_dict

ROOT = Path(__file__).resolve().parents[2]
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
RECORDED = {"/ground_truth/pose", "/map/route", "/camera/front/image_raw/compressed"}
KNOWN_TOPICS = {f"/localizer/{name}" for name in PUBLISHED} | RECORDED | {"/diagnostics"}


def test_the_rviz_layout_is_yaml_with_displays_of_our_topics():
    layout = yaml.safe_load((ROOT / "config" / "relocalization.rviz").read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = {d["Topic"]["Value"] for d in displays if "Topic" in d}
    assert {f"/{topic.lstrip('/')}" for topic in topics} <= KNOWN_TOPICS
    assert topics >= RECORDED
    assert {"localizer/pose_with_covariance", "localizer/markers"} <= topics  # of any namespace


def test_the_foxglove_layout_is_json_with_panels_of_our_topics():
    layout = json.loads((ROOT / "config" / "replay_evaluation.foxglove.json").read_text())
    panels = layout["configById"]
    assert set(leaves(layout["layout"])) == set(panels)
    assert {name.split("!")[0] for name in panels} >= {"3D", "Image", "Plot"}
    topics = set(re.findall(r'"(/[\w/]+)', json.dumps(panels)))
    assert topics <= KNOWN_TOPICS
    assert topics >= RECORDED | {"/localizer/pose", "/localizer/answer", "/diagnostics"}


def leaves(tree) -> list[str]:
    """Names of the panels in a tree of splits."""
    if isinstance(tree, str):
        return [tree]
    return leaves(tree["first"]) + leaves(tree["second"])


def test_the_keys_that_the_foxglove_layout_plots_are_those_of_an_answer():
    pytest.importorskip("rclpy")
    from types import SimpleNamespace as Fake

    from disam_ros.nodes.localizer import answer_status

    best = Fake(record=Fake(id=1), fine_score=0.5, coarse_score=0.5)
    found = Fake(
        best=best,
        record=best.record,
        known=True,
        confidence=0.5,
        tracked=False,
        informative=True,
        domain=Fake(name="day", reason=""),
        candidates=[best],
        timings_ms={"encode": 1.0},
        camera="front",
        prior="",
    )
    status = answer_status.localized(found, 2.0)
    text = (ROOT / "config" / "replay_evaluation.foxglove.json").read_text()
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


@pytest.fixture
def installed(tmp_path):
    """An install prefix that holds this working tree, and the environment that finds it."""
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
    paths = [str(prefix), *filter(None, [os.environ.get("AMENT_PREFIX_PATH")])]
    python = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "AMENT_PREFIX_PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join(python),
    }


def test_the_localizer_comes_up_active_from_its_launch_file(installed, tmp_path):
    pytest.importorskip("launch_ros")
    from geometry_msgs.msg import PoseStamped
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
    }
    with launched("relocalization", arguments, installed, tmp_path / "log") as process:
        with Client("/robot/localizer") as client:
            poses = client.collect(PoseStamped, "/robot/localizer/pose")
            client.diagnosis(lambda s: values(s)["state"] == "active", "active")
            message = image_message(texture(2))
            client.repeat("/camera/front/image_raw", message, lambda: poses, "a pose")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_a_replay_is_answered_judged_and_recorded_and_ends_the_launch(installed, tmp_path):
    pytest.importorskip("launch_ros")
    from support.data import save_tiny_model, texture
    from support.maps import START_S, base_pose, save_tiny_map

    from disam_ros.datasets.bags import BagReader
    from disam_ros.datasets.bags.writer import BagWriter
    from disam_ros.evaluation import read_results

    save_tiny_map(tmp_path / "map", save_tiny_model(tmp_path / "model"))
    with BagWriter(tmp_path / "bag", map_frame="town") as bag:
        for index in range(6):
            stamp_ns = (START_S + index) * 10**9
            bag.raw_image("front", stamp_ns, texture(index))
            bag.ground_truth(stamp_ns, base_pose(index))
    arguments = {name: str(tmp_path / name) for name in ("bag", "map", "model", "output", "record")}
    arguments["config"] = str(single_images(tmp_path))
    with launched("replay_evaluation", arguments, installed, tmp_path / "log") as process:
        assert process.wait(120) == 0
    results = read_results(tmp_path / "output")
    assert results["overall"]["metrics"]["answered"] == 1.0
    with BagReader(tmp_path / "record") as reader:
        assert reader.topics()["/localizer/pose"].count == 6


def single_images(folder):
    """A parameter file with which each image is answered alone: a few say little of a sequence."""
    values = {"/**": {"ros__parameters": {"localizer": {"sequence": {"enabled": False}}}}}
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def launched(name, arguments, environment, log):
    """A launch file run by LaunchService in its own process."""
    code = (
        "import sys; from launch import LaunchService;"
        "from launch.launch_description_sources import get_launch_description_from_any_launch_file;"
        "from launch.actions import IncludeLaunchDescription;"
        "from launch import LaunchDescription;"
        "include = IncludeLaunchDescription(sys.argv[1],"
        "launch_arguments=[tuple(a.split('=', 1)) for a in sys.argv[2:]]);"
        "service = LaunchService();"
        "service.include_launch_description(LaunchDescription([include]));"
        "sys.exit(service.run())"
    )
    path = ROOT / "launch" / f"{name}.launch.py"
    given = [f"{key}={value}" for key, value in arguments.items()]
    logs.follow(log)
    with log.open("wb") as file:
        command = [sys.executable, "-c", code, str(path), *given]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        logs.end(log)
