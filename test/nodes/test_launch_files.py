# SPDX-License-Identifier: Apache-2.0
"""Parameter files, layouts and launch files as they lie there."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from disam_ros.errors import ConfigError
from disam_ros.files.checking import build
from disam_ros.files.paths import find_config
from disam_ros.node_config import LocalizerNodeConfig, MapBuilderNodeConfig

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
}


def test_every_parameter_file_is_known_to_these_tests():
    result = {path.stem for path in (ROOT / "config").glob("*.yaml")}
    assert {name for name in result if not name.startswith("train_")} == set(CONFIGS)


@pytest.mark.parametrize(("name", "cls"), CONFIGS.items())
def test_a_parameter_file_fits_its_node_and_explains_every_value(name, cls):
    text = (ROOT / "config" / f"{name}.yaml").read_text()
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    build(cls, values)
    lines = [line.strip() for line in text.splitlines()]
    settings = [line for line in lines if ": " in line and not line.startswith("#")]
    unexplained = [line for line in settings if "#" not in line and "base_from" not in line]
    assert not unexplained


@pytest.mark.parametrize(("name", "cls"), CONFIGS.items())
def test_ros_reads_a_parameter_file_as_yaml_does(make_node, name, cls):
    from disam_ros.nodes.rclpy_extra.parameters import declare

    path = ROOT / "config" / f"{name}.yaml"
    node = make_node("--params-file", str(path))
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert str(declare(node, cls)) == str(build(cls, values))  # text: nan differs from itself


# What the localizer publishes, and what a recorded evaluation also holds.
PUBLISHED = (
    "pose",
    "pose_with_covariance",
    "candidates",
    "markers",
    "activation_map",
    "answer",
    "match_image",
    "map_poses",
    "probability",
    "state",
)
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
    "evaluation": RECORDED | {"/localizer/pose", "/localizer/answer", "/diagnostics"},
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
    result = Fake(
        best=best,
        record=best.record,
        known=True,
        probability=0.5,
        tracked=False,
        informative=True,
        alone="",
        doubt=0.0,
        inliers=0,
        domain=Fake(name="day", reason=""),
        candidates=[best],
        timings_ms={"encode": 1.0},
        camera="front",
        prior="",
    )
    status = answer_status.localized(result, 2.0)
    text = foxglove(name)
    plotted = set(re.findall(r'key==\\"([^\\]+)', text))
    assert plotted and plotted <= {pair.key for pair in status.values}
    answer = json.loads(text)["configById"]["DiagnosticStatusPanel!answer"]
    assert answer["selectedName"] == status.name


def declared(name: str) -> set[str]:
    """Arguments of a launch file, which needs `launch` to be loaded, from its text."""
    text = (ROOT / "launch" / f"{name}.launch.py").read_text()
    return set(re.findall(r'^ +"(\w+)": \(', text, re.MULTILINE))


def test_every_launch_command_that_is_printed_gives_arguments_that_its_file_has():
    """What is required is given, too."""
    pages = [ROOT / "README.md", ROOT / "scripts/install_robot.sh", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(path.read_text() for path in pages).replace("\\\n", " ")
    result = re.findall(r"ros2 launch disam_ros (\w+)\.launch\.py([^\n`]*)", text)
    assert {name for name, _ in result} == set(LAUNCHES)
    for name, given in result:
        arguments = set(re.findall(r"(\w+):=", given))
        assert LAUNCHES[name] <= arguments <= declared(name), f"{name}{given}"


def test_the_page_on_ros_names_required_arguments_and_none_that_the_launch_file_lacks():
    text = (ROOT / "docs" / "ros.md").read_text()
    table = text[text.index("`relocalization.launch.py` starts") :].split("\n\n")[1]
    names = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines())))
    assert LAUNCHES["relocalization"] <= names <= declared("relocalization")


@pytest.mark.parametrize(("name", "required"), LAUNCHES.items())
def test_a_launch_file_describes_its_arguments(name, required):
    pytest.importorskip("launch_ros")
    from launch.actions import DeclareLaunchArgument

    result = runpy.run_path(str(ROOT / "launch" / f"{name}.launch.py"))
    entities = result["generate_launch_description"]().entities
    arguments = [e for e in entities if isinstance(e, DeclareLaunchArgument)]
    assert {a.name for a in arguments} == declared(name)
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
    result = runpy.run_path(str(ROOT / "launch" / f"{name}.launch.py"))

    def started(**given):
        context = LaunchContext()
        for argument, (default, *_) in result["ARGUMENTS"].items():
            context.launch_configurations[argument] = given.get(argument, default or "outdoor")
        return result["start"](context)

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
    result = own if name.startswith("~") else str(ROOT / "config" / "cpu_robot.yaml")
    assert find_config(name) == result


@pytest.mark.parametrize("name", ["cpu_robt", "config/cpu_robot", "/nowhere/cpu_robot.yaml", ""])
def test_a_parameter_file_that_does_not_exist_is_refused_with_the_known_names(name):
    with pytest.raises(ConfigError, match=r"does not exist.*cpu_robot, gpu_vehicle, map_builder"):
        find_config(name)


def test_launch_files_import_no_package_that_the_system_may_lack():
    heavy = {"torch", "rosbags", "faiss", "numpy", "scipy", "yaml", "cv2"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(heavy)}));"
        "import disam_ros.slam.consumers, disam_ros.nodes.launching;"
        "import disam_ros.files.paths as paths;"
        "paths.find_config('cpu_robot')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for name in LAUNCHES:
        text = (ROOT / "launch" / f"{name}.launch.py").read_text()
        imported = set(re.findall(r"^(?:from|import) (disam_ros[\w.]*)", text, re.MULTILINE))
        assert imported <= {
            "disam_ros.files.paths",
            "disam_ros.nodes.launching",
            "disam_ros.slam.consumers",
        }
