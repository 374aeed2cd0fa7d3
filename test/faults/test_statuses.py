# SPDX-License-Identifier: Apache-2.0
"""Laws of exit statuses: 128 and the number of the signal, and what was promised is written."""

from __future__ import annotations

import json
import signal
import threading
from types import SimpleNamespace

import pytest
from support.commands import COMMANDS

from disam_ros import cli
from disam_ros.cli import main
from disam_ros.entry import WORDS
from disam_ros.evaluation import drive
from training import train
from training.engine.loop import Interrupted, StopSignals


@pytest.fixture
def interrupt(monkeypatch):
    """Ends evaluations with a signal after so many images of the last drive."""
    real, drives = drive.localize_all, []

    def set_up(signum, images, last=1):
        def ended(*arguments):
            drives.append(arguments)
            for number, result in enumerate(real(*arguments)):
                if len(drives) == last and number == images:
                    raise KeyboardInterrupt(signum)
                yield result

        monkeypatch.setattr(drive, "localize_all", ended)

    return set_up


@pytest.mark.parametrize("signum", WORDS)
@pytest.mark.parametrize("named", [False, True])
def test_a_command_that_a_signal_ends_has_its_status_and_one_line(
    signum, named, monkeypatch, capsys
):
    def ended(_):
        raise KeyboardInterrupt(*[signum] * named)

    monkeypatch.setattr(cli, "_run", ended)
    signum = signum if named else signal.SIGINT
    assert main(["parameters"]) == 128 + signum
    assert capsys.readouterr().err == f"disam: {WORDS[signum]}\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_evaluation_that_is_interrupted_writes_its_answers_and_says_so(
    inputs, tmp_path, capsys, interrupt, signum
):
    interrupt(signum, images=5)
    assert main(COMMANDS["evaluate"].line(inputs, tmp_path / "out")) == 128 + signum
    assert capsys.readouterr().err.splitlines()[-1] == f"disam: {WORDS[signum]}"
    notes = json.loads((tmp_path / "out" / "results.json").read_text())["notes"]
    assert any("interrupted after 5 of 12 images" in note for note in notes)


def test_an_evaluation_without_an_answer_writes_nothing(inputs, tmp_path, capsys, interrupt):
    interrupt(signal.SIGTERM, images=0)
    assert main(COMMANDS["evaluate"].line(inputs, tmp_path / "out")) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "disam: terminated"
    assert list(tmp_path.iterdir()) == []


def test_drives_that_were_evaluated_are_written_where_the_next_one_is_interrupted(
    inputs, tmp_path, interrupt
):
    interrupt(signal.SIGTERM, images=0, last=2)
    line = COMMANDS["evaluate"].line(inputs, tmp_path / "out")
    line.insert(2, str(inputs / "bag"))
    assert main(line) == 143
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["setup"]["drives"] == [str(inputs / "data")]
    assert any(f"interrupted before {inputs}/bag" in note for note in results["notes"])


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Interrupted("stopped after step 3", signal.SIGINT), 130),
        (Interrupted("stopped after step 3", signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
    ],
    ids=str,
)
def test_a_training_that_a_signal_ends_has_its_status_and_says_how_to_go_on(
    end, status, monkeypatch, caplog
):
    def run():
        raise end

    monkeypatch.setattr(train, "read_recipe", lambda _: (None, False))
    monkeypatch.setattr(train, "open_run", lambda *_: SimpleNamespace(run=run))
    with caplog.at_level("INFO"):
        assert train.run(SimpleNamespace()) == status
    assert "--resume" in caplog.text


@pytest.mark.parametrize("signum", WORDS)
def test_a_training_remembers_which_signal_asked_it_to_stop(signum):
    assert threading.current_thread() is threading.main_thread()
    with StopSignals() as stop:
        signal.raise_signal(signum)
        assert stop.asked == signum
