# SPDX-License-Identifier: Apache-2.0
"""Laws of geodetic coordinates, against the closed form of the WGS 84 ellipsoid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disam_ros.errors import PriorError
from disam_ros.geodesy import Origin, metres_per_degree

EQUATOR = 6378137.0  # semi-major axis [m]
ECCENTRICITY_SQUARED = 6.69437999014e-3
TOLERANCE = 1e-6  # [m]

latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)
metres = st.floats(-1000, 1000)


def ecef(latitude, longitude):
    lat, lon = np.radians([latitude, longitude])
    radius = EQUATOR / np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(lat) ** 2)
    flat, height = radius * np.cos(lat), radius * (1 - ECCENTRICITY_SQUARED) * np.sin(lat)
    return np.array([flat * np.cos(lon), flat * np.sin(lon), height])


@given(latitudes, longitudes, st.floats(-1, 1), st.floats(-1, 1))
def test_east_north_up_are_the_gap_along_the_axes_of_the_tangent_plane(lat, lon, north, east):
    there = float(np.clip(lat + north, -90, 90)), lon + east
    a, b = np.radians([lat, lon])
    axes = np.array(
        [
            [-np.sin(b), np.cos(b), 0.0],
            [-np.sin(a) * np.cos(b), -np.sin(a) * np.sin(b), np.cos(a)],
            [np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)],
        ]
    )
    expected = axes @ (ecef(*there) - ecef(lat, lon))
    assert np.abs(Origin(lat, lon).to_enu(*there) - expected).max() < TOLERANCE


@given(latitudes)
def test_a_degree_is_as_long_as_the_curvature_of_the_ellipsoid_makes_it(latitude):
    w = np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(np.radians(latitude)) ** 2)
    north = np.radians(EQUATOR * (1 - ECCENTRICITY_SQUARED) / w**3)
    east = np.radians(EQUATOR / w * np.cos(np.radians(latitude)))
    assert metres_per_degree(latitude) == pytest.approx((north, east), abs=TOLERANCE)


@pytest.mark.parametrize("place", [(95.0, 0.0), (0.0, 181.0), (float("nan"), 0.0)])
def test_an_origin_is_a_place_on_earth(place):
    with pytest.raises(PriorError, match="the map's origin expects latitude and longitude"):
        Origin(*place)
