# SPDX-License-Identifier: Apache-2.0
"""Environment, fixtures and failure reports that several test modules share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

from support import logs

from disam_ros.nodes.replay.domain import claim_domain

# Networks this small are fastest on one thread, and two spin against each other on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch and faiss are loaded
os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.pop("ROS_LOCALHOST_ONLY", None)  # of the shell, as are those below
os.environ.pop("ROS_NAMESPACE", None)
os.environ.pop("RCUTILS_CONSOLE_OUTPUT_FORMAT", None)
os.environ["PYTHONUNBUFFERED"] = "1"
# A shell's background job ignores SIGINT, and so would all processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hypothesis import HealthCheck, settings
from support.data import DESCRIPTOR, save_tiny_model, write_dataset

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.models.model import Model

os.fsync = lambda handle: None  # no test cuts the power, and a disk takes 5 ms for each

# Every run has the same examples, as in CI; --hypothesis-profile=default draws new ones.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the processes then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Garbage is looked for among what tests make: of a million objects that libraries hold, each
    search would take a fifth of a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the nodes of a test that fails; bytes that are no UTF-8 are escaped, as
    pytest-xdist ends at them."""
    report = yield
    if report.failed:
        report.sections.extend(logs.tails())
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    if call.when == "teardown":
        logs.forget_ended()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Name a test that fails at once: a run that is cut off shows no list of failures."""
    if not report.failed:
        return None
    outcome = "failed" if report.when not in ("setup", "teardown") else "error"
    return outcome, f"\nFAILED {report.nodeid}\n", "FAILED"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "dataset", 12)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return save_tiny_model(tmp_path / "model")


@pytest.fixture
def builder_config() -> MapBuilderConfig:
    return MapBuilderConfig(keypoints=0, batch_size=2, checkpoint_every=3, descriptor=DESCRIPTOR)


@pytest.fixture
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ROS domain for a test that kills nodes: others count their topics and services for some 20
    seconds more."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(claim_domain()))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Put the number of threads back that a test's training changes; begin with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
