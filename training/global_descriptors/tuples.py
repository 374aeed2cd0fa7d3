# SPDX-License-Identifier: Apache-2.0
"""Geographic tuple mining: an anchor, near images, far images apart from each other.

Thoma et al., NeurIPS 2020. Near: within a radius and a yaw window that wraps at ±180°. Far: beyond
another radius of the anchor and of each other; those of another map frame are always far. Some of
the far ones are mined: the most similar of a cache of descriptors that is renewed now and then.
Random choices come from (seed, stage, step, process), as in training.disam.sampling.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError
from training.global_descriptors.config import TupleConfig
from training.global_descriptors.routes import Routes, thinned

log = logging.getLogger(__name__)

ANCHORS, DRAWS, CACHE = 2**21, 2**22, 2**23  # streams of random numbers


@dataclass(frozen=True)
class Memory:
    """Images that far negatives are mined from."""

    rows: NDArray[Any]  # of the image store [M]
    descriptors: NDArray[Any]  # by the networks of a recent step [M, D]


class TupleSampler:
    """Draws tuples of one stage. Logs how many images cannot be anchors, and where.

    rows: photos to draw from. Raises TrainingError where none can be an anchor.
    """

    def __init__(
        self,
        routes: Routes,
        rows: Sequence[int] | NDArray[Any],
        config: TupleConfig,
        seed: tuple[int, int],
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.routes, self.config, self.seed = routes, config, seed
        self.process, self.processes = process, processes
        self.rows = routes.posed(rows)
        self._member = np.zeros(len(routes.route), dtype=bool)
        self._member[self.rows] = True
        net = self._apart([], self.rows, len(self.rows))  # rows that lie apart from each other
        self._net, self._spread = net, np.concatenate([net, self.rows])
        self.anchors = self._find_anchors()
        self._epochs: dict[int, NDArray[Any]] = {}
        self._length = len(self.epoch(0))

    def epoch(self, number: int) -> NDArray[Any]:
        """Orders the anchors of an epoch: about one per `anchor_spacing` metres of route."""
        if number not in self._epochs:
            random = np.random.default_rng([*self.seed, number, ANCHORS])
            chosen = thinned(
                self.routes, self.anchors, self.config.anchor_spacing, self.config.yaw, random
            )
            self._epochs = {number: chosen}
        return self._epochs[number]

    def draw(self, step: int) -> NDArray[Any]:
        """Draws the tuples of a step, int [T, 1 + near + far]; all far ones are random."""
        random = np.random.default_rng([*self.seed, step, DRAWS + self.process])
        return np.stack([self._tuple(anchor, random) for anchor in self._anchors_of(step)])

    def cache_rows(self, step: int) -> NDArray[Any]:
        """Draws the images that negatives are mined from, at a step."""
        random = np.random.default_rng([*self.seed, step, CACHE + self.process])
        size = min(self.config.cache, len(self.rows))
        return np.sort(random.choice(self.rows, size, replace=False))

    def renews(self, step: int) -> bool:
        """Tells whether the cache is drawn and described again before a step."""
        per_step = self.config.tuples * self.processes
        every = max(1, self.config.refresh // per_step)
        return self.mined > 0 and step % every == 0

    @property
    def mined(self) -> int:
        """Counts the far images of a tuple that are mined."""
        return round(self.config.hard * self.config.far) if self.config.cache else 0

    def mine(self, rows: NDArray[Any], descriptors: NDArray[Any], memory: Memory) -> NDArray[Any]:
        """Hard negative mining: replaces the last far images by the most similar of the memory.

        rows: as from `draw`. descriptors: those of the anchors [T, D]. A tuple for which the memory
        does not hold enough images that lie apart keeps its random ones.
        """
        return np.stack([self._mine(*pair, memory) for pair in zip(rows, descriptors, strict=True)])

    def _mine(self, row: NDArray[Any], anchor: NDArray[Any], memory: Memory) -> NDArray[Any]:
        count = self.mined
        fixed, spare = row[: len(row) - count], row[len(row) - count :]
        taken = [fixed[0], *fixed[1 + self.config.near :]]
        order = memory.rows[np.argsort(-(memory.descriptors @ anchor), kind="stable")]
        chosen = self._apart(taken, np.concatenate([order, spare]), count)
        return row if len(chosen) < count else np.concatenate([fixed, chosen])

    def _anchors_of(self, step: int) -> list[int]:
        """Lists the anchors of this process in a step; one epoch follows the other."""
        count = self.config.tuples
        begin = (step * self.processes + self.process) * count
        return [self._anchor(begin + k) for k in range(count)]

    def _anchor(self, number: int) -> int:
        """Returns the number-th anchor of all epochs; each epoch counts as long as the first."""
        chosen = self.epoch(number // self._length)
        return int(chosen[number % self._length % len(chosen)])

    def _near(self, anchor: int) -> NDArray[Any]:
        near = self.routes.near(anchor, self.config.near_radius, self.config.yaw)
        result: NDArray[Any] = near[self._member[near]]
        return result

    def _tuple(self, anchor: int, random: np.random.Generator) -> NDArray[Any]:
        count = self.config.far
        near = random.choice(self._near(anchor), self.config.near, replace=False)
        far = self._apart([anchor], random.permutation(self.rows), count)
        if len(far) < count:
            far = self._apart([anchor], self._spread, count)  # known to suffice
        return np.concatenate([[anchor], near, far])

    def _apart(self, taken: Sequence[int], ordered: NDArray[Any], count: int) -> NDArray[Any]:
        """Takes the first `count` rows that lie apart from those taken and from each other."""
        chosen: list[int] = []
        gaps = self.routes.metres(ordered, np.asarray(taken, dtype=int))
        left = ordered[(gaps > self.config.far_radius).all(1)]
        while len(chosen) < count and len(left):
            chosen.append(int(left[0]))
            left = left[self.routes.metres(left, left[:1])[:, 0] > self.config.far_radius]
        return np.array(chosen, dtype=int)

    def _has_far(self, anchor: int) -> bool:
        gaps = self.routes.metres(self._net, np.array([anchor]))[:, 0]
        enough = int((gaps > self.config.far_radius).sum()) >= self.config.far
        return (
            enough or len(self._apart([anchor], self._spread, self.config.far)) == self.config.far
        )

    def _find_anchors(self) -> NDArray[Any]:
        """Finds rows with enough near and far images; logs how many lack them."""
        config = self.config
        lonely = [r for r in self.rows.tolist() if len(self._near(r)) < config.near]
        left = np.setdiff1d(self.rows, lonely)
        crowded = [row for row in left.tolist() if not self._has_far(row)]
        left = np.setdiff1d(left, crowded)
        near = f"fewer than {config.near} near images ({config.near_radius} m, {config.yaw}°)"
        far = f"fewer than {config.far} far ones (more than {config.far_radius} m apart)"
        reasons = [
            f"{len(rows)} have {lack}, first at {self.routes.describe(rows[0])}"
            for rows, lack in ((lonely, near), (crowded, far))
            if rows
        ]
        if reasons:
            log.warning(
                "%d of %d posed images cannot be anchors of tuples: %s",
                len(self.rows) - len(left),
                len(self.rows),
                "; ".join(reasons),
            )
        if not len(left):
            raise TrainingError(
                f"no tuples: {'; '.join(reasons) or 'there are no posed images'}. Raise "
                f"tuples.near_radius, lower tuples.near, tuples.far or tuples.far_radius, or give "
                f"data with more drives of one route"
            )
        return left
