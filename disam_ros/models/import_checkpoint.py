# SPDX-License-Identifier: Apache-2.0
"""Import of the public DISAM / ComboGAN implementation's encoders into a model directory.

Its files are `<PREFIX><i>.pth`, PREFIX such as `…/300_net_G`: i = 0…N−1 the encoders in domain
order, N…2N−1 the decoders. They are pickles, loaded with `weights_only=True` only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from torch import Tensor

from disam_ros.domains.domain import Domain
from disam_ros.errors import ModelError
from disam_ros.models.model import Model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.networks import Encoder
from disam_ros.models.state_files import read_state

logger = logging.getLogger(__name__)


def import_checkpoint(
    coarse: str,
    domains: list[Domain],
    fine: str | None = None,
    image_size: tuple[int, int] = (256, 256),
) -> Model:
    """Import the encoders of a public checkpoint; width and blocks are inferred from the weights.

    coarse, fine: path prefixes; without `fine` the coarse encoders serve both stages. Domains that
    the clock cannot tell apart are logged.
    Raises ModelError when a file is missing, is not a plain weight file or differs in shape, and
    where there are more or fewer encoders than domains.
    """
    stages = [_read_encoders(prefix, len(domains)) for prefix in (coarse, fine or coarse)]
    sizes = {(e.width, e.blocks) for stage in stages for e in stage}
    if len(sizes) > 1:
        raise ModelError(f"encoders differ in (width, blocks): {sorted(sizes)}; expected one size")
    width, blocks = sizes.pop()
    network = NetworkConfig(width=width, encoder_blocks=blocks, image_size=image_size)
    names = [domain.name for domain in domains]
    by_name = [dict(zip(names, stage, strict=True)) for stage in stages]
    training = {"imported_from": [Path(coarse).name, Path(fine or coarse).name]}
    model = Model(network, domains, by_name[0], by_name[1], training=training)
    for first, second in combinations(domains, 2):
        if replace(second, name=first.name) == first:
            logger.warning(
                "%s has the tags of %s, which is chosen wherever both fit: choose it by name with "
                "--domain (domain.override)",
                second.name,
                first.name,
            )
    return model


def _read_encoders(prefix: str, count: int) -> list[Encoder]:
    """Reads the encoders of a prefix. Raises ModelError unless there are `count`."""
    numbers = _numbers(prefix)
    missing = sorted(set(range(max(numbers, default=0) + 1)) - set(numbers))
    if missing:
        raise ModelError(f"{prefix}{missing[0]}.pth not found; {_remedy(prefix)}")
    last = f"{prefix}{numbers[-1]}.pth"
    if not any(tuple(weight.shape[2:]) == (7, 7) for weight in _read_weights(last).values()):
        raise ModelError(
            f"{last} has neither an encoder nor a decoder but blocks that all domains share "
            f"(netG_n_shared): expected a checkpoint without them, as the paper's"
        )
    encoders: list[Encoder] = []
    for number in numbers:
        path = f"{prefix}{number}.pth"
        weights = _read_weights(path)
        if not _is_encoder(weights):
            break
        encoders.append(_encoder(weights, path))
    if len(encoders) != count:
        raise ModelError(
            f"{prefix}*.pth are {len(encoders)} encoders, which start with a 7x7 convolution of 3 "
            f"channels, and {len(numbers) - len(encoders)} decoders; expected {count} encoders: "
            f"--domains names one domain per encoder, in their order"
        )
    return encoders


def _numbers(prefix: str) -> list[int]:
    """Numbers of the files that are there."""
    path = Path(prefix)
    pattern = re.compile(re.escape(path.name) + r"(\d+)\.pth")
    matches = [pattern.fullmatch(file.name) for file in _files(path.parent)]
    return sorted(int(match[1]) for match in matches if match)


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror or error}") from error


def _remedy(prefix: str) -> str:
    """What a prefix is, and which ones the folder has."""
    names = [re.fullmatch(r"(.*_net_G)0\.pth", file.name) for file in _files(Path(prefix).parent)]
    prefixes = sorted(match[1] for match in names if match)
    hint = f"; prefixes there: {', '.join(prefixes)}" if prefixes else ""
    return f"the prefix is everything before the number, as in …/300_net_G{hint}"


def _read_weights(path: str) -> Mapping[str, Tensor]:
    """Reads the weights of a file by name. Raises ModelError."""
    weights = read_state(path)
    if not weights:
        raise ModelError(f"{path} holds no weights: expected a dictionary of them")
    return weights


def _ordered(weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Weights in the order of the layers."""
    return [weights[key].float() for key in sorted(weights, key=_position)]


def _is_encoder(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights begin with a 7×7 convolution of 3 channels."""
    return bool(weights) and tuple(_ordered(weights)[0].shape[1:]) == (3, 7, 7)


def _encoder(weights: Mapping[str, Tensor], path: str) -> Encoder:
    """An encoder of its weights. Raises ModelError for other layers than the paper's."""
    if any("running_mean" in key for key in weights):
        raise ModelError(
            f"{path} has batch normalization (--norm batch): expected instance normalization, as "
            f"the paper's"
        )
    ordered = _ordered(weights)
    convolutions = sum(value.ndim == 4 for value in ordered)
    encoder = Encoder(width=ordered[0].shape[0], blocks=(convolutions - 3) // 2)
    state = encoder.state_dict()
    shapes = [tuple(value.shape) for value in ordered]
    expected = [tuple(value.shape) for value in state.values()]
    if shapes != expected:
        raise ModelError(f"{path}: expected weights of shapes {expected}, got {shapes}")
    encoder.load_state_dict(dict(zip(state, ordered, strict=True)))
    return encoder.eval().requires_grad_(False)


def _position(key: str) -> tuple[list[int], str]:
    """Sort key: the numbers in a parameter's name, then `bias` after `weight`."""
    return [int(n) for n in re.findall(r"[0-9]{1,9}", key)], "01"["bias" in key]
