# SPDX-License-Identifier: Apache-2.0
"""Rules of domains: those of the package and those of a user's file."""

import json

import pytest
import yaml

from disam_ros.domains.domain import Domain, domains_named, load_rules
from disam_ros.errors import DomainError

RULES = load_rules()


def test_packaged_rules_hold_the_promised_names():
    light = {"day", "dawn", "dusk", "night"}
    seasons = {"spring_day", "summer_day", "autumn_day", "winter_day", "winter_snow", "autumn_rain"}
    weather = {"overcast", "rain", "snow", "fog", "night_rain", "night_snow"}
    assert light | seasons | weather <= set(RULES)
    assert sum(name.startswith("cmu_") for name in RULES) == 12
    assert sum(name.startswith("robotcar_") for name in RULES) == 10


def test_a_view_is_ground_by_default_and_nothing_unknown():
    assert Domain.from_json({"name": "day"}).view == "ground"
    with pytest.raises(DomainError, match="'view' expects one of ground, aerial; got 'side'"):
        Domain.from_json({"name": "day", "view": "side"})


def test_rules_survive_json():
    for domain in (*RULES.values(), Domain("generic")):
        assert Domain.from_json(json.loads(json.dumps(domain.to_json()))) == domain


def test_a_user_file_replaces_and_adds_entries(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"night": {"sun_elevation": [-90, 0]}, "hall": {}}))
    rules = load_rules(path)
    assert rules["night"].sun_elevation == (-90, 0)
    assert rules["hall"] == Domain("hall")
    assert rules["day"] == RULES["day"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{month: [7]}", "unknown name 'month'; did you mean 'months'?"),
        ("{months: [0]}", "each a whole number, 1 … 12; got [0]"),
        ("{months: 7}", "a list, each"),
        ("{weather: [sunny]}", "each one of clear"),
        ("{sun_elevation: [6, 91]}", "a list of 2, each a finite number, -90 … 90"),
        ("{sun_elevation: [6, -6]}", "the lower angle first"),
        ("{sun_rising: true}", "sun_elevation as well"),
        ("{name: other}", "expects tags"),
        ("", "expects tags"),
        ("[6]", "expects tags"),
    ],
)
def test_a_wrong_rule_names_file_entry_and_what_was_expected(tmp_path, entry, expected):
    path = tmp_path / "rules.yaml"
    path.write_text(f"my_place: {entry}\n")
    with pytest.raises(DomainError) as caught:
        load_rules(path)
    for part in (str(path), "my_place", expected):
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["[a, b]", "", "../up: {}", "7: {}"])
def test_a_file_that_is_no_rules_file_is_refused(tmp_path, text):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(DomainError, match=r"rules\.yaml"):
        load_rules(path)


def test_a_name_without_rule_lists_the_nearest_and_how_to_add_one():
    with pytest.raises(DomainError, match="winter_snow") as caught:
        domains_named(["night", "winter_snowy"], RULES)
    assert "winter_snowy: {sun_elevation:" in str(caught.value)
