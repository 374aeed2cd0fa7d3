# SPDX-License-Identifier: Apache-2.0
"""Poses that no vehicle drove: far places, leaps, wrong clocks; in files, bags and streams."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disam_ros.datasets.aerial.tiles import TileInfo, TileSet, TileWriter
from disam_ros.datasets.clock_offset import clock_offset
from disam_ros.datasets.trajectories import read_trajectory
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.localization.checks import StampOrder
from disam_ros.localization.sequence.odometry import OdometryTrack
from disam_ros.plausibility import Gate, without_strays
from disam_ros.pose_buffer import Track

NS = 10**9
SPEED = 10.0  # [m/s]
STRAYS = [(1e7, 0.0), (9e6, -9e6), (0.0, 0.0), (3e7, 1.0), (5.0, 4000.0)]
START = 5000.0  # x of the first pose [m]


def pose(x: float, y: float = 0.0) -> Transform:
    return Transform(np.array([x, y, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))


def drive(count: int, start: float = START) -> Track:
    stamps = np.arange(1, count + 1) * NS
    return Track(stamps, [pose(start + SPEED * row) for row in range(count)])


def tum(track: Track) -> str:
    return "".join(
        f"{stamp / NS:.3f} {at.translation[0]:.3f} {at.translation[1]:.3f} 0 0 0 0 1\n"
        for stamp, at in zip(*track, strict=True)
    )


def with_strays(track: Track, rows: dict[int, tuple[float, float]]) -> Track:
    poses = [pose(*rows[n]) if n in rows else p for n, p in enumerate(track.poses)]
    return Track(track.stamps, poses)


@given(st.dictionaries(st.integers(0, 59), st.sampled_from(STRAYS), max_size=5))
def test_strays_are_left_out_wherever_they_are_and_nothing_else_is(rows):
    whole = drive(60)
    track, text = without_strays(with_strays(whole, rows))
    assert set(track.stamps.tolist()) == {
        stamp for n, stamp in enumerate(whole.stamps.tolist()) if n not in rows
    }
    assert bool(text) == bool(rows)
    assert not rows or f"left out {len(rows)} of 60 poses" in text


def test_a_track_that_goes_on_elsewhere_stays():
    """As where a SLAM system begins anew."""
    a, b = drive(30), drive(30, -8000.0)
    track = Track(np.r_[a.stamps, b.stamps + a.stamps[-1]], [*a.poses, *b.poses])
    assert without_strays(track) == (track, "")


def test_positions_in_other_units_are_doubted_and_stay():
    track, text = without_strays(Track(drive(50).stamps, [pose(1e4 * n) for n in range(50)]))
    assert len(track.stamps) == 50
    assert "49 steps are faster than 100 m/s and stay: are the positions metres" in text


@pytest.mark.parametrize("stray", STRAYS)
def test_a_wild_row_of_a_trajectory_is_left_out_with_a_line(tmp_path, caplog, stray):
    track = with_strays(drive(60), {20: stray})
    (tmp_path / "poses.txt").write_text(tum(track))
    with caplog.at_level(logging.WARNING):
        trajectory = read_trajectory(tmp_path / "poses.txt")
    assert len(trajectory.stamps) == 59
    assert "poses.txt: left out 1 of 60 poses to which no vehicle gets" in caplog.text
    assert ("at (0, 0)" in caplog.text) == (stray == (0.0, 0.0))


def test_rows_without_a_fix_and_places_elsewhere_are_left_out_of_a_table(tmp_path, caplog):
    rows = [(51.0 + 1e-5 * n, 13.7) for n in range(40)]
    rows[0] = rows[1] = rows[17] = (0.0, 0.0)
    rows[2] = (-33.0, 151.0)
    lines = ["timestamp,latitude,longitude", *(f"{n},{a},{b}" for n, (a, b) in enumerate(rows))]
    (tmp_path / "fix.csv").write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        trajectory = read_trajectory(tmp_path / "fix.csv")
    assert "3 rows at 0, 0 left out: they are no fixes" in caplog.text
    assert len(trajectory.stamps) == 36 and trajectory.origin.latitude == pytest.approx(51.00003)
    assert max(np.abs(p.translation).max() for p in trajectory.poses) < 50


def passed(gate: Gate, steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Second and x of the poses that a gate passes."""
    return [
        (step.stamp_ns / NS, float(step.pose.translation[0]))
        for second, x in steps
        for step in gate.passes(round(second * NS), pose(x))[0]
    ]


