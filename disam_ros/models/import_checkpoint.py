# SPDX-License-Identifier: Apache-2.0
"""Import of the public DISAM / ComboGAN implementation's encoders into a model directory.

Its files are `<PREFIX><i>.pth`, PREFIX such as `…/300_net_G`: i = 0…N−1 the encoders in domain
order, N…2N−1 the decoders. They are pickles, loaded with `weights_only=True` only.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from disam_ros.domains.domain import Domain
from disam_ros.errors import ModelError
from disam_ros.models.model import Model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.networks import Encoder


def import_checkpoint(
    coarse: str,
    domains: list[Domain],
    fine: str | None = None,
    image_size: tuple[int, int] = (256, 256),
) -> Model:
    """Import the encoders of a public checkpoint; width and blocks are inferred from the weights.

    coarse, fine: path prefixes; without `fine` the coarse encoders serve both stages.
    Raises ModelError when a file is missing, is not a plain weight file or differs in shape.
    """
    stages = [[_read_encoder(f"{prefix}{i}.pth") for i in range(len(domains))]
              for prefix in (coarse, fine or coarse)]  # fmt: skip
    sizes = {(e.width, e.blocks) for stage in stages for e in stage}
    if len(sizes) > 1:
        raise ModelError(f"encoders differ in (width, blocks): {sorted(sizes)}; expected one size")
    width, blocks = sizes.pop()
    network = NetworkConfig(width=width, encoder_blocks=blocks, image_size=image_size)
    names = [domain.name for domain in domains]
    by_name = [dict(zip(names, stage, strict=True)) for stage in stages]
    training = {"imported_from": [Path(coarse).name, Path(fine or coarse).name]}
    return Model(network, domains, by_name[0], by_name[1], training=training)


def _read_encoder(path: str) -> Encoder:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} not found; the prefix is everything before the number, as in …/300_net_G"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} is not a plain weight file: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ModelError(f"{path}: expected a dictionary of weights, got {type(weights).__name__}")
    ordered = [weights[key].float() for key in sorted(weights, key=_position)]
    first = ordered[0] if ordered else torch.empty(0)
    if first.ndim != 4 or tuple(first.shape[1:]) != (3, 7, 7):
        raise ModelError(
            f"{path}: expected an encoder that starts with a 7x7 convolution of 3 channels, got "
            f"{list(first.shape)}; files N…2N−1 are decoders: check the number of --domains"
        )
    convolutions = sum(value.ndim == 4 for value in ordered)
    encoder = Encoder(width=first.shape[0], blocks=(convolutions - 3) // 2)
    state = encoder.state_dict()
    shapes = [tuple(value.shape) for value in ordered]
    expected = [tuple(value.shape) for value in state.values()]
    if shapes != expected:
        raise ModelError(f"{path}: expected weights of shapes {expected}, got {shapes}")
    encoder.load_state_dict(dict(zip(state, ordered, strict=True)))
    return encoder.eval().requires_grad_(False)


def _position(key: str) -> tuple[list[int], str]:
    """Sort key: the numbers in a parameter's name, then `bias` after `weight`."""
    return [int(n) for n in re.findall(r"\d+", key)], "01"["bias" in key]
