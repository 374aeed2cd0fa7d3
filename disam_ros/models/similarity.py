# SPDX-License-Identifier: Apache-2.0
"""DISAM's similarity metrics and activation maps (Hu et al., IEEE/CAA JAS 2021, Eq. 16–18), and
compact descriptors whose inner product is the coarse or fine similarity, the coarse ones as codes.

Latent features z are [..., C, h, w]; leading dimensions broadcast, so single images [C, h, w] and
batches [B, C, h, w] use the same functions. All of them take arrays of numpy, on a CPU, or tensors
of torch, on a device or in training; torch is imported for tensors only.

For descriptors features are average-pooled to a grid, then normalized for the metric (Eq. 16 or
cosine). The paper compares them whole (`retrieval: paper`). A global model's features, and an
imported descriptor's, are one cell [B, C, 1, 1]. Both similarities are then the cosine of the C
channels: Eq. 16 compares the spatial layout of each channel, and one cell has only a sign.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from disam_ros.config import DescriptorConfig
from disam_ros.models.arrays import Array, as_numpy, code_products, like, row_products
from disam_ros.models.network_config import LARGEST_SIDE

if TYPE_CHECKING:
    from torch import Tensor

    from disam_ros.models.kinds import Network

EPSILON = 1e-8
LEVELS = 127  # largest code
TEMPERATURE = 0.05  # fine-similarity difference that makes a candidate e times less likely

Rows = NDArray[np.floating[Any]]  # descriptors [..., D]


def coarse_similarity(z_a: Array, z_b: Array) -> Array:
    """Mean over channels of the spatial cosine, Y of Eq. 16.

    z_a, z_b: [..., C, h, w]. Returns [...] in [−1, 1]. The cosine of a zero channel is 0. With one
    cell only signs count: use `fine_similarity` for a global descriptor.
    """
    return (channel_normalize(z_a) * channel_normalize(z_b)).sum((-3, -2, -1)) / z_a.shape[-3]


def fine_similarity(z_a: Array, z_b: Array) -> Array:
    """Cosine of the flattened features. z_a, z_b: [..., C, h, w]. Returns [...] in [−1, 1]."""
    return (normalize(z_a) * normalize(z_b)).sum((-3, -2, -1))


def least_similarity(z_a: Sequence[Array], z_b: Sequence[Array]) -> float:
    """Least fine similarity of the same images' features [B, C, h, w] of two runtimes, by stage.

    nan counts as −1, as does a feature that is infinite.
    """
    pairs = zip(z_a, z_b, strict=True)
    similarities = np.concatenate([as_numpy(fine_similarity(a, b)) for a, b in pairs])
    return float(np.nan_to_num(similarities, nan=-1.0, posinf=-1.0, neginf=-1.0).min())


@dataclass(frozen=True)
class Shifts:
    """Shifts of a feature map by up to ± `rows` and ± `columns` cells."""

    rows: int
    columns: int

    def __len__(self) -> int:
        return (2 * self.rows + 1) * (2 * self.columns + 1)

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(rows, columns) of every shift, row by row."""
        return list(product(_range(self.rows), _range(self.columns)))

    def apply(self, z: Array) -> Array:
        """z [..., C, h, w] → [..., S, C, h, w]: cell (y + dy, x + dx) at (y, x), 0 outside."""
        height, width = z.shape[-2:]
        wide = _pad(z, self.rows, self.columns)
        if isinstance(wide, np.ndarray):
            return self._windows(wide, height, width)
        import torch

        parts = [
            wide[..., y + self.rows :, x + self.columns :][..., :height, :width]
            for y, x in self.cells
        ]
        return torch.stack(parts, -4)

    def _windows(self, wide: NDArray[Any], height: int, width: int) -> Any:
        """All windows of a size, first those of the columns: so that few long pieces are copied."""
        across = np.moveaxis(sliding_window_view(wide, width, axis=-1), -2, -4)
        down = sliding_window_view(np.ascontiguousarray(across), height, axis=-2)
        windows = np.moveaxis(down, (-3, -1), (-5, -2)).copy()
        return windows.reshape(*wide.shape[:-3], len(self), wide.shape[-3], height, width)

    @classmethod
    def of_grid(cls, height: int, width: int) -> Shifts:
        """A quarter of the view sideways and a sixth up and down: another lane, another pitch."""
        return cls(round(height / 6), round(width / 4))


