# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import logs

ROOT = Path(__file__).parents[2]
COLCON = Path(sys.executable).with_name("colcon")

DEADLINE = 60.0  # seconds; only a node that does not start needs them

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A colcon workspace with this package built and installed."""
    if not COLCON.exists():
        pytest.skip("colcon is not installed: pip install -e '.[dev]'")
    root = tmp_path_factory.mktemp("workspace")
    source = root / "src" / "disam_ros"
    source.mkdir(parents=True)
    for name in ("disam_ros", "launch", "config", "resource"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("package.xml", "setup.py", "setup.cfg"):
        shutil.copy(ROOT / name, source / name)
    path = f"{COLCON.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    command = [COLCON, "build"]
    built = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return root


@pytest.mark.slow
def test_the_package_installs_nodes_launch_files_and_config(workspace):
    prefix = workspace / "install" / "disam_ros"
    for name in ("localizer_node", "map_builder_node", "replay_node", "disam"):
        assert (prefix / "lib" / "disam_ros" / name).is_file()
    share = prefix / "share" / "disam_ros"
    assert (share / "package.xml").is_file()
    assert {p.name for p in (share / "launch").iterdir()} >= {"relocalization.launch.py"}
    assert {p.name for p in (share / "config").iterdir()} >= {"cpu_robot.yaml"}
    assert (prefix / "share/ament_index/resource_index/packages/disam_ros").is_file()


@pytest.mark.slow
def test_the_installed_package_has_the_version_of_package_xml(workspace):
    code = "import disam_ros; print(disam_ros.__file__, disam_ros.__version__)"
    command = f". {workspace}/install/setup.sh && exec {sys.executable} -c '{code}'"
    ran = subprocess.run(["sh", "-c", command], cwd=workspace, capture_output=True, text=True)
    file, version = ran.stdout.split()
    assert Path(file).is_relative_to(workspace)
    assert version == ElementTree.parse(ROOT / "package.xml").findtext("version")


@pytest.mark.slow
def test_the_installed_node_starts_and_stops_cleanly(workspace, tmp_path):
    executable = workspace / "install/disam_ros/lib/disam_ros/localizer_node"
    command = f". {workspace}/install/setup.sh && exec {executable}"
    log = tmp_path / "log"
    logs.follow(log)
    with log.open("wb") as file:
        process = subprocess.Popen(["sh", "-c", command], stderr=file, cwd=workspace)
    end = time.monotonic() + DEADLINE
    while "the parameter 'map' is empty" not in log.read_text():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    logs.end(log)
