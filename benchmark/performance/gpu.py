# SPDX-License-Identifier: Apache-2.0
"""What a GPU makes of it, beside what it could at most: `make bench-gpu`.

First the tests that compare its answers with the CPU's; where one fails nothing is measured. Then
encoders, an image to its pose, a training step, in one run with the device's own limits: bandwidth
by a copy, floating-point operations by a product of large matrices.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.performance import training_step
from benchmark.performance.page import PAGE
from benchmark.performance.synthetic_map import noise_map
from benchmark.single_images import single_pipeline
from disam_ros.config import DescriptorConfig, LocalizerConfig
from disam_ros.demo.drives import MODEL
from disam_ros.device import CPU, has_cuda_driver
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Shot
from disam_ros.localization.query import Answer, Frame
from disam_ros.models.backend import Backend, TorchBackend
from disam_ros.models.cuda import CudaBackend
from disam_ros.models.model import load_model

SMALL = DescriptorConfig(coarse_grid=3, fine_grid=1)  # 112 bytes of fine descriptors, not 21 504
MAPS = {1_000: DescriptorConfig(), 100_000: DescriptorConfig(), 1_000_000: SMALL}
DISTINCT = 600  # different descriptors in a map
BATCHES = (1, 4)  # images of one camera, of four
REPEATS, WARM_UP = 50, 5
COPIED, SIDE = 2**30, 8192  # bytes of the copy, rows of the matrices


def measure(
    device: str = "cuda",
    maps: dict[int, DescriptorConfig] = MAPS,
    repeats: int = REPEATS,
    copied: int = COPIED,
    side: int = SIDE,
) -> dict[str, Any]:
    """Figures of a device; empty without a GPU. Milliseconds are medians."""
    if device != CPU and not torch.cuda.is_available():
        return {}
    results = limits(device, copied, side)
    rows = [row for size, config in maps.items() for row in answers(device, size, config, repeats)]
    for row in rows:
        row["limit_ms"] = 1e3 * row["searched_bytes"] / results["bytes_per_s"]
    return {
        "device": torch.cuda.get_device_name(device) if device != CPU else CPU,
        "limits": results,
        "encoders": encoders(device, repeats),
        "answers": rows,
        "training": training_step.measure() if device != CPU else None,
    }


def limits(device: str, copied: int, side: int) -> dict[str, float]:
    """Bytes read and written per second by a copy, operations per second by matrix products."""
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    figures = {"bytes_per_s": 2 * copied / _seconds(lambda: target.copy_(source), device, 10)}
    for name, kind in (("half", torch.float16), ("float32", torch.float32)):
        matrix = torch.ones(side, side, dtype=kind, device=device)
        took = _seconds(partial(torch.mm, matrix, matrix), device, 10)
        figures[f"{name}_per_s"] = 2 * side**3 / took
    return figures


def encoders(device: str, repeats: int) -> list[dict[str, Any]]:
    """Both stages of the shipped model by form and batch, pixels of 640×480 in, features out."""
    model, rows = load_model(MODEL), []
    domain = model.domain_names()[0]
    forms: dict[str, Callable[[], Backend]] = {
        "float32, resized on the CPU": lambda: TorchBackend(load_model(MODEL), device),
        "half, kernel by kernel": lambda: _eager(CudaBackend(model, device)),
        "half, CUDA graph": lambda: CudaBackend(model, device),
    }
    for name, make in forms.items():
        backend = make()
        for batch in BATCHES:
            images = [_picture(k) for k in range(batch)]
            run = partial(_encode, backend, domain, images)
            row = {"form": name, "batch": batch, "ms": 1e3 * _seconds(run, device, repeats)}
            rows.append(row | {"precision": backend.precision})
    return rows


def answers(device: str, size: int, config: DescriptorConfig, repeats: int) -> list[dict[str, Any]]:
    """An image, or four as one batch, to poses among so many map images of noise."""
    if device != CPU:
        torch.cuda.reset_peak_memory_stats(device)
    model = load_model(MODEL)
    with tempfile.TemporaryDirectory() as scratch:
        place_map = noise_map(Path(scratch) / "map", model, size, config, distinct=DISTINCT)
        localizer = Localizer(model, place_map, LocalizerConfig(device=device))
        camera, rows = place_map.cameras()[0], []
        for batch in BATCHES:
            domain = model.domain_names()[0]
            frames = [Frame(_picture(k), camera, domain=domain) for k in range(batch)]
            run = partial(_localize, localizer, frames)
            row = {"images": size, "batch": batch, "ms": 1e3 * _seconds(run, device, repeats)}
            row |= {"fine_bytes": place_map.fine.shape[1]}
            row["searched_bytes"] = 2 * batch * place_map.coarse.size  # half precision
            row["memory_mib"] = _peak_mib(device)
            if localizer.device != device:
                raise RuntimeError(f"{device} failed while it was measured: the log says why")
            rows.append(row)
    return rows


def missing() -> str:
    """Why nothing can be measured here; empty where a GPU can be used."""
    if torch.cuda.is_available():
        return ""
    if not has_cuda_driver():
        return "no CUDA driver is installed, so there is no GPU to use"
    built = torch.version.cuda
    if built is None:
        return f"torch {torch.__version__} was built without CUDA: install its CUDA build"
    return f"torch sees no GPU: there is none, or the driver is too old for CUDA {built}"


def main() -> int:
    """Compare, then measure. Returns 1 where there is no GPU or a comparison fails."""
    if reason := missing():
        print(f"nothing measured: {reason}")
        return 1
    tests = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", "test/models"]
    if subprocess.run(tests, check=False).returncode:
        print("nothing measured: the GPU's answers are not the CPU's")
        return 1
    return PAGE.main(["gpu"])


def _encode(backend: Backend, domain: str, images: list[NDArray[Any]]) -> object:
    return backend.encode(domain, backend.prepare(images))


def _localize(localizer: Localizer, frames: list[Frame]) -> list[Answer]:
    pipeline = single_pipeline(localizer)
    return [result.answer for result in pipeline.process([Shot(frame) for frame in frames])]


def _eager(backend: CudaBackend) -> CudaBackend:
    backend._graphs.enabled = False
    return backend


def _picture(seed: int) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def _peak_mib(device: str) -> float:
    return 0.0 if device == CPU else torch.cuda.max_memory_allocated(device) / 2**20


def _seconds(run: Callable[[], object], device: str, repeats: int) -> float:
    """Median seconds until the device has finished."""
    times = []
    for k in range(WARM_UP + repeats):
        start = time.perf_counter()
        run()
        if device != CPU:
            torch.cuda.synchronize(device)
        if k >= WARM_UP:
            times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    sys.exit(main())
