# SPDX-License-Identifier: Apache-2.0
"""The paper's ablation at a hundredth of the paper's steps: does the dip of the short one end?

Four rows of Table VI from a long translation (`ablation`), with two seeds. The rule for stopping
was written before any run: a row counts only at its last step, all are trained to it, and seeds are
added to both rows of a question or to none. If no row has passed its untrained start there, the
finding is "not at a hundredth of the paper".

`python -m benchmark.research.long_ablation [SEED ...]`, resumed by the same command after Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.research import ablation
from benchmark.research.experiment import main

LONG = ablation.Size(
    runs=Path("runs/long_ablation"),
    seeds=(0, 1),
    rows=(ablation.FCL, ablation.COARSE_ONLY, ablation.CONSTANT, ablation.FINE_ONLY),
    translation=16_000,
    steps=6_000,
    every=500,
    saved=500,
)
SEEDS = LONG.seeds


def measure(
    seeds: Sequence[int] = SEEDS, finished: bool = False, runs: Path | None = None
) -> dict[str, Any]:
    """Returns the figures of `ablation.measure` at this size."""
    return ablation.measure(seeds, finished, runs, LONG)


if __name__ == "__main__":
    sys.exit(main("long_ablation"))
