# SPDX-License-Identifier: Apache-2.0
"""Untrained global models."""

from __future__ import annotations

from collections.abc import Mapping

from disam_ros.domains.domain import Domain
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.kinds import draw_network
from disam_ros.models.model import Model, global_model


def create_global_model(
    config: GlobalConfig,
    domains: list[Domain],
    branches: Mapping[str, str] | None = None,
    name: str = "",
    seed: int = 0,
) -> Model:
    """A model with random weights of a seed. branches: None: one by each domain's view."""
    branches = branches or {domain.name: domain.view for domain in domains}
    networks = {branch: draw_network(config, seed) for branch in branches.values()}
    training = {"losses": {}, "seed": seed}
    return global_model(config, domains, branches, networks, name=name, training=training)
