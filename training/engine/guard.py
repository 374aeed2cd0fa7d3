# SPDX-License-Identifier: Apache-2.0
"""The last good state of a stage, in memory, to go back to when a loss is not finite."""

from __future__ import annotations

from typing import Any

from training.engine.networks import State
from training.engine.stage_base import StageBase
from training.errors import NotFiniteError


class Guard:
    """Keeps networks, optimizers and memory of a stage after a step."""

    def __init__(self, run: StageBase[Any], step: int) -> None:
        self.step = step
        self._states = _states_of(run)

    def keep(self, run: StageBase[Any], step: int) -> None:
        """Take this state as good. Raises NotFiniteError where a weight is not finite."""
        states = _states_of(run)
        require_finite(states[0], step)
        self.step, self._states = step, states

    def restore(self, run: StageBase[Any]) -> int:
        """Give the stage its last good state. Returns the number of its finished steps."""
        networks, optimizers, memory = self._states
        run.networks.load(networks)
        run.load_optimizer_state({key: value.clone() for key, value in optimizers.items()})
        run.load_memory_state({key: value.clone() for key, value in memory.items()})
        return self.step


def require_finite(networks: State, step: int) -> None:
    """Raises NotFiniteError naming the first weight that is not finite."""
    for name, value in networks.items():
        if not value.isfinite().all():
            raise NotFiniteError(f"weights '{name}' are not finite after step {step}")


def _states_of(run: StageBase[Any]) -> tuple[State, State, State]:
    states = run.networks.state(), run.optimizer_state(), run.memory_state()
    networks, optimizers, memory = ({k: v.clone() for k, v in s.items()} for s in states)
    return networks, optimizers, memory
