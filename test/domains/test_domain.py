# SPDX-License-Identifier: Apache-2.0
"""Laws of the choice of the domain."""

import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disam_ros.domains.choice import (
    Conditions,
    DomainChooser,
    distance,
    light_class,
    observe,
    sun_elevation,
)
from disam_ros.domains.domain import WEATHER_WORDS, Domain, domains_named, load_rules
from disam_ros.errors import DomainError

NAN = math.nan
DRESDEN = (51.05, 13.74)
OXFORD = (51.75, -1.26)
RULES = load_rules()
TOWN = ("summer_day", "winter_snow", "autumn_rain", "night")


def ns(text: str) -> int:
    """UTC time such as "2025-07-14 11:00" in nanoseconds."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * 10**9


def chooser(*names: str) -> DomainChooser:
    return DomainChooser(domains_named(names, RULES))


def conditions(
    height: float | None = 40.0, month: float | None = 7.5, weather: str = "unknown"
) -> Conditions:
    season = "unknown" if month is None else "summer"
    light = light_class(height, True)
    return Conditions(height, True, light, month, season, weather, "some day", ())


stamps = st.integers(ns("1990-01-02 00:00"), ns("2100-01-01 00:00"))
latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
words = st.sampled_from(("", *WEATHER_WORDS))
CAMERAS = [name for name, domain in RULES.items() if domain.view == "ground"]
some_domains = st.lists(st.sampled_from(sorted(CAMERAS)), min_size=1, max_size=8, unique=True)


# --- Sun ---


def test_the_sun_of_a_worked_example_of_nrel_spa():
    # Reda and Andreas, NREL/TP-560-34302, A.5: topocentric elevation without refraction 39.872046°.
    moment = datetime(2003, 10, 17, 19, 30, 30, tzinfo=timezone.utc)
    assert sun_elevation(moment, 39.742476, -105.1786) == pytest.approx(39.872, abs=0.01)


def test_the_sun_stands_where_an_astronomical_library_sees_it():
    sun = pytest.importorskip("astral.sun")
    astral = pytest.importorskip("astral")
    for year in (1990, 2026, 2049, 2261):
        for hour in range(0, 8760, 501):
            moment = datetime(year, 1, 1, tzinfo=timezone.utc) + timedelta(hours=hour)
            for latitude, longitude in ((-78.0, 166.0), (0.0, -60.0), (48.5, 9.0), (89.0, 0.0)):
                observer = astral.Observer(latitude, longitude)
                height = sun.elevation(observer, moment, with_refraction=False)
                assert sun_elevation(moment, latitude, longitude) == pytest.approx(height, abs=0.03)


@pytest.mark.parametrize(
    ("height", "rising", "light"),
    [
        (6.1, False, "day"),
        (6.0, True, "dawn"),
        (6.0, False, "dusk"),
        (-6.0, True, "dawn"),
        (-6.1, True, "night"),
        (None, None, "unknown"),
    ],
)
def test_light_classes_end_at_six_degrees(height, rising, light):
    assert light_class(height, rising) == light


# --- The town ---


@pytest.mark.parametrize(
    ("time_utc", "weather", "name", "exact"),
    [
        ("2025-07-14 11:00", "clear", "summer_day", True),
        ("2025-07-14 11:00", "", "summer_day", False),
        ("2026-01-20 10:30", "snow", "winter_snow", True),
        ("2026-01-20 10:30", "", "winter_snow", False),  # nearest by season
        ("2025-10-28 14:00", "rain", "autumn_rain", True),
        ("2025-12-10 21:30", "", "night", True),
        # Wet ground and a sky without shadows fill more of the picture than coloured leaves.
        ("2025-07-14 11:00", "rain", "autumn_rain", False),
        ("2025-07-14 11:00", "overcast", "summer_day", False),
        ("2026-04-20 11:00", "snow", "winter_snow", False),
    ],
)
def test_town_gets_the_domain_a_person_would_name(time_utc, weather, name, exact):
    choice = chooser(*TOWN).choose(ns(time_utc), *DRESDEN, weather)
    assert (choice.name, choice.exact) == (name, exact), choice.reason


def test_southern_january_is_summer():
    choice = chooser(*TOWN).choose(ns("2026-01-20 02:00"), -33.87, 151.2, "sunny")
    assert (choice.name, choice.exact, choice.season) == ("summer_day", True, "summer")
    assert "southern summer" in choice.reason


def test_polar_night_is_night_and_midnight_sun_is_no_night():
    # Longyearbyen
    at_noon_in_december = chooser(*TOWN).choose(ns("2025-12-21 11:00"), 78.22, 15.65)
    at_midnight_in_june = chooser(*TOWN).choose(ns("2025-06-21 23:00"), 78.22, 15.65)
    assert (at_noon_in_december.name, at_noon_in_december.light) == ("night", "night")
    assert (at_midnight_in_june.name, at_midnight_in_june.light) == ("summer_day", "day")


def test_dawn_and_dusk_differ_by_the_way_of_the_sun():
    domains = chooser("day", "dusk", "dawn", "night")
    assert domains.choose(ns("2025-07-14 03:15"), *DRESDEN).name == "dawn"
    assert domains.choose(ns("2025-07-14 19:20"), *DRESDEN).name == "dusk"
    only_dusk = chooser("day", "night", "dusk").choose(ns("2025-07-14 03:15"), *DRESDEN)
    assert (only_dusk.name, only_dusk.exact) == ("dusk", False)
    assert "differs in light" in only_dusk.reason


# --- What is not known ---


@pytest.mark.parametrize("stamp", [None, 0, -5, 12 * 10**9, ns("1989-12-31 23:59"), 10**30])
def test_a_robot_without_clock_gets_daylight_and_a_note(stamp):
    choice = chooser("night", "day").choose(stamp, *DRESDEN)
    assert (choice.name, choice.exact) == ("day", False)
    assert (choice.light, choice.season, choice.sun_elevation) == ("unknown", "unknown", None)
    assert "clock unknown" in choice.reason
    assert "daylight preferred" in choice.reason


def test_without_place_the_season_comes_from_the_date_alone_and_the_reason_says_so():
    choice = chooser(*TOWN).choose(ns("2026-01-20 23:30"), NAN, NAN)
    assert (choice.name, choice.light, choice.season) == ("winter_snow", "unknown", "winter")
    assert not choice.exact
    for said in ("latitude unknown", "northern hemisphere assumed", "light unknown"):
        assert said in choice.reason


def test_impossible_coordinates_count_as_unknown_and_are_named():
    choice = chooser(*TOWN).choose(ns("2025-07-14 11:00"), 51.0, 400.0)
    assert choice.light == "unknown"
    assert "400.0 lies outside" in choice.reason


@pytest.mark.parametrize("month", range(1, 13))
def test_in_the_tropics_months_carry_no_weight(month):
    stamp = ns(f"2025-{month:02}-15 04:00")
    choice = chooser("summer_day", "autumn_rain").choose(stamp, 1.3, 103.8, "rain")
    assert (choice.name, choice.season, choice.exact) == ("autumn_rain", "tropics", True)
    assert chooser("winter_day", "summer_day").choose(stamp, 1.3, 103.8, "clear").exact


def test_a_weather_word_nobody_knows_is_unknown_weather_and_named_in_the_reason():
    choice = chooser(*TOWN).choose(ns("2025-12-10 21:30"), *DRESDEN, "raining frogs")
    assert (choice.name, choice.weather) == ("night", "unknown")
    assert "'raining frogs' not understood" in choice.reason


def test_unknown_weather_prefers_the_domain_that_does_not_ask_for_any():
    stamp = ns("2026-01-20 10:30")
    assert chooser("winter_snow", "winter_day").choose(stamp, *DRESDEN).name == "winter_day"
    assert chooser("winter_day", "winter_snow").choose(stamp, *DRESDEN, "snow").name == (
        "winter_snow"
    )


# --- Distance ---


@given(st.floats(18, 90), st.floats(1, 12.99), words.filter(bool), words.filter(bool))
def test_light_outweighs_weather_and_season_together(height, month, weather, other):
    now = conditions(height, month, weather)
    bright = Domain("bright", (6.0, 90.0), (int(month + 5) % 12 + 1,), (other,))
    for dark in ((-90.0, -6.0), (-6.0, 6.0)):
        assert distance(bright, now).rank < distance(Domain("dark", dark), now).rank


@given(st.floats(6.01, 90))
def test_night_is_farther_from_day_than_dusk_is(height):
    now = conditions(height)
    dusk, night = Domain("dusk", (-6.0, 6.0)), Domain("night", (-90.0, -6.0))
    assert distance(dusk, now).rank < distance(night, now).rank


def test_snow_cover_outweighs_half_a_year():
    now = conditions(month=1.5, weather="snow")
    right_season = Domain("right_season", months=(1,), weather=("rain",))
    right_cover = Domain("right_cover", months=(7,), weather=("snow",))
    assert distance(right_cover, now).rank < distance(right_season, now).rank


@pytest.mark.parametrize("month", range(1, 13))
def test_the_first_day_of_a_month_is_not_of_the_month_before(month):
    chooser = DomainChooser([Domain("before", months=((month - 2) % 12 + 1,))])
    assert not chooser.choose(ns(f"2025-{month:02}-01 12:00"), 48.0, 9.0).exact
    own = DomainChooser([Domain("own", months=(month,))])
    for day in (1, 28):
        assert own.choose(ns(f"2025-{month:02}-{day:02} 12:00"), 48.0, 9.0).exact


@given(st.integers(1, 12), st.floats(1, 12.99))
def test_season_distance_is_circular_and_at_most_half_a_year(month, moment):
    def cost(month: int, moment: float) -> float:
        return distance(Domain("x", months=(month,)), conditions(month=moment)).rank[0]

    turned = moment + 1 if moment < 12 else moment - 11
    assert cost(month, moment) == pytest.approx(cost(month % 12 + 1, turned))
    assert 0 <= cost(month, moment) <= 0.9


def test_what_is_unknown_costs_nothing():
    gap = distance(RULES["winter_snow"], conditions(None, None))
    assert gap.rank[0] == 0.0
    assert gap.unconfirmed == ("light", "weather", "season")


# --- The choice ---


@given(some_domains, stamps, latitudes, longitudes, words)
def test_the_choice_is_always_available_and_says_why(names, stamp, latitude, longitude, weather):
    choice = chooser(*names).choose(stamp, latitude, longitude, weather)
    assert choice.name in names
    assert choice.name in choice.reason
    assert choice == chooser(*names).choose(stamp, latitude, longitude, weather)


@given(
    some_domains,
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(),
)
def test_nothing_that_a_robot_sends_raises(names, stamp, latitude, longitude, weather):
    assert chooser(*names).choose(stamp, latitude, longitude, weather).name in names


@given(some_domains, st.randoms(), stamps, latitudes, longitudes, words)
def test_order_matters_only_between_ties(names, random, stamp, latitude, longitude, weather):
    now = observe(stamp, latitude, longitude, weather)
    ranks = sorted(distance(RULES[name], now).rank for name in names)
    shuffled = random.sample(names, len(names))
    one = chooser(*names).choose(stamp, latitude, longitude, weather)
    two = chooser(*shuffled).choose(stamp, latitude, longitude, weather)
    assert distance(RULES[one.name], now).rank == distance(RULES[two.name], now).rank
    if ranks[0] != ranks[1 % len(ranks)] or len(names) == 1:
        assert one == two


def test_of_equals_the_first_is_taken():
    twins = [Domain("a", months=(7,)), Domain("b", months=(7,))]
    stamp = ns("2025-07-14 11:00")
    assert DomainChooser(twins).choose(stamp, *DRESDEN).name == "a"
    assert DomainChooser(twins[::-1]).choose(stamp, *DRESDEN).name == "b"


@given(stamps, st.floats(-90, 90).filter(lambda v: abs(v) >= 23.5), longitudes, words)
def test_tags_made_from_the_moment_itself_fit_exactly(stamp, latitude, longitude, weather):
    now = observe(stamp, latitude, longitude, weather)
    height = now.sun_elevation
    fitting = Domain(
        "fitting",
        (max(height - 1, -90.0), min(height + 1, 90.0)),
        (int(now.month),),
        (now.weather,) if weather else (),
    )
    others = domains_named(sorted(RULES), RULES)
    choice = DomainChooser([*others, fitting]).choose(stamp, latitude, longitude, weather)
    assert choice.exact
    alone = DomainChooser([fitting]).choose(stamp, latitude, longitude, weather)
    assert alone.exact


@given(some_domains, stamps, latitudes, longitudes, words)
def test_an_exact_domain_is_never_passed_over(names, stamp, latitude, longitude, weather):
    def choose(*of: str):
        return chooser(*of).choose(stamp, latitude, longitude, weather)

    assert choose(*names).exact == any(choose(name).exact for name in names)


@given(some_domains, st.integers(1, 12), st.integers(1, 28), st.floats(23.5, 90), words)
def test_the_other_hemisphere_six_months_later_is_the_same(names, month, day, latitude, weather):
    later = f"{2025 + (month > 6)}-{(month + 5) % 12 + 1:02}-{day:02} 12:00"
    # Without a longitude there is no sun, so season and weather alone decide.
    north = chooser(*names).choose(ns(f"2025-{month:02}-{day:02} 12:00"), latitude, NAN, weather)
    south = chooser(*names).choose(ns(later), -latitude, NAN, weather)
    assert (north.name, north.season, north.exact) == (south.name, south.season, south.exact)


def test_an_untagged_domain_fits_everything():
    generic = DomainChooser([Domain("generic"), RULES["summer_day"]])
    assert generic.choose(None, NAN, NAN).exact
    assert generic.choose(None, NAN, NAN).name == "generic"
    assert generic.choose(ns("2025-07-14 11:00"), *DRESDEN, "clear").name == "summer_day"
    assert generic.choose(ns("2025-12-10 21:30"), *DRESDEN, "clear").name == "generic"


def test_reasons_read_as_sentences():
    at_night = chooser(*TOWN).choose(ns("2025-12-10 18:30"), *DRESDEN)
    assert at_night.reason == "night: sun −32.0°, 10 Dec, weather unknown"
    snow = chooser("night", "summer_day").choose(ns("2026-01-20 10:30"), *DRESDEN, "snow")
    assert snow.reason == (
        "nearest to (day, winter, snow): summer_day; sun 18.2°, 20 Jan, snow; "
        "differs in weather, season"
    )


def test_override_wins_and_one_not_available_lists_the_available():
    town = chooser(*TOWN)
    choice = town.choose(ns("2025-07-14 11:00"), *DRESDEN, "clear", override="night")
    assert (choice.name, choice.exact) == ("night", False)
    assert "set by override" in choice.reason
    with pytest.raises(DomainError, match="summer_day, winter_snow, autumn_rain, night"):
        town.choose(0, NAN, NAN, override="spring")


def test_any_alone_stands_for_every_condition_and_every_name():
    alone, among = chooser("any"), chooser("any", "night")
    for name in ("", "night", "any", "unheard"):
        choice = alone.choose(ns("2025-01-14 11:00"), *DRESDEN, "snow", override=name)
        assert (choice.name, choice.exact) == ("any", True)
    assert among.find("night") == "night" and among.find("unheard") is None
    assert among.choose(ns("2025-07-14 23:00"), *DRESDEN).name == "night"


def test_a_chooser_needs_domains_with_different_names():
    for domains in ([], [Domain("a"), Domain("a")]):
        with pytest.raises(DomainError, match="different names"):
            DomainChooser(domains)


# --- RobotCar-Seasons ---

RECORDINGS = {  # condition: (first image UTC, weather of its name)
    "overcast-reference": ("2014-11-28 12:07", "overcast"),
    "dawn": ("2014-12-16 09:14", ""),
    "dusk": ("2015-02-20 16:34", ""),
    "night": ("2014-12-10 18:10", ""),
    "night-rain": ("2014-12-17 18:18", "rain"),
    "overcast-summer": ("2015-05-22 11:14", "overcast"),
    "overcast-winter": ("2015-11-13 10:28", "overcast"),
    "rain": ("2014-11-25 09:18", "rain"),
    "snow": ("2015-02-03 08:45", "snow"),
    "sun": ("2015-03-10 14:18", "clear"),
}


@pytest.mark.parametrize("condition", sorted(RECORDINGS))
def test_robotcar_rules_fit_the_recordings_they_are_named_after(condition):
    time_utc, weather = RECORDINGS[condition]
    name = "robotcar_" + condition.replace("-", "_")
    assert chooser(name).choose(ns(time_utc), *OXFORD, weather).exact


@given(some_domains, stamps, latitudes, longitudes, words)
def test_an_aerial_domain_is_never_chosen_for_a_camera_image(
    names, stamp, latitude, longitude, word
):
    without, both = chooser(*names), chooser("aerial", *names)
    choice = both.choose(stamp, latitude, longitude, word)
    assert choice == without.choose(stamp, latitude, longitude, word)
    assert "aerial" not in both.of_this_light(stamp, latitude, longitude)


def test_a_model_with_aerial_domains_alone_chooses_none():
    with pytest.raises(DomainError, match=r"all domains are aerial \(aerial\)"):
        chooser("aerial").choose(None, *DRESDEN)
