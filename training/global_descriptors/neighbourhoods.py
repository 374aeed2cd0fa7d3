# SPDX-License-Identifier: Apache-2.0
"""Neighbourhood sampling: pairs of one place, negatives within the radius of a position prior.

Xia et al., RA-L 2021: with a position prior of some 50 m, descriptors need to separate neighbours
only. A random centre and images around it fill the batch; each comes with a partner of the same
place, drawn at random every time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError
from training.global_descriptors.config import NeighbourhoodConfig
from training.global_descriptors.routes import Routes

log = logging.getLogger(__name__)

STREAM = 2**24  # of random numbers, apart from the tuples'


class NeighbourhoodSampler:
    """Draws the batches of one stage. Logs how many images have no partner, and where.

    queries, references: photos on either side of a pair; they may be the same ones. Raises
    TrainingError where fewer than two pairs exist.
    """

    def __init__(
        self,
        routes: Routes,
        queries: Sequence[int] | NDArray[Any],
        references: Sequence[int] | NDArray[Any],
        config: NeighbourhoodConfig,
        seed: tuple[int, int],
        process: int = 0,
    ) -> None:
        self.routes, self.config, self.seed, self.process = routes, config, seed, process
        self._is_reference = np.zeros(len(routes.route), dtype=bool)
        self._is_reference[routes.posed(references)] = True
        rows = routes.posed(queries)
        has = np.array([len(self._partners(row)) > 0 for row in rows.tolist()], dtype=bool)
        self.rows, alone = rows[has], rows[~has]
        where = f"within {config.positive_radius} m and {config.yaw}°"
        if len(self.rows) < 2:
            raise TrainingError(
                f"no neighbourhoods: {len(self.rows)} of {len(rows)} posed images have a partner "
                f"{where}; raise neighbourhoods.positive_radius, or give both sides in one map "
                f"frame ('GROUND + AERIAL' as one entry of data)"
            )
        if len(alone):
            log.warning(
                "%d of %d posed images have no partner %s and are left out, first at %s",
                len(alone),
                len(rows),
                where,
                routes.describe(int(alone[0])),
            )
        self._is_query = np.zeros(len(routes.route), dtype=bool)
        self._is_query[self.rows] = True

    def draw(self, step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draws rows of queries of one neighbourhood [B], and of their partners [B].

        Without a radius queries come from all routes. B is smaller than `batch` where the route, or
        all together, holds fewer images.
        """
        random = np.random.default_rng([*self.seed, step, STREAM + self.process])
        if self.config.radius == 0:
            count = min(self.config.batch, len(self.rows))
            return self._with_partners(random.choice(self.rows, count, replace=False), random)
        centre = int(random.choice(self.rows))
        around = self.routes.within(centre, self.config.radius)
        around = random.permutation(around[self._is_query[around] & (around != centre)])
        missing = self.config.batch - 1 - len(around)
        if missing > 0:
            others = self.rows[self.routes.route[self.rows] == self.routes.route[centre]]
            others = np.setdiff1d(others, [*around, centre])
            gaps = self.routes.metres(others, np.array([centre]))[:, 0]
            around = np.concatenate([around, others[np.argsort(gaps, kind="stable")[:missing]]])
        queries = np.concatenate([[centre], around[: self.config.batch - 1]])
        return self._with_partners(queries, random)

    def _with_partners(
        self, queries: NDArray[Any], random: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        partners = [random.choice(self._partners(row)) for row in queries.tolist()]
        return queries, np.array(partners, dtype=int)

    def _partners(self, row: int) -> NDArray[Any]:
        near = self.routes.near(row, self.config.positive_radius, self.config.yaw)
        result: NDArray[Any] = near[self._is_reference[near]]
        return result
