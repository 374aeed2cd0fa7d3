# SPDX-License-Identifier: Apache-2.0
"""Claims compare what the papers compare, judged alike on both sides, from the stored figures."""

import copy
import json

import pytest

from benchmark.research import (
    ablation,
    companions_rows,
    fine_stage,
    losses,
    restyled,
    webcam_encoders,
)
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
            assert claim.ranked[0][0] == ablation.ROWS[claim.row].stage
            assert claim.ranked[0][1] == ablation.ROWS[claim.other].stage
            assert set(claim.ranked[1:]) == {(m, m) for m in ablation.METRICS}
    for question in (*claims.PUBLISHED, *claims.QUESTIONS):
        kinds = [kind for kind in ("rendered", "webcams", "Gardens") if kind in question.images]
        assert (len(kinds) == 1 and "queries" in question.images) or "tiles" in question.images


def test_claims_name_rows_that_are_trained():
    trained = {*ablation.ROWS, ablation.BEFORE, ablation.BOTH}
    for claim in (*claims.CLAIMS, *claims.OWN):
        assert {claim.row, claim.other} <= trained
    assert set(claims.TABLE_VI) == {*ablation.ROWS, ablation.BOTH} - {ablation.SHARED}
    rows = {
        "losses": {*losses.ROWS},
        "webcam_encoders": {*webcam_encoders.ROWS},
        "new_condition": {*restyled.ARMS, "start"},
        "new_condition_webcams": {*restyled.ARMS, "start"},
        "fine_stage": {*fine_stage.ROWS, fine_stage.COARSE, fine_stage.BOTH},
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


def test_photographs_and_rendered_images_are_never_averaged():
    figures = {name: section["results"] for name, section in stored().items()}
    changed = copy.deepcopy(figures)
    for by_seed in changed["losses"]["rows"].values():
        for number, run in enumerate(by_seed.values()):
            for column in ("night tiles", "winter_snow tiles"):
                run["trained"][column] += 10 * number
    before, after = (claims.answers(f, claims.QUESTIONS) for f in (figures, changed))
    for old, new in zip(before, after, strict=True):
        if "rendered" in old["question"].images:
            assert old["here"] == new["here"]


def test_a_claim_of_figures_of_an_earlier_code_says_so():
    figures = stored()
    for stale in (False, True):
        for section in figures.values():
            section["stale"] = stale
        text = PAGE.render(figures).split("## The papers' claims, one by one")[1]
        lines = [line for line in text.splitlines() if line.startswith("| FCL over InfoNCE")]
        assert lines and all(("earlier code" in line) == stale for line in lines)
        assert ("of an earlier code" in text.split("###")[1]) == stale


def test_the_long_ablation_has_the_tables_of_the_short_one():
    figures = stored()
    text = PAGE.render({"long_ablation": figures["ablation"]})
    assert "## A long ablation" in text and "random one" in text
    assert "### The paper's Table VI, 400 and 150 steps" in text
    assert PAGE.render({"long_ablation": figures["ablation"]}, only="long_ablation")


def test_without_any_figure_there_is_no_table():
    assert "claims" not in PAGE.render({})
