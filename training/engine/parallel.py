# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training (torchrun): gradients averaged over processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from disam_ros.device import select_device


@dataclass(frozen=True)
class Processes:
    """This process and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over processes; all must have the same ones."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, value: Tensor) -> Tensor:
        """Averages a value over processes."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.count
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Tells whether the flag is set in any process."""
        if self.count == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        distributed.all_reduce(value)
        return value.item() > 0

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.barrier()


def join(device: str) -> tuple[Processes, torch.device]:
    """Join the processes that torchrun started; without it this is the only one.

    With CUDA every process of a machine takes the GPU of its number.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    chosen = torch.device(select_device(device))
    if count == 1:
        return Processes(), chosen
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), count), chosen


def leave() -> None:
    """End what `join` began."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
