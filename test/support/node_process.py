# SPDX-License-Identifier: Apache-2.0
"""Nodes of this package in their own processes, with a log each."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from support import logs

PATIENCE = 60.0  # seconds that a process has to end
SENSORS = ("odom", "fix", "prior", "camera_info", "pose")
# Sensor data is best effort: of what is sent, some may be lost. Where a test is about something
# else, the node asks for it reliably.
RELIABLE = {f"qos_overrides./{topic}.subscription.reliability": "reliable" for topic in SENSORS}


# A process forked from one that has imported the nodes starts in a tenth of the time.
_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(
    [f"disam_ros.nodes.{name}.node" for name in ("localizer", "map_builder", "replay")]
)


class NodeProcess:
    """A node in its own process; `log` holds what it writes.

    fresh: in an interpreter of its own, which also ends as one does; otherwise in a fork.
    """

    def __init__(
        self, module: str, log: Path, parameters: dict[str, Any], *extra: str, fresh: bool = False
    ) -> None:
        name = f"disam_ros.nodes.{module}"
        arguments = ["--ros-args", *extra]
        for parameter, value in parameters.items():
            arguments += ["-p", f"{parameter}:={_yaml(value)}"]
        self._log = log
        log.touch()
        logs.follow(log)
        self._process: subprocess.Popen | BaseProcess
        if fresh:
            with log.open("wb") as file:
                command = [sys.executable, "-m", name, *arguments]
                self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        else:
            given = (name, arguments, str(log), dict(os.environ))
            self._process = _forked.Process(target=_run, args=given, daemon=True)
            self._process.start()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def poll(self) -> int | None:
        """As subprocess.Popen does it."""
        return self.returncode

    def wait(self) -> int:
        """Exit code of a process that ends by itself."""
        if isinstance(self._process, subprocess.Popen):
            self._process.wait(PATIENCE)
        else:
            self._process.join(PATIENCE)
        code = self.returncode
        assert code is not None, f"the node did not end within {PATIENCE:g} s"
        logs.end(self._log)
        return code

    def kill(self) -> None:
        self._process.kill()

    def stop(self, signum: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        if self.returncode is None:
            os.kill(self._process.pid, signum)
        try:
            return self.wait()
        finally:
            self.kill()


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


def _run(module: str, arguments: list[str], log: str, environment: dict[str, str]) -> None:
    """In the fork: what `python -m module` does, with its output in a file."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    raise SystemExit(importlib.import_module(module).main())


@contextmanager
def node_process(
    module: str, log: Path, parameters: dict[str, Any], *extra: str, fresh: bool = False
) -> Iterator[NodeProcess]:
    """A node that is stopped at the end, and must then end cleanly."""
    process = NodeProcess(module, log, parameters, *extra, fresh=fresh)
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
