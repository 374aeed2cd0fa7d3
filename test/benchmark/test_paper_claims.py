# SPDX-License-Identifier: Apache-2.0
"""The table of the papers' claims says what the stored figures say, or why there are none."""

from benchmark.research import ablation, companions, fine_stage, new_condition, restyled
from benchmark.research.paper_claims import CLAIMS, LINKS, NEVER, paper_claims


def row(rows, claim):
    return next(r for r in rows if r["claim"] == claim)


def test_a_claim_has_the_stored_gain_in_points_and_outcome():
    claim = "depth helps at night (5 m)"
    figures = {"companions": {"summary": {"claims": {claim: [0.096, "holds"]}}}}
    rows = paper_claims(figures)
    assert row(rows, claim)["here"] == "+9.6, holds"
    assert row(rows, claim)["section"] == LINKS["companions"]
    assert row(rows, "translation beats photometric, webcams")["here"] == "not measured"
    assert row(rows, "figures on Oxford RobotCar")["here"].startswith(NEVER)
    assert len(rows) == len(CLAIMS)


def test_without_any_figure_there_is_no_table():
    assert paper_claims({"town": {}}) == []


def test_every_claim_is_one_that_its_section_measures():
    rows = {name: {"0": {"a": {"5 m": 1.0}}, "1": {"a": {"5 m": 1.0}}} for name in ablation.ROWS}
    extra = {n: rows["+ FCL"] for n in (ablation.BEFORE, ablation.STORED, ablation.BOTH)}
    claims = ablation.claims(rows | extra)
    for claim in CLAIMS:
        if claim.section == "ablation":
            assert claim.keys[1] in claims
        if claim.section == "new_condition":
            assert claim.keys[1] in new_condition.CONDITIONS
            assert any(f"{a} over {b}" == claim.keys[3] for a, b in restyled.PAIRS)
        if claim.section == "fine_stage":
            assert claim.keys[1].split(" over ")[0] in fine_stage.ROWS
    shares = {name: {"5 m": [1.0, 1.0], "night 5 m": [1.0, 1.0]} for name in companions.ROWS}
    local = {name: [[1.0, 1.0]] * 4 for name in companions.PRIORS}
    measured = companions.claims(shares, local, shares)
    named = [claim.keys[2] for claim in CLAIMS if claim.section == "companions"]
    assert sorted(named) == sorted(measured)
