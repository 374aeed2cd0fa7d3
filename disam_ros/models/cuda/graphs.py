# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="no-untyped-call"
"""CUDA graphs: the kernels of a network recorded once and started by one call.

Launching some hundred small kernels one by one takes the CPU longer than the device computes them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

Features = tuple["Tensor", ...]
Network = Callable[["Tensor"], Features]

RECORDED_AT = 3  # use of a shape that is recorded: those before choose and load the kernels
MOST = 16  # graphs kept, each with memory of its own


class Graphs:
    """Runs networks: kernel by kernel at first, as a graph once the shape has recurred.

    Where a network cannot be recorded it goes on kernel by kernel, which one line says.
    """

    def __init__(self, enabled: bool) -> None:
        """Keeps no graph yet. enabled: False, such as off CUDA: nothing is recorded."""
        self.enabled = enabled
        self._uses: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, _Graph] = {}

    def __call__(self, name: str, network: Network, images: Tensor) -> Features:
        """Runs a network on images. name: of the network, for its graph."""
        key = (name, tuple(images.shape), images.dtype)
        if key in self._graphs:
            return self._graphs[key](images)
        self._uses[key] += 1
        if self.enabled and self._uses[key] >= RECORDED_AT and len(self._graphs) < MOST:
            try:
                self._graphs[key] = record(network, images)
                return self._graphs[key](images)
            except RuntimeError as error:
                self.enabled = False
                logger.warning("no CUDA graphs, which is slower: %s", str(error).split("\n")[0])
        return network(images)


class _Graph:
    def __init__(self, graph: Any, inputs: Tensor, outputs: Features) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    def __call__(self, images: Tensor) -> Features:
        """Returns copies of the outputs, since the next call writes over them."""
        self._inputs.copy_(images)
        self._graph.replay()
        copies = {id(z): z.clone() for z in self._outputs}
        return tuple(copies[id(z)] for z in self._outputs)


def record(network: Network, images: Tensor) -> _Graph:
    """Record a network for images of this shape. Raises RuntimeError where that cannot be."""
    import torch

    inputs = images.clone()
    side = torch.cuda.Stream(images.device)
    side.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(side):
        network(inputs)
    torch.cuda.current_stream(images.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = network(inputs)
    return _Graph(graph, inputs, outputs)
