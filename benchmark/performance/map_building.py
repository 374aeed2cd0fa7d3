# SPDX-License-Identifier: Apache-2.0
"""Throughput of `build_map` against its bound: the encoders on batches that lie ready.

`python -m benchmark.performance map_building`. The town's mapping drive, enlarged to 640×480 JPEGs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmark.machine import fresh, load, resident, spent
from disam_ros import image
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.demo.drives import DATA, MODEL
from disam_ros.device import CPU, threads
from disam_ros.mapping.builder import build_map
from disam_ros.models.backend import Backend, describe, select_backend
from disam_ros.models.model import Model, load_model

IMAGES = 240
SIZE = (640, 480)
PERIOD_NS = 200_000_000
ROUNDS = 3
PROBED = 32  # images that the parts are timed on
CONFIG = MapBuilderConfig(keypoints=0, keyframe_distance=0.0)


def measure(images: int = IMAGES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Images a second of both, in turn; milliseconds of an image's parts; memory by map size."""
    model = load_model(MODEL)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        dataset = enlarged(root / "data", images)
        small = enlarged(root / "small", images // 4)
        backend = select_backend("auto", model, CPU)
        encode_ready(backend, model, CONFIG.batch_size)
        built, limit, shares = [], [], []
        for turn in range(rounds):
            ready, ready_cpu = spent(lambda: encode_ready(backend, model, images))
            output = root / f"map{turn}"
            building, building_cpu = spent(partial(build, dataset, model, output))
            limit.append(images / ready)
            built.append(images / building)
            shares.append(ready_cpu / building_cpu)
        memory = {
            str(len(data)): fresh(peak, data.directory, root / f"peak{len(data)}")
            for data in (small, dataset)
        }
        parts = times_of_parts(model, dataset)
    return {
        "images": images,
        "threads": threads(),
        "load": load(),
        "images_per_s": median(built),
        "limit_per_s": median(limit),
        "ratio": median(b / m for b, m in zip(built, limit, strict=True)),
        "cpu_ratio": median(shares),
        "parts_ms": parts,
        "memory_mib": memory,
    }


def enlarged(
    directory: Path, images: int, size: tuple[int, int] = SIZE, period_ns: int = PERIOD_NS
) -> Dataset:
    """The mapping drive's first frames in a size (width, height), at 5 Hz by default."""
    reference = Dataset(DATA / "reference")
    with DatasetWriter(directory, DatasetInfo("enlarged", reference.info.cameras)) as writer:
        for index, record in enumerate(reference.records[:images]):
            large = cv2.resize(image.read(reference.path(record)), size)
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(large, cv2.COLOR_RGB2BGR))[1].tobytes()
            stamp_ns = reference.records[0].stamp_ns + index * period_ns
            writer.add(jpeg, stamp_ns, record.camera, record.domain, record.map_from_camera)
    return Dataset(directory)


def build(dataset: Dataset, model: Model, output: Path) -> None:
    """A map of all images."""
    build_map(open_dataset(dataset.directory), model, output, CONFIG, show_progress=False)


def encode_ready(backend: Backend, model: Model, images: int) -> None:
    """The encoders on noise, as many images and as large batches."""
    shape = (CONFIG.batch_size, 3, *model.network.image_size)
    batch = np.random.default_rng(0).random(shape, np.float32) * 2 - 1
    domain = model.domain_names()[0]
    for _ in range(images // CONFIG.batch_size):
        backend.encode(domain, batch)


def times_of_parts(model: Model, dataset: Dataset) -> dict[str, float]:
    """Milliseconds of processor time of an image by part."""
    records, size = dataset.records[:PROBED], model.network.image_size
    pictures = [image.read(dataset.path(record)) for record in records]
    inputs = [image.network_input(picture, size) for picture in pictures]
    backend = select_backend("auto", model, CPU)
    domain = records[0].domain

    def described() -> None:
        for start in range(0, len(inputs), CONFIG.batch_size):
            batch = np.stack(inputs[start : start + CONFIG.batch_size])
            describe(backend, domain, batch, CONFIG.descriptor)

    parts: dict[str, Callable[[], object]] = {
        "read and decode": lambda: [image.read(dataset.path(record)) for record in records],
        "to tensor": lambda: [image.network_input(picture, size) for picture in pictures],
        "encoder": lambda: encode_ready(backend, model, len(records)),
        "encoder and descriptors": described,
    }
    for part in parts.values():
        part()
    return {
        name: 1e3 * median(spent(part)[1] for _ in range(ROUNDS)) / len(records)
        for name, part in parts.items()
    }


def peak(directory: Path, output: Path) -> float:
    """MiB by which a build raises the peak of memory above what one batch needs."""
    model = load_model(MODEL)
    encode_ready(select_backend("auto", model, CPU), model, 2 * CONFIG.batch_size)
    before = resident("VmHWM")
    build(Dataset(directory), model, output)
    return (resident("VmHWM") - before) / 2**20
