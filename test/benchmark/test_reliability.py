# SPDX-License-Identifier: Apache-2.0
"""Laws of the soak: what it measures, and what it lets pass."""

from dataclasses import replace
from itertools import pairwise

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from support.data import save_tiny_model, texture
from support.maps import base_pose, save_tiny_map

from benchmark.reliability import soak
from benchmark.reliability.page import PAGE

PLAN = soak.Plan(images=60, warm_up=20, reload=15, jump=20, sample=5)
STEADY = soak.Sample(0, 0.0, 500.0, 400.0, 16, 25, 0, 0)


def steady(**last):
    """A run that has passed, but for the last quarter of its samples."""
    samples = [replace(STEADY, images=number) for number in range(0, 72_000, 500)]
    samples = [*samples[:108], *(replace(sample, **last) for sample in samples[108:])]
    answers = {stamp: 1 for stamp in range(100)}
    return soak.Run(soak.Plan.of(120), samples, answers, reloads=[""])


def test_a_steady_run_passes():
    assert steady().faults() == []
    assert steady(resident=509.0).faults() == []


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        ({"resident": 511.0}, "memory grew from 500 to 511 MiB"),
        ({"threads": 17}, "threads grew from 16 to 17"),
        ({"descriptors": 26}, "descriptors grew from 25 to 26"),
    ],
)
def test_what_grows_is_a_fault(last, fault):
    assert steady(**last).faults() == [fault]


def test_what_is_freed_again_is_no_growth():
    run = steady()
    run.samples[100] = replace(run.samples[100], resident=900.0, threads=17)
    assert run.faults() == []


def test_every_image_has_one_answer_or_a_counted_drop():
    run = steady()
    run.answers |= {1: 0, 2: 0, 3: 2}
    run.counts = {soak.DROPPED: 1}
    assert run.faults() == [
        "1 images have neither an answer nor a counted drop",
        "1 answers too many",
    ]
    assert replace(run, interrupted=True).faults() == ["1 answers too many"]


def test_reloads_errors_and_an_early_end_are_faults():
    run = replace(steady(), reloads=["", "no"], counts={"inference errors": 2}, ended="it died")
    assert run.faults() == [
        "it died",
        "a reload failed: no",
        "2 images ended in an error of the localizer",
    ]


def test_every_stamp_occurs_once_and_the_clock_jumps_ahead_and_back():
    plan = soak.Plan.of(120)
    stamps = [plan.stamp_ns(number) for number in range(plan.images)]
    assert len(set(stamps)) == plan.images == 72_000
    steps = [after - before for before, after in pairwise(stamps)]
    assert {step > 10**9 for step in steps} == {True, False} and min(steps) < -(10**9)


def test_a_run_that_ended_before_it_began_has_a_page():
    counts = dict.fromkeys((soak.DROPPED, *soak.COUNTS), 0)
    run = soak.Run(PLAN, counts=counts, ended="it did not start")
    page = PAGE.render({"soak": {"measured_under": "x", "results": soak.figures(run)}}, "soak")
    assert "Not passed: it did not start." in page


@pytest.mark.slow
def test_a_short_soak_accounts_for_every_image(tmp_path):
    save_tiny_map(tmp_path / "map", save_tiny_model(tmp_path / "model"))
    route = [(lambda seed=seed: texture(seed), base_pose(seed)) for seed in range(6)]
    run = soak.soak(tmp_path / "map", tmp_path / "model", route, PLAN)
    grown = [fault for fault in run.faults() if "grew" not in fault]
    assert grown == [] and run.unaccounted == 0 and not run.interrupted
    assert len(run.answers) == PLAN.images and len(run.samples) == 12
    assert run.reloads and set(run.reloads) == {""}
    assert run.counts["stamps refused"] == run.counts["drives started over"] == 1
    page = PAGE.render({"soak": {"measured_under": "x", "results": soak.figures(run)}}, "soak")
    assert "**0 unaccounted for**" in page
