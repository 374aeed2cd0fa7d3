# SPDX-License-Identifier: Apache-2.0
"""Finished DISAM stages → a model directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from disam_ros.domains.domain import Domain
from disam_ros.models.model import Model, save_model
from disam_ros.models.networks import build_encoder
from training.disam.averaging import Average
from training.disam.config import TrainConfig
from training.engine.checkpoints import Progress, best_encoders
from training.engine.export import provenance
from training.engine.networks import Networks, State

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
    average: Callable[[str, State], Average] | None = None,
) -> Path:
    """Write <directory>/model from the finished stages, replacing an earlier one.

    One stage may serve as coarse and as fine one; its encoders then run once per image. average:
    averages the encoders of a stage with the initial ones.
    """
    network = config.network.build()
    sources = {
        part: next(name for name in candidates if config.stage(name))
        for part, candidates in FALLBACKS.items()
    }
    made, averages = {}, {}
    for source in sorted(set(sources.values())):
        encoders = Networks({d.name: build_encoder(network) for d in domains})
        state = best_encoders(directory, source)
        if average is not None:
            averaged = average(source, state)
            state, averages[source] = averaged.state, averaged.to_json()
        encoders.load(state)
        made[source] = encoders.encoders
    training = provenance(config, progress, images) | {"stages_used": sources}
    if averages:
        training["average"] = averages
    model = Model(
        network,
        list(domains),
        coarse=made[sources["coarse"]],
        fine=made[sources["fine"]],
        name=config.name,
        training=training,
    )
    return save_model(model, directory / "model", half=config.half, overwrite=True)
