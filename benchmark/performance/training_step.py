# SPDX-License-Identifier: Apache-2.0
"""Throughput and memory of a training step, compared with the straightforward form.

`python -m benchmark.performance.training_step` prints it. Noise images that lie ready in memory:
reading and cropping happen in a thread of their own. The straightforward form has the shape of the
public implementation, written from the description of the method: batch 1, float32, activation maps
by second-order automatic differentiation, further negatives encoded one after the other in every
step, discriminators that keep their gradients while the generators are trained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.machine import fresh, resident
from benchmark.networks import in_layout, recipe_of
from disam_ros.models.network_config import PRESETS, NetworkConfig
from training.disam.config import TrainConfig
from training.disam.networks import TranslationPool, create_networks
from training.disam.sampling import Aligned, Batch, Unpaired
from training.disam.stage import StageRun
from training.engine.networks import Networks, Terms

DOMAINS = ("day", "night")
GROUP = 10  # negatives the hardest is taken from
FINE = {"gan": 1, "cycle": 10, "fcl": 0.1, "fcl_cosine": 0.1, "triplet_fcl": 1, "sam": 1000}
FINE |= {"triplet_sam": 1}  # λ of the paper's fine stage
STEPS_TO_PEAK = 2  # the second step holds gradients and Adam's moments


@dataclass(frozen=True)
class Form:
    """One row of a table: how a step is done."""

    label: str
    network: NetworkConfig
    batch: int  # images of each of the two domains
    naive: bool = False  # the straightforward form
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


def measure(forms: Sequence[Form] | None = None, repeats: int = 7) -> dict[str, Any]:
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
                "memory_mib": fresh(peak_memory, form, str(device)),
            }
        )
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"device": name, "rows": rows}


def images_per_second(forms: Sequence[Form], repeats: int, device: torch.device) -> list[float]:
    """Medians over `repeats` rounds in which every form does one step in turn."""
    torch.backends.cudnn.benchmark = True  # as training does
    steps = [prepare(form, device) for form in forms]
    for step in steps:
        _seconds(step, device)
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(repeats):
        for step, durations in zip(steps, times, strict=True):
            durations.append(_seconds(step, device))
    return [2 * f.batch / median(durations) for f, durations in zip(forms, times, strict=True)]


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
        in_layout(module.to(device), layout)
    batch = _noise(form)
    if form.naive:
        return _naive_step(networks, batch, device)
    run = StageRun(config, 0, networks, device)
    if form.cached and not form.contrastive:
        _fill_bank(run, form.network)
    return lambda: run.step(0, batch)


def _naive_step(networks: Networks, batch: Batch, device: torch.device) -> Callable[[], None]:
    training, unpaired = NaiveTraining(networks, FINE), batch.unpaired
    assert unpaired is not None  # a naive form is never contrastive
    images = (unpaired.a, unpaired.b, unpaired.more_a, unpaired.more_b)
    return lambda: training.step(Unpaired(DOMAINS, *(x.to(device) for x in images)))


def _recipe(form: Form) -> TrainConfig:
    """Full weights and hard negatives from the first step on, no gradient reports."""
    stage = {"name": "fine", "ramp": 0.0, "hard_from": 0.0, "losses": FINE}
    if form.contrastive:
        stage = {"name": "coarse", "losses": {"contrastive": 1}}
    triplets = {"group": GROUP, "cached": form.cached}
    layout = {"channels_last": form.channels_last, "precision": form.precision}
    return recipe_of({"stages": [stage], "triplets": triplets, "gradients_every": 0, **layout})


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
        run.bank.push(domain, z)


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")


# The straightforward form: negatives in both directions as in the paper, terms of Eq. 12, 16-23 in
# form 'released'. Features z are [1, C, h, w], activation maps [1, h, w], losses scalars.
SCALE_WEIGHTS = (1.0, 2.0, 3.0, 5.0)  # of a discriminator branch's four heads
MARGIN_FCL, ALPHA_FCL = 5.0, 2.0  # m_f, α_f of Eq. 22
MARGIN_SAM, ALPHA_SAM = 0.1, 1000.0  # m_s, α_s of Eq. 23


@dataclass
class Way:
    """An image [1, 3, H, W] of one domain, translated to another and back."""

    image: Tensor
    z: Tensor
    fake: Tensor
    z_again: Tensor  # features of the translation
    rebuilt: Tensor


class NaiveTraining:
    """Networks and optimizers; `weights` holds λ of every term."""

    def __init__(self, networks: Networks, weights: Mapping[str, float], pool: int = 50) -> None:
        self.networks, self.weights = networks, weights
        self.generators = torch.optim.Adam(networks.generators(), lr=2e-4, betas=(0.5, 0.999))
        self.critics = torch.optim.Adam(networks.critics(), lr=2e-4, betas=(0.5, 0.999))
        self.pool, self.random = TranslationPool(pool), np.random.default_rng(0)

    def step(self, batch: Unpaired) -> None:
        """Update the networks of the batch's two domains."""
        terms, fakes = generator_terms(self.networks, batch)
        self.generators.zero_grad()
        reduce(torch.add, (self.weights[name] * term for name, term in terms.items())).backward()
        self.generators.step()
        fakes = {d: self.pool.exchange(d, fake, self.random) for d, fake in fakes.items()}
        self.critics.zero_grad()
        (self.weights["gan"] * critic_term(self.networks, batch, fakes)).backward()
        self.critics.step()