@dataclass(frozen=True, eq=False)
class ShiftedFeatures(Generic[Array]):
    """Features [A, C, h, w] moved by S shifts, to be compared with others (not in the paper).

    moved: [A·S, C h w], 0 outside; norms: squared, [A, S, 1]; inside: cells that remain, [S, h w].
    """

    moved: Array
    norms: Array
    inside: Array

    @classmethod
    def of(
        cls, z: Array, shifts: Shifts, seen: NDArray[np.float32] | None = None
    ) -> ShiftedFeatures[Array]:
        """z: [A, C, h, w], larger than the shifts. seen: its cells that count, 1 or 0 [h, w]; None:
        all."""
        count = len(z) * len(shifts)
        z = z if seen is None else z * like(seen, z)
        cells = shifts.apply((z * z).sum(1)[:, None])  # [A, S, 1, h, w]
        inside = _whole(shifts, *z.shape[-2:]) if seen is None else _inside(shifts, seen)
        return cls(
            moved=shifts.apply(z).reshape(count, -1),
            norms=cells.sum((-3, -2, -1))[..., None],
            inside=like(inside, z),
        )

    def similarities(self, z: Array, squares: Array | None = None) -> Array:
        """Fine similarity of the overlapping cells with z [B, C, h, w], for every shift.

        squares: `squared_norms` of z; None: to be computed. The similarity of views from another
        lane is the maximum over the shifts. One matrix product with all z, and one for the norms of
        the overlaps. Returns [A, B, S] in [−1, 1].
        """
        products = row_products(z.reshape(len(z), -1), self.moved)  # [B, A·S]
        squares = squared_norms(z) if squares is None else squares
        norms = squares.reshape(len(z), -1) @ self.inside.T  # [B, S]
        squared = (self.norms * norms.T).clip(EPSILON**2, None)  # [A, S, B]
        cosines = products.T.reshape(squared.shape) / squared**0.5
        return cosines.swapaxes(1, 2)


