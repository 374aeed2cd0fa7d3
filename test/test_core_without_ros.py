# SPDX-License-Identifier: Apache-2.0
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.data import write_dataset

import disam_ros
from disam_ros.cli import doctor

ROS = [package.module for package in doctor.ROS_PACKAGES]
ROS += ["builtin_interfaces", "launch", "rcl_interfaces", "rosgraph_msgs"]  # what comes with them


@pytest.mark.parametrize("name", disam_ros.__all__)
def test_every_public_name_is_where_the_package_looks_for_it(name):
    assert getattr(disam_ros, name).__name__ == name


WITH_ROS = ("disam_ros.nodes", "disam_ros.demo.run", "disam_ros.demo.live")


def test_every_core_module_imports_where_ros_is_missing():
    modules = [
        module.name
        for module in pkgutil.walk_packages(disam_ros.__path__, "disam_ros.")
        if not module.name.startswith(WITH_ROS)
    ]
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({ROS}))\n"
        f"import importlib\n[importlib.import_module(m) for m in {modules}]"
    )
    assert "disam_ros.localization.localizer" in modules
    subprocess.run([sys.executable, "-c", script], check=True)


def without(modules, statements):
    """What statements print in an interpreter that lacks modules."""
    code = f"import sys\nsys.modules.update(dict.fromkeys({modules}))\n{statements}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_without_rosbags_a_bag_is_refused_with_the_package_to_install(tmp_path):
    line = ["extract", "--bag", "bag", "--domain", "day", "--output", str(tmp_path / "out")]
    said = without(
        ["rosbags"],
        f"from disam_ros.cli import main\nsys.stderr = sys.stdout\nassert main({line}) == 1",
    )
    assert "needs the package rosbags, which is not installed: " in said
    assert "-m pip install 'rosbags>=" in said


def test_without_the_season_town_synth_says_what_to_install():
    said = without(
        ["season_town"],
        "from disam_ros.cli import main\nsys.stderr = sys.stdout\nassert main(['synth']) == 1",
    )
    assert "-m pip install ./season_town" in said and said.count("\n") == 0


def test_nodes_start_without_rosbags_and_decode_images_without_cv_bridge():
    pytest.importorskip("rclpy")
    statements = (
        "import numpy as np, disam_ros.nodes.localizer.node, disam_ros.nodes.map_builder.node\n"
        "from disam_ros.nodes.conversions import image_from_message\n"
        "from sensor_msgs.msg import Image\n"
        "pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)\n"
        "message = Image(height=2, width=4, encoding='bgr8', step=12, data=pixels.tobytes())\n"
        "assert (image_from_message(message) == pixels[..., ::-1]).all()\n"
        "print('same')"
    )
    assert without(["rosbags", "cv_bridge"], statements) == "same"


@pytest.mark.slow
def test_maps_are_built_and_images_localized_with_the_required_packages_alone(tmp_path):
    # Not torch, of which scipy looks for a loaded module.
    optional = [p.module for p in doctor.PACKAGES if not p.required and p.module != "torch"]
    data, place_map = write_dataset(tmp_path / "data", 4), str(tmp_path / "map")
    build = ["build-map", "--dataset", str(data.directory), "--model", "outdoor"]
    build += ["--domain", "summer_day", "--keypoints", "0", "--output", place_map]
    images = [str(data.path(record)) for record in data.records[:2]]
    localize = ["localize", "--map", place_map, "--model", "outdoor", *images]
    localize += ["--output", str(tmp_path / "answers.csv")]
    without(
        [*optional, "astral", "threadpoolctl"],
        f"from disam_ros.cli import main\nassert main({build}) == 0\nassert main({localize}) == 0",
    )
    answers = (tmp_path / "answers.csv").read_text()
    assert all(Path(image).name in answers for image in images)
