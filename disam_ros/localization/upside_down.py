# SPDX-License-Identifier: Apache-2.0
"""Detects cameras that are mounted upside down, or whose driver has turned their images already.

Such images show no place of the map: they are localized as unknown. Turned by 180° about the
optical axis they show one, which no other fault does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from disam_ros.config import LocalizerConfig
from disam_ros.localization.answer import Answer
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Query

EVERY = 5  # images of unknown place of which one is turned at first
RAREST = 40  # while turned images show no place: twice as rarely each time, up to one in these
WINS = 3  # turned images in a row that show a place
LEAD = 3.0  # log odds by which a turned image exceeds the camera's own

REMEDY = (
    "images of camera '{camera}' show the map only when they are turned by 180°: it is mounted "
    "upside down, or its driver turns them already; set the roll of its extrinsics accordingly"
)


@dataclass
class _Count:
    """Images of unknown place in a row, and of the last turned ones those that show a place."""

    unknown: int = 0
    wins: int = 0
    pause: int = EVERY  # images until the next one is turned
    turns_at: int = EVERY  # number of that image


class UpsideDownCheck:
    """Compares turned images of cameras with the map, now and then, while places are unknown."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = defaultdict(_Count)

    def is_turned(
        self, localizer: Localizer, query: Query, answer: Answer, config: LocalizerConfig
    ) -> bool:
        """Whether the last images of the query's camera show places of the map only when turned.

        answer: to the query. Raises as `Localizer.search`.
        """
        count = self._counts[query.camera]
        if answer.known:
            self._counts[query.camera] = _Count()
            return False
        count.unknown += 1
        if count.unknown == count.turns_at:
            turned = _turned_log_odds(localizer, query, config)
            wins = turned > max(0.0, localizer.log_odds(answer.candidates) + LEAD)
            count.wins = count.wins + 1 if wins else 0
            count.pause = EVERY if wins else min(2 * count.pause, RAREST)
            count.turns_at += count.pause
        return count.wins >= WINS


def _turned_log_odds(localizer: Localizer, query: Query, config: LocalizerConfig) -> float:
    """Log odds that the best map image of the query's view, turned by 180°, is the right one."""
    view = query.frame
    turned = replace(view, image=view.image[::-1, ::-1].copy(), warp=None)
    (encoded,) = localizer.encode([turned], query.domain)
    return localizer.log_odds(localizer.rerank(encoded, localizer.search(encoded, config)))