def _inside(shifts: Shifts, seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cells that count, [h, w], after each shift [S, h w]."""
    return shifts.apply(seen[None]).reshape(len(shifts), -1)


@cache
def _whole(shifts: Shifts, height: int, width: int) -> NDArray[np.float32]:
    """Cells that remain of a whole view after each shift [S, h w]."""
    return _inside(shifts, np.ones((height, width), np.float32))


def shifted_similarities(z_a: Array, z_b: Array, shifts: Shifts) -> Array:
    """Fine similarities of z_a [A, C, h, w] with z_b [B, C, h, w] for every shift of z_a.

    Returns [A, B, S] in [−1, 1].
    """
    return ShiftedFeatures.of(z_a, shifts).similarities(z_b)


def sub_cell_shifts(similarities: NDArray[np.float32], shifts: Shifts) -> NDArray[np.float32]:
    """Shifts (x, y) of z_a that give the largest similarities, in fractions of a cell.

    similarities: [N, S] as of `shifted_similarities`. Along each axis the vertex of the parabola
    through the best shift and its two neighbours; at the end of the range, the best shift. Returns
    [N, 2].
    """
    grid = similarities.reshape(-1, 2 * shifts.rows + 1, 2 * shifts.columns + 1)
    images = np.arange(len(grid))
    y, x = np.divmod(grid.reshape(len(grid), -1).argmax(1), grid.shape[2])
    lines = (grid[images, y], x, shifts.columns), (grid[images, :, x], y, shifts.rows)
    vertices = [best - most + _vertex(line, best) for line, best, most in lines]
    return np.stack(vertices, 1).astype(np.float32)


def _vertex(values: NDArray[np.float32], best: NDArray[np.int64]) -> NDArray[np.float32]:
    """Offset [N] of a parabola's vertex from the maximum `best` [N] of values [N, n]."""
    images, last = np.arange(len(values)), values.shape[1] - 1
    inside = (best > 0) & (best < last)
    low, high = values[images, (best - 1).clip(0)], values[images, (best + 1).clip(None, last)]
    curvature = 2 * values[images, best] - low - high
    offset: NDArray[np.float32] = (high - low) / (2 * np.maximum(curvature, EPSILON))
    return np.where(inside, offset.clip(-0.5, 0.5), np.float32(0.0))


def _range(most: int) -> range:
    return range(-most, most + 1)


def channel_normalize(z: Array) -> Array:
    """Divide each channel by its spatial norm. z: [..., C, h, w] → same shape.

    Flattened and divided by √C, an inner product of two results is Eq. 16.
    """
    return z / _norms(_by_channel(z))[..., None, None]


def normalize(z: Array) -> Array:
    """Divide by the norm of all features. z: [..., C, h, w] → same shape."""
    return z / _norms(z.reshape(*z.shape[:-3], -1))[..., None, None, None]


def unit_rows(x: Array) -> Array:
    """Divide each row by its norm; zeros stay zeros. x: [..., D] → same shape."""
    return x / _norms(x)[..., None]


def _by_channel(z: Array) -> Array:
    """[..., C, h, w] → [..., C, h w]."""
    return z.reshape(*z.shape[:-2], -1)


def squared_norms(z: Array) -> Any:
    """Squared norms of the channels in each cell, [B, C, h, w] → [B, h, w]."""
    if isinstance(z, np.ndarray):
        return np.einsum("bchw,bchw->bhw", z, z)  # without a product as large as z
    return (z * z).sum(1)


def _norms(x: Array) -> Array:
    """Norms along the last axis, at least EPSILON. x: [..., n] → [...]."""
    if isinstance(x, np.ndarray):
        return np.linalg.norm(x, axis=-1).clip(EPSILON, None)
    norms: Tensor = x.norm(dim=-1)  # its gradient at 0 is 0
    return norms.clamp_min(EPSILON)


def sam_weights(z: Array, z_other: Array) -> Array:
    """Channel weights ω_k = Σ_pq ∂Y/∂z_k^pq of Eq. 17 in closed form: no second backward pass.

    ω_k = ( S'_k / (N_k N'_k) − c_k S_k / N_k² ) / C with sums S, norms N and channel cosines c.
    z, z_other: [..., C, h, w]. Returns [..., C], the gradient with respect to `z`.
    """
    a, b = _by_channel(z), _by_channel(z_other)
    norm_a, norm_b = _norms(a), _norms(b)
    cosine = (a * b).sum(-1) / (norm_a * norm_b)
    gradient = b.sum(-1) / (norm_a * norm_b) - cosine * a.sum(-1) / norm_a**2
    return gradient / z.shape[-3]


def activation_map(z_query: Array, z_reference: Array) -> Array:
    """Similarity activation map of the query, Eq. 18: its regions that resemble the reference.

    z_query, z_reference: [..., C, h, w]. Returns ReLU(Σ_k ω_k z_k) [..., h, w], ≥ 0.
    """
    weights = sam_weights(z_query, z_reference)
    return (weights[..., None, None] * z_query).sum(-3).clip(0.0, None)


def _pad(z: Array, rows: int, columns: int) -> Array:
    """Zeros around the last two axes."""
    if isinstance(z, np.ndarray):
        height, width = z.shape[-2:]
        wide = np.zeros((*z.shape[:-2], height + 2 * rows, width + 2 * columns), z.dtype)
        wide[..., rows : rows + height, columns : columns + width] = z  # np.pad takes much longer
        return wide
    from torch.nn import functional

    return functional.pad(z, (columns, columns, rows, rows))


def coarse_descriptor(z: Array, config: DescriptorConfig) -> Array:
    """Coarse features [B, C, h, w] → descriptors [B, D]; inner product = Eq. 16, norm ≤ 1.

    Features of one cell: inner product = cosine, norm 1.
    """
    pooled = pool(z, grid_of("coarse", config))
    if is_one_cell(pooled):
        return normalize(pooled).reshape(len(z), -1)
    return channel_normalize(pooled).reshape(len(z), -1) / math.sqrt(z.shape[1])


def shifted_descriptors(
    z: Array, config: DescriptorConfig, seen: NDArray[np.float32] | None = None
) -> Array:
    """Coarse descriptors [5, D] of features [1, C, h, w] moved sideways in five steps, 0 outside.

    In the middle the view itself; before and after it, as if seen from another lane. [1, D] for the
    paper's retrieval, and where the grid is too small for a shift. seen: cells of the pooled grid
    that count, 1 or 0; None: all.
    """
    pooled = pool(z, grid_of("coarse", config))
    pooled = pooled if seen is None else pooled * like(seen, pooled)
    most = shifts_of(pooled.shape, config).columns
    chosen = sorted({most + round(most * share) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)})
    moved = Shifts(0, most).apply(pooled[0])[chosen]
    return coarse_descriptor(moved, config)


def fine_descriptor(z: Array, config: DescriptorConfig) -> Array:
    """Fine features [B, C, h, w] → descriptors [B, D]; inner product = cosine, norm 1."""
    return normalize(pool(z, grid_of("fine", config))).reshape(len(z), -1)


def grid_of(stage: str, config: DescriptorConfig) -> int:
    """Cells along the longer side that a stage's features are pooled to; as many as they have for
    the paper's retrieval."""
    if config.as_in_paper:
        return LARGEST_SIDE
    return config.fine_grid if stage == "fine" else config.coarse_grid


