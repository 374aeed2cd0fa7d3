# SPDX-License-Identifier: Apache-2.0
"""The end of commands beside training.train."""

from __future__ import annotations

import logging
from collections.abc import Callable

from disam_ros.errors import DisamError
from disam_ros.files.printable import log_to_stderr

log = logging.getLogger(__name__)


def exit_status(work: Callable[[], str]) -> int:
    """Run a command, and log the sentence that it returns.

    Returns the exit status: 0 done, 1 an error a user can act on, 130 stopped with nothing written.
    """
    log_to_stderr(logging.INFO)
    try:
        log.info("%s", work())
    except KeyboardInterrupt:
        log.info("stopped; nothing was written")
        return 130
    except DisamError as error:
        log.error("%s", error)
        return 1
    return 0