def generator_terms(networks: Networks, batch: Unpaired) -> tuple[Terms, dict[str, Tensor]]:
    """All terms of the encoders and decoders, and the translations by the domain they are of."""
    a, b = batch.domains
    translated_way = _translate(networks, a, b, batch.a)
    back = _translate(networks, b, a, batch.b)
    negatives_b = _further_negatives(networks, b, batch.more_b)
    negatives_a = _further_negatives(networks, a, batch.more_a)
    there_terms = _terms(networks.discriminators[b], translated_way, back, negatives_b)
    back_terms = _terms(networks.discriminators[a], back, translated_way, negatives_a)
    terms = {name: there_terms[name] + back_terms[name] for name in there_terms}
    return terms, {b: translated_way.fake, a: back.fake}


def critic_term(networks: Networks, batch: Unpaired, fakes: Mapping[str, Tensor]) -> Tensor:
    """Least squares of real images against 1 and of translations against 0."""
    terms = []
    for domain, real in zip(batch.domains, (batch.a, batch.b), strict=True):
        critic = networks.discriminators[domain]
        real_loss = least_squares(critic(real), 1.0)
        fake_loss = least_squares(critic(fakes[domain].detach()), 0.0)
        terms.append(0.5 * (real_loss + fake_loss))
    first, second = terms
    return first + second


def least_squares(heads: list[Tensor], target: float) -> Tensor:
    """Least-squares GAN over the four scales, both branches' heads side by side at each."""
    loss = torch.zeros_like(heads[0].mean())
    for weight, grey, colour in zip(SCALE_WEIGHTS, heads[:4], heads[4:], strict=True):
        both = torch.cat([grey.flatten(), colour.flatten()])
        loss = loss + weight * functional.mse_loss(both, torch.full_like(both, target))
    return loss / (4 * sum(SCALE_WEIGHTS))


def similarity(z: Tensor, other: Tensor) -> Tensor:
    """Y of Eq. 16: mean over channels of the spatial cosine."""
    return functional.cosine_similarity(z.flatten(2), other.flatten(2), dim=2).mean()


def activation_map(z: Tensor, other: Tensor) -> Tensor:
    """Eq. 17, 18 as printed: ∂Y/∂z by automatic differentiation, kept differentiable."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = z.clone() if z.requires_grad else z.clone().requires_grad_()  # `other` may follow z
        (slope,) = torch.autograd.grad(similarity(leaf, other), leaf, create_graph=further)
    weights = slope.sum((2, 3), keepdim=True)
    return torch.relu((weights * z).sum(1))


def triplet(positive: Tensor, negative: Tensor, margin: float, alpha: float) -> Tensor:
    """Eq. 22, 23 with the adaptive margin."""
    return torch.relu(1 - negative / (positive + margin * torch.exp(-alpha * positive)))


def map_gap(z: Tensor, other: Tensor) -> Tensor:
    """Distance of both activation maps of a pair, each with respect to the other."""
    return functional.mse_loss(activation_map(z, other), activation_map(other, z))


def nearest(gaps: list[Tensor]) -> Tensor:
    """Eq. 20, 21: the distance of the hardest negative of a group."""
    values = [gap.item() for gap in gaps]
    return gaps[values.index(min(values))]


def _translate(networks: Networks, origin: str, target: str, image: Tensor) -> Way:
    z = networks.encoders[origin](image)
    fake = networks.decoders[target](z)
    z_again = networks.encoders[target](fake)
    return Way(image, z, fake, z_again, rebuilt=networks.decoders[origin](z_again))


def _further_negatives(networks: Networks, origin: str, images: Tensor) -> list[Tensor]:
    """Features of each of the images [K, 3, H, W]."""
    with torch.no_grad():
        return [networks.encoders[origin](image[None]) for image in images]


def _terms(critic: nn.Module, way: Way, other: Way, more: list[Tensor]) -> Terms:
    """One direction's terms; `other` is the opposite direction, whose image is a negative."""
    group = [other.z.detach(), *more]
    gap = functional.mse_loss(way.z_again, way.z.detach())
    away = nearest([functional.mse_loss(way.z_again, z) for z in group])
    real, translated = activation_map(way.z, way.z_again), activation_map(way.z_again, way.z)
    away_map = nearest([map_gap(way.z_again, z) for z in group])
    return {
        "gan": least_squares(critic(way.fake), 1.0),
        "cycle": functional.l1_loss(way.rebuilt, way.image),
        "fcl": gap,
        "fcl_cosine": 1 - similarity(way.z_again, way.z),
        "triplet_fcl": triplet(gap, away, MARGIN_FCL, ALPHA_FCL),
        "sam": functional.mse_loss(real, translated.detach()),
        "triplet_sam": triplet(
            functional.mse_loss(real, translated), away_map, MARGIN_SAM, ALPHA_SAM
        ),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
