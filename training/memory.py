# SPDX-License-Identifier: Apache-2.0
"""Out of memory: find by trying which batch and crop would fit, and say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from training.disam.config import TRANSLATING
from training.disam.sampling import Aligned, Batch, Unpaired
from training.engine.stage_base import is_out_of_memory
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.disam.stage import StageRun

Size = tuple[int, int]


def out_of_memory(run: StageRun) -> TrainingError:
    """The error to raise when a step ran out of memory, with sizes that were tried and fit."""
    stage, network = run.stage, run.config.network.build()
    size = network.image_size
    key = "batch_size" if stage.losses.on(TRANSLATING) else "aligned_batch"
    batch = getattr(stage, key)
    run.bank.load({}, run.device)
    for optimizer in run.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    found = largest_that_fits(lambda b, s: probe(run, key, b, s), batch, size, network.stride)
    advice = "no smaller size fits either; lower network.width"
    if found is not None:
        advice = f"{key} {found[0]} at image_size [{found[1][0]}, {found[1][1]}] fits"
    return TrainingError(
        f"out of memory in stage '{stage.name}' with {key} {batch} at image_size {list(size)}: "
        f"{advice}"
    )


def largest_that_fits(
    attempt: Callable[[int, Size], None], batch: int, size: Size, stride: int = 4
) -> tuple[int, Size] | None:
    """The first of `smaller_sizes` with which `attempt` does not run out of memory."""
    for smaller in smaller_sizes(batch, size, stride):
        try:
            attempt(*smaller)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            continue
        return smaller
    return None


def smaller_sizes(batch: int, size: Size, stride: int = 4) -> Iterator[tuple[int, Size]]:
    """Half the batch down to 1, then crops of 3/4 of the sides, not below 32 pixels."""
    while batch > 1:
        batch //= 2
        yield batch, size
    while min(size) * 3 // 4 >= 32:
        size = tuple(side * 3 // (4 * stride) * stride for side in size)
        yield batch, size


def probe(run: StageRun, key: str, batch: int, size: Size) -> None:
    """Forward and backward on noise, without an update."""
    domains = tuple(run.networks.encoders)[:2]
    noise = torch.rand(batch, 3, *size)
    unpaired = aligned = None
    if key == "batch_size":
        unpaired = Unpaired(domains, noise, noise, noise[:0], noise[:0])
    else:
        aligned = Aligned(domains, noise, noise, ~torch.eye(batch, dtype=torch.bool))
    try:
        terms, _ = run.losses(0, run.to_device(Batch(unpaired, aligned)))
        torch.stack(list(terms.values())).sum().backward()
    finally:
        for optimizer in run.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
