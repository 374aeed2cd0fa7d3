# SPDX-License-Identifier: Apache-2.0
"""Finished DISAM stages → a model directory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from disam_ros.domains.domain import Domain
from disam_ros.models.model import Model, save_model
from disam_ros.models.networks import build_encoder
from training.disam.config import TrainConfig
from training.engine.checkpoints import Progress, best_encoders
from training.engine.export import provenance
from training.engine.networks import Networks

FALLBACKS = {  # whose encoders stand in where the recipe lacks the stage
    "coarse": ("coarse", "translation", "fine"),
    "fine": ("fine", "coarse", "translation"),
}


def export_model(
    config: TrainConfig,
    domains: Sequence[Domain],
    directory: Path,
    progress: Progress,
    images: Mapping[str, int],
) -> Path:
    """Write <directory>/model from the finished stages, replacing an earlier one."""
    network = config.network.build()
    stages, sources = {}, {}
    for part, candidates in FALLBACKS.items():
        source = next(name for name in candidates if config.stage(name))
        encoders = Networks({d.name: build_encoder(network) for d in domains})
        encoders.load(best_encoders(directory, source))
        stages[part], sources[part] = encoders.encoders, source
    training = provenance(config, progress, images) | {"stages_used": sources}
    model = Model(network, list(domains), **stages, name=config.name, training=training)
    target = directory / "model"
    shutil.rmtree(target, ignore_errors=True)
    return save_model(model, target, half=config.half)
