# SPDX-License-Identifier: Apache-2.0
"""Words of weather services and of people."""

import pytest

from disam_ros.domains.domain import WEATHER_WORDS, parse_weather
from disam_ros.errors import DomainError

OPEN_WEATHER_MAP = {  # main words and descriptions of its documentation
    "rain": "Thunderstorm; Drizzle; Rain; Squall; Tornado; light intensity shower rain; "
    "thunderstorm with heavy drizzle; very heavy rain; extreme rain; freezing rain; "
    "ragged shower rain; drizzle rain; heavy shower rain and drizzle; light rain",
    "snow": "Snow; light snow; Sleet; Light shower sleet; Rain and snow; Heavy shower snow",
    "fog": "Mist; Smoke; Haze; Dust; Fog; Sand; Ash; sand/dust whirls; volcanic ash",
    "clear": "Clear; clear sky",
    "cloudy": "Clouds; few clouds; scattered clouds; broken clouds",
    "overcast": "overcast clouds",
}
METAR = {
    "rain": "-RA; +SHRA; VCSH; TSRA; -DZ; FG RA OVC010",
    "snow": "SN; -SHSN; RASN; BLSN; +SNRA BKN020",
    "fog": "BR; FZFG; HZ; MIFG",
    "clear": "CAVOK; SKC; CLR",
    "cloudy": "FEW030; SCT040; BKN025CB",
    "overcast": "OVC008; SCT010 OVC030",
}


@pytest.mark.parametrize("vocabulary", [OPEN_WEATHER_MAP, METAR])
@pytest.mark.parametrize("word", WEATHER_WORDS)
def test_weather_services_are_understood(vocabulary, word):
    for phrase in vocabulary[word].split("; "):
        assert parse_weather(phrase) == word, phrase


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sunny", "clear"),
        ("drizzle", "rain"),
        ("Light Rain.", "rain"),
        ("snowfall", "snow"),
        ("fog, light rain", "rain"),
        ("partly-cloudy", "cloudy"),
        ("", "unknown"),
        ("  ", "unknown"),
        ("unknown", "unknown"),
    ],
)
def test_people_are_understood(text, word):
    assert parse_weather(text) == word
    assert parse_weather(parse_weather(text)) == word


@pytest.mark.parametrize("text", ["frogs", "no rain", "rain of frogs", "light", "snows", "!"])
def test_words_that_are_not_understood_are_refused_and_the_words_listed(text):
    with pytest.raises(DomainError, match="clear, cloudy, overcast, fog, rain, snow"):
        parse_weather(text)
