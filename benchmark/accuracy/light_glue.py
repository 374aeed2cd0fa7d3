# SPDX-License-Identifier: Apache-2.0
"""LightGlue (Lindenberger et al., LightGlue: Local Feature Matching at Light Speed, ICCV 2023).

A transformer matches the keypoints of two images: in each layer every image attends to itself, with
rotary encodings of the pixels, and to the other; matches are the mutual maxima of a soft assignment
of enough probability. LighterGlue is the same network with fewer and narrower layers.

No map is matched by it: it separates places no better than nearest neighbours, which take a
fraction of its time (inliers.py).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from disam_ros.features.detection import unit_vectors
from disam_ros.features.keypoints import Keypoints
from disam_ros.features.learned.weights import load_weights
from disam_ros.features.matching import Matches, NearestNeighbours

MIN_PROBABILITY = 0.1  # of a match
# Extra and file of the weights, and attention heads, by local features.
MATCHERS = {
    "xfeat": ("xfeat", "xfeat-lighterglue.pt", 1),
    "aliked": ("lightglue", "aliked_lightglue.pth", 4),
}


class LightGlue(nn.Module):
    """Sizes are read off the weights, named as by the authors. heads: of the attention."""

    def __init__(self, state: dict[str, Tensor], heads: int) -> None:
        super().__init__()
        self.project = _linear(state, "input_proj")
        self.frequencies = _linear(state, "posenc.Wr")
        numbers = {name.split(".")[1] for name in state if name.startswith("transformers.")}
        self.layers = nn.ModuleList(
            _Layer(state, f"transformers.{index}", heads) for index in range(len(numbers))
        )
        last = f"log_assignment.{len(numbers) - 1}"
        self.matchability = _linear(state, f"{last}.matchability")
        self.similarity = _linear(state, f"{last}.final_proj")

    def forward(self, a: Tensor, b: Tensor, where_a: Tensor, where_b: Tensor) -> Tensor:
        """Match probabilities [Ka, Kb] of unit descriptors [Ka, D] and [Kb, D] at positions [K, 2],
        where the longer side of an image is −1 … 1."""
        a, b = self.project(a), self.project(b)
        turn_a, turn_b = self._rotation(where_a), self._rotation(where_b)
        for layer in self.layers:
            a, b = layer(a, b, turn_a, turn_b)
        logits = self.similarity(a) @ self.similarity(b).T / a.shape[1] ** 0.5
        possible = functional.logsigmoid(self.matchability(a))
        possible = possible + functional.logsigmoid(self.matchability(b)).T
        both = logits.log_softmax(1) + logits.log_softmax(0) + possible
        probabilities: Tensor = both.exp()
        return probabilities

    def _rotation(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [K, d] of rotary encodings, pairs of neighbouring entries alike."""
        angles = self.frequencies(where).repeat_interleave(2, 1)
        return angles.cos(), angles.sin()


