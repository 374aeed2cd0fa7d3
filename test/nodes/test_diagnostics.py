# SPDX-License-Identifier: Apache-2.0
import pytest

pytest.importorskip("rclpy", reason="needs rclpy", exc_type=ImportError)

from disam_ros.nodes.diagnostics import ERROR, OK, WARN, Monitor


class Logger:
    """Keeps what is logged at each level."""

    def __init__(self):
        self.warnings, self.errors = [], []

    def warning(self, text):
        self.warnings.append(text)

    def error(self, text):
        self.errors.append(text)


def test_a_problem_that_stays_is_logged_once_and_shown_until_it_is_solved():
    monitor, logger = Monitor("node"), Logger()
    for _ in range(3):
        monitor.warn_once(logger, "image", "no image came", hold=None)
    assert (logger.warnings, logger.errors) == (["no image came"], [])
    status = monitor.status("running")
    assert (status.level, status.message) == (WARN, "running: no image came")
    monitor.solved("image")
    status = monitor.status("running")
    assert (status.level, status.message) == (OK, "running")


def test_a_problem_whose_text_changes_is_logged_again():
    monitor, logger = Monitor("node"), Logger()
    for text in ("no image came", "no pose came"):
        monitor.warn_once(logger, "input", text)
    assert logger.warnings == ["no image came", "no pose came"]


def test_a_problem_that_returns_after_its_hold_is_logged_again():
    monitor, logger = Monitor("node"), Logger()
    for _ in range(2):
        monitor.warn_once(logger, "input", "no image came", hold=-1.0)
    assert len(logger.warnings) == 2
    assert monitor.status("running").message == "running"


def test_a_problem_at_error_level_is_logged_as_an_error():
    monitor, logger = Monitor("node"), Logger()
    monitor.warn_once(logger, "map", "the map is broken", level=ERROR)
    assert (logger.warnings, logger.errors) == ([], ["the map is broken"])


def test_the_worst_of_several_problems_comes_first_and_gives_the_level():
    monitor = Monitor("node")
    monitor.problem("a", "slow")
    monitor.problem("b", "broken", ERROR)
    status = monitor.status("running")
    assert (status.level, status.message) == (ERROR, "running: broken; slow")
