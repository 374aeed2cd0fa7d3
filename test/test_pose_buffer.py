# SPDX-License-Identifier: Apache-2.0
"""Laws of poses over time."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from disam_ros.geometry import Transform
from disam_ros.pose_buffer import PoseBuffer

tracks = st.dictionaries(st.integers(0, 1000), st.floats(-50, 50), min_size=1, max_size=20)


def at(x, yaw=0.0):
    return Transform.from_xyz_rpy([x, 0, 0, 0, 0, yaw])


def test_a_stored_pose_is_given_back_itself_and_the_middle_is_interpolated():
    a, b = at(0.0), at(2.0, yaw=1.0)
    buffer = PoseBuffer.of([0, 100], [a, b], max_gap_ns=1000)
    assert buffer.at(0) is a and buffer.at(100) is b
    middle = buffer.at(50)
    assert np.allclose(middle.translation, [1, 0, 0])
    assert Rotation.from_quat(middle.quaternion).as_euler("xyz")[2] == pytest.approx(0.5)


@given(tracks, st.integers(-10, 1010), st.integers(1, 300))
def test_a_pose_is_linear_between_neighbours_and_none_across_a_gap(track, stamp_ns, max_gap_ns):
    stamps = np.array(sorted(track))
    buffer = PoseBuffer.of(stamps, [at(track[s]) for s in stamps.tolist()], max_gap_ns)
    before, after = stamps[stamps <= stamp_ns], stamps[stamps >= stamp_ns]
    result = buffer.at(stamp_ns)
    if not len(before) or not len(after) or after[0] - before[-1] > max_gap_ns:
        assert result is None and buffer.sample(stamp_ns) is None
    else:
        expected = np.interp(stamp_ns, stamps, [track[s] for s in stamps.tolist()])
        assert result.translation[0] == pytest.approx(expected, abs=1e-9)


@given(tracks)
def test_the_distance_travelled_is_the_length_of_the_track(track):
    stamps = sorted(track)
    buffer = PoseBuffer.of(stamps, [at(track[s]) for s in stamps], max_gap_ns=2000)
    steps = np.abs(np.diff([track[s] for s in stamps]))
    assert buffer.newest.travelled == pytest.approx(steps.sum())
    middle = buffer.sample((stamps[0] + stamps[-1]) // 2).travelled
    assert 0 <= middle <= buffer.newest.travelled + 1e-9


@given(st.permutations(range(8)))
def test_the_order_of_a_track_does_not_matter(order):
    buffer = PoseBuffer.of([10 * i for i in order], [at(i) for i in order], max_gap_ns=10)
    assert buffer.track.stamps.tolist() == list(range(0, 80, 10))
    assert [pose.translation[0] for pose in buffer.track.poses] == list(range(8))


def test_of_poses_of_one_stamp_the_first_is_kept():
    buffer = PoseBuffer.of([0, 0, 5], [at(1.0), at(2.0), at(3.0)], max_gap_ns=10)
    assert len(buffer) == 2 and buffer.at(0).translation[0] == 1.0


def test_a_pose_must_be_newer_than_the_last():
    buffer = PoseBuffer(max_gap_ns=10)
    assert buffer.newest is None
    assert buffer.add(100, at(0.0))
    assert not buffer.add(100, at(1.0)) and not buffer.add(99, at(1.0))
    assert buffer.newest.stamp_ns == 100 and len(buffer) == 1


def test_only_the_newest_poses_are_kept_and_the_distance_goes_on():
    buffer = PoseBuffer(max_gap_ns=10, kept=3)
    for i in range(10):
        buffer.add(i, at(2.0 * i))
    assert buffer.track.stamps.tolist() == [7, 8, 9]
    assert buffer.at(6) is None and buffer.sample(7).travelled == 14.0
    buffer.clear()
    assert len(buffer) == 0 and buffer.at(8) is None
    buffer.add(1, at(5.0))
    assert buffer.newest.travelled == 0.0


def test_poses_are_read_while_another_thread_adds_them():
    buffer, done = PoseBuffer(max_gap_ns=10, kept=5), threading.Event()

    def add():
        for i in range(2000):
            buffer.add(i, at(float(i)))
        done.set()

    writer = threading.Thread(target=add)
    writer.start()
    while not done.is_set():
        newest = buffer.newest
        if newest is not None:
            result = buffer.sample(newest.stamp_ns)
            assert (
                result is None or result.pose.translation[0] == result.stamp_ns == result.travelled
            )
    writer.join()
    assert buffer.track.stamps.tolist() == [1995, 1996, 1997, 1998, 1999]
