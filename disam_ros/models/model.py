# SPDX-License-Identifier: Apache-2.0
"""Model directory: DISAM's coarse and fine encoders by domain, or branches of a global model.

model.json              format version, network, domains with their tags, provenance, hashes
encoder.safetensors     encoder weights of both stages, keys `<domain>/<parameter>`
coarse.safetensors      in place of it, where the stages differ: weights of the coarse stage
fine.safetensors        and of the fine stage
descriptor.safetensors  replaces these two in a global model, keys `<branch>/<parameter>`
<name>.onnx             replaces these two in an imported model (imported.py), for all domains
domain.safetensors      optional: weights of the domain classifier; not part of the model's identity
directions.safetensors  optional: projection of coarse descriptors (projection.py); neither
ranges.safetensors      optional: ranges of activations, for 8-bit integers (onnx_runtime/); neither
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disam_ros.device import CPU, require_torch
from disam_ros.domains.classifier import DomainClassifier
from disam_ros.domains.domain import Domain
from disam_ros.errors import DisamError, ModelError
from disam_ros.files.checking import build, check_entries
from disam_ros.files.outputs import MODEL, atomic_directory
from disam_ros.files.paths import find_model
from disam_ros.models import model_files
from disam_ros.models.added_files import ADDED, CLASSIFIER
from disam_ros.models.arrays import Array, require_features
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.imported import ENCODER, ImportedConfig, OnnxNetwork, copy_files
from disam_ros.models.mobile_graph import weight_count
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.onnx_runtime.ranges import NAME as RANGES
from disam_ros.models.onnx_runtime.ranges import StoredRanges, read_ranges, write_ranges
from disam_ros.models.projection import NAME as DIRECTIONS
from disam_ros.models.projection import Projection, read_projection, write_projection

if TYPE_CHECKING:  # torch is imported where its networks are wanted
    from torch import nn

STAGES = ("coarse", "fine")
ENCODER_FILE = "encoder"  # file of encoders that serve both stages
DESCRIPTOR = "descriptor"  # a global model's file
HEADER = 2**22  # bytes; more than a file of weights has beside them

Network = NetworkConfig | GlobalConfig | ImportedConfig


@dataclass
class Model:
    """Encoders by stage (coarse, fine) and domain name.

    `.coarse[domain]` and `.fine[domain]` map images [B, 3, H, W] in [−1, 1] to features
    [B, C, h, w]. In a global model both are the network of the domain's branch, which domains may
    share, and features are one cell. Raises ModelError where branches do not match the domains.
    """

    network: Network
    domains: list[Domain]
    coarse: Mapping[str, Any]
    fine: Mapping[str, Any]
    name: str = ""
    training: dict[str, Any] = field(default_factory=dict)  # losses, data, commit, steps
    identity: str = ""  # SHA-256 over the encoder files; empty until saved or loaded
    classifier: DomainClassifier | None = None  # predicts the domain of an image
    branches: Mapping[str, str] = field(default_factory=dict)  # of a global model, by domain
    files: Mapping[str, str] = field(default_factory=dict)  # encoder file by stage, once loaded
    projection: Projection | None = None  # of coarse descriptors; None: every map learns its own
    ranges: StoredRanges = field(default_factory=dict)  # of activations; empty: never measured

    def __post_init__(self) -> None:
        names = self.domain_names() if isinstance(self.network, GlobalConfig) else []
        if sorted(self.branches) != sorted(names):
            raise ModelError(
                f"expected branches for the domains {', '.join(names) or 'of a global model only'},"
                f" got {dict(self.branches)}"
            )

    def encode(self, domain: str, images: Array) -> tuple[Array, Array]:
        """Coarse and fine features of images [B, 3, H, W]; a shared encoder runs once.

        Raises ModelError, naming the file, for features that cannot be right (arrays.py).
        """
        coarse, fine = self.coarse[domain], self.fine[domain]
        files = [f"{self.files.get(stage, self.name)}, domain '{domain}'," for stage in STAGES]
        z = require_features(coarse(images), images, files[0])
        return z, z if fine is coarse else require_features(fine(images), images, files[1])

    @property
    def shared(self) -> bool:
        """Whether both stages of every domain are one encoder, which runs once an image."""
        if self.fine is self.coarse or isinstance(self.coarse, model_files.StoredEncoders):
            return self.fine is self.coarse
        return all(self.fine[name] is encoder for name, encoder in self.coarse.items())

    def to(self, device: str) -> Model:
        """Move all networks to a device."""
        for stage in (self.coarse, self.fine):
            if isinstance(stage, model_files.StoredEncoders):
                stage.to(device)
                continue
            for encoder in stage.values():
                encoder.to(device)
        return self

    @property
    def label(self) -> str:
        """Human-readable name, kind and training."""
        steps, losses = (self.training.get(key) or {} for key in ("steps", "losses"))
        stages = [f"{stage} {n} steps of {', '.join(losses[stage])}" for stage, n in steps.items()]
        source = self.training.get("imported_from")
        text = "; ".join(stages) or (f"imported from {source}" if source else "UNTRAINED")
        if self.training.get("initial"):
            text += f"; from {self.training['initial']}"
        if self.training.get("licence"):
            text += f"; licence {self.training['licence']}"
        named = not isinstance(self.network, NetworkConfig)
        kinds = sorted({str(net.kind) for net in self.coarse.values()} if named else ())
        return f"{self.name} ({'; '.join([*kinds, text])})"

    def domain_names(self) -> list[str]:
        return [domain.name for domain in self.domains]


def create_model(
    network: NetworkConfig, domains: list[Domain], name: str = "", seed: int = 0
) -> Model:
    """An UNTRAINED model with random weights of a seed. All encoders of a stage start equal."""
    if not domains:
        raise ModelError("a model needs at least one domain, got none")
    from disam_ros.models.networks import draw_network

    coarse, fine = (
        {domain.name: draw_network(network, seed + offset) for domain in domains}
        for offset in range(len(STAGES))
    )
    training = {"losses": {}, "seed": seed}
    return Model(network, domains, coarse, fine, name=name, training=training)


def create_global_model(
    config: GlobalConfig,
    domains: list[Domain],
    branches: Mapping[str, str] | None = None,
    name: str = "",
    seed: int = 0,
) -> Model:
    """An UNTRAINED global model with random weights of a seed. All branches start equal.

    branches: domain → name of its branch; None: one branch "ground" for camera images and one
    "aerial" for aerial images. Raises ModelError.
    """
    if not domains:
        raise ModelError("a model needs at least one domain, got none")
    if branches is None:
        branches = {domain.name: domain.view for domain in domains}
    from disam_ros.models.networks import draw_network

    networks = {branch: draw_network(config, seed) for branch in _branch_names(branches)}
    training = {"losses": {}, "seed": seed}
    return global_model(config, domains, branches, networks, name=name, training=training)


def global_model(
    config: GlobalConfig,
    domains: list[Domain],
    branches: Mapping[str, str],
    networks: Mapping[str, nn.Module],
    **rest: Any,
) -> Model:
    """A global model of networks by branch. rest: other fields of `Model`. Raises ModelError."""
    encoders = {domain: networks[branch] for domain, branch in branches.items()}
    return Model(config, domains, encoders, encoders, branches=dict(branches), **rest)


def save_model(
    model: Model, directory: Path | str, half: bool = False, overwrite: bool = False
) -> Path:
    """Write a model directory: it appears when it is complete. Sets `model.identity`.

    half: store encoder weights as float16 (half the size); they are loaded as float32.
    overwrite: a model that is there. Raises OutputError.
    """
    directory = Path(directory)
    if model.classifier is not None:
        model.classifier.require_domains(model.domain_names())
    with atomic_directory(directory, MODEL, overwrite, ADDED) as part:
        hashes = _write_networks(model, part, half)
        if model.classifier is not None:
            path = part / f"{CLASSIFIER}.safetensors"
            hashes[CLASSIFIER] = model_files.write_arrays(path, model.classifier.weights)
        if model.projection is not None:
            hashes[DIRECTIONS] = write_projection(part, model.projection)
        if model.ranges:
            hashes[RANGES] = write_ranges(part, model.ranges)
        header = {
            "format_version": model_files.FORMAT_VERSION,
            "name": model.name or directory.name,
            "network": asdict(model.network) | {"encoder": model.network.encoder},
            "domains": [domain.to_json() for domain in model.domains],
            "training": model.training,
            "sha256": hashes,
        }
        if model.branches:
            header["branches"] = dict(model.branches)
        model_files.write_header(part, header)
    model.identity = _identity(model, hashes)
    return directory


def load_model(directory: Path | str, device: str = CPU) -> Model:
    """Load a model directory for inference: eval mode, no gradients.

    directory: or the name of a model that comes with the package.
    Raises ModelError when a file is missing, damaged (its SHA-256 differs) or does not fit.
    """
    directory = Path(find_model(str(directory)))
    header = model_files.read_header(directory)
    sha256, branches = header["sha256"], header["branches"] or {}
    try:
        network = _parse_network(header["network"])
        domains = [Domain.from_json(entry) for entry in header["domains"]]
        if not domains:
            raise ModelError("'domains' expects one or more; got none")
        _check_sizes(network, len(domains), directory, sha256)
        if mobile := isinstance(network, NetworkConfig) and network.is_mobile:
            model = Model(network, domains, {}, {}, branches=branches)
        else:
            model = _blank(network, domains, branches, directory, ENCODER_FILE in sha256)
    except (KeyError, DisamError) as error:
        raise ModelError(f"{directory / 'model.json'} is malformed: {error}") from error
    files = _weight_files(model, ENCODER_FILE in sha256)
    if missing := set(files) - set(sha256):
        raise ModelError(f"{directory / 'model.json'}: 'sha256' lacks '{min(missing)}'")
    hashes = {file: sha256[file] for file in files}
    if mobile:
        _read_mobile(model, directory, hashes)
    elif isinstance(network, ImportedConfig):
        for file, expected in hashes.items():
            model_files.check_file(directory / file, expected)
    else:
        for file, named in _networks_by_file(model).items():
            model_files.read_networks(directory / f"{file}.safetensors", hashes[file], named)
    model.name = header["name"] or directory.name
    model.training = header["training"] or {}
    model.identity = _identity(model, hashes)
    model.files = _stage_files(model, directory)
    _read_added(model, directory, sha256)
    return model.to(device)


def _read_added(model: Model, directory: Path, sha256: Mapping[str, str]) -> None:
    """Files that are no part of the identity (added_files.py). Raises ModelError."""
    if (expected := sha256.get(CLASSIFIER)) is not None:
        path = directory / f"{CLASSIFIER}.safetensors"
        arrays = model_files.read_arrays(path, expected)
        try:
            model.classifier = DomainClassifier(tuple(model.domain_names()), arrays)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
    if DIRECTIONS in sha256:
        model.projection = read_projection(directory, sha256[DIRECTIONS])
    if RANGES in sha256:
        model.ranges = read_ranges(directory, sha256[RANGES])


def _read_mobile(model: Model, directory: Path, hashes: Mapping[str, str]) -> None:
    """Weights of mobile encoders, as arrays. Raises ModelError."""
    names = model.domain_names()
    stages = [
        model_files.StoredEncoders.of_file(directory / f"{file}.safetensors", sha256, names)
        for file, sha256 in hashes.items()
    ]
    model.coarse, model.fine = stages[0], stages[-1]


def _parse_network(values: dict[str, Any]) -> Network:
    """Raises ModelError."""
    check_entries(values, {"image_size": tuple[int, int]}, "network", ModelError)
    rest = {key: value for key, value in values.items() if key != "encoder"}
    if values.get("encoder") == ENCODER:
        return build(ImportedConfig, rest, "network", ModelError)
    if values.get("encoder") == "global":
        return build(GlobalConfig, rest, "network", ModelError)
    return build(NetworkConfig, values, "network", ModelError)


def _check_sizes(
    network: Network, domains: int, directory: Path, sha256: Mapping[str, str]
) -> None:
    """Raise ModelError where a file has not the size of its network's weights, before it is read
    and memory is asked for."""
    if isinstance(network, ImportedConfig):
        return
    files: tuple[str, ...] = (ENCODER_FILE, *STAGES)
    if isinstance(network, GlobalConfig):
        files, domains = (DESCRIPTOR,), 1
    if isinstance(network, NetworkConfig) and network.is_mobile:
        numbers = domains * weight_count()
    else:
        require_torch(f"the network of {directory}")
        from disam_ros.models.networks import count_weights

        numbers = domains * count_weights(network)
    least, most = 2 * numbers, 8 * numbers + HEADER  # float16 to float64
    for path in (directory / f"{file}.safetensors" for file in files if file in sha256):
        if path.is_file() and not least <= (size := path.stat().st_size) <= most:
            problem = "too small" if size < least else "too large"
            raise ModelError(f"{path} is {problem} for the network, of {numbers} weights: {size} B")


def _blank(
    network: Network,
    domains: list[Domain],
    branches: Mapping[str, str],
    directory: Path,
    shared: bool,
) -> Model:
    """A model of the right shapes whose weights are yet to be loaded."""
    if isinstance(network, ImportedConfig):
        encoders = dict.fromkeys((d.name for d in domains), OnnxNetwork(network, directory))
        return Model(network, domains, encoders, encoders, branches=branches)
    from disam_ros.models.networks import build_network

    if isinstance(network, GlobalConfig):
        networks = {branch: build_network(network) for branch in _branch_names(branches)}
        return global_model(network, domains, branches, networks)
    coarse = {d.name: build_network(network) for d in domains}
    fine = coarse if shared else {d.name: build_network(network) for d in domains}
    return Model(network, domains, coarse, fine, branches=branches)


def _write_networks(model: Model, directory: Path, half: bool) -> dict[str, str]:
    """Write the weight files. Returns their SHA-256."""
    network = next(iter(model.coarse.values()))
    if isinstance(network, OnnxNetwork):
        return copy_files(network, directory)
    import torch

    dtype = torch.float16 if half else torch.float32
    return {
        file: model_files.write_networks(directory / f"{file}.safetensors", named, dtype)
        for file, named in _networks_by_file(model).items()
    }


def _identity(model: Model, hashes: Mapping[str, str]) -> str:
    """Model identity, from the SHA-256 of its files."""
    files = _weight_files(model, model.shared)
    if isinstance(model.network, ImportedConfig):
        hashes = {**hashes, "interface": model.network.interface_sha256()}
        files.append("interface")
    return model_files.identity(hashes, files)


def _weight_files(model: Model, shared: bool) -> list[str]:
    """Weight files, in the order of the identity. shared: one encoder serves both stages."""
    if isinstance(model.network, ImportedConfig):
        return list(model.network.files)
    if model.branches:
        return [DESCRIPTOR]
    return [ENCODER_FILE] if shared else list(STAGES)


def _networks_by_file(model: Model) -> dict[str, dict[str, nn.Module]]:
    """Weight files, in the order of the identity, and the networks in each by name."""
    files = _weight_files(model, model.shared)
    if model.branches:
        return {files[0]: {model.branches[domain]: net for domain, net in model.coarse.items()}}
    stages = (model.coarse, model.fine)
    return {file: dict(networks) for file, networks in zip(files, stages, strict=False)}


def _stage_files(model: Model, directory: Path) -> dict[str, str]:
    """The file of each stage's encoders."""
    files = _weight_files(model, model.shared)
    suffix = "" if isinstance(model.network, ImportedConfig) else ".safetensors"
    return {
        stage: str(directory / f"{stage if stage in files else files[0]}{suffix}")
        for stage in STAGES
    }


def _branch_names(branches: Mapping[str, str]) -> Iterable[str]:
    """Distinct branch names. Raises ModelError."""
    names = dict.fromkeys(branches.values())
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise ModelError(f"a branch is named by letters, digits, '_', '-', '.', got '{name}'")
    return names
