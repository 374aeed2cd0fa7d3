# SPDX-License-Identifier: Apache-2.0
"""Laws of the two benchmarks of the domain: along a year, and of a wrong one."""

import math
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import camera_pose

from benchmark.accuracy import drives, year
from benchmark.accuracy import year_observer as observer
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.sun import WEATHER_WORDS
from disam_ros.domains.sun import sun_elevation as packaged_sun
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from season_town import RenderError

POLAR, TEMPERATE, EQUATOR, SOUTHERN = observer.PLACES
NOON_NS = int(datetime(2025, 7, 14, 11, tzinfo=timezone.utc).timestamp()) * 10**9
heights = st.floats(-90, 90)
words = st.sampled_from(WEATHER_WORDS)
moments = st.builds(
    observer.Moment,
    st.just("somewhere"),
    heights,
    st.booleans(),
    st.none() | st.integers(1, 12),
    words,
)


@pytest.fixture
def wrong_domain():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
    pytest.importorskip("matplotlib", reason="not installed: pip install matplotlib")
    from benchmark.accuracy import wrong_domain

    return wrong_domain


# --- The sun and the weather ---


@given(st.integers(-631152000, 2524608000), st.floats(-89.5, 89.5), st.floats(-180, 180))
def test_the_observers_sun_agrees_with_the_packaged_one(seconds, latitude, longitude):
    time = datetime.fromtimestamp(seconds, timezone.utc)
    expected = packaged_sun(time, latitude, longitude)
    assert observer.sun_elevation(seconds, latitude, longitude) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("place", observer.PLACES, ids=lambda place: place.name)
def test_the_weather_is_the_same_for_the_same_seed_only(place):
    assert observer.weather(place, 3) == observer.weather(place, 3)
    assert observer.weather(place, 3) != observer.weather(place, 4)


@pytest.mark.parametrize("seed", range(5))
def test_no_snow_falls_or_lies_at_the_equator(seed):
    words, lies = observer.weather(EQUATOR, seed)
    assert "snow" not in words and not any(lies)


def test_near_the_polar_circle_snow_lies_in_january_and_not_in_august():
    _, lies = observer.weather(POLAR)
    assert all(lies[: 31 * 24]) and not any(lies[212 * 24 : 243 * 24])


@pytest.mark.parametrize("place", observer.PLACES, ids=lambda place: place.name)
def test_the_weather_persists(place):
    words, _ = observer.weather(place)
    assert len(words) == observer.HOURS
    assert 0.8 < np.mean([a == b for a, b in pairwise(words)]) < 0.97


@pytest.mark.parametrize("place", observer.PLACES, ids=lambda place: place.name)
def test_the_shares_of_the_sky_are_whole(place):
    for shares in (place.winter, place.summer):
        assert len(shares) == len(observer.SKY) and sum(shares) == pytest.approx(1)


def test_every_minute_of_the_day_is_asked_equally_often():
    assert math.gcd(year.STEP_MIN, 24 * 60) == 1


# --- What an observer accepts ---


@given(st.integers(1, 31), words)
def test_noon_in_july_at_48_north_is_never_night(day, word):
    noon = datetime(2025, 7, day, 17, tzinfo=timezone.utc).timestamp()
    sun = float(observer.sun_elevation(noon, TEMPERATE.latitude, TEMPERATE.longitude))
    for model in observer.MODELS:
        names, vague = observer.accepted(model, observer.Moment("", sun, True, 7, word))
        assert not any("night" in name for name in names | vague)


@given(moments)
def test_an_observer_accepts_at_least_one_domain_and_only_the_models_own(moment):
    for model, domains in observer.MODELS.items():
        names, vague = observer.accepted(model, moment)
        assert names and not names & vague and names | vague <= set(domains)


@given(moments)
def test_in_the_dark_only_night_is_accepted_and_in_the_sun_never(moment):
    for model in ("outdoor", "day and night"):
        names, _ = observer.accepted(model, moment)
        assert (names == {"night"}) == (moment.sun < observer.DARK)
        assert ("night" in names) == (moment.sun < observer.SUNRISE)


@pytest.mark.parametrize(
    ("month", "word", "names"),
    [
        (7, "clear", {"summer_day"}),
        (None, "overcast", {"summer_day"}),
        (7, "rain", {"autumn_rain"}),
        (4, "snow", {"winter_snow"}),
        (1, "clear", {"summer_day", "autumn_rain"}),
        (7, "fog", {"summer_day", "autumn_rain"}),
    ],
)
def test_the_ground_decides_and_then_the_leaves(month, word, names):
    assert observer.accepted("outdoor", observer.Moment("", 30.0, True, month, word)) == (
        names,
        set(),
    )


