# SPDX-License-Identifier: Apache-2.0
"""What a stage trains and remembers: networks per domain, past translations, past negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from disam_ros.errors import ModelError
from disam_ros.mobile import read_backbone
from disam_ros.networks import Discriminator, NetworkConfig, build_decoder, build_encoder

State = dict[str, Tensor]


@dataclass
class Networks:
    """Encoder, decoder and discriminator of every domain; the latter two may be left out."""

    encoders: dict[str, nn.Module]
    decoders: dict[str, nn.Module] = field(default_factory=dict)
    discriminators: dict[str, nn.Module] = field(default_factory=dict)

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """('encoder/day', module), ... in a fixed order."""
        for kind in ("encoders", "decoders", "discriminators"):
            for domain, module in getattr(self, kind).items():
                yield f"{kind}/{domain}", module

    def generators(self) -> list[nn.Parameter]:
        """Parameters of encoders and decoders."""
        modules = [*self.encoders.values(), *self.decoders.values()]
        return [p for module in modules for p in module.parameters()]

    def critics(self) -> list[nn.Parameter]:
        """Parameters of discriminators."""
        return [p for module in self.discriminators.values() for p in module.parameters()]

    def state(self) -> State:
        """All weights, keys `encoders/<domain>/<parameter>`."""
        return {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name, module in self.modules()
            for key, value in module.state_dict().items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of those modules that `state` holds."""
        for name, module in self.modules():
            found = {
                k.removeprefix(name + "/"): v for k, v in state.items() if k.startswith(name + "/")
            }
            if found:
                module.load_state_dict(found)

    def start_from(self, path: Path) -> None:
        """Take over weights of a file: a stage of another run, or an encoder's pretrained trunk.

        The trunk goes to the encoders of all domains. Raises ModelError for another file.
        """
        if path.suffix != ".safetensors":
            backbone = read_backbone(path)
            state = {f"encoders/{d}/{k}": v for d in self.encoders for k, v in backbone.items()}
        else:
            try:
                state = load_file(path)
            except (OSError, SafetensorError) as error:
                raise ModelError(f"initial weights {path} cannot be read: {error}") from error
        known = {name for name, _ in self.modules()}
        if not any("/".join(key.split("/")[:2]) in known for key in state):
            raise ModelError(f"{path} holds none of {', '.join(sorted(known))}")
        try:
            self.load(state)
        except RuntimeError as error:
            raise ModelError(f"initial weights {path} do not fit the networks: {error}") from error


def create_networks(
    config: NetworkConfig, domains: Sequence[str], translating: bool, seed: int
) -> Networks:
    """Untrained networks drawn from `seed`; those of one kind start equal in all domains."""

    make = partial(drawn_from_seed, domains, seed=seed)
    networks = Networks(make(partial(build_encoder, config)))
    if translating:
        networks.decoders = make(partial(build_decoder, config))
        networks.discriminators = make(partial(Discriminator, config.width))
    return networks


def drawn_from_seed(
    names: Sequence[str], build: Callable[[], nn.Module], seed: int
) -> dict[str, nn.Module]:
    """A module for every name, all of them equal; other random numbers are left as they were."""
    modules = {}
    for name in names:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules[name] = build()
    return modules


class TranslationPool:
    """Up to `capacity` past translations per domain: discriminators see old fakes, too."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._images: dict[str, list[Tensor]] = {}

    def exchange(self, domain: str, images: Tensor, random: np.random.Generator) -> Tensor:
        """Store images [B, 3, H, W]; half the time give an older one back instead of each."""
        stored = self._images.setdefault(domain, [])
        given = []
        for image in images.detach():
            if len(stored) < self.capacity:
                stored.append(image.clone())
                given.append(image)
            elif self.capacity and random.random() < 0.5:
                place = int(random.integers(self.capacity))
                given.append(stored[place])
                stored[place] = image.clone()
            else:
                given.append(image)
        return torch.stack(given)

    def state(self) -> State:
        return {
            f"pool/{d}": torch.stack(images).cpu().contiguous()
            for d, images in self._images.items()
            if images
        }

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self._images = {
            key.removeprefix("pool/"): list(images.to(device))
            for key, images in state.items()
            if key.startswith("pool/")
        }


class NegativeBank:
    """The last `capacity` features and activation maps of each domain, without gradient.

    They serve as further negatives, some steps old, at no cost.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._stored: dict[str, Tensor] = {}

    def push(self, kind: str, domain: str, values: Tensor) -> None:
        """values: [B, ...], newest last."""
        old = self.get(kind, domain)
        values = values.detach() if old is None else torch.cat([old, values.detach()])
        if self.capacity:
            self._stored[f"bank/{kind}/{domain}"] = values[-self.capacity :].contiguous()

    def get(self, kind: str, domain: str) -> Tensor | None:
        return self._stored.get(f"bank/{kind}/{domain}")

    def state(self) -> State:
        return {key: values.cpu().contiguous() for key, values in self._stored.items()}

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self._stored = {k: v.to(device) for k, v in state.items() if k.startswith("bank/")}
