# SPDX-License-Identifier: Apache-2.0
"""Provenance of a trained model."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from disam_ros.device import processor_name
from training.engine.checkpoints import Progress
from training.settings import RunConfig


def provenance(config: RunConfig, progress: Progress, images: Mapping[str, int]) -> dict[str, Any]:
    """Describes a run: losses and shares, data, seed, steps, commit, time, machine, recall."""
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
        "terms": progress.terms,
        "config": config.to_json(),
    }


def git_commit() -> str:
    """Names the commit of this source tree; '-dirty' with changes, empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""
