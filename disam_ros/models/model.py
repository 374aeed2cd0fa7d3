# SPDX-License-Identifier: Apache-2.0
"""Model directory: DISAM's coarse and fine encoders by domain, or branches of a global model.

model.json              format version, network, domains with their tags, provenance, hashes
*.safetensors           weights (kinds.py); of an imported model its ONNX file
<domain>.onnx           optional: the domain's encoders for ONNX Runtime (export.py)
<domain>.int8.onnx      optional: the same in 8-bit integers (training/int8.py)
domain.safetensors      optional: weights of the domain classifier
directions.safetensors  optional: projection of coarse descriptors (projection.py)

What is optional is no part of the model's identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disam_ros.device import CPU
from disam_ros.domains.classifier import DomainClassifier
from disam_ros.domains.domain import Domain
from disam_ros.errors import DisamError, ModelError
from disam_ros.files.outputs import MODEL, atomic_directory
from disam_ros.files.paths import find_model
from disam_ros.models import model_files
from disam_ros.models.added_files import ADDED, CLASSIFIER, onnx_file
from disam_ros.models.arrays import Array, require_features
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.kinds import (
    STAGES,
    Encoders,
    Kind,
    Network,
    StoredEncoders,
    branch_names,
    draw_network,
    kind_of,
    parse_network,
)
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.projection import NAME as DIRECTIONS
from disam_ros.models.projection import read_projection, write_projection
from disam_ros.models.similarity import Projection

if TYPE_CHECKING:  # torch is imported where its networks are wanted
    from torch import nn

PRECISIONS = ("float32", "int8")  # of ONNX files


@dataclass
class Model:
    """Encoders by stage (coarse, fine) and domain name.

    `.coarse[domain]` and `.fine[domain]` map images [B, 3, H, W] in [−1, 1] to features
    [B, C, h, w]. In a global model both are the network of the domain's branch, which domains may
    share, and features are one cell. Raises ModelError where branches do not match the domains.
    """

    network: Network
    domains: list[Domain]
    coarse: Encoders
    fine: Encoders  # the same object where encoders serve both stages
    name: str = ""
    training: dict[str, Any] = field(default_factory=dict)  # losses, data, commit, steps
    identity: str = ""  # SHA-256 over the encoder files; empty until saved or loaded
    classifier: DomainClassifier | None = None  # predicts the domain of an image
    branches: Mapping[str, str] = field(default_factory=dict)  # of a global model, by domain
    projection: Projection | None = None  # of coarse descriptors; None: every map learns its own
    directory: Path | None = None  # that it was loaded from
    onnx: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of ONNX files, by name

    def __post_init__(self) -> None:
        names = self.domain_names() if self.kind.branched else []
        if sorted(self.branches) != sorted(names):
            raise ModelError(
                f"expected branches for the domains {', '.join(names) or 'of a global model only'},"
                f" got {dict(self.branches)}"
            )
        branch_names(self.branches)

    def encode(self, domain: str, images: Array) -> tuple[Array, Array]:
        """Coarse and fine features of images [B, 3, H, W]; a shared encoder runs once.

        Raises ModelError, naming the file, for features that cannot be right (arrays.py).
        """
        coarse, fine = self.coarse[domain], self.fine[domain]
        files = [f"{file}, domain '{domain}'," for file in self.stage_files()]
        z = require_features(coarse(images), images, files[0])
        return z, z if fine is coarse else require_features(fine(images), images, files[1])

    @property
    def kind(self) -> Kind:
        """Kind of its networks: their files, how these are read and written."""
        return kind_of(self.network)

    @property
    def shared(self) -> bool:
        """Whether both stages of every domain are one encoder, which runs once an image."""
        return self.fine is self.coarse

    def stage_files(self) -> list[str]:
        """Names the file of the coarse and of the fine encoders; the model where it has none."""
        if self.directory is None:
            return [self.name] * len(STAGES)
        files = self.kind.files(self.shared)
        chosen = [stage if stage in files else files[0] for stage in STAGES]
        return [str(self.directory / f"{file}{self.kind.suffix}") for file in chosen]

    def to(self, device: str) -> Model:
        """Moves all networks to a device."""
        for stage in (self.coarse, self.fine):
            if isinstance(stage, StoredEncoders):
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
        return f"{self.name} ({'; '.join(filter(None, [self.kind.label(self.coarse), text]))})"

    def domain_names(self) -> list[str]:
        """Lists the names of the domains."""
        return [domain.name for domain in self.domains]

    def network_names(self) -> dict[str, str]:
        """Names of the networks in the files of weights, by domain."""
        return dict(self.branches) or {name: name for name in self.domain_names()}


def create_model(
    network: NetworkConfig, domains: list[Domain], name: str = "", seed: int = 0
) -> Model:
    """Makes an UNTRAINED model with weights of a seed. All encoders of a stage start equal."""
    if not domains:
        raise ModelError("a model needs at least one domain, got none")
    coarse, fine = (
        {domain.name: draw_network(network, seed + offset) for domain in domains}
        for offset in range(len(STAGES))
    )
    training = {"losses": {}, "seed": seed}
    return Model(network, domains, coarse, fine, name=name, training=training)


def global_model(
    config: GlobalConfig,
    domains: list[Domain],
    branches: Mapping[str, str],
    networks: Mapping[str, nn.Module],
    **rest: Any,
) -> Model:
    """Makes a global model of networks by branch. rest: other fields of `Model`.

    Raises ModelError.
    """
    encoders = {domain: networks[branch] for domain, branch in branches.items()}
    return Model(config, domains, encoders, encoders, branches=dict(branches), **rest)


def save_model(
    model: Model, directory: Path | str, half: bool = False, overwrite: bool = False
) -> Path:
    """Writes a model directory: it appears when it is complete. Sets `model.identity`.

    half: store encoder weights as float16 (half the size); they are loaded as float32.
    overwrite: a model that is there. Raises OutputError.
    """
    directory = Path(directory)
    if model.classifier is not None:
        model.classifier.require_domains(model.domain_names())
    added = [onnx_file(name, p) for name in model.domain_names() for p in PRECISIONS]
    stages = [model.coarse] if model.shared else [model.coarse, model.fine]
    with atomic_directory(directory, MODEL, overwrite, [*ADDED, *added]) as part:
        hashes = model.kind.write(part, stages, model.network_names(), half)
        if model.classifier is not None:
            path = part / f"{CLASSIFIER}.safetensors"
            hashes[CLASSIFIER] = model_files.write_arrays(path, model.classifier.weights)
        if model.projection is not None:
            hashes[DIRECTIONS] = write_projection(part, model.projection)
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
    model.identity = model.kind.identity(hashes, model.shared)
    return directory


def load_model(directory: Path | str, device: str = CPU) -> Model:
    """Loads a model directory for inference: eval mode, no gradients.

    directory: or the name of a model that comes with the package. Weights for torch are read when
    they are first used where ONNX files stand beside them.
    Raises ModelError when a file is missing, damaged (its SHA-256 differs) or does not fit.
    """
    directory = Path(find_model(str(directory)))
    header = model_files.read_header(directory)
    sha256, branches = header["sha256"], header["branches"] or {}
    try:
        network = parse_network(header["network"])
        domains = [Domain.from_json(entry) for entry in header["domains"]]
        if not domains:
            raise ModelError("'domains' expects one or more; got none")
        model = Model(network, domains, {}, {}, branches=branches, directory=directory)
        kind, names = model.kind, model.network_names()
        files = kind.files("encoder" in sha256)
        lazy = all(onnx_file(domain.name, PRECISIONS[0]) in sha256 for domain in domains)
        if not lazy:
            kind.check(directory, files, len({*names.values()}))
    except (KeyError, DisamError) as error:
        raise ModelError(f"{directory / 'model.json'} is malformed: {error}") from error
    if missing := set(files) - set(sha256):
        raise ModelError(f"{directory / 'model.json'}: 'sha256' lacks '{min(missing)}'")
    stages = kind.read(directory, {file: sha256[file] for file in files}, names, lazy)
    model.coarse, model.fine = stages[0], stages[-1]
    model.name = header["name"] or directory.name
    model.training = header["training"] or {}
    model.identity = kind.identity(sha256, model.shared)
    added = [onnx_file(name, p) for name in model.domain_names() for p in PRECISIONS]
    model.onnx = {file: sha256[file] for file in added if file in sha256}
    _read_added(model, directory, sha256)
    return model.to(device)


def _read_added(model: Model, directory: Path, sha256: Mapping[str, str]) -> None:
    """Reads the files that are no part of the identity (added_files.py). Raises ModelError."""
    if (expected := sha256.get(CLASSIFIER)) is not None:
        path = directory / f"{CLASSIFIER}.safetensors"
        arrays = model_files.read_arrays(path, expected)
        try:
            model.classifier = DomainClassifier(tuple(model.domain_names()), arrays)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
    if DIRECTIONS in sha256:
        model.projection = read_projection(directory, sha256[DIRECTIONS])
