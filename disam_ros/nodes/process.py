# SPDX-License-Identifier: Apache-2.0
"""Main function of a node: create, spin, end cleanly on SIGINT and SIGTERM with exit code 0."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.logging import get_logger

from disam_ros.errors import DisamError


class RosLogHandler(logging.Handler):
    """Forwards the core's log to a ROS logger."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


def run(name: str, create: Callable[[], Any], args: list[str] | None = None) -> int:
    """Create a node, spin it until a signal ends it, `close()` it; returns the exit code.

    create: returns a Node that has a method `close`. The code is 1 where the node cannot be
    created; the error is logged.
    """
    rclpy.init(args=args)
    logger = get_logger(name)
    forward = RosLogHandler(logger)
    logging.getLogger("disam_ros").addHandler(forward)
    node = None
    try:
        node = create()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except DisamError as error:
        logger.fatal(str(error))
        return 1
    except rclpy_implementation.RCLError:
        if rclpy.ok():  # otherwise: shut down in the middle of a call
            raise
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        logging.getLogger("disam_ros").removeHandler(forward)
        rclpy.try_shutdown()
    return 0
