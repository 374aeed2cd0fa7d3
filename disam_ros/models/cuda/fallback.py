# SPDX-License-Identifier: Apache-2.0
"""Work on a device that goes on on the CPU where the device fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from disam_ros.device import CPU, free_device_memory, is_device_fault, is_out_of_memory

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
Result = TypeVar("Result")

# A device that is broken cannot take back what it holds, and trying may end the process.
_lost: list[object] = []


class OnDevice(Generic[Made]):
    """What is made for a device, and for the CPU once the device is out of memory, gone or broken.

    It happens once, one line says so, and the work that failed is done again: it must not have
    changed anything. Other errors pass through. device: where the work is done now.
    """

    def __init__(self, make: Callable[[str], Made], device: str) -> None:
        self._make, self.device = make, device
        self._made: Made | None = None
        self.run(lambda made: None)

    @property
    def made(self) -> Made:
        """What was made for the device."""
        if self._made is None:
            self._made = self._make(self.device)
        return self._made

    def run(self, work: Callable[[Made], Result]) -> Result:
        """The result of the work."""
        try:
            return work(self.made)
        except Exception as error:  # those of CUDA and of ONNX Runtime have no root in common
            if self.device == CPU or not is_device_fault(error):
                raise
            if not is_out_of_memory(error):
                _lost.append(self._made)
            logger.error(
                "device %s failed, the CPU goes on from here, slower; restart to use it again: %s",
                self.device,
                str(error).strip().split("\n")[0],
            )
        self.device, self._made = CPU, None
        free_device_memory()
        return work(self.made)
