# SPDX-License-Identifier: Apache-2.0
"""When poses agree, and when a consumer of poses is started, lost and recovered."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from disam_ros.geometry import PoseWithCovariance, Transform
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.pose_buffer import NANOSECONDS
from disam_ros.slam.agreement import (
    AGREEING,
    GATE,
    Motion,
    StampedPose,
    Streak,
    agree,
    distance_squared,
)
from disam_ros.slam.supervisor import (
    GRACE_NS,
    MOST,
    PATIENCE_NS,
    PAUSE_NS,
    State,
    Supervisor,
)

LIMITS = Motion(noise=0.1, max_speed=2.0)
COVARIANCE = np.diag([0.3, 0.3, 1e-4, 1e-5, 1e-5, 0.05]) ** 2  # flat: sure of height and tilt
numbers = st.floats(-20, 20)


def at(x, y=0.0, z=0.0, yaw=0.0, tilt=0.0):
    return Transform.from_xyz_rpy([x, y, z, tilt, 0.0, yaw])


def answer(second, pose, travelled=None):
    """An answer; with odometry that began at the map's origin, after so many metres."""
    reading = None if travelled is None else Reading(pose, travelled, 0)
    return StampedPose(round(second * NANOSECONDS), PoseWithCovariance(pose, COVARIANCE), reading)


def test_the_gate_holds_999_of_1000_true_poses():
    assert chi2.ppf(0.999, 3) == pytest.approx(GATE, abs=0.01)


@settings(max_examples=50, deadline=None)
@given(x=numbers, y=numbers, yaw=st.floats(-3, 3), gap=st.floats(-0.5, 0.5))
def test_the_distance_of_two_poses_is_that_of_x_y_and_yaw(x, y, yaw, gap):
    a, b = at(x, y, 5.0, yaw, tilt=0.1), at(x + gap, y - 2 * gap, 0.0, yaw + gap / 5, tilt=0.1)
    result = distance_squared(PoseWithCovariance(a, COVARIANCE), PoseWithCovariance(b, COVARIANCE))
    turn = (Rotation.from_quat(a.quaternion) * Rotation.from_quat(b.quaternion).inv()).as_rotvec()
    expected = (gap**2 + (2 * gap) ** 2) / (2 * 0.3**2) + turn[2] ** 2 / (2 * 0.05**2)
    assert result == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(x=numbers, y=numbers, yaw=st.floats(-3, 3), forward=st.floats(0, 30), turn=st.floats(-2, 2))
def test_true_poses_agree_however_the_vehicle_moved_by_its_odometry(x, y, yaw, forward, turn):
    before = at(x, y, yaw=yaw)
    now = before @ at(forward, yaw=turn)
    first, second = answer(0, before, 10.0), answer(5, now, 10.0 + forward)
    assert agree(second, first, LIMITS)
    assert np.allclose(first.at(second, LIMITS).pose.translation, now.translation)
    far = answer(5, now, 10.0 + forward)
    wrong = PoseWithCovariance(at(0, 50) @ now, COVARIANCE)
    assert not agree(StampedPose(far.stamp_ns, wrong, far.odometry), first, LIMITS)


def test_without_odometry_the_vehicle_may_have_moved_at_its_largest_speed():
    before = answer(0, at(0))
    assert agree(answer(2, at(3.9)), before, LIMITS)
    assert not agree(answer(2, at(30)), before, LIMITS)
    assert not agree(answer(0, at(3.9)), before, LIMITS)


def test_odometry_that_began_again_says_nothing_of_the_motion():
    before, now = answer(0, at(0), 5.0), answer(2, at(3.9))
    moved = StampedPose(now.stamp_ns, now.pose, Reading(at(900), 0.0, 1))
    assert agree(moved, before, LIMITS)


@pytest.mark.parametrize(("rate", "least"), [(1, 5), (2, 5), (30, 61)])
def test_answers_in_a_row_take_two_seconds_at_least(rate, least):
    streak = Streak()
    complete = [streak.add(answer(i / rate, at(0), 0.0), LIMITS) for i in range(80)]
    assert complete.index(True) + 1 == least


