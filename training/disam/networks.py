# SPDX-License-Identifier: Apache-2.0
"""Networks by domain, pool of past translations and bank of past negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.networks import (
    Discriminator,
    ResidualBlock,
    build_decoder,
    build_encoder,
)
from training.disam.sampling import Unpaired
from training.engine.networks import Networks, State, drawn_from_seed

BANK = "bank/z/"  # prefix of keys in a checkpoint


def create_networks(
    config: NetworkConfig,
    domains: Sequence[str],
    translating: bool,
    seed: int,
    shared: int = 0,
    sharing: str = "none",
) -> Networks:
    """Untrained networks drawn from `seed`; those of one kind start equal in all domains.

    shared: number of residual blocks that all domains have in common, the last of the encoders and
    the first of the decoders. The released option also feeds them the domain as constant channels;
    a convolution makes a constant of these, which its instance normalization removes. sharing: what
    encoders have in common (SHARING).
    """
    make = partial(drawn_from_seed, domains, seed=seed)
    networks = Networks(make(partial(build_encoder, config)))
    if translating:
        networks.decoders = make(partial(build_decoder, config))
        networks.discriminators = make(partial(Discriminator, config.width))
    if shared:
        _share_blocks(networks.encoders, slice(-shared, None))
        _share_blocks(networks.decoders, slice(shared))
    if sharing != "none":
        _share_weights(list(networks.encoders.values()), adapted=sharing == "trunk")
    return networks


def _share_weights(encoders: Sequence[nn.Module], adapted: bool) -> None:
    """Give all encoders the weights of the first one.

    adapted: they keep their own first layer, biases and slopes, a few percent of the weights
    (residual adapters: Rebuffi et al., NeurIPS 2017).
    """
    first = encoders[0]
    stem = next(name for name, layer in first.named_modules() if isinstance(layer, nn.Conv2d))
    for encoder in encoders[1:]:
        for (name, layer), copy in zip(first.named_modules(), encoder.modules(), strict=True):
            for key, weight in layer.named_parameters(recurse=False):
                if not adapted or (weight.ndim > 1 and name != stem):
                    setattr(copy, key, weight)


def _share_blocks(networks: Mapping[str, nn.Module], chosen: slice) -> None:
    """Give all networks the `chosen` residual blocks of the first one."""
    first: list[nn.Module] = []
    for network in networks.values():
        layers = network.get_submodule("model")
        assert isinstance(layers, nn.Sequential)
        places = [k for k, layer in enumerate(layers) if isinstance(layer, ResidualBlock)][chosen]
        first = first or [layers[k] for k in places]
        for k, block in zip(places, first, strict=True):
            layers[k] = block


class TranslationPool:
    """Pool of up to `capacity` past translations per domain (Shrivastava et al., CVPR 2017)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._images: dict[str, list[Tensor]] = {}

    def exchange(self, domain: str, images: Tensor, random: np.random.Generator) -> Tensor:
        """Store images [B, 3, H, W] and return each, or half the time an older one in its place."""
        stored = self._images.setdefault(domain, [])
        exchanged = []
        for image in images.detach():
            if len(stored) < self.capacity:
                stored.append(image.clone())
                exchanged.append(image)
            elif self.capacity and random.random() < 0.5:
                place = int(random.integers(self.capacity))
                exchanged.append(stored[place])
                stored[place] = image.clone()
            else:
                exchanged.append(image)
        return torch.stack(exchanged)

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
    """Keeps the last `capacity` features of each domain as further negatives, without gradient."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._stored: dict[str, Tensor] = {}

    def push(self, domain: str, values: Tensor) -> None:
        """Add features [B, C, h, w], newest last."""
        old = self.get(domain)
        values = values.detach() if old is None else torch.cat([old, values.detach()])
        if self.capacity:
            self._stored[f"{BANK}{domain}"] = values[-self.capacity :].contiguous()

    def get(self, domain: str) -> Tensor | None:
        return self._stored.get(f"{BANK}{domain}")

    def state(self) -> State:
        return {key: values.cpu().contiguous() for key, values in self._stored.items()}

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self._stored = {k: v.to(device) for k, v in state.items() if k.startswith(BANK)}


@torch.no_grad()
def translation_grid(networks: Networks, batch: Unpaired) -> Tensor:
    """Draws two rows of image, translation, and translation back, [3, 2H, 3W] in [0, 1]."""
    rows = []
    for origin, target, image in (
        (*batch.domains, batch.a[:1]),
        (*batch.domains[::-1], batch.b[:1]),
    ):
        fake = networks.decoders[target](networks.encoders[origin](image))
        rebuilt = networks.decoders[origin](networks.encoders[target](fake))
        rows.append(torch.cat([image, fake, rebuilt], dim=3))
    return (torch.cat(rows, dim=2)[0].float().cpu() + 1) / 2
