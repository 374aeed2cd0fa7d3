# SPDX-License-Identifier: Apache-2.0
"""What runs the encoders of a query on a CPU, side by side: `python -m benchmark.backends`.

Forms take turns in bursts, since each has threads of its own that take a call or two to wake; on a
machine that does other work, too, CPU time says more than the clock.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.machine import circumstances
from demo.drives import MODEL
from disam_ros.backend import INPUT, OUTPUTS, open_session
from disam_ros.checkpoint import load_model
from disam_ros.export import PACKAGES, EncoderPair, relative_error, to_onnx
from disam_ros.networks import PRESETS, build_encoder

Run = Callable[[], Sequence[Tensor]]

BURST, WARM_UP = 5, 2  # calls that are timed in one turn, after calls that are not
ROUNDS = {"two mobile encoders": 20, "one full encoder, untrained": 6}
EAGER, ONNX = "torch (`torch`)", "ONNX Runtime (`onnx`)"


def measure(rounds: Mapping[str, int] = ROUNDS) -> dict:
    """Time, CPU time and difference of every form that can run here, with one thread and all.

    Returns {"missing": [form], "rows": [{"network", "size", "threads", "form", "ready_s",
    "median_ms", "p99_ms", "cpu_ms", "ratio", "difference"}]}. ready_s: from a torch network to the
    first answer. ratio: of medians, the torch form's to this one's. difference: of the features, as
    in `relative_error`.
    """
    rows, missing = [], set()
    before = torch.get_num_threads()
    for label, count in rounds.items():
        network, size = _network(label)
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            with tempfile.TemporaryDirectory() as folder:
                found, absent = _compare(network, size, count, Path(folder))
            facts = {"network": label, "size": list(size), "threads": threads}
            rows += [facts | row for row in found]
            missing |= set(absent)
    torch.set_num_threads(before)
    return {"missing": sorted(missing), "rows": rows}


def render(results: dict) -> str:
    """The results of `measure` as a section of docs/performance.md."""
    lines = [
        "## What runs the encoders, CPU\n",
        "Milliseconds from one image to its features. In brackets the values of "
        "`localizer.backend`; the others are measured only. CPU: processor time of all threads. "
        "Faster: by medians. Difference: largest of any feature, relative to the largest feature. "
        "Ready: seconds from the loaded model to the first features, without `disam export`.\n",
    ]
    if results["missing"]:
        lines.append(f"Not here: {', '.join(results['missing'])}.\n")
    keys = list(dict.fromkeys((row["network"], row["threads"]) for row in results["rows"]))
    for network, threads in keys:
        rows = [r for r in results["rows"] if (r["network"], r["threads"]) == (network, threads)]
        lines += _table(rows)
    return "\n".join(lines)


def _table(rows: list[dict]) -> list[str]:
    (height, width), threads = rows[0]["size"], rows[0]["threads"]
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    lines = [
        f"{rows[0]['network'].capitalize()}, {height}×{width}, {many}:\n",
        "| | median | p99 | CPU | faster | difference | ready |\n|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = " | ".join(f"{row[key]:.1f}" for key in ("median_ms", "p99_ms", "cpu_ms"))
        lines.append(
            f"| {row['form']} | {times} | {row['ratio']:.2f}× | {row['difference']:.0e} "
            f"| {row['ready_s']:.1f} |"
        )
    return [*lines, ""]


def _network(label: str) -> tuple[nn.Module, tuple[int, int]]:
    """A network in use, and its image's height and width."""
    if "mobile" in label:
        model = load_model(MODEL)
        name = model.domain_names()[0]
        return EncoderPair(model.coarse[name], model.fine[name]).eval(), model.network.image_size
    preset = PRESETS["full"]
    return build_encoder(preset).eval().requires_grad_(False), preset.image_size


@torch.inference_mode()
def _compare(
    network: nn.Module, size: tuple[int, int], rounds: int, folder: Path
) -> tuple[list[dict], list[str]]:
    """All forms in turn. Returns rows and the names of the forms that cannot run here."""
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    forms: dict[str, Run] = {}
    ready: dict[str, float] = {}
    missing = []
    for name, build in _forms(network, images, folder):
        start = time.perf_counter()
        form = build()
        if form is None:
            missing.append(name)
            continue
        form()
        ready[name] = time.perf_counter() - start
        forms[name] = form
    expected = forms[EAGER]()
    times = _take_turns(forms, rounds)
    slowest = np.median(times[EAGER][:, 0])
    rows = []
    for name, form in forms.items():
        clock, cpu = times[name].T
        pairs = zip(form(), expected, strict=True)
        row = {"form": name, "ready_s": ready[name], "median_ms": float(np.median(clock))}
        row |= {"p99_ms": float(np.percentile(clock, 99)), "cpu_ms": float(np.median(cpu))}
        row["ratio"] = float(slowest / np.median(clock))
        row["difference"] = max(relative_error(z, z_torch) for z, z_torch in pairs)
        rows.append(row)
    return rows, missing


def _take_turns(forms: Mapping[str, Run], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds by the clock and of CPU time [rounds · BURST, 2] of every form."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            for call in range(WARM_UP + BURST):
                start, cpu = time.perf_counter(), time.process_time()
                form()
                took = time.perf_counter() - start, time.process_time() - cpu
                if call >= WARM_UP:
                    times[name].append(took)
    return {name: 1e3 * np.array(values) for name, values in times.items()}


def _forms(
    network: nn.Module, images: Tensor, folder: Path
) -> Iterator[tuple[str, Callable[[], Run | None]]]:
    """Name and builder of every form; a builder gives None where the form cannot run here."""
    yield EAGER, lambda: lambda: _as_list(network(images))
    yield "torch, channels_last", lambda: _channels_last(network, images)
    yield "torch.compile", lambda: _compiled(network, images)
    path = folder / "network.onnx"
    if all(find_spec(name) for name in PACKAGES):
        with torch.inference_mode(False):
            outputs = OUTPUTS if isinstance(network, EncoderPair) else OUTPUTS[:1]
            path.write_bytes(to_onnx(network, images.shape[2:], outputs).SerializeToString())
    yield ONNX, lambda: _onnx_runtime(path, images)
    yield "OpenVINO", lambda: _openvino(path, images)


def _channels_last(network: nn.Module, images: Tensor) -> Run:
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    return lambda: _as_list(network(images.contiguous(memory_format=torch.channels_last)))


def _compiled(network: nn.Module, images: Tensor) -> Run | None:
    if not shutil.which("g++"):
        return None
    torch.compiler.reset()  # the number of threads is compiled in
    compiled = torch.compile(network)
    return lambda: _as_list(compiled(images))


def _onnx_runtime(path: Path, images: Tensor) -> Run | None:
    if not path.exists():
        return None
    session = open_session(path)
    return lambda: [torch.from_numpy(z) for z in session.run(None, {INPUT: images.numpy()})]


def _openvino(path: Path, images: Tensor) -> Run | None:
    if not path.exists() or find_spec("openvino") is None:
        return None
    import openvino

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda: [torch.from_numpy(z) for z in compiled(images.numpy()).values()]


def _as_list(features: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [features] if isinstance(features, Tensor) else features


if __name__ == "__main__":
    print(f"Measured under: {circumstances()}.\n\n{render(measure())}")