def test_an_answer_elsewhere_begins_a_new_row():
    streak = Streak()
    for second in range(AGREEING - 1):
        assert not streak.add(answer(second, at(0), 0.0), LIMITS)
    moved = [answer(second, at(50), 0.0) for second in range(4, 4 + AGREEING)]
    moved = [StampedPose(a.stamp_ns, a.pose, Reading(at(0), 0.0, 0)) for a in moved]
    assert [streak.add(a, LIMITS) for a in moved] == [False] * (AGREEING - 1) + [True]


class Robot:
    """Stands at the map's origin; a consumer may believe that it is elsewhere."""

    def __init__(self, recover=True):
        self.supervisor, self.second = Supervisor(recover, LIMITS), 0.0
        self.sent: list[float] = []

    def run(self, seconds, consumer=None, covariance=COVARIANCE, obedient=False):
        """Two answers a second. consumer: its pose; obedient: it takes what it is sent."""
        for _ in range(2 * seconds):
            self.second += 0.5
            now = answer(self.second, at(0), 0.0)
            theirs = None
            if consumer is not None:
                pose = at(0) if obedient and self.sent else consumer
                known = PoseWithCovariance(pose, covariance)
                theirs = StampedPose(now.stamp_ns, known, now.odometry)
            if self.supervisor.answered(now, theirs):
                self.supervisor.sent(now.stamp_ns)
                self.sent.append(self.second)
        return self.supervisor.state


def test_a_silent_consumer_is_started_once_and_then_reported():
    robot = Robot()
    assert robot.run(3) is State.SILENT and len(robot.sent) == 1
    assert robot.run(round(PATIENCE_NS / NANOSECONDS) + 1) is State.MUTE
    assert len(robot.sent) == 1
    assert robot.run(1, at(0)) is State.AGREES


def test_a_consumer_that_agrees_is_never_sent_a_pose():
    robot = Robot()
    assert robot.run(60, at(0.8, 0.5, z=3.0, yaw=0.2)) is State.AGREES
    assert not robot.sent and robot.supervisor.started


def test_a_consumer_that_is_lost_takes_the_pose_and_agrees():
    robot = Robot()
    robot.run(30, at(0))
    assert robot.run(10, at(40), obedient=True) is State.AGREES
    (sent,) = robot.sent
    assert sent - 30 <= 3 and not robot.supervisor.lost


def test_once_says_that_it_is_lost_and_sends_nothing():
    robot = Robot(recover=False)
    robot.run(30, at(0))
    assert robot.run(60, at(40)) is State.LOST
    assert not robot.sent and robot.supervisor.lost
    assert robot.run(1, at(0)) is State.AGREES and not robot.supervisor.lost


def test_a_consumer_that_takes_no_pose_gets_fewer_and_fewer():
    robot = Robot()
    robot.run(5, at(0))
    assert robot.run(200, at(40)) is State.DEAF
    pauses = np.diff(robot.sent)
    assert pauses[0] >= PAUSE_NS / NANOSECONDS
    assert all(later >= 1.5 * pause for pause, later in pairwise(pauses))


def test_a_consumer_has_time_to_take_its_pose():
    robot = Robot()
    robot.run(3)
    assert robot.second + 1 < robot.sent[0] + GRACE_NS / NANOSECONDS < robot.second + 2
    assert robot.run(1, at(40)) is State.SILENT
    assert robot.run(1, at(40)) is State.DOUBTED


def test_answers_that_are_not_confident_interrupt_a_row():
    robot = Robot()
    for _ in range(20):
        robot.run(2)  # four answers
        robot.supervisor.unsure()
    assert not robot.sent


@pytest.mark.parametrize("deviation", [0.0, 1e3])
def test_a_consumer_that_is_far_off_is_lost_however_sure_it_is(deviation):
    robot = Robot()
    robot.run(5, at(0))
    robot.run(10, at(6 * MOST[0]), covariance=deviation**2 * np.eye(6))
    assert robot.supervisor.lost


def test_a_consumer_that_says_how_unsure_it_is_is_not_lost_nearby():
    robot = Robot()
    robot.run(5, at(0))
    robot.run(10, at(8.0), covariance=16.0 * np.eye(6))
    assert not robot.supervisor.lost
    robot.run(10, at(8.0))
    assert robot.supervisor.lost


def test_a_clock_that_is_set_back_begins_anew():
    robot = Robot()
    robot.run(30, at(40))
    robot.second = 0.0
    assert robot.run(5, at(0)) is State.AGREES
    assert robot.run(5, at(40)) in (State.LOST, State.SILENT, State.DEAF)
