# SPDX-License-Identifier: Apache-2.0
"""Odometry that the images contradict is not believed."""

from types import SimpleNamespace

import numpy as np
import pytest

from disam_ros.geometry import Transform
from disam_ros.localization.checks import FAR, IMAGES, OdometryCheck
from disam_ros.localization.sequence.odometry import Reading

SIDE = (32, 4, 6)


def view(seed: int, noise: float = 0.0) -> SimpleNamespace:
    """A query of a scene. noise: share of its features that is another's."""
    scene = np.random.default_rng(seed).standard_normal(SIDE)
    other = np.random.default_rng(1000 + seed).standard_normal(SIDE)
    return SimpleNamespace(camera="front", fine=(1 - noise) * scene + noise * other)


def reading(metres: float, drive: int = 0) -> Reading:
    return Reading(Transform.from_xyz_rpy([metres, 0, 0, 0, 0, 0]), metres, drive)


def faults(views, readings) -> list[str]:
    check = OdometryCheck()
    return [check.fault(*pair) for pair in zip(views, readings, strict=True)]


def test_odometry_that_stands_while_the_view_changes_is_a_fault_until_it_moves():
    check = OdometryCheck()
    answers = [check.fault(view(n), reading(0.0)) for n in range(IMAGES + 3)]
    assert not any(answers[:IMAGES]) and all("stands still" in text for text in answers[IMAGES:])
    assert check.fault(view(100), reading(1.0)) == ""


def test_odometry_that_moves_while_the_view_stays_is_a_fault_until_the_view_changes():
    check = OdometryCheck()
    count = round(FAR) + IMAGES + 2
    answers = [check.fault(view(0, noise=0.1), reading(float(n))) for n in range(count)]
    assert not any(answers[: round(FAR)]) and "stays the same" in answers[-1]
    assert check.fault(view(7), reading(float(count))) == ""


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
def test_a_vehicle_at_rest_is_no_fault_whatever_passes_by(noise):
    views = [view(0, noise if n % 2 else 0.0) for n in range(40)]
    assert not any(faults(views, [reading(0.001 * n) for n in range(40)]))


def test_a_vehicle_that_drives_is_no_fault():
    assert not any(faults([view(n) for n in range(40)], [reading(2.0 * n) for n in range(40)]))


def test_something_that_hides_the_view_for_a_moment_is_no_fault():
    views = [view(50 if 10 <= n < 10 + IMAGES - 1 else 0) for n in range(40)]
    assert not any(faults(views, [reading(0.0)] * 40))


def test_without_odometry_or_after_its_restart_nothing_is_contradicted():
    views = [view(n) for n in range(40)]
    assert not any(faults(views, [None] * 40))
    assert not any(faults(views, [reading(0.0, drive=n) for n in range(40)]))
