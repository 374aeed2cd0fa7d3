# SPDX-License-Identifier: Apache-2.0
"""Limits of a shell (`ulimit`): too small ones are one line, those that are asked for suffice."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from support.commands import COMMANDS

from disam_ros import cli
from disam_ros.cli import main
from disam_ros.entry import DESCRIPTORS, MODULES, least_memory

pytestmark = pytest.mark.slow

LIMITS = {
    "ulimit -v": (resource.RLIMIT_AS, least_memory()),
    "ulimit -n": (resource.RLIMIT_NOFILE, DESCRIPTORS),
}
PATIENCE = 300.0  # seconds


def run(name: str, line: list[str], *limits: tuple[int, int]) -> subprocess.CompletedProcess[str]:
    """An executable under limits of its resources."""

    def limit() -> None:
        for kind, value in limits:
            resource.setrlimit(kind, (value, value))

    command = [sys.executable, "-m", "disam_ros.entry", name, *line]
    return subprocess.run(
        command, preexec_fn=limit, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("remedy", LIMITS)
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("share", [0.2, 0.99])
def test_a_limit_that_is_too_small_is_one_line_with_the_remedy(name, remedy, share):
    kind, least = LIMITS[remedy]
    done = run(name, [], (kind, int(share * least)))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: ") and "expected" in line and remedy in line


@pytest.mark.parametrize("name", ["build-map", "evaluate"])
def test_the_limits_that_are_asked_for_suffice_for_a_command(inputs, tmp_path, name):
    done = run("disam", COMMANDS[name].line(inputs, tmp_path / "out"), *LIMITS.values())
    assert done.returncode == 0, done.stderr


def test_the_limits_that_are_asked_for_suffice_for_a_localizer(inputs, tmp_path):
    """The evaluation starts one, which has its limits."""
    pytest.importorskip("rclpy")
    line = f"evaluate {inputs}/bag --map {inputs}/map --model {inputs}/model --through-node"
    done = run("disam", [*line.split(), "--output", str(tmp_path / "out")], *LIMITS.values())
    assert done.returncode == 0, done.stderr


def test_memory_that_is_short_in_a_command_is_one_line(monkeypatch, capsys):
    def short(_):
        raise MemoryError("Unable to allocate 5.25 MiB")

    monkeypatch.setattr(cli, "_run", short)
    assert main(["parameters"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("disam: out of memory: Unable to allocate 5.25 MiB; ")
