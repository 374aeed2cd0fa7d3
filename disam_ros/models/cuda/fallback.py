# SPDX-License-Identifier: Apache-2.0
"""Work on a device that goes on on the CPU where the device fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from disam_ros.device import CPU, free_device_memory, is_device_fault, is_out_of_memory

logger = logging.getLogger(__name__)

# A device that is broken cannot take back what it holds, and trying may end the process: this list
# keeps such objects alive on purpose.
_never_released: list[object] = []


@contextmanager
def leave_device(device: str, error: Exception, holder: Mapping[str, Any]) -> Iterator[None]:
    """Handles a fault of a device round the step that replaces what was on it by the CPU's.

    holder: attributes of what was on the device. Raises the error where it is no fault of a device:
    out of memory, gone or broken.
    """
    if device == CPU or not is_device_fault(error):
        raise error
    if not is_out_of_memory(error):
        _never_released.append(dict(holder))
    logger.error(
        "device %s failed, the CPU goes on from here, slower; restart to use it again: %s",
        device,
        str(error).strip().split("\n")[0],
    )
    yield
    free_device_memory()
