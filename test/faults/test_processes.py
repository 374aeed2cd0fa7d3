# SPDX-License-Identifier: Apache-2.0
"""Laws of the processes of commands: every end has its status and one last line."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import COMMANDS

from disam_ros import cli
from disam_ros.cli import main
from disam_ros.entry import DESCRIPTORS, MODULES, least_memory

pytestmark = pytest.mark.slow
START = [sys.executable, "-m", "disam_ros.entry"]
DISAM = [*START, "disam"]
EXPECTED = "INFO (the map's? .* to tell how far apart its places are|torch runs the encoders: .*)"


def run(command: list[str], **options: object) -> tuple[int, list[str]]:
    """Status and lines on stderr."""
    options = {"stdout": subprocess.DEVNULL, **options}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("arguments", [["parameters"], ["parameters", "localizer"]])
def test_a_standard_output_that_is_full_is_one_line(arguments):
    with Path("/dev/full").open("w") as full:
        status, lines = run([*DISAM, *arguments], stdout=full)
    assert status == 1 and len(lines) == 1
    assert lines[0].startswith("disam: the standard output cannot be written: No space left")


def run_unread(arguments: list[str]) -> tuple[int, list[str]]:
    """As `run`, with a standard output that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return run([*DISAM, *arguments], stdout=writing)
    finally:
        os.close(writing)


def test_a_standard_output_that_nobody_reads_is_one_line():
    message = "disam: the standard output cannot be written: Broken pipe; write it elsewhere"
    assert run_unread(["parameters"]) == (1, [message])


@pytest.mark.parametrize("arguments", [["--help"], ["no-command"]])
def test_a_help_that_nobody_reads_ends_without_a_traceback(arguments):
    status, lines = run_unread(arguments)
    assert status in (0, 1, 2)
    assert not [line for line in lines if "Traceback" in line or "ignored" in line]


@pytest.mark.parametrize(
    ("name", "home"),
    [("localize", "/proc/nothing"), ("localize", ""), ("evaluate", "/dev/null")],
)
def test_a_home_that_takes_nothing_is_not_needed(inputs, tmp_path, name, home):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL"))}
    line = COMMANDS[name].line(inputs, tmp_path / "out")
    status, lines = run([*DISAM, *line], env=environment | {"HOME": home})
    assert status == 0 and (tmp_path / "out").exists()
    logged = [line for line in lines if line.startswith(("WARNING", "INFO"))]
    assert all(re.fullmatch(EXPECTED, line) for line in logged), lines


@pytest.mark.parametrize("home", ["/dev/null", ""])
def test_a_home_that_takes_no_logs_of_ros_is_one_line(inputs, home):
    pytest.importorskip("rclpy")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ROS_LOG")}
    line = ["replay", str(inputs / "bag"), "--rate", "0", "--start-delay", "0"]
    status, lines = run([*DISAM, *line], env=environment | {"HOME": home})
    assert status == 0 and len([line for line in lines if "set ROS_LOG_DIR" in line]) <= 1
    assert not [line for line in lines if "Traceback" in line]


def on_small_disk(kilobytes: int, folder: Path, command: list[str]) -> list[str]:
    """A command that sees a disk of this size at a folder, without rights of an administrator."""
    mount = f"mount -t tmpfs -o size={kilobytes}k none {folder} && cd {folder} && "
    listing = "; status=$?; ls -A 1>&2; exit $status"
    return ["unshare", "-Urm", "sh", "-c", f"{mount}{' '.join(command)}{listing}"]


def can_mount() -> bool:
    program = shutil.which("unshare")
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return program is not None and not subprocess.run(probe, check=False).returncode


@pytest.mark.parametrize("size", [60, 140, 180])
def test_a_disk_that_is_full_anywhere_in_a_map_with_keypoints_ends_in_one_line(
    inputs, tmp_path, size
):
    """While rows grow, while they are compressed, while depths are filled in."""
    if not can_mount():
        pytest.skip("no user namespaces: a disk cannot be made")
    settings = tmp_path / "build.yaml"
    settings.write_text("keypoints: 64\nlocal_features: orb\ncheckpoint_every: 4\n")
    (tmp_path / "disk").mkdir()
    line = f"build-map --dataset {inputs}/data --model {inputs}/model --config {settings}"
    command = [*DISAM, *line.split(), "--output", "out"]
    status, lines = run(on_small_disk(size, tmp_path / "disk", command))
    text = "\n".join(lines)
    assert status == 1 and "Traceback" not in text, text
    assert lines[-1] == "out.part" and lines[-2].startswith("disam: out.part cannot be"), text
    assert "free space" in lines[-2], text


# Limits of a shell (`ulimit`): too small ones are one line, those that are asked for suffice.

LIMITS = {
    "ulimit -v": (resource.RLIMIT_AS, least_memory()),
    "ulimit -n": (resource.RLIMIT_NOFILE, DESCRIPTORS),
}


def limit(*limits: tuple[int, int]) -> Callable[[], None]:
    """What limits the resources of a process before it begins."""

    def apply() -> None:
        for kind, value in limits:
            resource.setrlimit(kind, (value, value))

    return apply


@pytest.mark.parametrize("remedy", LIMITS)
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("share", [0.2, 0.99])
def test_a_limit_that_is_too_small_is_one_line_with_the_remedy(name, remedy, share):
    kind, least = LIMITS[remedy]
    status, (line,) = run([*START, name], preexec_fn=limit((kind, int(share * least))))
    assert status == 1 and line.startswith(f"{name}: ") and "expected" in line and remedy in line


@pytest.mark.parametrize("name", ["build-map", "evaluate"])
def test_the_limits_that_are_asked_for_suffice_for_a_command(inputs, tmp_path, name):
    line = COMMANDS[name].line(inputs, tmp_path / "out")
    status, lines = run([*DISAM, *line], preexec_fn=limit(*LIMITS.values()))
    assert status == 0, lines


def test_the_limits_that_are_asked_for_suffice_for_a_localizer(inputs, tmp_path):
    """The evaluation starts one, which has its limits."""
    pytest.importorskip("rclpy")
    line = f"evaluate {inputs}/bag --map {inputs}/map --model {inputs}/model --through-node"
    command = [*DISAM, *line.split(), "--output", str(tmp_path / "out")]
    status, lines = run(command, preexec_fn=limit(*LIMITS.values()))
    assert status == 0, lines


def test_memory_that_is_short_in_a_command_is_one_line(monkeypatch, capsys):
    def short(_):
        raise MemoryError("Unable to allocate 5.25 MiB")

    monkeypatch.setattr(cli, "_run", short)
    assert main(["parameters"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("disam: out of memory: Unable to allocate 5.25 MiB; ")
