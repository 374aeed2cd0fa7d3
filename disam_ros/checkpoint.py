# SPDX-License-Identifier: Apache-2.0
"""Model directory: one coarse and one fine encoder per domain.

model.json            format version, network size, domains with their tags, provenance, hashes
coarse.safetensors    encoder weights, keys `<domain>/<parameter>`
fine.safetensors      the same for the fine stage
domain.safetensors    optional: weights of the domain classifier; no part of the model's identity
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from disam_ros.domain import Domain
from disam_ros.domain_classifier import DomainClassifier
from disam_ros.errors import DisamError, ModelError
from disam_ros.hashing import file_sha256
from disam_ros.networks import NetworkConfig, build_encoder

FORMAT_VERSION = 1
STAGES = ("coarse", "fine")
CLASSIFIER = "domain"  # the classifier's file and its key under sha256


@dataclass
class Model:
    """Encoders by stage and domain name.

    `.coarse[domain]` and `.fine[domain]` map images [B, 3, H, W] in [−1, 1] to features
    [B, C, H/s, W/s].
    """

    network: NetworkConfig
    domains: list[Domain]
    coarse: Mapping[str, nn.Module]
    fine: Mapping[str, nn.Module]
    name: str = ""
    training: dict = field(default_factory=dict)  # provenance: losses, data, commit, steps
    identity: str = ""  # SHA-256 over both encoder files; empty until saved or loaded
    classifier: DomainClassifier | None = None  # names the domain of an image

    def to(self, device: torch.device | str) -> Model:
        """Move all networks to a device."""
        for encoder in (*self.coarse.values(), *self.fine.values()):
            encoder.to(device)
        if self.classifier is not None:
            self.classifier.to(device)
        return self

    @property
    def label(self) -> str:
        """Name and training in a few words, for people."""
        steps, losses = (self.training.get(key) or {} for key in ("steps", "losses"))
        stages = [f"{stage} {n} steps of {', '.join(losses[stage])}" for stage, n in steps.items()]
        source = self.training.get("imported_from")
        told = "; ".join(stages) or (f"imported from {source}" if source else "UNTRAINED")
        if self.training.get("initial"):
            told += f"; from {self.training['initial']}"
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
                encoders[domain.name] = build_encoder(network).eval()
        stages.append(encoders)
    return Model(network, domains, *stages, name=name, training={"losses": {}, "seed": seed})


def save_model(model: Model, directory: Path | str, half: bool = False) -> Path:
    """Write a model directory: to a temporary name first, then renamed.

    half: store encoders as float16 (half the size; they are used as float32 all the same).
    Raises ModelError when the directory exists and is not empty.
    """
    directory = Path(directory)
    if model.classifier is not None:
        _require_domains(model.classifier, model.domain_names())
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
    if model.classifier is not None:
        hashes[CLASSIFIER] = _write_classifier(model.classifier, part)
    header = {
        "format_version": FORMAT_VERSION,
        "name": model.name or directory.name,
        "network": asdict(model.network),
        "domains": [domain.to_json() for domain in model.domains],
        "training": model.training,
        "sha256": hashes,
    }
    _write_header(part, header)
    if directory.exists():
        directory.rmdir()
    os.rename(part, directory)
    model.identity = _identity(hashes)
    return directory


def add_classifier(
    directory: Path | str, classifier: DomainClassifier, provenance: Mapping[str, Any]
) -> None:
    """Put a domain classifier into a model directory or replace the one that is there.

    provenance: for model.json, under training["domain_classifier"]. The model's identity stays, so
    its maps stay valid. Killed at any point this leaves a directory that loads: model.json names
    the file only while it is the right one. Raises ModelError.
    """
    directory = Path(directory)
    header = _read_header(directory)
    try:
        hashes, training = header["sha256"], header.setdefault("training", {})
        _require_domains(classifier, [domain["name"] for domain in header["domains"]])
        if hashes.pop(CLASSIFIER, None) is not None:
            training.pop("domain_classifier", None)
            _write_header(directory, header)
        hashes[CLASSIFIER] = _write_classifier(classifier, directory)
        training["domain_classifier"] = dict(provenance)
        _write_header(directory, header)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{directory / 'model.json'} is malformed: {error}") from error
    except OSError as error:
        raise ModelError(f"{directory} cannot be written: {error.strerror}") from error


def load_model(directory: Path | str, device: torch.device | str = "cpu") -> Model:
    """Read a model directory; networks are in eval mode and need no gradient.

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
        classifier_hash = header["sha256"].get(CLASSIFIER)
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
        classifier=_load_classifier(directory, domains, classifier_hash, device),
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
    weights = _read_weights(path, sha256)
    encoders: dict[str, nn.Module] = {}
    for domain in domains:
        own = {
            key.removeprefix(f"{domain.name}/"): value
            for key, value in weights.items()
            if key.startswith(f"{domain.name}/")
        }
        encoder = build_encoder(network)
        _fill(encoder, own, f"{path}, domain {domain.name}")
        encoders[domain.name] = encoder.to(device)
    return encoders


def _load_classifier(
    directory: Path, domains: list[Domain], sha256: str | None, device: torch.device | str
) -> DomainClassifier | None:
    """None where model.json lists none."""
    if sha256 is None:
        return None
    path = directory / f"{CLASSIFIER}.safetensors"
    classifier = DomainClassifier([domain.name for domain in domains])
    _fill(classifier, _read_weights(path, sha256), str(path))
    return classifier.to(device)


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path} not found: the model directory is incomplete")
    if file_sha256(path) != sha256:
        raise ModelError(f"{path} is damaged: its SHA-256 is not the one in model.json")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error


def _fill(network: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    """Load weights into a network that is to be used, not trained."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{what}: weights do not fit the network: {error}") from error
    network.eval().requires_grad_(False)


def _require_domains(classifier: DomainClassifier, names: Sequence[str]) -> None:
    if list(classifier.domains) != list(names):
        raise ModelError(
            f"the classifier is for the domains {', '.join(classifier.domains)}, expected the "
            f"model's in their order: {', '.join(names)}"
        )


def _write_classifier(classifier: DomainClassifier, directory: Path) -> str:
    """Write domain.safetensors. Returns its SHA-256."""
    weights = {k: v.detach().cpu().contiguous() for k, v in classifier.state_dict().items()}
    path = directory / f"{CLASSIFIER}.safetensors"
    _replace(path, save(weights))
    return file_sha256(path)


def _write_header(directory: Path, header: Mapping[str, Any]) -> None:
    _replace(directory / "model.json", (json.dumps(header, indent=2) + "\n").encode())


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the new one, whole."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _identity(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(hashes[s] for s in STAGES).encode()).hexdigest()
