# SPDX-License-Identifier: Apache-2.0
"""A training step beside the straightforward form: `python -m benchmark.performance.training_step`.

Noise images that lie ready in memory: reading and cropping happen in a thread of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import torch

from benchmark.machine import circumstances, resident
from benchmark.performance.naive_training import NaiveTraining
from disam_ros.models.networks import PRESETS, NetworkConfig
from training.disam.config import TrainConfig
from training.disam.networks import create_networks
from training.disam.sampling import Aligned, Batch, Unpaired
from training.disam.stage import StageRun
from training.engine.networks import Networks
from training.recipes import parse_config

DOMAINS = ("day", "night")
GROUP = 10  # negatives the hardest is taken from
FINE = {"gan": 1, "cycle": 10, "fcl": 0.1, "fcl_cosine": 0.1, "triplet_fcl": 1, "sam": 1000}
FINE |= {"triplet_sam": 1}  # λ of the paper's fine stage
STEPS_TO_PEAK = 2  # the second step's gradients lie beside Adam's moments


@dataclass(frozen=True)
class Form:
    """One row of a table: how a step is done. `batch`: images of each of the two domains."""

    label: str
    network: NetworkConfig
    batch: int
    naive: bool = False
    contrastive: bool = False  # on true pairs, in place of the fine stage's losses
    cached: bool = True  # further negatives: features of recent steps
    fresh: tuple[int, int] = (GROUP - 1, GROUP - 1)  # else that many images of either domain
    channels_last: bool = False
    precision: str = "float32"


LITE, MOBILE = PRESETS["lite"], PRESETS["mobile"]
FORMS = (
    Form("straightforward", LITE, 1, naive=True),
    Form(
        "straightforward, negatives one way as released", LITE, 1, naive=True, fresh=(0, GROUP - 1)
    ),
    Form("cached negatives (default)", LITE, 1),
    Form("cached negatives", LITE, 4),
    Form("fresh negatives, as one batch", LITE, 1, cached=False),
    Form("contrastive, contiguous", MOBILE, 24, contrastive=True),
    Form(
        "contrastive, channels_last (as shipped)", MOBILE, 24, contrastive=True, channels_last=True
    ),
)
CUDA_FORM = Form(
    "cached negatives, bfloat16, channels_last", LITE, 16, channels_last=True, precision="bfloat16"
)


def measure(forms: Sequence[Form] | None = None, repeats: int = 7) -> dict:
    """Every form's speed and memory on the GPU, else on the CPU, in one interleaved run.

    Returns {"device", "rows": [{"form", "contrastive", "batch", "size", "images_per_s", "ratio",
    "memory_mib"}]}; ratio: of images_per_s, to the first row of the same losses.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if forms is None:
        forms = (*FORMS, CUDA_FORM) if device.type == "cuda" else FORMS
    speeds = images_per_second(forms, repeats, device)
    first: dict[bool, float] = {}
    rows = []
    for form, speed in zip(forms, speeds, strict=True):
        first.setdefault(form.contrastive, speed)
        rows.append(
            {
                "form": form.label,
                "contrastive": form.contrastive,
                "batch": form.batch,
                "size": list(form.network.image_size),
                "images_per_s": speed,
                "ratio": speed / first[form.contrastive],
                "memory_mib": _in_fresh_process(form, str(device)),
            }
        )
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"device": name, "rows": rows}


def render(results: dict) -> str:
    """The results of `measure` as a section of docs/performance.md."""
    lines = [
        f"## Training step, {results['device']}\n",
        "Medians on noise images, all forms in turn; a step sees two images per element of its "
        "batch. Straightforward: batch 1, activation maps by second-order autograd, negatives "
        "encoded one after the other in every step; tests hold its losses and gradients equal to "
        "those of `fresh negatives`. Memory: how far two steps in a fresh process raise its peak "
        "above networks, images and stored negatives; on a CPU with some 25 MiB for the libraries' "
        "first use.\n",
    ]
    for contrastive, title in (
        (False, f"Fine stage, all losses, hardest of {GROUP} negatives"),
        (True, "Contrastive on true pairs"),
    ):
        rows = [row for row in results["rows"] if row["contrastive"] == contrastive]
        if rows:
            lines += _table(title, rows)
    return "\n".join(lines)


