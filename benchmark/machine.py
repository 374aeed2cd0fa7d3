# SPDX-License-Identifier: Apache-2.0
"""Circumstances of a measurement: commit, processor, threads, load, memory."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from disam_ros.device import processor_name

P = ParamSpec("P")
T = TypeVar("T")
# What figures depend on.
JUDGED = tuple(f"disam_ros/{room}" for room in ("models", "features", "mapping", "localization"))
ANSWERS = Path("docs/answers.json")  # pairs of commits that answer alike (answers.py)


def circumstances() -> str:
    """Commit, processor, threads, load and versions in one line."""
    return (
        f"commit {commit() or 'unknown'}, {processor_name()}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()}, load {load():.1f}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def commit() -> str:
    """Short commit of the working directory; '-dirty' with changes beside those of docs/, which
    measurements make; empty outside a repository."""
    name = _git("describe", "--always", "--exclude=*").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ".", ":(exclude)docs").returncode
    return f"{name}-dirty" if name and changed else name


def commit_of(name: str) -> str:
    """Short commit that a name such as HEAD~1 stands for now; the name itself if it is unknown."""
    return _git("rev-parse", "--short", "--verify", "--quiet", name).stdout.strip() or name


def is_stale(
    measured_under: str, judged: Sequence[str] = JUDGED, pairs: Sequence[Mapping[str, Any]] = ()
) -> bool:
    """Whether figures are of changed files, of an unknown commit, or of one before the last change
    of what is judged. measured_under: their `circumstances`; judged: files and folders, by default
    the package's models and localization; pairs: commits that answer alike, where figures are of
    answers alone."""
    name = measured_under.removeprefix("commit ").split(",")[0]
    names = [name]
    for pair in pairs:
        if any(_unchanged(earlier, pair["before"], judged) for earlier in names):
            names.append(pair["now"])
    return name.endswith("-dirty") or not any(_unchanged(n, "HEAD", judged) for n in names)


def _unchanged(before: str, now: str, judged: Sequence[str]) -> bool:
    """Whether files are the same in both commits; False for unknown ones."""
    return _git("diff", "--quiet", before, now, "--", *judged).returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True)


def load() -> float:
    """Processes that ran or waited to run in the last minute, on average."""
    return os.getloadavg()[0]


def spent(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call, and of processor time."""
    start, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - cpu


def resident(field: str, process: int | str = "self") -> int:
    """Bytes of a process, by its id: VmRSS now, VmHWM at its peak, RssAnon without mapped files.

    Not getrusage: its peak begins at that of the parent process.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result in a process of its own, where nothing else has left its peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args, **kwargs).result()