def test_of_all_domains_the_most_specific_true_ones_are_right():
    names, vague = observer.accepted(observer.PACKAGED, observer.Moment("", 30.0, True, 7, "clear"))
    assert names == {"summer_day"}
    assert vague == {"day", "robotcar_sun"}


def test_coloured_leaves_are_never_right_in_the_tropics():
    names, vague = observer.accepted(
        observer.PACKAGED, observer.Moment("", 30.0, True, None, "rain")
    )
    assert "rain" in names and "autumn_rain" not in names | vague


# --- What is made of it ---


@pytest.mark.parametrize(
    ("name", "sun", "confused"),
    [
        ("night", 30.0, True),
        ("night", -3.0, False),  # twilight: either will do
        ("night", -10.0, False),
        ("summer_day", -10.0, True),
        ("day", -3.0, False),
        ("dusk", -10.0, False),  # wrong, but neither day nor night
    ],
)
def test_day_for_night_is_counted_outside_twilight_only(name, sun, confused):
    assert year.day_for_night(name, sun) == confused


def test_a_choice_is_right_vague_or_an_error():
    suns = (30.0, 40.0, -20.0, 50.0)
    labels = [({"summer_day"}, {"day"})] * 2 + [({"night"}, set()), ({"summer_day"}, {"day"})]
    here = [observer.Moment(p, s, True, 7, "clear") for p, s in zip("aabb", suns, strict=True)]
    figures = year.figures(here, labels, ["summer_day", "day", "summer_day", "night"])
    assert figures["right"] == 0.25 and figures["vague"] == 0.25
    assert figures["by_place"] == {"a": 0.5, "b": 0.0}
    assert figures["day_for_night"] == 0.5 and figures["day_for_night_sun"] == [-20.0, 50.0]
    assert sorted(figures["errors"]) == [
        ["night", "summer_day", 0.25],
        ["summer_day", "night", 0.25],
    ]


def test_a_thin_year_shows_that_knowing_more_is_better():
    for result in year.measure(step_min=20011)["models"].values():
        known = result["known"]
        assert known["everything"]["right"] >= known["nothing"]["right"]
        assert known["everything"]["right"] > 0.9 > known["no place"]["right"]


# --- A wrong domain ---


def at(*places):
    """Poses at these metres along x."""
    return [Transform.from_xyz_rpy([x, 0, 0, 0, 0, 0]) for x in places]


def test_the_chooser_is_scored_by_the_domain_it_chose_for_each_query(wrong_domain):
    answers = {"day": at(0, 3, 90, 90), "night": at(90, 90, 90, 30)}
    result = wrong_domain.scores(at(0, 5, 20, 30), answers, ["day", "day", "day", "night"])
    assert result["shares"] == {"day": [0.5, 0.25], "night": [0.25, 0.25], "chooser": [0.75, 0.5]}
    assert result["chosen"] == {"day": 3, "night": 1} and result["queries"] == 4


def test_the_summary_follows_the_shares(wrong_domain):
    """In the second condition the chooser picks the worse domain."""
    noon = {"day": [0.91, 0.62], "night": [0.53, 0.34], "chooser": [0.91, 0.62]}
    dusk = {"day": [0.87, 0.58], "night": [0.89, 0.49], "chooser": [0.88, 0.5]}
    found = wrong_domain.summary({"noon": {"shares": noon}, "dusk": {"shares": dusk}})
    assert found["better"] == [
        [["night", pytest.approx(0.01), "dusk"]],
        [["day", pytest.approx(0.08), "dusk"]],
    ]
    assert found["worst"] == [pytest.approx(0.38), "night", "noon"]
    assert found["fixed"] == "day" and found["mean"]["day"] == pytest.approx([0.89, 0.6])


def test_each_domain_answers_and_the_chooser_takes_the_clocks(
    wrong_domain, dataset, model, tmp_path, builder_config
):
    source = open_dataset(dataset.directory)
    place_map = build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
    noon = [replace(i, record=replace(i.record, stamp_ns=NOON_NS)) for i in source.images][:4]
    ride = SimpleNamespace(items=noon, truth=[camera_pose(k) for k in range(4)])
    result = wrong_domain.row(localizer, ride)
    assert result["shares"]["day"] == [1.0, 1.0]  # map images are found at their own poses
    assert set(result["shares"]) == {"day", "night", "chooser"}
    assert result["chosen"] == {"day": 4} and result["shares"]["chooser"] == [1.0, 1.0]


def test_without_opengl_the_shipped_drives_remain(wrong_domain, monkeypatch, tmp_path):
    def refuse(*_):
        raise RenderError("no OpenGL here")

    monkeypatch.setattr(drives, "write_drive", refuse)
    assert [condition for condition, _ in drives.town_drives(tmp_path)] == ["winter_snow", "night"]
