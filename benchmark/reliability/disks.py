# SPDX-License-Identifier: Apache-2.0
"""Disks: commands that write onto a disk that is too small for their outputs.

`python -m benchmark.reliability disks`. The disk is a tmpfs of its own in a user namespace, of a
share of what the output needs. A command must end with status 1 and a last line that names its
output and the remedy, without a traceback, and leave nothing but what it can go on from.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.machine import load
from benchmark.reliability.commands import (
    LINES,
    HangError,
    World,
    finish,
    new_world,
    size_of,
    tail,
)

SHARES = (0.05, 0.6)  # sizes of the disk, of the output's
LEAST = 12 << 10  # of a disk [bytes]: it takes a folder and a manifest
RESUMED = {"build-map": {"out.part"}}  # what may stay
MOUNT = ["unshare", "-Urm", "sh", "-c"]


@dataclass
class Full:
    """What became of a command."""

    name: str
    needed: int = 0  # by the output [KiB]
    sizes: list[int] = field(default_factory=list)  # of the disks [KiB]
    line: str = ""  # of the error
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def can_mount() -> bool:
    """Whether this machine gives a process a disk of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = [*MOUNT, "mount -t tmpfs none /mnt"]
    return not subprocess.run(probe, check=False, capture_output=True).returncode


def fill(world: World, name: str, folder: Path) -> Full:
    """Run a command on each of the small disks."""
    outcome, began = Full(name), time.monotonic()
    log, disk = folder / "log", folder / "disk"
    disk.mkdir()
    try:
        if finish(world.line(name, folder / "whole"), log):
            raise HangError(f"it fails on a large disk:\n{tail(log)}")
        whole = folder / "whole"
        size = size_of(whole) if whole.is_dir() else whole.stat().st_size
        outcome.needed = size >> 10
        for share in SHARES:
            outcome.sizes.append(max(LEAST, round(share * size)) >> 10)
            _check(outcome, world, folder)
            print(f"{name}: disk of {outcome.sizes[-1]} of {outcome.needed} KiB", flush=True)
    except HangError as error:
        outcome.faults.append(str(error))
    outcome.seconds = time.monotonic() - began
    return outcome


def _check(outcome: Full, world: World, folder: Path) -> None:
    log, listing = folder / "log", folder / "listing"
    script = (
        f"mount -t tmpfs -o size={outcome.sizes[-1]}k none {folder / 'disk'} && "
        f'cd {folder / "disk"} && "$@"; status=$?; ls -A > {listing}; exit $status'
    )
    status = finish([*MOUNT, script, "sh", *world.line(outcome.name, "out")], log)
    text = log.read_text(errors="replace")
    outcome.line = text.replace("\r", "\n").splitlines()[-1] if text else ""
    if status != 1 or "Traceback" in text:
        outcome.faults.append(f"status {status} on {outcome.sizes[-1]} KiB:\n{tail(log)}")
    elif not re.match(r"disam: (bag )?out\b.* free space", outcome.line):
        outcome.faults.append(f"the last line names no output or remedy: {outcome.line}")
    stays = set(listing.read_text().splitlines())
    if stays - RESUMED.get(outcome.name, set()):
        outcome.faults.append(f"half-written: {', '.join(sorted(stays))}")


def measure() -> dict[str, Any]:
    """Rows of the page, and the faults of all; nothing where no disk can be made."""
    if not can_mount():
        print("no user namespaces: a disk cannot be made")
        return {}
    with new_world() as (world, room):
        rows = [asdict(fill(world, name, room(name))) for name in LINES]
    faults = [f"{row['name']}: {fault}" for row in rows for fault in row["faults"]]
    for fault in faults:
        print(fault)
    return {"rows": rows, "faults": faults, "load": load()}
