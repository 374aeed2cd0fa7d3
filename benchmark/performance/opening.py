# SPDX-License-Identifier: Apache-2.0
"""How long a localizer takes to open a map of 100 000 images: `python -m benchmark.performance opening`.

The map is written by MapWriter from synthetic descriptors: coarse ones of the usual 512 bytes, made
of features of 2×3 cells; fine ones of 112 bytes in place of 21 504, which are never read at opening
where they take more than 256 MiB.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.machine import fresh, load, resident
from benchmark.peers.table import markdown, verdict
from demo.drives import MODEL
from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, DomainConfig, LocalizerConfig
from disam_ros.datasets.dataset import ImageRecord
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import write_indices
from disam_ros.mapping.place_map import MapHeader, PlaceMap
from disam_ros.mapping.writer import MapWriter
from disam_ros.models.descriptor import descriptor_shapes
from disam_ros.models.model import load_model

IMAGES = 100_000
REPEATS = 5
TARGET_S = 3.0


def measure(images: int = IMAGES, repeats: int = REPEATS) -> dict:
    """Medians of seconds by step, each opening in a fresh process, and MiB it then holds."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "map"
        write_map(directory, images)
        write_indices(PlaceMap(directory, verify=False))
        size = sum(file.stat().st_size for file in directory.iterdir()) / 2**20
        runs = [fresh(_open, directory) for _ in range(repeats)]
    figures = {step: float(np.median([run[step] for run in runs])) for step in runs[0]}
    return {"images": images, "map_mib": size, "load": load(), "steps": figures}


def render(results: dict) -> str:
    """The figures as a section of docs/performance.md."""
    steps = results["steps"]
    total = steps["map"] + steps["localizer"]
    rows = [[name, f"{seconds:.2f}"] for name, seconds in steps.items() if name != "MiB"]
    return (
        f"## Opening a map of {results['images']:,} images\n\n"
        "`python -m benchmark.performance opening`: seconds, medians of fresh processes with the files in "
        f"the page cache; load {results['load']:.1f}. The map takes {results['map_mib']:.0f} MiB: "
        "fine descriptors are small ones (112 bytes an image), which opening does not read where "
        "they are large; checksums of all else are compared.\n\n"
        + markdown(["step", "s"], rows)
        + f"\nOpened, the process holds {steps['MiB']:.0f} MiB more than before, mapped pages "
        f"included. Target: {verdict('map and localizer', total, TARGET_S, 's')}.\n"
    )


def write_map(directory: Path, images: int) -> None:
    """A map of descriptors of noise, one metre apart on routes of a thousand."""
    model, rng = load_model(MODEL), np.random.default_rng(0)
    config = DescriptorConfig(coarse_grid=3, fine_grid=1)
    camera = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
    header = MapHeader(model.identity, model.name, "map", {"front": camera}, config)
    shapes = descriptor_shapes(model.network, config)
    sizes = {stage: int(np.prod(shape)) for stage, shape in shapes.items()}
    spectrum = 1.0 / np.sqrt(1.0 + np.arange(sizes["coarse"], dtype=np.float32))
    writer = MapWriter(directory, header, sizes, "noise")
    for index in range(images):
        place = np.array([index % 1000, 20.0 * (index // 1000), 1.5])
        pose = Transform.from_rotation(place, BODY_FROM_OPTICAL)
        source = f"images/summer_day/front/{index:09d}.jpg"
        record = ImageRecord(index, index * 10**8, "front", "summer_day", source, pose)
        coarse = spectrum * rng.standard_normal(sizes["coarse"], np.float32)
        coarse /= np.linalg.norm(coarse)
        writer.add(record, coarse, rng.standard_normal(sizes["fine"], np.float32))
    writer.commit(images)
    writer.finish()


def _open(directory: Path) -> dict[str, float]:
    """Seconds of each step, and MiB by which memory grows."""
    config = LocalizerConfig(device="cpu", domain=DomainConfig(override="summer_day"))
    marks = [time.perf_counter()]
    model = load_model(MODEL)
    before = resident("VmRSS")
    marks.append(time.perf_counter())
    place_map = PlaceMap(directory)
    marks.append(time.perf_counter())
    Localizer(model, place_map, config)
    marks.append(time.perf_counter())
    steps = dict(zip(("model", "map", "localizer"), np.diff(marks).tolist(), strict=True))
    return steps | {"MiB": (resident("VmRSS") - before) / 2**20}
