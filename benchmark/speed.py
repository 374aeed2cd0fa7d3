# SPDX-License-Identifier: Apache-2.0
"""Query time beside the straightforward form: a Python loop over exact features."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from disam_ros.compression import learn
from disam_ros.config import DescriptorConfig
from disam_ros.descriptor import coarse_descriptor, descriptor_shapes, fine_descriptor
from disam_ros.image import to_tensor
from disam_ros.index import FlatIndex
from disam_ros.networks import PRESETS, NetworkConfig, build_encoder
from disam_ros.similarity import coarse_similarity

MAP_IMAGES = 10_000
LOOP_IMAGES = 20  # the loop is timed on these and scaled up


def query_times(preset: str, repeats: int = 7) -> dict[str, float]:
    """Milliseconds of each stage of a query at 640×480 against MAP_IMAGES images, medians.

    `loop` is what the public implementation's form takes for the coarse stage: one image after the
    other, exact features.
    """
    network, config = PRESETS[preset], DescriptorConfig()
    encoder = build_encoder(network).eval()
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with torch.inference_mode():
        tensor = to_tensor(image, network.image_size)[None]
        z = encoder(tensor)
        index, fine = _random_map(network, config)
        query, fine_query = coarse_descriptor(z, config)[0], fine_descriptor(z, config)[0].numpy()
        others = [torch.randn_like(z[0]) for _ in range(LOOP_IMAGES)]
        loop = _time(lambda: [coarse_similarity(z[0], o) for o in others], repeats)
        times = {
            "preprocess": _time(lambda: to_tensor(image, network.image_size), repeats),
            "two encoders": 2 * _time(lambda: encoder(tensor), repeats),
            "coarse": _time(lambda: index.search(query.numpy()[: config.coarse_size], 3), repeats),
            "fine": _time(lambda: fine[[5, 500, 5000]].astype(np.float32) @ fine_query, repeats),
        }
    times["total"] = sum(times.values())
    times["loop"] = loop * MAP_IMAGES / LOOP_IMAGES
    return times


def _random_map(network: NetworkConfig, config: DescriptorConfig) -> tuple[FlatIndex, np.ndarray]:
    """Descriptors of noise: search time does not depend on their values."""
    shapes = descriptor_shapes(network, config)
    rng = np.random.default_rng(1)
    coarse = rng.standard_normal((MAP_IMAGES, int(np.prod(shapes["coarse"]))), np.float32)
    fine = np.zeros((MAP_IMAGES, int(np.prod(shapes["fine"]))), np.float16)
    projection = learn(coarse[:1000], config.coarse_size)
    return FlatIndex(projection.encode(coarse), projection), fine


def _time(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)
