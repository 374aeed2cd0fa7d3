# SPDX-License-Identifier: Apache-2.0
"""Finished stages → the model directory that disam_ros.load_model reads."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from disam_ros.checkpoint import Model, save_model
from disam_ros.device import processor_name
from disam_ros.domain import Domain
from disam_ros.networks import build_encoder
from training.checkpoints import Progress, best_encoders
from training.config import TrainConfig
from training.networks import Networks
from training.settings import RunConfig

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


def provenance(config: RunConfig, progress: Progress, images: Mapping[str, int]) -> dict:
    """How the model came about: losses, data, seed, steps, commit, time, machine, recall."""
    return {
        "losses": {stage.name: stage.losses.on() for stage in config.stages},
        "steps": {stage.name: stage.steps for stage in config.stages},
        "initial": Path(config.initial).name,
        "data": config.data,
        "images": dict(images),
        "seed": config.seed,
        "seconds": round(progress.seconds, 1),
        "commit": progress.began_at,
        "machine": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "validation": {"data": config.validation.data, "history": progress.history},
        "best_recall": progress.best,
        "config": config.to_json(),
    }


def git_commit() -> str:
    """Commit of this source tree; '-dirty' with changes, empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
