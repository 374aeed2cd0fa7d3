# SPDX-License-Identifier: Apache-2.0
"""What ROS refuses when a command starts: one line, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from disam_ros.entry import MODULES
from disam_ros.files.paths import DISCOVERY, PROFILE_VARIABLES, profile
from disam_ros.nodes.rclpy_extra.starting import starting

BAG = Path(__file__).parents[2] / "demo/data/night"


def run(*command, **environment):
    """Run a module of the package to its end."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300.0,
    )


@pytest.mark.parametrize(
    ("command", "environment", "named"),
    [
        (("watch", "--node", "a b"), {}, "--node expects a name such as /localizer, got '/a b'"),
        (("watch",), {"ROS_DOMAIN_ID": "300"}, "ROS_DOMAIN_ID expects 0 to 232, got '300'"),
        (("view",), {"ROS_DOMAIN_ID": "seven"}, "ROS_DOMAIN_ID expects 0 to 232, got 'seven'"),
        (("replay", str(BAG), "--prefix", "a b"), {}, "topic name must not contain characters"),
        (("watch",), {"RMW_IMPLEMENTATION": "rmw_none"}, "is 'rmw_none', which cannot be loaded"),
    ],
)
def test_what_ros_refuses_is_one_line(command, environment, named):
    done = run("disam_ros.cli", *command, **environment)
    assert done.returncode == 1 and named in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [name for name in MODULES if name != "disam"])
def test_a_middleware_that_is_not_there_is_one_line_of_a_node(name):
    done = run("disam_ros.entry", name, RMW_IMPLEMENTATION="rmw_none")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: RMW_IMPLEMENTATION is 'rmw_none'")
    assert "or unset RMW_IMPLEMENTATION" in line


@pytest.mark.parametrize("own", ["", "own.xml"])
def test_programs_announce_themselves_often_unless_the_user_has_a_profile(monkeypatch, own):
    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, own)
    with starting():
        result = {name: os.environ[name] for name in PROFILE_VARIABLES}
    assert result == (dict.fromkeys(PROFILE_VARIABLES, own) if own else profile(DISCOVERY))


def test_nothing_is_imported_before_an_executable_heeds_signals_but_what_python_has_loaded():
    code = (
        "import collections.abc, functools, importlib, os, resource, signal, sys, types;"
        "before = set(sys.modules);"
        "import disam_ros.entry; print(*sorted(set(sys.modules) - before))"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    own = {"disam_ros", "disam_ros.entry"}
    assert set(ran.stdout.split()) - {"__future__"} == own


def test_an_executable_of_another_name_is_answered_with_the_known_ones():
    ran = run("disam_ros.entry", "localizer")
    assert ran.returncode == 2
    assert ran.stderr == (
        "localizer is no executable; expected one of disam, localizer_node, map_builder_node\n"
    )


def test_a_file_or_a_pipe_gets_a_line_of_progress_now_and_then_only():
    code = "import os; print(os.environ['TQDM_MININTERVAL'])"
    start = "import disam_ros.entry as e, types, sys; sys.modules['x'] = types.SimpleNamespace("
    start += "main=lambda: 0); e.MODULES['disam'] = 'x'; e.start('disam');"
    for given, result in (({}, "10"), ({"TQDM_MININTERVAL": "1"}, "1")):
        ran = subprocess.run(
            [sys.executable, "-c", start + code],
            env={k: v for k, v in os.environ.items() if k != "TQDM_MININTERVAL"} | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.strip() == result


def test_the_doctor_names_a_middleware_that_is_not_there():
    done = run("disam_ros.cli", "doctor", RMW_IMPLEMENTATION="rmw_none")
    assert done.returncode == 1 and done.stderr == ""
    assert "broken              DDS                 RMW_IMPLEMENTATION is 'rmw_none'" in done.stdout
    assert "ok                  rclpy" in done.stdout
