# SPDX-License-Identifier: Apache-2.0
"""Laws of soak, kills and disks: what they measure, and what they let pass."""

import sys
import time
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from support.data import save_tiny_model, texture
from support.maps import base_pose, save_tiny_map

from benchmark.reliability import commands, disks, soak
from benchmark.reliability import kills as kills_of
from benchmark.reliability.page import PAGE

PLAN = soak.Plan(images=60, warm_up=20, reload=15, jump=20, sample=5)
STEADY = soak.Sample(0, 0.0, 500.0, 400.0, 16, 25, 0, 0)


def steady(**last):
    """A run that has passed, but for the last quarter of its samples."""
    samples = [replace(STEADY, images=number, beside={}) for number in range(0, 72_000, 500)]
    samples = [*samples[:108], *(replace(sample, **last) for sample in samples[108:])]
    answers = {stamp: 1 for stamp in range(100)}
    return soak.Run(soak.Plan.of(120), samples, answers, reloads=[""])


def test_what_grows_beside_the_node_is_a_fault_and_so_is_a_live_map_that_does_not_open():
    run = steady()
    for number, sample in enumerate(run.samples):
        sample.beside["page"] = [100.0 + (number > 108) * 3, 5.0, 9.0]
    run.live_map = ["the live map: no"]
    assert run.faults() == ["page: memory grew from 100 to 103 MiB", "the live map: no"]


def test_a_steady_run_passes_and_so_does_one_that_frees_what_it_took():
    assert steady(resident=509.0).faults() == []
    run = steady()
    run.samples[100] = replace(run.samples[100], resident=900.0, threads=17)
    assert run.faults() == []


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


@pytest.mark.slow
def test_a_short_soak_accounts_for_every_image(tmp_path):
    save_tiny_map(tmp_path / "map", save_tiny_model(tmp_path / "model"))
    route = [(lambda seed=seed: texture(seed), base_pose(seed)) for seed in range(6)]
    run = soak.soak(tmp_path / "map", tmp_path / "model", route, PLAN, tmp_path / "live")
    grown = [fault for fault in run.faults() if "grew" not in fault]
    assert grown == [] and run.unaccounted == 0 and not run.interrupted
    assert len(run.answers) == PLAN.images and len(run.samples) == 12
    assert int(run.built["images in map"]) > 0 and run.page > 0
    assert run.samples[-1].beside.keys() == {"map builder", "page"}
    assert run.reloads and set(run.reloads) == {""}
    assert run.counts["stamps refused"] == run.counts["drives started over"] == 1
    page = PAGE.render({"soak": {"measured_under": "x", "results": soak.figures(run)}}, "soak")
    assert "**0 unaccounted for**" in page


def test_a_process_that_does_not_get_on_is_killed_and_its_log_is_shown(tmp_path):
    program = "import signal; print('begun', flush=True); signal.pause()"
    process = commands.start([sys.executable, "-c", program], tmp_path / "log")
    assert commands.wait(process, tmp_path / "log", (tmp_path / "log").read_text)
    with pytest.raises(commands.HangError, match=r"within 0\.1 s:\nbegun"):
        commands.wait(process, tmp_path / "log", lambda: False, patience=0.1)
    assert process.returncode == -9


@pytest.fixture
def stand_in(monkeypatch):
    """A command that writes two files, the second after a pause, and goes on after a kill."""
    program = (
        "import pathlib, sys, time; out = pathlib.Path(sys.argv[1]); "
        "part = out.with_name(out.name + '.part'); part.mkdir(exist_ok=True); "
        "(part / 'a').write_text('a' * 100); time.sleep({pause}); "
        "(part / 'b').write_text({text}); part.rename(out)"
    )

    def replace_by(pause="0.5", text="'b' * 100"):
        def line(world, name, output):
            return [sys.executable, "-c", program.format(pause=pause, text=text), str(output)]

        monkeypatch.setattr(commands.World, "line", line)

    return replace_by


def killed(tmp_path, kills=2):
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "input").write_text("input")
    (tmp_path / "work").mkdir()
    world = commands.World(tmp_path / "inputs")
    return kills_of.kill(world, "x", kills, tmp_path / "work", Random(0), time.monotonic() + 300)


def test_a_command_that_goes_on_after_kills_passes(tmp_path, stand_in):
    stand_in()
    outcome = killed(tmp_path)
    assert outcome.faults == [] and outcome.kills == 2 and outcome.outputs >= 1


def test_an_output_that_differs_after_a_kill_is_a_fault(tmp_path, stand_in):
    stand_in(text="str(time.time())")
    assert any("differs from a run without a kill: b" in fault for fault in killed(tmp_path).faults)


def test_a_command_that_fails_is_a_fault_with_its_log(tmp_path, stand_in):
    stand_in(pause="1 / 0")
    (fault,) = killed(tmp_path).faults
    assert fault.startswith("it fails without a kill") and "ZeroDivisionError" in fault


def test_a_section_with_faults_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    row = {"name": "x", "kills": 0, "finished": 0, "outputs": 0, "seconds": 1.0, "faults": []}
    for faults in ([], ["bad"]):
        results = {"rows": [row], "faults": faults, "seed": 0, "load": 1.0}
        monkeypatch.setattr(kills_of, "measure", lambda results=results: results)
        assert PAGE.main(["kills"]) == len(faults)


@pytest.mark.slow
def test_a_command_on_a_small_disk_passes(tmp_path):
    if not disks.can_mount():
        pytest.skip("no user namespaces: a disk cannot be made")
    disk = disks.fill(commands.World(tmp_path), "create-model", tmp_path)
    assert disk.faults == [] and "free space" in disk.line and len(disk.sizes) == 2