def _table(title: str, rows: list[dict]) -> list[str]:
    height, width = rows[0]["size"]
    lines = [
        f"{title}, {height}×{width}:\n",
        "| form | batch | images/s | ratio | memory, MiB |\n|---|---|---|---|---|",
    ]
    for row in rows:
        speeds = f"{row['images_per_s']:.2f} | {row['ratio']:.2f}×"
        lines.append(f"| {row['form']} | {row['batch']} | {speeds} | {row['memory_mib']:.0f} |")
    return [*lines, ""]


def images_per_second(forms: Sequence[Form], repeats: int, device: torch.device) -> list[float]:
    """Medians over `repeats` rounds in which every form does one step in turn."""
    torch.backends.cudnn.benchmark = True  # as training does
    steps = [prepare(form, device) for form in forms]
    for step in steps:
        _seconds(step, device)
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(repeats):
        for step, found in zip(steps, times, strict=True):
            found.append(_seconds(step, device))
    return [2 * f.batch / median(found) for f, found in zip(forms, times, strict=True)]


def peak_memory(form: Form, device_name: str) -> float:
    """MiB that steps need above what `prepare` holds; meant for a fresh process.

    On a CPU the growth of resident memory to its peak, on CUDA that of allocated memory.
    """
    device = torch.device(device_name)
    step = prepare(form, device)
    before = _allocated(device)
    for _ in range(STEPS_TO_PEAK):
        step()
    return (_peak(device) - before) / 2**20


def prepare(form: Form, device: torch.device) -> Callable[[], object]:
    """A function that does one step of this form, always on the same noise."""
    config = _recipe(form)
    networks = create_networks(form.network, DOMAINS, not form.contrastive, seed=0)
    layout = torch.channels_last if form.channels_last else torch.contiguous_format
    for _, module in networks.modules():
        module.to(device, memory_format=layout)
    batch = _noise(form)
    if form.naive:
        return _naive_step(networks, batch, device)
    run = StageRun(config, 0, networks, device)
    if form.cached and not form.contrastive:
        _fill_bank(run, form.network)
    return lambda: run.step(0, batch)


def _naive_step(networks: Networks, batch: Batch, device: torch.device) -> Callable[[], None]:
    training, unpaired = NaiveTraining(networks, FINE), batch.unpaired
    images = (unpaired.a, unpaired.b, unpaired.more_a, unpaired.more_b)
    return lambda: training.step(Unpaired(DOMAINS, *(x.to(device) for x in images)))


def _recipe(form: Form) -> TrainConfig:
    """Full weights and hard negatives from the first step on."""
    stage = {"name": "fine", "ramp": 0.0, "hard_from": 0.0, "losses": FINE}
    if form.contrastive:
        stage = {"name": "coarse", "losses": {"contrastive": 1}}
    triplets = {"group": GROUP, "cached": form.cached}
    layout = {"channels_last": form.channels_last, "precision": form.precision}
    return parse_config({"stages": [stage], "triplets": triplets, **layout})


def _noise(form: Form) -> Batch:
    random = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        return torch.rand(count, 3, *form.network.image_size, generator=random) * 2 - 1

    a, b = images(form.batch), images(form.batch)
    if form.contrastive:
        different = ~torch.eye(form.batch, dtype=torch.bool)
        return Batch(None, Aligned(DOMAINS, a, b, different))
    more = form.fresh if form.naive or not form.cached else (0, 0)
    return Batch(Unpaired(DOMAINS, a, b, *(images(count) for count in more)), None)


def _fill_bank(run: StageRun, network: NetworkConfig) -> None:
    """Further negatives of noise: the time a step takes does not depend on their values."""
    for domain in DOMAINS:
        z = torch.randn(GROUP - 1, network.channels, *network.feature_size, device=run.device)
        run.bank.push("z", domain, z)
        run.bank.push("map", domain, z[:, 0].relu())


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _in_fresh_process(form: Form, device_name: str) -> float:
    """`peak_memory` where nothing else has left its peak behind."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(peak_memory, form, device_name).result()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")


if __name__ == "__main__":
    print(f"Measured under: {circumstances()}.\n\n{render(measure())}")
