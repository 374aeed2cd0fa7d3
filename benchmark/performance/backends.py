# SPDX-License-Identifier: Apache-2.0
"""Latency of the encoders by inference backend on a CPU: torch, torch.compile, ONNX, OpenVINO.

`python -m benchmark.performance.backends` prints it.

Forms take turns in bursts, since each has threads of its own that take a call or two to wake; on a
machine that does other work, too, CPU time says more than the clock.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.machine import spent
from benchmark.networks import in_layout
from benchmark.performance.page import PAGE
from disam_ros.models.backend import keep_freed_memory, select_backend
from disam_ros.models.export import PACKAGES, EncoderStages, relative_error, to_onnx
from disam_ros.models.model import load_model
from disam_ros.models.network_config import PRESETS
from disam_ros.models.networks import build_encoder
from disam_ros.models.onnx_backend import INPUT, open_session
from disam_ros.models.onnx_runtime import has_runtime

Run = Callable[[], Sequence[Tensor]]
Times = list[tuple[float, float]]  # seconds by the clock and of CPU time

MODEL = Path(__file__).parents[2] / "models" / "outdoor"
BURST, WARM_UP = 5, 2  # calls that are timed in one turn, after calls that are not
MOBILE, FULL = "two mobile encoders", "one full encoder, untrained"
ROUNDS = {MOBILE: 20, FULL: 6}
PLAIN = "torch as it comes"
INT8 = "ONNX Runtime, 8-bit integers"
SHIPPED = {MOBILE: "torch, memory kept, channels_last", FULL: "torch, memory kept"}


def measure(rounds: Mapping[str, int] = ROUNDS) -> dict[str, Any]:
    """Time, CPU time and difference of every form that can run here, with one thread and all.

    Returns {"missing": [form], "rows": [{"network", "size", "threads", "form", "backend",
    "ready_s", "median_ms", "p99_ms", "cpu_ms", "ratio", "difference"}]}. backend: the value of
    localizer.backend that runs this form, or "". ready_s: from a torch network to the first answer.
    ratio: of medians, plain torch's to this one's. difference: of the features, as in
    `relative_error`.
    """
    keep_freed_memory()
    rows, missing = [], set()
    before = torch.get_num_threads()
    for label, count in rounds.items():
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            with tempfile.TemporaryDirectory() as folder:
                compared, absent = _compare(label, count, Path(folder))
            rows += [{"network": label, "threads": threads} | row for row in compared]
            missing |= set(absent)
    torch.set_num_threads(before)
    return {"missing": sorted(missing), "rows": rows}


@cache
def _network(label: str) -> tuple[nn.Module, Tensor]:
    """A network in use and a noise image [1, 3, H, W] for it."""
    if label == MOBILE:
        model = load_model(MODEL)
        name, size = model.domain_names()[0], model.network.image_size
        network: nn.Module = EncoderStages(model, name)
    else:
        size = PRESETS["full"].image_size
        network = build_encoder(PRESETS["full"])
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return network.eval().requires_grad_(False), image


def _compare(label: str, rounds: int, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """All forms in turn. Returns rows and the names of the forms that cannot run here."""
    network, image = _network(label)
    forms: dict[str, Run] = {}
    ready: dict[str, float] = {}
    missing = []
    for name, build in _forms(label, folder):
        start = time.perf_counter()
        form = build()
        if form is None:
            missing.append(name)
            continue
        with torch.inference_mode():
            form()
        ready[name] = time.perf_counter() - start
        forms[name] = form
    with torch.inference_mode():
        expected = _as_list(network(image))
        differences = {name: _difference(form(), expected) for name, form in forms.items()}
    times = _take_turns(label, forms, rounds)
    plain = np.median(times[PLAIN][:, 0])
    backends = {SHIPPED[label]: "torch", "ONNX Runtime": "onnx", INT8: "onnx-int8"}
    rows = []
    for name, (clock, cpu) in ((name, samples.T) for name, samples in times.items()):
        row: dict[str, Any] = {"form": name, "backend": backends.get(name, "")}
        row |= {"size": list(image.shape[2:])}
        row |= {"ready_s": ready.get(name), "difference": differences.get(name, 0.0)}
        row |= {"median_ms": float(np.median(clock)), "cpu_ms": float(np.median(cpu))}
        row |= {"p99_ms": float(np.percentile(clock, 99)), "ratio": float(plain / np.median(clock))}
        rows.append(row)
    return rows, missing


def _difference(features: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(relative_error(z, right) for z, right in zip(features, expected, strict=True))


def _take_turns(label: str, forms: Mapping[str, Run], rounds: int) -> dict[str, NDArray[Any]]:
    """Milliseconds by the clock and of CPU time [rounds · BURST, 2] of every form.

    Plain torch is in a process of its own, since how memory is kept holds for a whole process.
    """
    times: dict[str, Times] = {name: [] for name in (PLAIN, *forms)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        for _ in range(rounds):
            plain = process.submit(_plain_burst, label, torch.get_num_threads())
            times[PLAIN] += plain.result()
            for name, form in forms.items():
                times[name] += _burst(form)
    return {name: 1e3 * np.array(values) for name, values in times.items()}


def _plain_burst(label: str, threads: int) -> Times:
    torch.set_num_threads(threads)
    network, image = _network(label)
    return _burst(lambda: _as_list(network(image)))


@torch.inference_mode()
def _burst(form: Run) -> Times:
    return [spent(form) for _ in range(WARM_UP + BURST)][WARM_UP:]


def _forms(label: str, folder: Path) -> Iterator[tuple[str, Callable[[], Run | None]]]:
    """Name and builder of every form; a builder gives None where the form cannot run here."""
    network, image = _network(label)
    yield "torch, memory kept", lambda: lambda: _as_list(network(image))
    yield "torch, memory kept, channels_last", lambda: _channels_last(network, image)
    yield "torch.compile, memory kept", lambda: _compiled(network, image)
    path = folder / "network.onnx"
    if all(find_spec(name) for name in PACKAGES):
        height, width = image.shape[2:]
        proto = to_onnx(network, (height, width), ["z"])
        path.write_bytes(proto.SerializeToString())
    yield "ONNX Runtime", lambda: _onnx_runtime(path, image)
    if label == MOBILE:
        yield INT8, lambda: _int8(image)
    yield "OpenVINO", lambda: _openvino(path, image)


def _channels_last(network: nn.Module, image: Tensor) -> Run:
    network = in_layout(copy.deepcopy(network))
    return lambda: _as_list(network(image))


def _compiled(network: nn.Module, image: Tensor) -> Run | None:
    if not shutil.which("g++"):
        return None
    torch.compiler.reset()  # the number of threads is compiled in
    compiled = torch.compile(network)
    return lambda: _as_list(compiled(image))


def _onnx_runtime(path: Path, image: Tensor) -> Run | None:
    if not path.exists():
        return None
    session = open_session(path)
    return lambda: [torch.from_numpy(z) for z in session.run(None, {INPUT: image.numpy()})]


def _int8(image: Tensor) -> Run | None:
    if not has_runtime():
        return None
    model = load_model(MODEL)
    backend, domain = select_backend("onnx-int8", model, "cpu"), model.domain_names()[0]
    return lambda: [torch.from_numpy(backend.encode(domain, image.numpy())[0])]


def _openvino(path: Path, image: Tensor) -> Run | None:
    if not path.exists() or find_spec("openvino") is None:
        return None
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda: [torch.from_numpy(z) for z in compiled(image.numpy()).values()]


def _as_list(features: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [features] if isinstance(features, Tensor) else features


if __name__ == "__main__":
    PAGE.show("backends", measure())
