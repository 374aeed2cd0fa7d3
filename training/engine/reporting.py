# SPDX-License-Identifier: Apache-2.0
"""Progress bar, mean losses with a check for NaN, TensorBoard."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from training.engine.networks import Terms
from training.errors import NotFiniteError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


class LossLog:
    """Collects loss terms on the device; reading them costs one transfer per `flush`."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._terms: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, terms: Terms) -> None:
        self._terms.append((step, list(terms), torch.stack([t.float() for t in terms.values()])))

    def flush(self) -> dict[str, float]:
        """Means since the last flush.

        Raises NotFiniteError naming the first step and term that are not finite.
        """
        taken, self._terms = self._terms, []
        sums: dict[str, list[float]] = {}
        for step, names, values in taken:
            for name, value in zip(names, values.tolist(), strict=True):
                if not math.isfinite(value):
                    raise NotFiniteError(
                        f"loss '{name}' is {value} in step {step} of stage '{self.stage}'"
                    )
                sums.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in sums.items()}


class Reporter:
    """Progress bar and TensorBoard of one stage; does nothing in processes but the first."""

    def __init__(self, directory: Path, stage: str, steps: int, done: int, shown: bool) -> None:
        self._stage, self._writer = stage, open_tensorboard(directory) if shown else None
        self._shown = shown
        pause = 0.5 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            total=steps, initial=done, desc=stage, disable=not shown, mininterval=pause
        )

    def advance(self) -> None:
        self._bar.update()

    def losses(self, step: int, means: dict[str, float], learning_rate: float) -> None:
        self._bar.set_postfix({k: f"{v:.3g}" for k, v in means.items()}, refresh=False)
        self._scalars(step, {"learning_rate": learning_rate, **means})

    def shares(self, step: int, terms: Terms, shares: dict[str, float]) -> None:
        """Show values of the losses in a step and their shares of the gradient."""
        if not self._shown:
            return
        text = ", ".join(
            f"{name} {float(terms[name]):.3g} ({100 * share:.0f} % of the gradient)"
            for name, share in shares.items()
        )
        self._bar.write(f"{self._stage} step {step}: {text}", file=sys.stderr)
        self._scalars(step, {f"gradient_share/{name}": share for name, share in shares.items()})

    def back_to(self, step: int) -> None:
        self._bar.update(step - self._bar.n)

    def recall(self, step: int, recalls: dict[str, float]) -> None:
        text = ", ".join(f"{k} {v:.1f}" for k, v in recalls.items())
        self._bar.write(f"{self._stage} step {step}: recall@1 {text} %", file=sys.stderr)
        self._scalars(step, {f"recall_{k}": v for k, v in recalls.items()})

    def grid(self, step: int, picture: Tensor) -> None:
        if self._writer is not None:
            self._writer.add_image(f"{self._stage}/translations", picture, step)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{self._stage}/{name}", value, step)


def open_tensorboard(directory: Path) -> SummaryWriter | None:
    """Opens a SummaryWriter, or returns None with a message where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("TensorBoard is not installed, no curves: pip install tensorboard")
        return None
    return SummaryWriter(str(directory / "tensorboard"))
