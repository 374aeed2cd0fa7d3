# SPDX-License-Identifier: Apache-2.0
"""Kills: commands that are killed (SIGKILL) at random progress and run again until they end.

`python -m benchmark.reliability kills`. Each is killed when what it has written reaches a random
share of the whole (of a fixed seed); at last its output must equal, byte for byte, that of a run
that was never killed, and nothing else may have changed.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmark.machine import load
from benchmark.reliability.commands import (
    HangError,
    World,
    digests,
    finish,
    new_world,
    size_of,
    start,
    tail,
    wait,
)
from disam_ros.files.outputs import MANIFEST
from disam_ros.files.writing import part_of

SEED = 0
KILLS = {"build-map": 10, "extract": 5, "evaluate": 5}  # of each command
BUDGET = 1200.0  # time after which no command is started any more [s]
COMPARED = {"evaluate": "trajectories/"}  # what of an output must be equal; the rest tells the time
FOREIGN = {"mine.txt": "beside the output", "out.part.bak": "nearly its name"}


@dataclass
class Killed:
    """What became of a command."""

    name: str
    kills: int = 0
    finished: int = 0  # runs that ended before they could be killed
    outputs: int = 0  # that were complete
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def kill(world: World, name: str, kills: int, folder: Path, random: Random, end: float) -> Killed:
    """Kill a command so many times and run it to its end, again and again if need be."""
    outcome, began = Killed(name), time.monotonic()
    try:
        _kill(outcome, world, name, kills, folder, random, end)
    except HangError as error:
        outcome.faults.append(str(error))
    outcome.seconds = time.monotonic() - began
    return outcome


def _reaches(path: Path, size: float) -> bool:
    """Whether a file or folder has that many bytes."""
    return size_of(path) >= size


def _kill(
    outcome: Killed, world: World, name: str, kills: int, folder: Path, random: Random, end: float
) -> None:
    log, whole, output = (folder / part for part in ("log", "whole", "out"))
    if finish(world.line(name, whole), log):
        raise HangError(f"it fails without a kill:\n{tail(log)}")
    expected, size = _compared(name, whole), size_of(whole)
    for file, text in FOREIGN.items():
        (folder / file).write_text(text)
    inputs = digests(world.folder)
    while outcome.kills < kills:
        if time.monotonic() > end:
            outcome.faults.append(f"{kills - outcome.kills} kills were not made in time")
            return
        process, share = start(world.line(name, output), log), random.uniform(0.0, 0.95)
        if wait(process, log, partial(_reaches, part_of(output), share * size)):
            process.kill()
            process.wait()
            outcome.kills += 1
            print(f"{name}: kill {outcome.kills} of {kills} at {100 * share:.0f} %", flush=True)
        else:
            outcome.finished += 1
        if output.exists():
            _check(outcome, name, process.returncode, output, expected, log)
            output.rename(folder / f"done {outcome.outputs}")
        elif process.returncode != -9:
            outcome.faults.append(f"status {process.returncode} without an output:\n{tail(log)}")
            return
    if finish(world.line(name, output), log):
        outcome.faults.append(f"it does not go on after a kill:\n{tail(log)}")
    else:
        _check(outcome, name, 0, output, expected, log)
    done = {f"done {number + 1}" for number in range(outcome.outputs)}
    others = {path.name for path in folder.iterdir()} - done - {"log", "whole", "out", *FOREIGN}
    if others:
        outcome.faults.append(f"left behind: {', '.join(sorted(others))}")
    if any((folder / file).read_text() != text for file, text in FOREIGN.items()):
        outcome.faults.append("a file beside the output was changed")
    if digests(world.folder) != inputs:
        outcome.faults.append("an input was changed")


def _check(
    outcome: Killed, name: str, status: int, output: Path, expected: dict[str, str], log: Path
) -> None:
    """An output that has its name is complete."""
    outcome.outputs += 1
    if status not in (0, -9):
        outcome.faults.append(f"status {status} with an output:\n{tail(log)}")
    seen = _compared(name, output)
    if wrong := sorted(key for key in {*seen, *expected} if seen.get(key) != expected.get(key)):
        outcome.faults.append(f"differs from a run without a kill: {', '.join(wrong)}")


def _compared(name: str, output: Path) -> dict[str, str]:
    chosen = COMPARED.get(name, "")
    files = digests(output).items()
    return {key: value for key, value in files if key.startswith(chosen) and key != MANIFEST}


def measure() -> dict[str, Any]:
    """Rows of the page, and the faults of all."""
    random, end = Random(SEED), time.monotonic() + BUDGET
    with new_world() as (world, room):
        rows = [
            asdict(kill(world, name, kills, room(name), random, end))
            for name, kills in KILLS.items()
        ]
    faults = [f"{row['name']}: {fault}" for row in rows for fault in row["faults"]]
    for fault in faults:
        print(fault)
    return {"rows": rows, "faults": faults, "seed": SEED, "load": load()}