class _Layer(nn.Module):
    def __init__(self, state: dict[str, Tensor], name: str, heads: int) -> None:
        super().__init__()
        self.heads = heads
        attention, cross = f"{name}.self_attn", f"{name}.cross_attn"
        self.inputs = _linear(state, f"{attention}.Wqkv")
        self.output = _linear(state, f"{attention}.out_proj")
        self.update = _feed_forward(state, f"{attention}.ffn")
        self.keys, self.values = _linear(state, f"{cross}.to_qk"), _linear(state, f"{cross}.to_v")
        self.cross_output = _linear(state, f"{cross}.to_out")
        self.cross_update = _feed_forward(state, f"{cross}.ffn")

    def forward(
        self,
        a: Tensor,
        b: Tensor,
        turn_a: tuple[Tensor, Tensor],
        turn_b: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        a, b = self._attend_to_itself(a, *turn_a), self._attend_to_itself(b, *turn_b)
        keys_a, keys_b = self._split(self.keys(a)), self._split(self.keys(b))
        values_a, values_b = self._split(self.values(a)), self._split(self.values(b))
        to_a = self.cross_output(_joined(keys_a, keys_b, values_b))
        to_b = self.cross_output(_joined(keys_b, keys_a, values_a))
        return (
            a + self.cross_update(torch.cat([a, to_a], 1)),
            b + self.cross_update(torch.cat([b, to_b], 1)),
        )

    def _attend_to_itself(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        whole = self.inputs(x).reshape(len(x), self.heads, -1, 3).permute(3, 1, 0, 2)
        queries, keys = (_rotated(part, cosines, sines) for part in whole[:2])
        message = self.output(_joined(queries, keys, whole[2]))
        return x + cast(Tensor, self.update(torch.cat([x, message], 1)))

    def _split(self, x: Tensor) -> Tensor:
        """[K, heads · d] → [heads, K, d]."""
        return x.reshape(len(x), self.heads, -1).transpose(0, 1)


def match_learned(
    network: LightGlue,
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    where_a: NDArray[np.float32],
    where_b: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Pairs of rows int64 [M, 2] of unit descriptors [Ka, D] and [Kb, D] at positions [K, 2]."""
    with torch.inference_mode():
        device = network.project.weight.device
        tensors = [torch.from_numpy(x).to(device) for x in (a, b, where_a, where_b)]
        shares = network(tensors[0], tensors[1], tensors[2], tensors[3])
        best, nearest = shares.max(1)
        rows = torch.arange(len(a), device=device)
        good = (shares.argmax(0)[nearest] == rows) & (best > MIN_PROBABILITY)
        pairs: NDArray[np.int64] = torch.stack([rows[good], nearest[good]], 1).cpu().numpy()
        return pairs


def load_matcher(kind: str, device: str = "cpu") -> LightGlue:
    """The matcher of local features with the weights of the installed package.

    Raises ConfigError, ModelError.
    """
    extra, file, heads = MATCHERS[kind]
    state = load_weights(extra, file, device)
    state = {name.removeprefix("matcher."): values for name, values in state.items()}
    return LightGlue(state, heads).eval()


def _joined(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention of [heads, K, d] → [K, heads · d]."""
    attended = functional.scaled_dot_product_attention(queries, keys, values)
    return attended.transpose(0, 1).flatten(1)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Pairs of neighbouring entries of [heads, K, d], turned."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return x * cosines + torch.stack([-odd, even], -1).flatten(-2) * sines


def _linear(state: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias
    return layer.requires_grad_(False)


def _feed_forward(state: dict[str, Tensor], name: str) -> nn.Sequential:
    norm = nn.LayerNorm(len(state[f"{name}.1.weight"]))
    norm.weight.data, norm.bias.data = state[f"{name}.1.weight"], state[f"{name}.1.bias"]
    return nn.Sequential(
        _linear(state, f"{name}.0"),
        norm.requires_grad_(False),
        nn.GELU(),
        _linear(state, f"{name}.3"),
    )


class LearnedMatcher(NearestNeighbours):
    """LightGlue, with the weights for these local features. Raises ConfigError without them."""

    def __init__(self, kind: str, device: str = "cpu") -> None:
        super().__init__(kind)
        self.name = f"{kind} lightglue"
        self._network = load_matcher(kind, device)

    def __call__(self, query: Keypoints, view: Keypoints) -> Matches:
        """Pairs of rows int64 [M, 2] of two images' keypoints."""
        if not len(query) or not len(view):
            return np.zeros((0, 2), np.int64)
        a, b = (unit_vectors(self.kind, image.descriptors) for image in (query, view))
        return match_learned(self._network, a, b, _centred(query), _centred(view))


def _centred(image: Keypoints) -> NDArray[np.float32]:
    """Pixels [K, 2] relative to the centre, the longer side −1 … 1; of an image of unknown size,
    its keypoints reach to the edges."""
    if image.camera is not None:
        size: NDArray[Any] = np.array([image.camera.width, image.camera.height], np.float64)
    else:
        size = image.pixels.max(0) + 1.0
    centred: NDArray[np.float32] = ((image.pixels - size / 2) / (size.max() / 2)).astype(np.float32)
    return centred
