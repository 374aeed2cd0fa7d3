# SPDX-License-Identifier: Apache-2.0
"""colcon builds and installs the package; scripts/install_robot.sh does it on a robot."""

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
DEADLINE = 600.0  # seconds; only what hangs needs them
FOLDERS = ("disam_ros", "demo", "launch", "config", "models", "resource", "scripts")
FILES = ("package.xml", "setup.py", "setup.cfg")

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
pytest.importorskip("colcon_core", reason="colcon is not installed: pip install -e '.[dev]'")
pytestmark = pytest.mark.slow


def write_workspace(root):
    """A colcon workspace with a copy of this package."""
    source = root / "src" / "disam_ros"
    source.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    return root


def environment():
    """One in which python3 is this interpreter, as in an active virtual environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def run(command, folder, env):
    """Run a command to its end."""
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A colcon workspace with this package built and installed."""
    root = write_workspace(tmp_path_factory.mktemp("workspace"))
    built = run([sys.executable, "-m", "colcon", "build"], root, environment())
    assert built.returncode == 0, built.stdout + built.stderr
    return root


def run_installed(workspace, command):
    """A shell command where the workspace is sourced."""
    command = f". {workspace}/install/setup.sh && exec {command}"
    return run(["sh", "-c", command], workspace, environment())


def test_the_package_installs_nodes_launch_files_config_models_and_drives(workspace):
    prefix = workspace / "install" / "disam_ros"
    for name in ("localizer_node", "map_builder_node", "disam"):
        script = prefix / "lib" / "disam_ros" / name
        assert script.read_text().startswith("#!/usr/bin/env python3\n")
        assert os.access(script, os.X_OK)
    share = prefix / "share" / "disam_ros"
    assert (share / "package.xml").is_file()
    for folder in ("launch", "config", "config/consumers", "models/outdoor"):
        files = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        assert {path.name for path in (share / folder).iterdir() if path.is_file()} == files
    drives = {path.relative_to(ROOT) for path in (ROOT / "demo" / "data").rglob("*")}
    assert {path.relative_to(share) for path in (share / "demo" / "data").rglob("*")} == drives
    assert (prefix / "share/ament_index/resource_index/packages/disam_ros").is_file()


def test_the_installed_package_has_the_version_of_package_xml(workspace):
    code = "import disam_ros; print(disam_ros.__file__, disam_ros.__version__)"
    ran = run_installed(workspace, f"{sys.executable} -c '{code}'")
    file, version = ran.stdout.split()
    assert Path(file).is_relative_to(workspace)
    assert version == ElementTree.parse(ROOT / "package.xml").findtext("version")


def test_the_installed_command_finds_models_and_parameter_files_in_share(workspace):
    share = workspace / "install/disam_ros/share/disam_ros"
    ran = run_installed(workspace, f"{workspace}/install/disam_ros/lib/disam_ros/disam doctor")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{share}/models/outdoor" in ran.stdout
    code = 'from disam_ros.files.paths import find_config; print(find_config("cpu_robot"))'
    ran = run_installed(workspace, f"{sys.executable} -c '{code}'")
    assert ran.stdout.strip() == str(share / "config" / "cpu_robot.yaml")


def test_the_installed_node_starts_and_stops_cleanly(workspace, tmp_path):
    executable = workspace / "install/disam_ros/lib/disam_ros/localizer_node"
    command = f". {workspace}/install/setup.sh && exec {executable}"
    log = tmp_path / "log"
    logs.follow(log)
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["sh", "-c", command], stderr=file, cwd=workspace, env=environment()
        )
    try:
        end = time.monotonic() + DEADLINE
        while "the parameter 'map' is empty" not in log.read_text():
            assert time.monotonic() < end and process.poll() is None, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
        logs.end(log)


# The script. Packages on PYTHONPATH stand for a sourced ROS; nothing is missing, so that it needs
# no network.


def run_script(root, *arguments, **variables):
    script = root / "src" / "disam_ros" / "scripts" / "install_robot.sh"
    return run(["bash", str(script), *arguments], root, without_rosdep(sourced_ros() | variables))


def sourced_ros():
    """An environment in which another interpreter finds the packages of this one."""
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return {**os.environ, "PYTHONPATH": os.pathsep.join(packages), "PYTHON": str(base)}


def without_rosdep(variables):
    folders = variables["PATH"].split(os.pathsep)
    kept = [folder for folder in folders if not (Path(folder) / "rosdep").exists()]
    return {**variables, "PATH": os.pathsep.join(kept)}


def test_the_script_installs_on_a_robot_and_checks_itself_also_when_run_again(tmp_path):
    root = write_workspace(tmp_path)
    for state in ("Virtual environment", "is there already"):
        ran = run_script(root, PIP_NO_INDEX="1")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert state in ran.stdout and "none are missing" in ran.stdout
        assert f"{root}/install/disam_ros/share/disam_ros/models/outdoor" in ran.stdout
        assert "ros2 launch disam_ros" in ran.stdout
    assert (root / ".venv" / "COLCON_IGNORE").is_file()
    script = root / "src" / "disam_ros" / "scripts" / "in_workspace.sh"
    code = "import sys, disam_ros; print(sys.prefix, disam_ros.__file__)"
    for command in (["python3", "-c", code], ["disam", "--version"]):
        ran = run(["bash", str(script), *command], tmp_path, sourced_ros())
        assert ran.returncode == 0, ran.stderr
        if command[0] == "python3":
            prefix, file = ran.stdout.split()
            assert prefix == str(root / ".venv")
            assert Path(file).is_relative_to(root / "install")


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("--help",), {}, "expected no arguments, got: --help"),
        ((), {"PYTHON": "python3.999"}, "python3.999 is not there"),
        ((), {"PYTHONPATH": ""}, "first source your ROS installation"),
    ],
)
def test_the_script_says_in_a_sentence_what_is_wrong(tmp_path, arguments, variables, words):
    ran = run_script(write_workspace(tmp_path), *arguments, **variables)
    assert ran.returncode == 1 and words in ran.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_script_refuses_a_repository_outside_of_a_workspace(tmp_path):
    (tmp_path / "disam_ros" / "scripts").mkdir(parents=True)
    script = shutil.copy(ROOT / "scripts" / "install_robot.sh", tmp_path / "disam_ros" / "scripts")
    ran = run(["bash", script], tmp_path, None)
    assert ran.returncode == 1 and "expected a colcon workspace" in ran.stderr


def test_the_script_refuses_an_environment_that_does_not_see_ros(tmp_path):
    root = write_workspace(tmp_path)
    bin = root / ".venv" / "bin"
    bin.mkdir(parents=True)
    (bin / "python").symlink_to(sys.executable)
    (root / ".venv" / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    ran = run_script(root)
    assert ran.returncode == 1 and "does not see the packages of ROS: remove it" in ran.stderr