def shifts_of(shape: Sequence[int], config: DescriptorConfig) -> Shifts:
    """Shifts over which features [..., h, w] are compared: none for the paper's retrieval."""
    return Shifts(0, 0) if config.as_in_paper else Shifts.of_grid(*shape[-2:])


def pool(z: Array, grid: int) -> Array:
    """Average features [B, C, h, w] over `grid` cells along the longer side; one cell stays."""
    height, width = z.shape[-2:]
    rows, columns = grid_shape(height, width, grid)
    if (rows, columns) == (height, width):
        return z
    if isinstance(z, np.ndarray):
        across = _averages(width, columns).astype(z.dtype)
        return np.asarray(_averages(height, rows).astype(z.dtype) @ (z @ across.T), z.dtype)
    from torch.nn import functional

    return functional.adaptive_avg_pool2d(z, (rows, columns))


@cache
def _averages(size: int, count: int) -> NDArray[np.float64]:
    """Weights [count, size] of the averages over cells, which overlap where they do not divide the
    size; as adaptive pooling of torch."""
    starts = np.arange(count) * size // count
    ends = -(-(np.arange(count) + 1) * size // count)
    at = np.arange(size)
    inside = (at >= starts[:, None]) & (at < ends[:, None])
    weights: NDArray[np.float64] = inside / inside.sum(1, keepdims=True)
    return weights


def is_one_cell(z: Array) -> bool:
    """Whether features [..., h, w] are a global descriptor."""
    return tuple(z.shape[-2:]) == (1, 1)


def grid_shape(height: int, width: int, grid: int) -> tuple[int, int]:
    """Rows and columns of a grid with `grid` cells along the longer side of a feature map.

    Cells are square as nearly as can be; there are never more cells than features.
    """
    scale = min(1.0, grid / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def descriptor_shapes(
    network: Network, config: DescriptorConfig
) -> dict[str, tuple[int, int, int]]:
    """Shape (C, rows, columns) of one coarse and one fine descriptor before flattening."""
    return {
        stage: (network.channels, *grid_shape(*network.feature_size, grid_of(stage, config)))
        for stage in ("coarse", "fine")
    }


@dataclass(frozen=True, eq=False)
class Projection:
    """directions: orthonormal rows [d, D], by decreasing variance. steps: quantization steps [d].

    Without directions, [0, D], descriptors are kept whole: d = D.

    sha256: of the model's file; empty for directions that one map has learned. scales: of the rows
    where `directions` are int8; None where they are floating-point numbers.
    """

    directions: NDArray[Any]
    steps: NDArray[np.float32]
    sha256: str = ""
    scales: NDArray[np.float32] | None = None

    @property
    def size(self) -> int:
        """Size of a code [bytes]."""
        return len(self.steps)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The directions as numbers [d, D]."""
        matrix = np.asarray(self.directions, np.float32)
        return matrix if self.scales is None else matrix * self.scales[:, None]

    @property
    def whole(self) -> bool:
        """Whether descriptors are kept as they are."""
        return len(self.directions) == 0

    def project(self, rows: Rows) -> NDArray[np.float32]:
        """Descriptors [..., D] → unit vectors float32 [..., d]; zeros stay zeros, and whole
        descriptors as they are."""
        flat = np.asarray(rows, np.float32).reshape(-1, self.directions.shape[1])
        if self.whole:
            return flat.reshape(np.shape(rows))
        return unit_rows(self._product(flat)).reshape(*np.shape(rows)[:-1], self.size)

    @cached_property
    def _product(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Descriptors [n, D] → products with the directions [n, d]."""
        if self.scales is not None:
            return code_products(self.directions, self.scales)
        matrix = self.matrix
        return lambda rows: row_products(rows, matrix)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_product"}  # not to be pickled

    def encode(self, rows: Rows) -> NDArray[np.int8]:
        """Descriptors [..., D] → codes int8 [..., d]."""
        units: NDArray[np.float32] = np.rint(self.project(rows) / self.steps)
        return units.clip(-LEVELS, LEVELS).astype(np.int8)

    def decode(self, codes: NDArray[np.int8]) -> NDArray[np.float32]:
        """Codes [..., d] → coordinates float32 [..., d]."""
        return decode(codes, self.steps)


def decode(codes: NDArray[np.int8], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes [..., d] → coordinates float32 [..., d]. steps: [d]."""
    coordinates: NDArray[np.float32] = codes.astype(np.float32) * steps
    return coordinates
