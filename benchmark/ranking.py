# SPDX-License-Identifier: Apache-2.0
"""What compact descriptors cost in ranking against the exact features of the paper."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from disam_ros.checkpoint import Model
from disam_ros.config import DescriptorConfig
from disam_ros.descriptor import coarse_descriptor, fine_descriptor
from disam_ros.image import to_tensor

EXACT = DescriptorConfig(coarse_grid=256, fine_grid=256)
COMPACT = {
    "exact features, float32": EXACT,
    "16 / 32 cells, float16": DescriptorConfig(coarse_grid=16, fine_grid=32),
    "8 / 16 cells, float16": DescriptorConfig(coarse_grid=8),
    "8 / 16 cells, float16, centered": DescriptorConfig(coarse_grid=8, centered=True),
    "4 / 8 cells, float16": DescriptorConfig(coarse_grid=4, fine_grid=8),
}


def describe_all(
    model: Model, domain: str, images: Iterable[np.ndarray], configs: Iterable[DescriptorConfig]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Coarse and fine descriptors [N, D] of RGB images by configuration, each encoded once."""
    configs = list(configs)
    rows: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in configs]
    for image in tqdm(images, desc=domain, unit="img", leave=False):
        tensor = to_tensor(image, model.network.image_size)[None]
        with torch.inference_mode():
            z_coarse, z_fine = model.coarse[domain](tensor), model.fine[domain](tensor)
        for config, kept in zip(configs, rows, strict=True):
            kept.append(
                (
                    _stored(coarse_descriptor(z_coarse, config)),
                    _stored(fine_descriptor(z_fine, config)),
                )
            )
    return [tuple(np.stack(part) for part in zip(*kept, strict=True)) for kept in rows]


def coarse_to_fine(
    queries: tuple[np.ndarray, np.ndarray],
    references: tuple[np.ndarray, np.ndarray],
    candidates: int = 3,
) -> np.ndarray:
    """Best reference row of each query: N by coarse similarity, the best of them by fine."""
    coarse = queries[0].astype(np.float32) @ references[0].astype(np.float32).T
    top = np.argsort(-coarse, axis=1)[:, :candidates]
    fine_references = references[1].astype(np.float32)
    fine = np.stack(
        [fine_references[t] @ q for t, q in zip(top, queries[1].astype(np.float32), strict=True)]
    )
    return top[np.arange(len(top)), fine.argmax(1)]  # fmt: skip


def bytes_per_image(descriptors: tuple[np.ndarray, np.ndarray]) -> int:
    """Bytes of one coarse and one fine descriptor."""
    return sum(part[0].nbytes for part in descriptors)


def _stored(descriptor: Tensor) -> np.ndarray:
    return descriptor[0].numpy().astype(np.float16)
