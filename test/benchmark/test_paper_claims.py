# SPDX-License-Identifier: Apache-2.0
"""Claims compare what the papers compare, judged alike on both sides, from the stored figures."""

import json
import subprocess

import pytest

from benchmark.machine import is_stale
from benchmark.research import ablation, companions_rows, new_condition, webcam_encoders
from benchmark.research import paper_claims as claims
from benchmark.research.gains import ABOVE, BELOW, CHANCE, MISSING, MIXED, ONE, gain
from benchmark.research.page import PAGE


@pytest.mark.parametrize(
    ("row", "other", "points", "outcome"),
    [
        ({"0": 3.0, "1": 9.0}, {"0": 2.0, "1": 7.0}, (1.0, 2.0), ABOVE),
        ({"0": 2.0, "1": 7.0}, {"0": 3.0, "1": 9.0}, (-1.0, -2.0), BELOW),
        ({"0": 3.0, "1": 7.0}, {"0": 2.0, "1": 9.0}, (1.0, -2.0), MIXED),
        ({"0": 3.0, "1": 9.0}, {"0": 3.0, "1": 7.0}, (0.0, 2.0), MIXED),
        ({"0": 3.0, "1": 9.0}, {"1": 7.0, "2": 1.0}, (2.0,), ONE),
        ({"0": 3.0}, {}, (), MISSING),
    ],
)
def test_rows_are_compared_seed_by_seed(row, other, points, outcome):
    result = gain(row, other)
    assert result.points == points and result.outcome == outcome


def test_rows_near_chance_have_no_verdict():
    low, high = {"0": 2.0, "1": 3.0}, {"0": 1.0, "1": 1.5}
    assert gain(low, high, chance=1.0).outcome == CHANCE
    assert gain({"0": 9.0, "1": 3.0}, high, chance=1.0).outcome == ABOVE


def test_both_sides_of_a_claim_are_ranked_alike_unless_it_compares_stages():
    for claim in (*claims.CLAIMS, *claims.OWN):
        alike = [row == other for row, other in claim.ranked]
        if not claim.stages:
            assert all(alike)
            assert set(claim.ranked) == {(m, m) for m in ablation.METRICS}
        elif claim.row != claims.TWO_STAGES:
            assert claim.ranked == (("fine", "coarse"), *((m, m) for m in ablation.METRICS))
    for question in (*claims.PUBLISHED, *claims.QUESTIONS):
        kinds = [kind for kind in ("rendered", "webcams", "Gardens") if kind in question.images]
        assert (len(kinds) == 1 and "queries" in question.images) or "tiles" in question.images


def test_claims_name_rows_of_the_paper_and_questions_rows_that_are_trained():
    for claim in claims.CLAIMS:
        assert {claim.row, claim.other} <= set(claims.TABLE_VI)
    for claim in claims.OWN:
        assert {claim.row, claim.other} <= {*ablation.ROWS, ablation.BEFORE}
    assert {*ablation.ROWS, ablation.BOTH} <= set(claims.TABLE_VI)
    rows = {
        "webcam_encoders": {*webcam_encoders.SHARING},
        "new_condition": {*new_condition.ARMS, "start"},
        "companions": {*companions_rows.ROWS},
    }
    for question in (*claims.PUBLISHED, *claims.QUESTIONS):
        for side in (question.row, question.other):
            assert set(side.split("; ")) <= rows[question.section]


def shares(night, rain=0.5):
    return {c: dict.fromkeys(claims.THRESHOLDS, v) for c, v in (("night", night), ("rain", rain))}


def test_a_claim_of_table_vi_has_the_papers_figures_beside_ours_by_each_metric():
    rows = {
        claims.ADAPTIVE: {"0": {"coarse": shares(0.5), "fine": shares(0.3)}},
        claims.FCL: {"0": {"coarse": shares(0.3)}},
    }
    results = {"rows": rows, "chance": shares(0.0, 0.0)}
    lines = claims.ablation_lines(results, [claims.Claim(claims.ADAPTIVE, claims.FCL)])
    assert [line.ranked for line in lines] == ["Eq. 16", "cosine"]
    assert lines[0].paper == lines[1].paper == ("+0.3", "+0.7", "+3.1")
    assert lines[0].here[0].points == pytest.approx((10.0,))
    assert {cell.outcome for cell in lines[1].here} == {MISSING}


def stored():
    return json.loads(PAGE.figures.read_text())


def test_a_claim_of_figures_of_an_earlier_code_says_so():
    figures = stored()
    for stale in (False, True):
        for section in figures.values():
            section["stale"] = stale
        text = PAGE.render(figures).split("## The papers' claims, one by one")[1]
        lines = [line for line in text.splitlines() if line.startswith("| one encoder for all")]
        assert lines and all(("earlier code" in line) == stale for line in lines)
        assert ("of an earlier code" in text.split("###")[1]) == stale


def test_rows_of_the_paper_that_were_not_trained_are_named():
    trained = {"rows": {claims.FCL: {}, claims.ADAPTIVE: {}}, "chance": shares(0.0)}
    table = claims.paper_claims({"ablation": trained})
    assert [line.row for line in table["table_vi"]] == [claims.ADAPTIVE] * 2
    assert set(table["untrained"]) == set(claims.TABLE_VI) - {claims.FCL, claims.ADAPTIVE}


@pytest.mark.parametrize("section", PAGE.judged)
def test_claims_are_of_todays_networks_and_terms(section):
    measured_under = stored()[section]["measured_under"]
    name = measured_under.removeprefix("commit ").split(",")[0]
    if subprocess.run(["git", "cat-file", "-e", f"{name}^{{commit}}"], check=False).returncode:
        pytest.skip(f"commit {name} is not in this clone")
    assert not is_stale(measured_under, PAGE.judged[section])


def test_without_any_figure_there_is_no_table():
    assert "claims" not in PAGE.render({})
