# SPDX-License-Identifier: Apache-2.0
"""Writing maps and bags in processes that may be killed."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.life.assembly import Part, assemble
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from support.data import DESCRIPTOR

CONFIG = MapBuilderConfig(keypoints=0, batch_size=2, checkpoint_every=4, descriptor=DESCRIPTOR)
KILLED = -signal.SIGPROF  # exit code of a process whose time is over


def build(root: Path, seconds: float = 0.0, file_bytes: int = 0) -> None:
    """Build root/map from root/dataset with root/model.

    seconds: of CPU time after which the system kills this process, with nothing cleaned up; 0:
    never. file_bytes: largest size of a file, as on a disk that is full; 0: any.
    """
    if seconds:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    if file_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    source, model = open_dataset(root / "dataset"), load_model(root / "model")
    build_map(source, model, root / "map", CONFIG, show_progress=False)


def copy_map(root: Path, seconds: float = 0.0) -> None:
    """Write root/new from the images of root/map. seconds: as of `build`."""
    if seconds:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    place_map = PlaceMap(root / "map")
    assemble([Part.whole(place_map)], root / "new", {"operation": "crop"})


def write_bag_and_die(path: Path, storage: str) -> None:
    """Write messages into a bag and be killed before it is closed."""
    with BagWriter(path, storage) as bag:
        for index in range(100):
            bag.weather(index, "snow" * 100)
        signal.raise_signal(signal.SIGKILL)
