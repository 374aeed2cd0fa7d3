# SPDX-License-Identifier: Apache-2.0
"""Shell scripts and container files; what they run is tested in nodes/test_colcon.py."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from disam_ros.cli import command_line

ROOT = Path(__file__).parents[1]
BIN = str(Path(sys.executable).parent)
SCRIPTS = (*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run", ROOT / ".ci" / "stress")


@pytest.mark.parametrize(
    ("checker", "files"), [("shellcheck", SCRIPTS), ("hadolint", [ROOT / "Dockerfile"])]
)
def test_the_checker_finds_nothing(checker, files):
    program = shutil.which(checker, path=os.pathsep.join([BIN, os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"{checker} is not installed")
    ran = subprocess.run([program, *map(str, files)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_and_ends_at_the_first_error(script):
    assert os.access(script, os.X_OK)
    assert re.search(r"^set -eu?o pipefail$", script.read_text(), re.MULTILINE)


def test_the_image_runs_scripts_and_launch_files_that_exist():
    text = (ROOT / "Dockerfile").read_text()
    used = re.findall(r"src/disam_ros/(scripts/\w+\.sh)", text)
    assert set(used) == {"scripts/install_robot.sh", "scripts/in_workspace.sh"}
    for path in (*used, "launch/relocalization.launch.py"):
        assert (ROOT / path).is_file() and Path(path).name in text
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", ".git", "data"} <= set(ignored)
    assert not {"demo", "models", "scripts", "launch", "config"} & set(ignored)


def test_compose_runs_the_demo_in_that_image_and_the_devcontainer_is_built_from_it():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("demo", "view"):
        service = services[name]
        assert service["build"] == "." and service["command"][:2] == ["disam", "demo"]
        assert command_line().parse_args(service["command"][1:]).live == (name == "view")
    (published,) = services["view"]["ports"]  # beside the host's own address alone
    assert published == "127.0.0.1:8087:8087" and "0.0.0.0" in services["view"]["command"]
    own, gpu = services["drive"], services["drive-gpu"]
    assert own["command"] == gpu["command"] and own["command"][0] == "disam"
    arguments = command_line().parse_args(own["command"][1:])
    mounted = {volume.removesuffix(":ro").rpartition(":")[2] for volume in own["volumes"]}
    assert {arguments.drives[0], arguments.map, str(Path(arguments.output).parent)} == mounted
    assert gpu["build"]["args"] == {"TORCH": 1} and own["build"] == "."
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    file = ROOT / ".devcontainer" / container["build"]["dockerfile"]
    assert file.resolve() == (ROOT / "Dockerfile").resolve()
    first, *_, last = container["postCreateCommand"].split(" && ")
    assert (first, last) == ("make install", "TORCH=1 scripts/install_robot.sh")
    assert container["workspaceFolder"] == "/ws/src/disam_ros"  # where that script expects it


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_actions_of_others_are_pinned_by_commit_and_checks_run_on_every_python(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    uses = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in uses)
    for line in re.findall(r"uses: .*", path.read_text()):
        assert re.search(r" # v\d+\.\d+\.\d+$", line), line
    if "check" in jobs:
        pythons = jobs["check"]["strategy"]["matrix"]["python"]
        least = re.search(r'python_requires=">=(.*?)"', (ROOT / "setup.py").read_text())[1]
        assert pythons[0] == least and len(pythons) == 4


def run_launch_tests(folder: Path, *arguments: str, **variables: str):
    """The script in a workspace whose python3 only notes what it is called with."""
    scripts, bin = folder / "ws/src/disam_ros/scripts", folder / "bin"
    scripts.mkdir(parents=True)
    bin.mkdir()
    for name in ("launch_tests.sh", "in_workspace.sh"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    python = bin / "python3"
    python.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -c ]; then echo "$MISSING" >&2; test -z "$MISSING"; exit; fi\n'
        f'echo "$@" > {folder / "called"}; exit 5\n'
    )
    python.chmod(0o755)
    path = os.pathsep.join([str(bin), os.environ["PATH"]])
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DISTRO"}
    return subprocess.run(
        [scripts / "launch_tests.sh", *arguments],
        env=environment | {"PATH": path} | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("arguments", "status"), [(("--if-installed",), 0), ((), 1)])
def test_without_ros_one_red_line_says_that_launch_files_were_not_tested(
    tmp_path, arguments, status
):
    missing = "Traceback\nModuleNotFoundError: No module named 'launch_ros'"
    ran = run_launch_tests(tmp_path, *arguments, MISSING=missing)
    assert ran.returncode == status and ran.stderr == ""
    (line,) = ran.stdout.splitlines()
    assert line.startswith("\033[1;31m") and "No module named 'launch_ros'. Source ROS 2" in line
    assert not (tmp_path / "called").exists()


def test_with_ros_the_launch_tests_run_and_their_status_counts(tmp_path):
    ran = run_launch_tests(tmp_path, "--if-installed", "-k", "some", MISSING="")
    assert ran.returncode == 5
    called = (tmp_path / "called").read_text().split()
    assert called[:2] == ["-m", "pytest"] and called[-2:] == ["-k", "some"]
    tests = [name for name in called if name.endswith(".py")]
    assert len(tests) == 2 and all((ROOT / name).is_file() for name in tests)
