# SPDX-License-Identifier: Apache-2.0
"""Season, weather and light of the town. Colours are linear RGB, relative radiance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from season_town.arrays import Points

LATITUDE = 51.05  # degrees north of the map origin
LONGITUDE = 13.74  # degrees east of the map origin
ALTITUDE = 113.0  # metres above the ellipsoid at the map origin

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Condition:
    """One appearance of the town. Amounts without a unit run from 0 (none) to 1 (full)."""

    name: str
    local_time: str  # typical local clock time, ISO 8601 with UTC offset
    weather: str  # a word of disam_ros.domain: clear, cloudy, rain or snow
    sun_elevation: float  # degrees above the horizon, of the light that casts shadows
    sun_azimuth: float  # degrees clockwise from north
    sun: Rgb
    ambient: Rgb  # light from the sky dome
    zenith: Rgb
    horizon: Rgb  # also the colour of fog
    cloud: float  # cover of the sky
    fog: float  # extinction, 1/metre
    exposure: float
    foliage: str  # green, fresh, autumn or bare
    grass: Rgb  # tint of lawns
    snow: float = 0.0  # cover of upward surfaces
    wet: float = 0.0  # darker, glossy ground
    litter: float = 0.0  # fallen leaves
    lamps: float = 0.0  # street lamps, headlights
    lit_windows: float = 0.0  # share of windows
    flakes: int = 0  # falling snowflakes drawn
    streaks: int = 0  # falling raindrops drawn
    lens_drops: int = 0
    noise: float = 0.008  # sensor noise, standard deviation on a 0..1 scale
    blur: float = 0.004  # motion blur: share of the image radius at 8 m/s

    @property
    def start_ns(self) -> int:
        """Returns the typical local time as UTC nanoseconds."""
        since = datetime.fromisoformat(self.local_time) - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return since // timedelta(seconds=1) * 1_000_000_000

    @property
    def sun_direction(self) -> Points:
        """Returns the unit vector [3] in the map frame (ENU), from the ground to the sun."""
        elevation, azimuth = np.radians([self.sun_elevation, self.sun_azimuth])
        level = np.cos(elevation)
        return np.array([level * np.sin(azimuth), level * np.cos(azimuth), np.sin(elevation)])


_ALL = (
    Condition(
        name="summer_day",
        local_time="2025-07-14T13:00:00+02:00",
        weather="clear",
        sun_elevation=60.5,
        sun_azimuth=172.0,
        sun=(3.0, 2.8, 2.45),
        ambient=(0.62, 0.74, 0.95),
        zenith=(0.16, 0.36, 0.85),
        horizon=(0.72, 0.84, 1.0),
        cloud=0.45,
        fog=0.0012,
        exposure=0.62,
        foliage="green",
        grass=(0.72, 0.78, 0.62),
    ),
    Condition(
        name="winter_snow",
        local_time="2026-01-20T11:30:00+01:00",
        weather="snow",
        sun_elevation=18.2,
        sun_azimuth=168.0,
        sun=(0.25, 0.25, 0.27),
        ambient=(0.95, 1.0, 1.1),
        zenith=(0.72, 0.76, 0.84),
        horizon=(0.86, 0.89, 0.94),
        cloud=0.95,
        fog=0.010,
        exposure=0.72,
        foliage="bare",
        grass=(0.8, 0.75, 0.6),
        snow=1.0,
        flakes=1400,
        noise=0.012,
    ),
    Condition(
        name="autumn_rain",
        local_time="2025-10-28T15:00:00+01:00",
        weather="rain",
        sun_elevation=19.0,
        sun_azimuth=225.0,
        sun=(0.08, 0.08, 0.08),
        ambient=(0.60, 0.58, 0.56),
        zenith=(0.34, 0.37, 0.42),
        horizon=(0.55, 0.57, 0.60),
        cloud=1.0,
        fog=0.011,
        exposure=1.05,
        foliage="autumn",
        grass=(0.8, 0.72, 0.45),
        wet=1.0,
        litter=0.9,
        lamps=0.06,
        lit_windows=0.12,
        streaks=1000,
        lens_drops=24,
        noise=0.015,
        blur=0.007,
    ),
    Condition(
        name="night",
        local_time="2025-12-10T22:30:00+01:00",
        weather="clear",
        sun_elevation=40.0,  # the moon
        sun_azimuth=110.0,
        sun=(0.003, 0.004, 0.006),
        ambient=(0.004, 0.0045, 0.0075),
        zenith=(0.003, 0.004, 0.010),
        horizon=(0.016, 0.012, 0.010),
        cloud=0.3,
        fog=0.003,
        exposure=1.9,
        foliage="bare",
        grass=(0.7, 0.75, 0.5),
        wet=0.55,
        litter=0.15,
        lamps=1.0,
        lit_windows=0.4,
        noise=0.05,
        blur=0.018,
    ),
    Condition(
        name="spring_morning",
        local_time="2026-04-21T07:45:00+02:00",
        weather="clear",
        sun_elevation=16.5,
        sun_azimuth=88.0,
        sun=(2.6, 2.0, 1.3),
        ambient=(0.50, 0.60, 0.78),
        zenith=(0.25, 0.42, 0.78),
        horizon=(0.95, 0.88, 0.78),
        cloud=0.3,
        fog=0.006,
        exposure=0.78,
        foliage="fresh",
        grass=(0.8, 1.05, 0.55),
    ),
    Condition(
        name="dusk",
        local_time="2025-09-18T18:50:00+02:00",
        weather="cloudy",
        sun_elevation=4.5,
        sun_azimuth=268.0,
        sun=(0.55, 0.26, 0.12),
        ambient=(0.16, 0.17, 0.26),
        zenith=(0.10, 0.13, 0.28),
        horizon=(0.75, 0.42, 0.24),
        cloud=0.6,
        fog=0.003,
        exposure=1.4,
        foliage="green",
        grass=(0.85, 0.9, 0.6),
        lamps=0.25,
        lit_windows=0.3,
        noise=0.018,
        blur=0.008,
    ),
)

CONDITIONS: dict[str, Condition] = {condition.name: condition for condition in _ALL}
