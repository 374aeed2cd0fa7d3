# SPDX-License-Identifier: Apache-2.0
"""Pages show the stored figures and nothing else."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import pages
from benchmark.accuracy.page import PAGE as ACCURACY
from benchmark.machine import commit, is_stale
from benchmark.pages import Page, best, dumped, verdict
from benchmark.performance.page import PAGE as PERFORMANCE
from benchmark.reliability.page import PAGE as RELIABILITY
from benchmark.research.page import PAGE as RESEARCH
from disam_ros.errors import DatasetError

ROOT = Path(__file__).parents[2]
PAGES = ACCURACY, PERFORMANCE, RELIABILITY, RESEARCH


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The accuracy page with two sections in an empty docs folder; both measure {"x": 1}."""
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    fake = SimpleNamespace(measure=lambda: {"x": 1})
    monkeypatch.setattr(Page, "section", lambda self, name: fake)
    monkeypatch.setattr(Page, "render", lambda self, figures: json.dumps(figures))
    page = Page("accuracy", ("town", "ablation"), trained={"ablation": Path("runs/ablation")})
    return SimpleNamespace(page=page, section=fake)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_shipped_page_is_made_of_the_shipped_figures(page):
    figures = json.loads((ROOT / page.figures).read_text())
    assert page.render(figures) == (ROOT / page.document).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_section_stands_alone_and_the_page_without_figures_has_none(page):
    figures = json.loads((ROOT / page.figures).read_text())
    assert set(figures) <= set(page.sections)
    assert set(page.sections) - set(figures) <= {*page.trained, "gpu"}  # needs a GPU
    assert "Measured under" not in page.render({})
    for name in figures:
        text = page.render({name: figures[name]}, only=name)
        assert text.startswith("## ") and text.count("Measured under") == 1
        assert f"[{name}]" in text or f"{page.name} {name}`" in text


def test_what_trains_for_hours_is_left_out_until_it_is_named(page, capsys):
    page.page.main([])
    assert list(json.loads(page.page.figures.read_text())) == ["town"]
    assert "ablation: skipped" in capsys.readouterr().out
    page.page.main(["ablation"])
    assert list(json.loads(page.page.figures.read_text())) == ["town", "ablation"]


def test_a_section_measured_alone_leaves_the_others_as_they_are(page):
    page.page.main(["town", "ablation"])
    page.section.measure = lambda: {"x": 2}
    page.page.main(["town"])
    figures = json.loads(page.page.figures.read_text())
    assert [figures[name]["results"]["x"] for name in ("town", "ablation")] == [2, 1]


def test_what_was_measured_at_this_commit_is_measured_again_only_by_name(page, monkeypatch, capsys):
    cases = ("a1", 1), ("a1", 1), ("b2", 2), ("b2-dirty", 3), ("b2-dirty", 4)
    for head, x in cases:
        monkeypatch.setattr(pages, "commit", lambda head=head: head)
        monkeypatch.setattr(pages, "circumstances", lambda head=head: f"commit {head}, here")
        page.page.main([])
        assert json.loads(page.page.figures.read_text())["town"]["results"] == {"x": x}
        page.section.measure = lambda x=x: {"x": x + 1}
    assert capsys.readouterr().out.count("town: measured at this commit") == 1
    page.page.main(["town"])
    assert json.loads(page.page.figures.read_text())["town"]["results"] == {"x": 5}


def test_a_commit_is_the_same_while_only_pages_have_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commit() == ""
    (tmp_path / "docs").mkdir()
    for name in ("docs/page.md", "code.py"):
        (tmp_path / name).write_text("old")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(("git", *arguments), check=True)
    clean = commit()
    assert clean
    (tmp_path / "docs/page.md").write_text("new")
    assert commit() == clean
    (tmp_path / "code.py").write_text("new")
    assert commit() == f"{clean}-dirty"


@pytest.mark.parametrize("outcome", [DatasetError("no data"), ModuleNotFoundError("town"), {}])
def test_a_section_that_cannot_be_measured_keeps_its_old_figures(page, capsys, outcome):
    def measure():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    page.page.main(["town"])
    before = page.page.figures.read_text()
    page.section.measure = measure
    page.page.main(["town"])
    assert page.page.figures.read_text() == before
    assert "town: skipped" in capsys.readouterr().out


def test_an_unknown_section_is_refused_with_the_names_of_all(page, capsys):
    with pytest.raises(SystemExit):
        page.page.main(["towm"])
    assert "towm" in (said := capsys.readouterr().err) and "ablation" in said


def test_the_best_of_a_column_is_bold_and_so_are_its_equals():
    rows = [{"a": 0.5004}, {"a": 0.5}, {"a": 0.2}]
    assert [best(row, rows) for row in rows] == [["**50.0**"], ["**50.0**"], ["20.0"]]


def test_a_verdict_says_by_how_much_a_target_is_missed():
    assert verdict("p50", 4.0, 5.0, "ms") == "p50 4 ms ≤ 5: met"
    assert verdict("p50", 7.0, 5.0, "ms") == "p50 7 ms ≤ 5: missed by 2 ms"
    assert verdict("right", 98.5, 99.0, "%", True) == "right 98.5 % ≥ 99: missed by 0.5 %"


def test_figures_are_stored_with_a_line_for_each_row_and_read_back_as_they_were():
    figures = {"a": {"x": {"row": {"recall": [1.0, None], "größe": {}}}, "y": {}}, "b": [1]}
    text = dumped(figures, 3)
    assert json.loads(text) == figures
    assert text.splitlines()[3] == '      "row": {"recall": [1.0, null], "größe": {}}'


@pytest.mark.parametrize("commit", ["0000000", "unknown", "HEAD-dirty"])
def test_figures_of_unknown_or_changed_files_are_stale(commit):
    assert is_stale(f"commit {commit}, AMD EPYC, 1 threads of 2")
