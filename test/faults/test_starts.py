# SPDX-License-Identifier: Apache-2.0
"""Faults while an executable starts or its parent dies: one line, right status, nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import COMMANDS

from disam_ros.entry import MODULES, WORDS

pytestmark = pytest.mark.slow

PATIENCE = 300.0  # seconds
# A library that takes for ever to load; says when it has begun.
ENDLESS = """
import pathlib, signal
pathlib.Path({begun!r}).touch()
while True:
    signal.pause()
"""
NODES = [name for name in MODULES if name != "disam"]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the condition is not met in time"
        time.sleep(0.02)


def write_endless(folder: Path, module: str) -> Path:
    """A folder for PYTHONPATH with a module that never ends loading; the file that it touches."""
    (folder / "path").mkdir()
    begun = folder / "begun"
    (folder / "path" / f"{module}.py").write_text(ENDLESS.format(begun=str(begun)))
    return begun


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts processes, with tmp_path/path before their other modules, which end with the test."""
    processes = []

    def start(*command: str) -> subprocess.Popen:
        path = os.pathsep.join([str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("name", "module", "signum"),
    [
        *((node, "numpy", signum) for node, signum in zip(NODES, WORDS, strict=False)),
        *(("disam", "argparse", signum) for signum in WORDS),
        ("disam", "cv2", signal.SIGTERM),
    ],
)
def test_a_signal_while_libraries_load_is_one_line(started, tmp_path, name, module, signum):
    begun = write_endless(tmp_path, module)
    line = f"build-map --dataset d --model m --output {tmp_path / 'map'}"
    if name != "disam":
        pytest.importorskip("rclpy")
        line = "--ros-args -p map:=x"
    process = started("-m", "disam_ros.entry", name, *line.split())
    wait_for(begun.exists, process)
    process.send_signal(signum)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (128 + signum, "")
    assert errors == f"{name}: {WORDS[signum]}\n"
    assert not list(tmp_path.glob("map*"))


@pytest.mark.parametrize(
    ("name", "signum"), zip(["extract", "evaluate", "to-bag"], WORDS, strict=True)
)
def test_two_signals_in_the_middle_of_a_command_leave_nothing_half_written(
    started, inputs, tmp_path, name, signum
):
    """The second comes while what is half-written is removed, which takes some time here."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "usercustomize.py").touch()
    program = f"""
import pathlib, sys, signal, shutil
from disam_ros.files import outputs, writing
from disam_ros import entry
real = shutil.rmtree
def clear(output):
    pathlib.Path({str(tmp_path / "begun")!r}).touch()
    while True:
        signal.pause()
def slow(*args, **options):
    signal.raise_signal({int(signum)})
    real(*args, **options)
outputs.OutputDirectory.clear = clear
outputs.shutil.rmtree = slow
sys.argv[1:] = {COMMANDS[name].line(inputs, tmp_path / "out")!r}
sys.exit(entry.start("disam"))
"""
    process = started("-c", program)
    wait_for((tmp_path / "begun").exists, process)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signum
    assert errors.splitlines()[-1] == f"disam: {WORDS[signum]}"
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("signum", WORDS)
def test_a_late_second_signal_does_not_spoil_the_report_of_the_first(started, signum):
    """It comes while the first is reported, which takes some time here."""
    program = f"""
import gc, sys, signal
from disam_ros import cli, entry
from disam_ros.cli import program
def slow():
    gc.collect = lambda: None
    signal.raise_signal({int(signum)})
program.PAUSE = 0.0
gc.collect = slow
cli._run = lambda _: signal.raise_signal({int(signum)})
sys.exit(entry.start("disam"))
"""
    process = started("-c", program)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (128 + signum, "")
    assert errors == f"disam: {WORDS[signum]}\n"


def test_what_is_ignored_stays_ignored_while_libraries_load(tmp_path):
    """As in a background job of a shell."""
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "sys.modules['disam_ros.cli.program'] = __import__('types').SimpleNamespace("
        "main=lambda: signal.raise_signal(signal.SIGINT) or 7); "
        'from disam_ros import entry; sys.exit(entry.start("disam"))'
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7


def test_every_executable_of_the_package_is_started_by_the_entry():
    setup = (Path(__file__).parents[2] / "setup.py").read_text()
    scripts = re.findall(r'"(\w+) = ([\w.]+):(\w+)"', setup)
    assert sorted(scripts) == sorted((name, "disam_ros.entry", "main") for name in MODULES)


def running(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while running(pid):
        assert time.monotonic() < end, f"process {pid} goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("child", "signum"),
    [
        ("localizer_process({{'autostart': False}}, {{}}, None)", signal.SIGKILL),
        ("child_process('disam', ['replay', '{bag}', '--loop'])", signal.SIGHUP),
    ],
)
def test_a_process_ends_with_the_one_that_started_it(started, own_domain, inputs, child, signum):
    """However that ends: killed, or because its terminal was closed."""
    pytest.importorskip("rclpy")
    program = f"""
import signal
from disam_ros.nodes.replay.child import child_process
from disam_ros.nodes.replay.localizer_process import localizer_process
with {child.format(bag=inputs / "bag")} as process:
    print(process.pid, flush=True)
    while True:
        signal.pause()
"""
    process = started("-c", program)
    pid = int(process.stdout.readline())
    assert running(pid)
    process.send_signal(signum)
    process.wait()
    wait_for_end(pid)


def test_a_process_that_is_deaf_ends_with_the_one_that_started_it(started):
    """Its signals are ignored, as by a library that hangs."""
    program = """
import signal, subprocess, sys
deaf = (
    "import signal, sys, types; from disam_ros.nodes.replay import child; child.STOP_TIMEOUT = 0.2;"
    "child.entry.start = lambda name: (signal.signal(signal.SIGTERM, lambda *_: None), "
    "[signal.pause() for _ in iter(int, 1)]); child.main()"
)
process = subprocess.Popen([sys.executable, "-c", deaf, "disam"], stdin=subprocess.PIPE)
print(process.pid, flush=True)
signal.pause()
"""
    process = started("-c", program)
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_for_end(child)


def test_every_process_of_the_package_is_one_that_ends_with_it():
    root = Path(__file__).parents[2]
    starts = re.compile(r"\b(Popen\(|os\.(fork|spawn|posix_spawn))")
    files = [p for p in (root / "disam_ros").rglob("*.py") if starts.search(p.read_text())]
    assert files == [root / "disam_ros/nodes/replay/child.py"]
