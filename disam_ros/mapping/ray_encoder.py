# SPDX-License-Identifier: Apache-2.0
"""Distributed encoding on a Ray cluster (`pip install 'disam_ros[ray]'`); the map is the same.

Workers read images and encoders: dataset and model directory have the same path on all machines.
Batches of a machine that fails are retried on another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from disam_ros.config import DescriptorConfig, MapBuilderConfig
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.device import CPU
from disam_ros.errors import ConfigError
from disam_ros.image import limit_megapixels, megapixels
from disam_ros.mapping.encoding import Encoded, RowMaker, encode, read_images, row_makers
from disam_ros.mapping.views import MapViews
from disam_ros.models.backend import Backend, select_backend
from disam_ros.models.model import Model

PER_CPU = 2  # batches in flight per core of the cluster
RETRIES = 5  # of a batch whose worker died


def ray_encoder(
    address: str, model: Model, drive: ImageSource, config: MapBuilderConfig
) -> RayEncoder:
    """Returns the encoder of a drive on a Ray cluster. Raises as `RayEncoder` and `row_makers`."""
    views = MapViews(drive.info.cameras, config.field_of_view)
    return RayEncoder(model, config.descriptor, address, row_makers(config, views.cameras))


class RayEncoder:
    """Encodes on the cores of a cluster, one batch per core.

    address: of the cluster, as for ray.init; 'auto' finds a running one, 'local' starts one on this
    machine. Raises ConfigError where Ray is not installed or the cluster not reachable.
    """

    def __init__(
        self,
        model: Model,
        config: DescriptorConfig,
        address: str,
        makers: Mapping[str, RowMaker] | None = None,
    ) -> None:
        self._ray = _import_ray()
        self._own = not self._ray.is_initialized()
        try:
            if self._own:
                self._ray.init(address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"no Ray cluster at '{address}': {error}; start one with 'ray start --head', or "
                f"name 'local'"
            ) from error
        self._backend = self._ray.put(select_backend("auto", model, CPU))
        self._size, self._config = model.network.image_size, config
        self._makers = makers or {}
        self._encode = self._ray.remote(max_retries=RETRIES)(_encode)
        self.ahead = PER_CPU * int(self._ray.cluster_resources().get("CPU", 1))

    def submit(self, domain: str, items: Sequence[PosedImage]) -> Callable[[], Encoded]:
        result = self._encode.remote(
            self._backend,
            self._size,
            domain,
            list(items),
            self._config,
            self._makers,
            megapixels(),
        )
        return lambda: self._ray.get(result)

    def close(self) -> None:
        if self._own:
            self._ray.shutdown()


def _encode(
    backend: Backend,
    size: tuple[int, int],
    domain: str,
    items: Sequence[PosedImage],
    config: DescriptorConfig,
    makers: Mapping[str, RowMaker],
    most: float,
) -> Encoded:
    """Encode on a worker, which has one core. most: megapixels of an image."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    limit_megapixels(most)
    return encode(backend, domain, read_images(items, size, makers, config.as_in_paper), config)


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Ray is not installed ({error}): pip install 'disam_ros[ray]', or build without --ray"
        ) from error
    return ray
