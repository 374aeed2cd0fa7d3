# SPDX-License-Identifier: Apache-2.0
"""Named networks of a run, their state, and sums of loss terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from disam_ros.errors import ModelError
from disam_ros.models.mobile import read_backbone

State = dict[str, Tensor]


@dataclass
class Networks:
    """Networks by domain or branch."""

    encoders: dict[str, nn.Module]  # images → features
    decoders: dict[str, nn.Module] = field(default_factory=dict)  # features → images; or none
    discriminators: dict[str, nn.Module] = field(default_factory=dict)  # real or not; or none

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields ('encoders/day', module), ... in a fixed order."""
        for kind in ("encoders", "decoders", "discriminators"):
            for domain, module in getattr(self, kind).items():
                yield f"{kind}/{domain}", module

    def generators(self) -> list[nn.Parameter]:
        """Lists the parameters of encoders and decoders, each once, without frozen ones."""
        modules = [*self.encoders.values(), *self.decoders.values()]
        parameters = (p for module in modules for p in module.parameters() if p.requires_grad)
        return list(dict.fromkeys(parameters))

    def is_frozen(self, domain: str) -> bool:
        """Tells whether a domain's encoder keeps its weights."""
        return not any(p.requires_grad for p in self.encoders[domain].parameters())

    def critics(self) -> list[nn.Parameter]:
        """Lists the parameters of discriminators."""
        return [p for module in self.discriminators.values() for p in module.parameters()]

    def state(self) -> State:
        """Copies all weights, by `encoders/<domain>/<parameter>`; shared ones are in each."""
        state: State = {}
        seen: set[int] = set()
        for name, module in self.modules():
            for key, value in module.state_dict().items():
                kept = value.detach().cpu().contiguous()
                state[f"{name}/{key}"] = kept.clone() if kept.data_ptr() in seen else kept
                seen.add(kept.data_ptr())
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of those modules that `state` holds."""
        for name, module in self.modules():
            arrays = {
                k.removeprefix(name + "/"): v for k, v in state.items() if k.startswith(name + "/")
            }
            if arrays:
                module.load_state_dict(arrays)

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
        names = {name for name, _ in self.modules()}
        if not any("/".join(key.split("/")[:2]) in names for key in state):
            raise ModelError(f"{path} holds none of {', '.join(sorted(names))}")
        try:
            self.load(state)
        except RuntimeError as error:
            raise ModelError(f"initial weights {path} do not fit the networks: {error}") from error


def drawn_from_seed(
    names: Sequence[str], build: Callable[[], nn.Module], seed: int
) -> dict[str, nn.Module]:
    """Makes a module for every name, all of them equal; the global generator stays as it was."""
    modules = {}
    for name in names:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules[name] = build()
    return modules


Terms = dict[str, Tensor]


def total(terms: Terms, weights: Mapping[str, float]) -> Tensor:
    """Sums the weighted terms, Σ λ·term."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
