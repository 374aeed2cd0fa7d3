# SPDX-License-Identifier: Apache-2.0
"""Main function of a node: create, spin, end cleanly on a signal with exit code 0."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.logging import get_logger

from disam_ros.entry import heeded
from disam_ros.errors import DisamError
from disam_ros.files.printable import printable
from disam_ros.nodes.rclpy_extra.starting import starting

SWITCH_INTERVAL = 0.0005  # after which a thread of a node lets another one compute [s]


class RosLogHandler(logging.Handler):
    """Forwards the core's log to a ROS logger."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(self.format(record))
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


class Interruption:
    """Signals: the first raises KeyboardInterrupt, further ones do nothing.

    A terminal and `ros2 launch` both send one, a moment apart: the second must not end the writing
    that the first began. To be made before rclpy.init, whose own handlers of SIGINT and SIGTERM, if
    any, act as well. These two end a node in a background job of a shell, too.
    """

    def __init__(self) -> None:
        self._raises = True
        self._signals = {signal.SIGINT, signal.SIGTERM, *heeded()}
        for signum in self._signals:
            signal.signal(signum, self._on_signal)

    def defer(self) -> None:
        """From now on no signal raises: what is under way is completed."""
        self._raises = False

    def ignore(self) -> None:
        """From now on signals do nothing, even while the interpreter ends."""
        for signum in self._signals:
            signal.signal(signum, signal.SIG_IGN)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._raises:
            self._raises = False
            raise KeyboardInterrupt(signum)
        if signum == signal.SIGHUP:
            os.kill(os.getpid(), signal.SIGTERM)  # for rclpy, which does not handle SIGHUP


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore signals in this block: what it writes is written as a whole."""
    if threading.current_thread() is not threading.main_thread():  # Python handles them there
        yield
        return
    before = {signum: signal.signal(signum, lambda *_: None) for signum in heeded()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class InterruptibleExecutor(SingleThreadedExecutor):
    """Passes on the KeyboardInterrupt of a signal wherever it comes: raised while C code converts a
    message, it is the cause of an error of that."""

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """As in rclpy. Raises KeyboardInterrupt."""
        try:
            super().spin_once(timeout_sec)
        except Exception as error:
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise error.__cause__ from error
            raise

    def spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Runs callbacks until a condition holds; returns False after the timeout [s]."""
        end = time.monotonic() + timeout
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.spin_once(timeout_sec=min(left, 0.1))
        return True


class GuardedExecutor(InterruptibleExecutor):
    """Goes on after an exception of a callback, which it reports in one line."""

    def __init__(self, report: Callable[[str], None], context: Context | None = None) -> None:
        super().__init__(context=context)
        self._report = report
        self._entity: Any = None  # whose callback runs

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """As in rclpy, and remember whose callback it is."""
        self._entity = None
        ready: tuple[Any, Any, Any] = super().wait_for_ready_callbacks(*args, **kwargs)
        self._entity = ready[1] or ready[0]
        return ready

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """As in rclpy, and report what a callback raised."""
        try:
            super().spin_once(timeout_sec)
        except ExternalShutdownException:
            raise
        except Exception as error:
            if self._entity is None or not self.context.ok():  # no callback, or shut down in it
                raise
            self._report(f"{_name(self._entity)} failed and was left out: {describe(error)}")


def describe(error: BaseException) -> str:
    """An error in one line, with its place in the code where it is none of this package's."""
    text = printable(str(error)) or type(error).__name__
    if isinstance(error, DisamError):
        return text
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return text + "".join(f" ({type(error).__name__} at {f.filename}:{f.lineno})" for f in last)


def _name(entity: Any) -> str:
    for attribute, what in (("topic_name", "a message of"), ("srv_name", "a request to")):
        if hasattr(entity, attribute):
            return f"{what} {getattr(entity, attribute)}"
    return "a callback"


def run(name: str, create: Callable[[], Any], args: list[str] | None = None) -> int:
    """Create a node, spin it until a signal ends it, `close()` it; returns the exit code.

    create: returns a Node that has the methods `close` and `report_fault`. A signal ends it at
    once, but not what `close` writes. The code is 1 where the node cannot be created; the error is
    logged.
    """
    interruption = Interruption()
    sys.setswitchinterval(SWITCH_INTERVAL)
    logger = get_logger(name)
    forward = RosLogHandler(logger)
    logging.getLogger("disam_ros").addHandler(forward)
    node = None
    try:
        with starting():
            rclpy.init(args=args)
            node = create()
        interruption.defer()  # from here on rclpy's handlers end the spinning
        executor = GuardedExecutor(node.report_fault)
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except DisamError as error:
        logger.fatal(printable(str(error)))
        return 1
    except rclpy_implementation.RCLError:
        if rclpy.ok():  # otherwise: shut down in the middle of a call
            raise
    finally:
        interruption.defer()
        if node is not None:
            node.close()
            node.destroy_node()
        logging.getLogger("disam_ros").removeHandler(forward)
        rclpy.try_shutdown()
        interruption.ignore()
    return 0
