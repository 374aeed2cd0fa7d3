# SPDX-License-Identifier: Apache-2.0
"""The commands that write, on the shipped drive with a small untrained model, in own processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.demo.drives import REFERENCE
from disam_ros.domains.domain import Domain
from disam_ros.models.model import create_model, save_model
from disam_ros.models.network_config import NetworkConfig

PATIENCE = 300.0  # longest time of a process [s]
POLL = 0.002  # time between two looks at its progress [s]
TAIL = 12  # lines of a log that are shown
SETTINGS = """\
keyframe_distance: 2.0
batch_size: 4
checkpoint_every: 8
keypoints: 32
local_features: orb
descriptor: {coarse_grid: 4, fine_grid: 8}
"""
LINES = {  # without their outputs; {w}: the folder of the inputs
    "build-map": "build-map --dataset {r} --model {w}/model --config {w}/build.yaml",
    "extract": "extract --bag {w}/bag --domain summer_day",
    "evaluate": "evaluate {r} --map {w}/map --model {w}/model --dataset-domains",
    "localize": "localize --dataset {r} --map {w}/map --model {w}/model",
    "to-bag": "to-bag --dataset {r}",
    "to-bag sqlite3": "to-bag --dataset {r} --storage sqlite3",
    "create-model": "create-model --preset mobile --domains summer_day",
}


class HangError(Exception):
    """A process did not get on in time."""


@dataclass(frozen=True)
class World:
    """The folder of the inputs."""

    folder: Path

    def line(self, name: str, output: Path | str) -> list[str]:
        """The command line that writes an output."""
        words = LINES[name].format(w=self.folder, r=REFERENCE.resolve()).split()
        return [sys.executable, "-m", "disam_ros.entry", "disam", *words, "--output", str(output)]


@contextmanager
def new_world() -> Iterator[tuple[World, Callable[[str], Path]]]:
    """A world in a temporary folder, and a function that makes a folder of a name beside it."""
    with tempfile.TemporaryDirectory() as scratch:

        def room(name: str) -> Path:
            folder = Path(scratch) / name.replace(" ", "_")
            folder.mkdir()
            return folder

        yield write_world(room("inputs")), room


def write_world(folder: Path) -> World:
    """All inputs: a model, its map and a bag of the drive."""
    world, domains = World(folder), [Domain("summer_day")]
    network = NetworkConfig(width=4, encoder_blocks=1, image_size=(48, 64))
    save_model(create_model(network, domains, seed=0), folder / "model")
    (folder / "build.yaml").write_text(SETTINGS)
    dataset_to_bag(REFERENCE, folder / "bag", show_progress=False)
    finish(world.line("build-map", folder / "map"), folder / "log")
    return world


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A process with its output in a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def wait(
    process: subprocess.Popen[bytes],
    log: Path,
    reached: Callable[[], bool],
    patience: float = PATIENCE,
) -> bool:
    """Wait until a condition is met (True) or the process has ended (False).

    Raises HangError, with the end of its log, where neither happens in time; it is killed then.
    """
    end = time.monotonic() + patience
    while process.poll() is None:
        if reached():
            return True
        if time.monotonic() > end:
            process.kill()
            process.wait()
            raise HangError(f"neither progress nor an end within {patience:g} s:\n{tail(log)}")
        time.sleep(POLL)
    return False


def finish(command: Sequence[str], log: Path) -> int:
    """Run a command to its end. Returns its exit status. Raises HangError."""
    process = start(command, log)
    wait(process, log, lambda: False)
    return process.returncode


def tail(log: Path) -> str:
    """The end of a log; of a progress bar only what it shows last."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(line.rsplit("\r", 1)[-1] for line in lines[-TAIL:])


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder, which may change meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return total