@given(
    st.integers(1, 18),
    st.sampled_from([(3600.0, 0.0), (-3600.0, 0.0), (0.5, 1e6), (3600.0, 1e6), (2e9, 5.0)]),
)
def test_one_wild_pose_of_a_stream_is_left_out_alone(at, stray):
    whole = [(4000.0 + n, SPEED * n) for n in range(20)]
    wild = (whole[at - 1][0] + stray[0], whole[at - 1][1] + stray[1])
    gate = Gate()
    assert passed(gate, [*whole[:at], wild, *whole[at:]]) == whole
    assert gate.left_out == 1


@pytest.mark.parametrize(("seconds", "metres"), [(3600.0, 0.0), (-1000.0, 0.0), (30.0, 1e5)])
def test_a_stream_that_goes_on_elsewhere_is_followed(seconds, metres):
    whole = [(4000.0 + n, SPEED * n) for n in range(10)]
    later = [(4010.0 + seconds + n, metres + SPEED * n) for n in range(10)]
    gate, restarts = Gate(), 0
    for second, x in (*whole, *later):
        restarts += gate.passes(round(second * NS), pose(x))[1]
    assert restarts == 1 and gate.left_out == 0


def test_a_first_pose_that_is_wild_does_not_end_a_stream():
    whole = [(4000.0 + n, SPEED * n) for n in range(10)]
    assert passed(Gate(), [(2e9, 0.0), *whole])[1:] == whole


def test_an_image_stamped_an_hour_ahead_leaves_the_others_in():
    order = StampOrder()
    stamps = [1000 + n for n in range(5)] + [4600] + [1005 + n for n in range(5)]
    assert [order.usable("front", s * NS) for s in stamps] == [s * NS for s in stamps]
    assert order.usable("front", 500 * NS) is None  # a bag starts again


@given(
    st.integers(2, 18),
    st.sampled_from([(3600.0, 0.0), (-3600.0, 0.0), (0.5, 1e6), (3600.0, 1e6), (-1e9, 5.0)]),
)
def test_one_wild_pose_of_odometry_does_not_end_its_drive(at, stray):
    track = OdometryTrack(10 * NS, max_speed=60.0)
    whole = [(2e9 + n, SPEED * n) for n in range(20)]
    wild = (whole[at - 1][0] + stray[0], whole[at - 1][1] + stray[1])
    for second, x in (*whole[:at], wild, *whole[at:]):
        track.move(round(second * NS), pose(x))
    for second, x in whole:
        reading = track.reading(round(second * NS))
        assert (reading.drive, reading.odom_from_base.translation[0]) == (0, x)


def test_odometry_that_goes_on_elsewhere_is_of_another_drive():
    track = OdometryTrack(10 * NS, max_speed=60.0)
    for second, x in ((1, 0.0), (2, 10.0), (3, 20.0), (4, 9000.0), (5, 9010.0), (6, 9020.0)):
        track.move(second * NS, pose(x))
    assert track.drive == 1 and track.reading(2 * NS) is None
    for second in (1, 2, 3):
        track.move(second * NS, pose(0.0))
    assert track.drive == 2 and track.reading(5 * NS).odom_from_base.translation[0] == 0.0


def test_a_track_of_many_years_is_too_long_for_a_time_offset():
    track = Track(np.array([0, 1, 2**62]), [pose(0.0)] * 3)
    with pytest.raises(DatasetError, match="is too long to find a time offset"):
        clock_offset(track, drive(60))


def test_a_crop_is_bounded_however_small_a_pixel_is(tmp_path):
    with TileWriter(tmp_path / "tiles", TileInfo(1e-9, 8)) as writer:
        writer.add(0, 0, np.zeros((8, 8, 3), np.uint8))
    tiles = TileSet(tmp_path / "tiles")
    for use in (tiles.crop, tiles.covers):
        with pytest.raises(DatasetError, match="metres per pixel are more than 4096 pixels"):
            use(0.0, 0.0, 80.0)
