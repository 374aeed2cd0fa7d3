# SPDX-License-Identifier: Apache-2.0
"""Kinds of networks: which files hold their weights, and how these are read and written.

encoder.safetensors     weights of encoders that serve both stages, keys `<domain>/<parameter>`
coarse.safetensors      in place of it, where the stages differ: weights of the coarse stage
fine.safetensors        and of the fine stage
descriptor.safetensors  weights of a global model, keys `<branch>/<parameter>`
<name>.onnx             an imported network, for all domains
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from disam_ros.device import CPU, require_torch
from disam_ros.errors import ModelError
from disam_ros.files.checking import build, check_entries
from disam_ros.models import model_files
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.imported import ENCODER, ImportedConfig, OnnxNetwork, copy_files
from disam_ros.models.network_config import NetworkConfig

if TYPE_CHECKING:  # torch is imported where its networks are wanted
    from torch import nn

STAGES = ("coarse", "fine")
ENCODER_FILE = "encoder"  # file of encoders that serve both stages
DESCRIPTOR = "descriptor"  # a global model's file
HEADER = 2**22  # bytes; more than a file of weights has beside them

Network = NetworkConfig | GlobalConfig | ImportedConfig
Encoders = Mapping[str, Any]  # networks by domain


class Kind(Protocol):
    """What differs between models of different networks."""

    branched: bool  # whether domains share networks by branches
    suffix: str  # of the names of weight files

    def build(self) -> nn.Module:
        """Builds an untrained network. Raises ModelError where there is none."""

    def files(self, shared: bool) -> list[str]:
        """Names of the weight files without suffix. shared: one encoder serves both stages."""

    def identity(self, hashes: Mapping[str, str], shared: bool) -> str:
        """Identity of a model, by the SHA-256 of its files."""

    def label(self, encoders: Encoders) -> str:
        """Human-readable architecture; empty for encoders by domain."""

    def check(self, directory: Path, files: Sequence[str], networks: int) -> None:
        """Raises ModelError where the size of a file does not fit the networks in it."""

    def read(
        self, directory: Path, hashes: Mapping[str, str], networks: Mapping[str, str], lazy: bool
    ) -> list[Encoders]:
        """Encoders of each file. networks: their names in the files by domain; lazy: the weights
        are read when a network is first asked for. Raises ModelError."""

    def write(
        self, directory: Path, stages: Sequence[Encoders], names: Mapping[str, str], half: bool
    ) -> dict[str, str]:
        """Writes the weight files of the stages. Returns their SHA-256 by name."""


class StoredEncoders(Mapping[str, "nn.Module"]):
    """Networks by domain for inference: eval mode, no gradients; read when first asked for."""

    def __init__(self, domains: Sequence[str], read: Callable[[], Mapping[str, nn.Module]]) -> None:
        self._domains, self._read, self._device = domains, read, CPU

    def to(self, device: str) -> None:
        """Moves the networks to a device, now or when they are read."""
        self._device = device
        if "_networks" in self.__dict__:
            _move(self._networks, device)

    def __getitem__(self, domain: str) -> nn.Module:
        return self._networks[domain]

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def __len__(self) -> int:
        return len(self._domains)

    @cached_property
    def _networks(self) -> Mapping[str, nn.Module]:
        networks = self._read()
        _move(networks, self._device)
        return networks


class _Trained(ABC):
    """Networks of this project, whose weights are safetensors."""

    suffix = ".safetensors"

    @abstractmethod
    def build(self) -> nn.Module: ...

    @abstractmethod
    def files(self, shared: bool) -> list[str]: ...

    def identity(self, hashes: Mapping[str, str], shared: bool) -> str:
        return model_files.identity(hashes, self.files(shared))

    def check(self, directory: Path, files: Sequence[str], networks: int) -> None:
        numbers = networks * self._weights()
        least, most = 2 * numbers, 8 * numbers + HEADER  # float16 to float64
        for path in (directory / f"{file}{self.suffix}" for file in files):
            if path.is_file() and not least <= (size := path.stat().st_size) <= most:
                problem = "too small" if size < least else "too large"
                raise ModelError(
                    f"{path} is {problem} for the network, of {numbers} weights: {size} B"
                )

    def read(
        self, directory: Path, hashes: Mapping[str, str], networks: Mapping[str, str], lazy: bool
    ) -> list[Encoders]:
        stages = []
        for file, sha256 in hashes.items():
            path = directory / f"{file}{self.suffix}"
            encoders = StoredEncoders(list(networks), _Reading(self, path, sha256, networks))
            if lazy:
                model_files.check_file(path, sha256)
            else:
                next(iter(encoders.values()))
            stages.append(encoders)
        return list(stages)

    def write(
        self, directory: Path, stages: Sequence[Encoders], names: Mapping[str, str], half: bool
    ) -> dict[str, str]:
        import torch

        dtype = torch.float16 if half else torch.float32
        return {
            file: model_files.write_networks(
                directory / f"{file}{self.suffix}",
                {names[domain]: network for domain, network in stage.items()},
                dtype,
            )
            for file, stage in zip(self.files(len(stages) == 1), stages, strict=True)
        }

    def _weights(self) -> int:
        """Counts the weights of a network."""
        require_torch("the network of a model without ONNX files")
        import torch

        with torch.device("meta"):  # shapes only
            return sum(value.numel() for value in self.build().state_dict().values())


class _ByDomain(_Trained):
    """Encoders of features by domain, for one stage or both."""

    branched = False

    def __init__(self, network: NetworkConfig) -> None:
        self.network = network

    def build(self) -> nn.Module:
        from disam_ros.models.networks import build_encoder

        return build_encoder(self.network)

    def files(self, shared: bool) -> list[str]:
        return [ENCODER_FILE] if shared else list(STAGES)

    def label(self, encoders: Encoders) -> str:
        return ""


class _ByBranch(_Trained):
    """Global descriptors, whose networks are shared by the domains of a branch."""

    branched = True

    def __init__(self, network: GlobalConfig) -> None:
        self.network = network

    def build(self) -> nn.Module:
        from disam_ros.models.global_descriptors.network import GlobalNetwork

        return GlobalNetwork(self.network)

    def files(self, shared: bool) -> list[str]:
        return [DESCRIPTOR]

    def label(self, encoders: Encoders) -> str:
        return ", ".join(sorted({str(network.kind) for network in encoders.values()}))


class _Imported:
    """A network of another project, in an ONNX file."""

    branched, suffix = False, ""

    def __init__(self, network: ImportedConfig) -> None:
        self.network = network

    def build(self) -> nn.Module:
        raise ModelError("an imported network has no untrained form: import its file again")

    def files(self, shared: bool) -> list[str]:
        return list(self.network.files)

    def identity(self, hashes: Mapping[str, str], shared: bool) -> str:
        hashes = {**hashes, "interface": self.network.interface_sha256()}
        return model_files.identity(hashes, [*self.network.files, "interface"])

    def label(self, encoders: Encoders) -> str:
        return next(str(network.kind) for network in encoders.values())

    def check(self, directory: Path, files: Sequence[str], networks: int) -> None:
        """Leaves the sizes to ONNX Runtime."""

    def read(
        self, directory: Path, hashes: Mapping[str, str], networks: Mapping[str, str], lazy: bool
    ) -> list[Encoders]:
        for file, sha256 in hashes.items():
            model_files.check_file(directory / file, sha256)
        return [dict.fromkeys(networks, OnnxNetwork(self.network, directory))]

    def write(
        self, directory: Path, stages: Sequence[Encoders], names: Mapping[str, str], half: bool
    ) -> dict[str, str]:
        return copy_files(next(iter(stages[0].values())), directory)


_KINDS: dict[type, Callable[[Any], Kind]] = {
    NetworkConfig: _ByDomain,
    GlobalConfig: _ByBranch,
    ImportedConfig: _Imported,
}
_CONFIGS: dict[Any, type] = {ENCODER: ImportedConfig, "global": GlobalConfig}  # by `encoder`


def kind_of(network: Network) -> Kind:
    """Returns the kind of a network."""
    return _KINDS[type(network)](network)


def parse_network(values: dict[str, Any]) -> Network:
    """Reads the entry `network` of model.json. Raises ModelError."""
    check_entries(values, {"image_size": tuple[int, int]}, "network", ModelError)
    config = _CONFIGS.get(str(values.get("encoder")), NetworkConfig)
    if config is not NetworkConfig:
        values = {key: value for key, value in values.items() if key != "encoder"}
    network: Network = build(config, values, "network", ModelError)
    return network


def draw_network(config: NetworkConfig | GlobalConfig, seed: int) -> nn.Module:
    """Builds a network with random weights of a seed; the global random state is unchanged."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind_of(config).build().eval()


def branch_names(branches: Mapping[str, str]) -> list[str]:
    """Returns the distinct names of branches. Raises ModelError."""
    names = list(dict.fromkeys(branches.values()))
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise ModelError(f"a branch is named by letters, digits, '_', '-', '.', got '{name}'")
    return names


@dataclass(frozen=True)
class _Reading:
    """Reads the networks of a file of weights; can be sent to other processes."""

    kind: _Trained
    path: Path
    sha256: str
    networks: Mapping[str, str]  # names in the file by domain

    def __call__(self) -> Mapping[str, nn.Module]:
        built = {name: self.kind.build() for name in set(self.networks.values())}
        model_files.read_networks(self.path, self.sha256, built)
        return {domain: built[name] for domain, name in self.networks.items()}


def _move(networks: Mapping[str, nn.Module], device: str) -> None:
    for network in networks.values():
        network.to(device)
