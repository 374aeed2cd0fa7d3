# SPDX-License-Identifier: Apache-2.0
"""Model directory: one coarse and one fine encoder per domain.

model.json            format version, network size, domains with their tags, provenance, hashes
coarse.safetensors    encoder weights, keys `<domain>/<parameter>`
fine.safetensors      the same for the fine stage
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from disam_ros.domain import Domain
from disam_ros.errors import DisamError, ModelError
from disam_ros.hashing import file_sha256
from disam_ros.networks import Encoder, NetworkConfig

FORMAT_VERSION = 1
STAGES = ("coarse", "fine")


@dataclass
class Model:
    """Encoders by stage and domain name.

    `.coarse[domain]` and `.fine[domain]` map images [B, 3, H, W] in [−1, 1] to features
    [B, C, H/4, W/4].
    """

    network: NetworkConfig
    domains: list[Domain]
    coarse: Mapping[str, nn.Module]
    fine: Mapping[str, nn.Module]
    name: str = ""
    training: dict = field(default_factory=dict)  # provenance: losses, data, commit, steps
    identity: str = ""  # SHA-256 over both weight files; empty until saved or loaded

    def to(self, device: torch.device | str) -> Model:
        """Move all encoders to a device."""
        for encoder in (*self.coarse.values(), *self.fine.values()):
            encoder.to(device)
        return self

    @property
    def label(self) -> str:
        """Name and training in a few words, for people."""
        steps, losses = (self.training.get(key) or {} for key in ("steps", "losses"))
        stages = [f"{stage} {n} steps of {', '.join(losses[stage])}" for stage, n in steps.items()]
        source = self.training.get("imported_from")
        told = "; ".join(stages) or (f"imported from {source}" if source else "UNTRAINED")
        return f"{self.name} ({told})"

    def domain_names(self) -> list[str]:
        return [domain.name for domain in self.domains]


def create_model(
    network: NetworkConfig, domains: list[Domain], name: str = "", seed: int = 0
) -> Model:
    """An UNTRAINED model with weights drawn from `seed`. All encoders of one stage start equal."""
    if not domains:
        raise ModelError("a model needs at least one domain, got none")
    stages = []
    for offset in range(len(STAGES)):
        encoders = {}
        for domain in domains:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + offset)
                encoders[domain.name] = Encoder(network.width, network.encoder_blocks).eval()
        stages.append(encoders)
    return Model(network, domains, *stages, name=name, training={"losses": {}, "seed": seed})


def save_model(model: Model, directory: Path | str, half: bool = False) -> Path:
    """Write a model directory: to a temporary name first, then renamed.

    half: store weights as float16 (half the size; they are used as float32 all the same).
    Raises ModelError when the directory exists and is not empty.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise ModelError(f"{directory} is not empty; choose a new directory or remove it")
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    dtype = torch.float16 if half else torch.float32
    hashes = {}
    for stage in STAGES:
        encoders: Mapping[str, nn.Module] = getattr(model, stage)
        weights = {
            f"{name}/{key}": value.detach().to("cpu", dtype).contiguous()
            for name, encoder in encoders.items()
            for key, value in encoder.state_dict().items()
        }
        save_file(weights, part / f"{stage}.safetensors")
        hashes[stage] = file_sha256(part / f"{stage}.safetensors")
    header = {
        "format_version": FORMAT_VERSION,
        "name": model.name or directory.name,
        "network": asdict(model.network),
        "domains": [domain.to_json() for domain in model.domains],
        "training": model.training,
        "sha256": hashes,
    }
    (part / "model.json").write_text(json.dumps(header, indent=2) + "\n")
    if directory.exists():
        directory.rmdir()
    os.rename(part, directory)
    model.identity = _identity(hashes)
    return directory


def load_model(directory: Path | str, device: torch.device | str = "cpu") -> Model:
    """Read a model directory; encoders are in eval mode and need no gradient.

    Raises ModelError when a file is missing, damaged (its SHA-256 differs) or does not fit.
    """
    directory = Path(directory)
    header = _read_header(directory)
    try:
        network = NetworkConfig(
            **{**header["network"], "image_size": tuple(header["network"]["image_size"])}
        )
        domains = [Domain.from_json(entry) for entry in header["domains"]]
        hashes = {stage: header["sha256"][stage] for stage in STAGES}
    except (KeyError, TypeError, AttributeError, ValueError, DisamError) as error:
        raise ModelError(f"{directory / 'model.json'} is malformed: {error}") from error
    stages = [_load_stage(directory, s, network, domains, hashes[s], device) for s in STAGES]
    return Model(
        network,
        domains,
        *stages,
        name=header.get("name", directory.name),
        training=header.get("training", {}),
        identity=_identity(hashes),
    )


def _read_header(directory: Path) -> dict:
    path = directory / "model.json"
    if not path.is_file():
        raise ModelError(
            f"{path} not found: {directory} is not a model directory; make one with "
            f"'disam import-checkpoint' or training/train.py"
        )
    try:
        header = json.loads(path.read_text())
        version = header["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is malformed: {error}") from error
    if version != FORMAT_VERSION:
        raise ModelError(f"{path} has format version {version}, expected {FORMAT_VERSION}")
    return header


def _load_stage(
    directory: Path,
    stage: str,
    network: NetworkConfig,
    domains: list[Domain],
    sha256: str,
    device: torch.device | str,
) -> dict[str, nn.Module]:
    path = directory / f"{stage}.safetensors"
    if not path.is_file():
        raise ModelError(f"{path} not found: the model directory is incomplete")
    if file_sha256(path) != sha256:
        raise ModelError(f"{path} is damaged: its SHA-256 is not the one in model.json")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    encoders: dict[str, nn.Module] = {}
    for domain in domains:
        own = {
            key.removeprefix(f"{domain.name}/"): value
            for key, value in weights.items()
            if key.startswith(f"{domain.name}/")
        }
        encoders[domain.name] = _encoder(network, own, f"{path}, domain {domain.name}").to(device)
    return encoders


def _encoder(network: NetworkConfig, weights: dict[str, Tensor], what: str) -> Encoder:
    encoder = Encoder(network.width, network.encoder_blocks)
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{what}: weights do not fit the network: {error}") from error
    return encoder.eval().requires_grad_(False)


def _identity(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(hashes[s] for s in STAGES).encode()).hexdigest()
