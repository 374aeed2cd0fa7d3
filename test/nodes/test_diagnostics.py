# SPDX-License-Identifier: Apache-2.0
"""What a node reports on /diagnostics, without DDS."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs rclpy", exc_type=ImportError)

from support.messages import values

from disam_ros.nodes.localizer.reports import Reports
from disam_ros.nodes.rclpy_extra import diagnostics
from disam_ros.nodes.rclpy_extra.diagnostics import ERROR, HOLD, OK, RATE_WINDOW, WARN, Monitor


class Clock:
    """Stands until it is moved."""

    now = 100.0  # s

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(diagnostics, "time", clock)
    return clock


class Logger:
    """Keeps what is logged at each level."""

    def __init__(self):
        self.warnings, self.errors = [], []

    def warning(self, text):
        self.warnings.append(text)

    def error(self, text):
        self.errors.append(text)


def test_a_problem_that_stays_is_logged_once_and_shown_until_it_is_solved():
    logger = Logger()
    monitor = Monitor("node", logger)
    for _ in range(3):
        monitor.lasting("image", "no image came")
    assert (logger.warnings, logger.errors) == (["no image came"], [])
    status = monitor.status("running")
    assert (status.level, status.message) == (WARN, "running: no image came")
    monitor.lasting("image", "")
    status = monitor.status("running")
    assert (status.level, status.message) == (OK, "running")


def test_a_problem_whose_text_changes_is_logged_again():
    logger = Logger()
    monitor = Monitor("node", logger)
    for text in ("no image came", "no pose came"):
        monitor.warn_once("input", text)
    assert logger.warnings == ["no image came", "no pose came"]


def test_a_passing_problem_is_shown_for_a_while_and_logged_again_when_it_returns(clock):
    logger = Logger()
    monitor = Monitor("node", logger)
    monitor.warn_once("input", "no image came")
    clock.now += HOLD
    assert monitor.status("running").message == "running: no image came"
    clock.now += 0.1
    assert monitor.status("running").message == "running"
    monitor.warn_once("input", "no image came")
    assert len(logger.warnings) == 2


def test_a_problem_at_error_level_is_logged_as_an_error():
    logger = Logger()
    monitor = Monitor("node", logger)
    monitor.warn_once("map", "the map is broken", ERROR)
    assert (logger.warnings, logger.errors) == ([], ["the map is broken"])


def test_the_worst_problem_sets_the_level_and_comes_first():
    monitor = Monitor("probe")
    assert monitor.status("active").level == OK
    assert monitor.problem("a", "odd", WARN, hold=None)
    assert not monitor.problem("a", "odd", WARN, hold=None)
    assert monitor.problem("b", "broken", ERROR, hold=None)
    status = monitor.status("active")
    assert (status.level, status.message) == (ERROR, "active: broken; odd")
    monitor.solved("b")
    assert monitor.status("active").level == WARN
    monitor.forget_problems()
    assert monitor.status("active").message == "active"


def test_counts_rates_and_latencies_are_reported_as_values(clock):
    monitor = Monitor("probe")
    monitor.start_counts("images")
    for number in range(1, 101):
        monitor.mark("in")
        monitor.latency("stage", float(number))
    result = values(monitor.status("active"))
    assert result["images"] == "0"
    assert float(result["in (Hz)"]) == pytest.approx(100 / RATE_WINDOW)
    assert float(result["stage p50 (ms)"]) == pytest.approx(50.5)
    assert float(result["stage p99 (ms)"]) == pytest.approx(99.0, abs=0.1)
    clock.now += RATE_WINDOW + 0.1
    assert values(monitor.status("active"))["in (Hz)"] == "0.00"


class StandInNode:
    """A node that a signal has shut down, or not."""

    def __init__(self, running):
        self.context, self.logger = SimpleNamespace(ok=lambda: running), Logger()

    def get_logger(self):
        return self.logger


@pytest.mark.parametrize("running", [True, False])
def test_a_by_product_that_fails_is_reported_unless_the_node_is_being_shut_down(running):
    node = StandInNode(running)
    monitor = Monitor("localizer", node.logger)
    with Reports(node, monitor).guard("the activation map"):
        raise RuntimeError("no memory")
    assert monitor.shows("the activation map") is bool(node.logger.errors) is running
