# SPDX-License-Identifier: Apache-2.0
"""Encoders on a CUDA device: half precision where it agrees with float32, recorded as CUDA graphs.

The model's own networks stay where they are; the device has copies. Features are float32. Launching
some hundred small kernels one by one takes the CPU longer than the device computes them: a graph is
the kernels of a network recorded once and started by one call.

Network inputs are made on the device: pixels go there as they are, 8 bits each. Resizing is
separable and linear, so it is two matrix products. Their matrices are what OpenCV makes of an
identity matrix: the same as `image.network_input` but for ties of rounding, one level of 255.

Work on a device goes on on the CPU where the device fails.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from threading import Lock
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from disam_ros.device import (
    CPU,
    free_device_memory,
    is_cuda,
    is_device_fault,
    is_integrated,
    is_out_of_memory,
    require_torch,
)
from disam_ros.image import check_image, network_input
from disam_ros.models.arrays import require_features, sample_images
from disam_ros.models.model import Model
from disam_ros.models.similarity import least_similarity

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

AGREEMENT = 0.999  # least similarity of features in half precision with those in float32
LARGEST = 4096  # pixels of a side whose matrix is made; larger images are resized on the CPU
Pixels = NDArray[np.uint8]  # RGB [H, W, 3]
Size = tuple[int, int]  # height and width [px]
Features = tuple["Tensor", ...]
Network = Callable[["Tensor"], Features]

RECORDED_AT = 3  # use of a shape that is recorded: those before choose and load the kernels
MOST = 16  # graphs kept, each with memory of its own
# A device that is broken cannot take back what it holds, and trying may end the process: this list
# keeps such objects alive on purpose.
_never_released: list[object] = []


class CudaBackend:
    """Both encoders of each domain on a device; a shared one runs once.

    A domain's encoders are copied to the device, and compared in both precisions, with its first
    image. Where one domain fails the comparison, or an image leaves the range of half precision,
    all go on in float32.
    """

    name = "torch"

    def __init__(self, model: Model, device: str) -> None:
        require_torch("backend 'torch'")
        self._model, self._device = model, device
        self._half = True
        self._start()

    def _start(self) -> None:
        self._networks: dict[str, Network] = {}
        self.prepare = DeviceInputs(self._model.network.image_size, self._device)
        self._graphs = Graphs(is_cuda(self._device))
        self._lock = Lock()  # a graph has one place for its images

    @property
    def precision(self) -> str:
        return "half" if self._half else "float32"

    def encode(self, domain: str, images: NDArray[np.float32] | Tensor) -> tuple[Any, Any]:
        """Encodes images, also as `prepare` gives them. Features are on the device."""
        import torch

        pixels = torch.as_tensor(images, device=self._device)
        with self._lock, torch.inference_mode():
            if domain not in self._networks:
                self._load(domain)
            z = self._run(domain, pixels)
            if self._half and not all(bool(x.isfinite().all()) for x in z):
                self._to_float32("an image leaves its range")
                self._load(domain)
                z = self._run(domain, pixels)
            for source, features in zip(self._model.stage_files(), z, strict=True):
                require_features(features, pixels, f"{source}, domain '{domain}',")
        return z[0], z[-1]

    def _run(self, domain: str, images: Tensor) -> Features:
        return self._graphs(domain, self._networks[domain], images)

    def _load(self, domain: str) -> None:
        """Copy a domain's encoders to the device, and test half precision."""
        if not self._half:
            self._networks[domain] = self._copy(domain, half=False)
            return
        half, exact = self._copy(domain, half=True), self._copy(domain, half=False)
        tested = self._self_test()
        similarity = least_similarity(half(tested), exact(tested))
        if similarity >= AGREEMENT:
            self._networks[domain] = half
            return
        self._to_float32(
            f"domain '{domain}' has features of similarity {similarity:.4f} with float32's"
        )
        self._networks[domain] = exact

    def _to_float32(self, reason: str) -> None:
        logger.warning("the encoders go on in float32, not in half precision: %s", reason)
        self._half = False
        self._networks.clear()
        self._graphs = Graphs(self._graphs.enabled)

    def _self_test(self) -> Tensor:
        import torch

        images = sample_images(self._model.network.image_size)
        return torch.from_numpy(images).to(self._device)

    def _copy(self, domain: str, half: bool) -> Network:
        """Images float32 [B, 3, H, W] → coarse and fine features float32, by copies of weights."""
        import torch

        kind = torch.float16 if half else torch.float32
        layout = torch.channels_last if half else torch.contiguous_format
        coarse, fine = self._model.coarse[domain], self._model.fine[domain]

        def to_device(encoder: nn.Module) -> nn.Module:
            copied = deepcopy(encoder).eval().requires_grad_(False).to(self._device, kind)
            for weights in copied.parameters():
                if weights.ndim == 4:
                    weights.data = weights.data.contiguous(memory_format=layout)
            return copied

        stages = [to_device(coarse)]
        stages += [] if fine is coarse else [to_device(fine)]

        def network(images: Tensor) -> Features:
            pixels = images.to(kind, memory_format=layout)
            z = [stage(pixels).float().contiguous() for stage in stages]
            return z[0], z[-1]

        return network

    def __getstate__(self) -> dict[str, Any]:
        unkept = ("_networks", "_lock", "_graphs", "prepare")
        return {name: value for name, value in self.__dict__.items() if name not in unkept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()


class DeviceInputs:
    """Camera images → network inputs of a size on a device; one upload for those of one shape."""

    def __init__(self, size: Size, device: str) -> None:
        self._size, self._device = size, device
        self._resizing: dict[Size, tuple[Tensor, Tensor]] = {}
        # A GPU with memory of its own copies from pinned memory without the CPU's help.
        self._pins = is_cuda(device) and not is_integrated(device)
        self._pinned: Tensor | None = None
        self._copied: Any = None  # event: the last copy out of the pinned memory is done
        self._lock = Lock()  # of pinned memory and matrices

    def __call__(self, images: Sequence[Pixels]) -> Tensor:
        """Images uint8 RGB [H, W, 3] → float32 [B, 3, height, width] in [−1, 1]. Raises
        ImageError."""
        for image in images:
            check_image(image)
        with self._lock:
            return self._prepare(images)

    def _prepare(self, images: Sequence[Pixels]) -> Tensor:
        import torch

        if len({image.shape for image in images}) > 1:
            return torch.cat([self._prepare([image]) for image in images])
        shape = (images[0].shape[0], images[0].shape[1])
        if not can_resize(shape, self._size):
            prepared = np.stack([network_input(image, self._size) for image in images])
            return torch.from_numpy(prepared).to(self._device)
        pixels = self._upload(images).permute(0, 3, 1, 2).float()
        if shape != self._size:
            if shape not in self._resizing:
                self._resizing = {shape: resizing(shape, self._size, self._device)}
            rows, columns = self._resizing[shape]
            pixels = (rows @ pixels @ columns.T).round().clamp(0.0, 255.0)
        return (pixels / 127.5 - 1.0).contiguous()

    def _upload(self, images: Sequence[Pixels]) -> Tensor:
        """Images of one shape → uint8 [B, H, W, 3] on the device."""
        import torch

        if not self._pins:
            return torch.from_numpy(np.stack(images)).to(self._device)
        shape = (len(images), *images[0].shape)
        if self._pinned is None or self._pinned.shape != shape:
            self._pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._copied = torch.cuda.Event()
        self._copied.synchronize()
        np.stack(images, out=self._pinned.numpy())
        uploaded = self._pinned.to(self._device, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
        return uploaded


def can_resize(shape: Size, size: Size) -> bool:
    """Whether matrices can resize: an image that shrinks one way and grows the other is resized by
    OpenCV in a mixed form."""
    shrinks = [have > want for have, want in zip(shape, size, strict=True)]
    grows = [have < want for have, want in zip(shape, size, strict=True)]
    return max(shape) <= LARGEST and not (any(shrinks) and any(grows))


def resizing(shape: Size, size: Size, device: str) -> tuple[Tensor, Tensor]:
    """Matrices [height, H] and [width, W] of the resizing of images of a shape (H, W)."""
    import torch

    shrinks = any(have > want for have, want in zip(shape, size, strict=True))
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    rows, columns = (
        cv2.resize(np.eye(have, dtype=np.float32), (have, want), interpolation=method)
        for have, want in zip(shape, size, strict=True)
    )
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)


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


@contextmanager
def leave_device(device: str, error: Exception, holder: Mapping[str, Any]) -> Iterator[None]:
    """Handles a fault of a device round the step that replaces what was on it by the CPU's.

    holder: attributes of what was on the device. Raises the error where it is no fault of a device:
    out of memory, gone or broken.
    """
    if device == CPU or not is_device_fault(error):
        raise error
    if not is_out_of_memory(error):
        _never_released.append(dict(holder))
    logger.error(
        "device %s failed, the CPU goes on from here, slower; restart to use it again: %s",
        device,
        str(error).strip().split("\n")[0],
    )
    yield
    free_device_memory()
