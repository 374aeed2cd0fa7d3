# SPDX-License-Identifier: Apache-2.0
"""Nodes of this package in their own processes, with a log each."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from disam_ros.entry import MODULES
from support import forks, logs

PATIENCE = 120.0  # seconds that a process has to end
SECOND_SIGNAL = 0.2  # seconds between two signals
SENSORS = ("odom", "fix", "prior", "camera_info", "pose")
# Sensor data is best effort: of what is sent, some may be lost. Where a test is about something
# else, the node asks for it reliably.
RELIABLE = {f"qos_overrides./{topic}.subscription.reliability": "reliable" for topic in SENSORS}

# By these each image is judged alone and every place counts as known: an untrained model is sure of
# none.
SINGLE = {"localizer.sequence.enabled": False, "localizer.min_probability": 0.0}


_running: set[NodeProcess] = set()  # nodes that nobody has ended


def require_running() -> None:
    """Fail where a node has ended by itself: nothing is to be waited for."""
    ended = {process for process in _running if process.returncode is not None}
    _running.difference_update(ended)
    for process in ended:
        raise AssertionError(f"a node ended by itself, exit code {process.returncode}")


class NodeProcess:
    """A node in its own process; `log` holds what it writes.

    fresh: in an interpreter and a process group of its own, which also ends as one does; otherwise
    forked (forks.py). before: statements that a fresh one runs first.
    """

    def __init__(
        self,
        module: str,
        log: Path,
        parameters: dict[str, Any],
        *extra: str,
        fresh: bool = False,
        before: str = "pass",
    ) -> None:
        arguments = ["--ros-args", *extra]
        for parameter, value in parameters.items():
            arguments += ["-p", f"{parameter}:={_yaml(value)}"]
        self._start(f"disam_ros.nodes.{module}", log, arguments, fresh, before)
        _running.add(self)

    def _start(self, name: str, log: Path, arguments: list[str], fresh: bool, before: str) -> None:
        self._log = log
        logs.follow(log)
        self._process: subprocess.Popen | BaseProcess
        if fresh:
            with log.open("wb") as file:
                executable = next(key for key, module in MODULES.items() if module == name)
                code = f"{before}; from disam_ros.entry import start; exit(start({executable!r}))"
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code, *arguments],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        else:
            self._process = forks.start(log, _run, name, arguments)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """As subprocess.Popen does it."""
        return self.returncode

    def wait(self) -> int:
        """Exit code of a process that ends by itself."""
        _running.discard(self)
        if isinstance(self._process, subprocess.Popen):
            self._process.wait(PATIENCE)
        else:
            self._process.join(PATIENCE)
        code = self.returncode
        assert code is not None, f"the node did not end within {PATIENCE:g} s"
        logs.end(self._log)
        return code

    def kill(self) -> None:
        _running.discard(self)
        self._process.kill()

    def interrupt(self, signum: int = signal.SIGINT) -> int:
        """Signal the process group of a fresh one twice, as a terminal and `ros2 launch` do
        together; returns the exit code."""
        _running.discard(self)
        try:
            os.killpg(self._process.pid, signum)
            time.sleep(SECOND_SIGNAL)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)
            return self.wait()
        finally:
            self.kill()

    def stop(self, signum: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        _running.discard(self)
        if self.returncode is None:
            os.kill(self._process.pid, signum)
        try:
            return self.wait()
        finally:
            self.kill()


class CommandProcess(NodeProcess):
    """A command of disam in its own process. fresh, before: as of a node."""

    def __init__(
        self, log: Path, line: list[str], *, fresh: bool = False, before: str = "pass"
    ) -> None:
        self._start("disam_ros.cli.program", log, line, fresh, before)


def localizers_in_forks(started: list[NodeProcess], log: Path) -> Callable[..., Any]:
    """In place of `replay.node_run.localizer_process`: quicker, and `started` gets the nodes."""

    @contextmanager
    def process(
        parameters: dict[str, Any], remappings: dict[str, str], domain_id: int | None
    ) -> Iterator[NodeProcess]:
        assert domain_id is None  # that of the environment
        names = [word for pair in remappings.items() for word in ("-r", "{}:={}".format(*pair))]
        started.append(NodeProcess("localizer.node", log, parameters, *names))
        try:
            yield started[-1]
        finally:
            started[-1].stop()

    return process


def _run(module: str, arguments: list[str]) -> None:
    """What `python -m module` does."""
    sys.argv = [module, *arguments]
    raise SystemExit(importlib.import_module(module).main())


@contextmanager
def node_process(
    module: str, log: Path, parameters: dict[str, Any], *extra: str, **options: Any
) -> Iterator[NodeProcess]:
    """A node that is stopped at the end, and must then end cleanly. options: of NodeProcess."""
    process = NodeProcess(module, log, parameters, *extra, **options)
    try:
        yield process
    finally:
        code = process.stop()
    assert code == 0 and "Traceback" not in process.log, f"exit code {code}\n{process.log}"


def _yaml(value: Any) -> str:
    """A parameter's value as `-p name:=value` takes it."""
    if isinstance(value, (str, Path)):
        return f"'{value}'"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
