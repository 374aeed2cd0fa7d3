# SPDX-License-Identifier: Apache-2.0
import math
import subprocess

import numpy as np
import pytest

from benchmark import answers
from benchmark.machine import commit_of, is_stale
from benchmark.quick import ROOT

ROW = [3.0, 1.0, 0.8, 0.9, 1.0, 2.0, 0.5]
NONE = [math.nan] * len(ROW)


def test_equal_answers_and_the_same_refusals_do_not_differ():
    (largest,) = answers.differences({"a": [ROW, NONE]}, {"a": [ROW, NONE]}).values()
    assert largest == {"images": 2, **dict.fromkeys(answers.TOLERANCE, 0.0)}


def test_the_largest_difference_counts_and_other_decisions_by_their_share():
    moved = [4.0, 0.0, 0.8, 0.7, 1.0, 5.0, 4.5]
    (largest,) = answers.differences({"a": [ROW, ROW]}, {"a": [ROW, moved]}).values()
    assert largest["candidate"] == largest["known"] == 0.5
    assert largest["probability"] == pytest.approx(0.2) and largest["position"] == pytest.approx(
        5.0
    )


def test_an_answer_that_one_tree_alone_gives_is_never_alike():
    (largest,) = answers.differences({"a": [ROW]}, {"a": [NONE]}).values()
    assert largest["position"] == math.inf


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository of four commits: the second and third change what is judged, the fourth other
    files."""

    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    names = []
    for file, text in (("judged", "1"), ("judged", "2"), ("judged", "3"), ("other", "1")):
        (tmp_path / file).write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", text)
        names.append(git("rev-parse", "--short", "HEAD"))
    return names


def test_figures_hold_through_every_change_after_which_answers_were_alike(history):
    first, second, third, fourth = history
    pairs = [{"before": first, "now": second}, {"before": second, "now": fourth}]
    for pairs_until, stale in ((pairs, False), (pairs[:1], True), (pairs[1:], True), ([], True)):
        assert is_stale(f"commit {first}, a machine", ["judged"], pairs_until) == stale
    assert not is_stale(f"commit {third}, a machine", ["judged"])
    assert commit_of("HEAD~1") == third and commit_of("frogs") == "frogs"


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_a_tree_answers_every_image_one_by_one_and_as_a_sequence(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "MAPPED", 8)
    monkeypatch.setattr(answers, "QUERIES", 3)
    assert "kitti" in answers.write_sets(tmp_path, data=tmp_path)  # which is left out
    rows = answers.answers(ROOT, tmp_path)
    assert len(rows) == 2 * 3 and all(len(values) == 3 for values in rows.values())
    assert np.isfinite([*rows.values()]).all()
