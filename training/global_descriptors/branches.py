# SPDX-License-Identifier: Apache-2.0
"""Networks by branch, each for the domains that share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from disam_ros.domains.domain import Domain
from disam_ros.models.global_descriptors.backbone_weights import read_backbone_weights
from disam_ros.models.global_descriptors.network import GlobalNetwork, Parts
from training.engine.networks import Networks, drawn_from_seed
from training.global_descriptors.config import GlobalTrainConfig
from training.global_descriptors.views import Viewer

STAGE_FILE = "encoders/"  # its keys begin so
BATCH = 32  # images described at once


def branches_of(config: GlobalTrainConfig, domains: Sequence[Domain]) -> dict[str, str]:
    """Maps domains to branches: as the recipe says, else cameras to one, pictures from above to
    another."""
    return {d.name: config.branches.get(d.name, d.view) for d in domains}


def create_branches(config: GlobalTrainConfig, branches: Mapping[str, str]) -> Networks:
    """Makes untrained networks by branch, as `encoders`; all start equal, drawn from the seed."""
    build = partial(GlobalNetwork, config.network.build())
    return Networks(drawn_from_seed(list(dict.fromkeys(branches.values())), build, config.seed))


def by_branch(networks: Networks) -> dict[str, GlobalNetwork]:
    """Returns the networks of the branches with their type."""
    return cast(dict[str, GlobalNetwork], networks.encoders)


def start_from(networks: Networks, config: GlobalTrainConfig) -> bool:
    """Take over the weights of the file `initial`, if any: a stage of another run or a backbone's.

    Returns whether only backbones were read, so that heads are still to be prepared. Raises
    ModelError for a file of other networks.
    """
    path = Path(config.initial)
    if not config.initial:
        return True
    if path.suffix == ".safetensors" and _is_stage(path):
        networks.start_from(path)
        return False
    for branch, network in by_branch(networks).items():
        weights = read_backbone_weights(path, config.network.build(), branch)
        network.backbone.load_state_dict(weights)
    return True


def describe_parts(
    networks: Networks,
    branches: Mapping[str, str],
    images: Tensor,
    domains: Sequence[str],
    depth: Tensor | None = None,
) -> Parts:
    """Describes images [K, 3, H, W], each by the network of its domain, in their order.

    depth: true depth [K, 1, h, w], for a network that learns to hallucinate it.
    """
    owners = [branches[domain] for domain in domains]
    encoders = by_branch(networks)
    names = list(dict.fromkeys(owners))
    if len(names) == 1:
        return encoders[names[0]].parts(images, depth)
    rows = {n: [k for k, owner in enumerate(owners) if owner == n] for n in names}
    order = torch.tensor([k for n in names for k in rows[n]], device=images.device).argsort()
    described = [
        encoders[n].parts(images[rows[n]], None if depth is None else depth[rows[n]]) for n in names
    ]

    def joined(part: str) -> Tensor | None:
        values = [getattr(parts, part) for parts in described]
        return None if values[0] is None else torch.cat(values)[order]

    values: dict[str, Any] = {field.name: joined(field.name) for field in fields(Parts)}
    return Parts(**values)


@torch.no_grad()
def describe_rows(
    networks: Networks,
    branches: Mapping[str, str],
    viewer: Viewer,
    rows: NDArray[Any],
    move: Callable[[Tensor], Tensor],
) -> Tensor:
    """Describes whole images before whitening, [K, plain] on the CPU.

    move: brings images to the networks' device.
    """
    rows_of = []
    for part in (rows[k : k + BATCH] for k in range(0, len(rows), BATCH)):
        domains = [viewer.store.photos[row].domain for row in part.tolist()]
        images = move(viewer.plain(part))
        rows_of.append(describe_parts(networks, branches, images, domains).fused.float().cpu())
    return torch.cat(rows_of)


def _is_stage(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return any(key.startswith(STAGE_FILE) for key in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return False  # the reader of backbones says what is wrong
