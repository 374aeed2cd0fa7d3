# SPDX-License-Identifier: Apache-2.0
"""What hints carry: against the map what the sequence's estimate knows, of the own drive points."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

import torch
from std_msgs.msg import Header
from support.data import detailed

from disam_ros.camera import Camera
from disam_ros.config import LoopClosureConfig
from disam_ros.geometry import Transform, distance
from disam_ros.localization.answer import Estimate, Localization
from disam_ros.localization.odometry import Reading
from disam_ros.nodes.conversions import UNKNOWN
from disam_ros.nodes.diagnostics import Monitor
from disam_ros.nodes.localizer.loop_closures import VERIFIED, LoopClosures
from disam_ros.slam.loop_closure import relation_to
from disam_ros.slam.loop_hint import OWN, from_values

MOUNT = Transform.from_xyz_rpy([0.8, 0.0, 1.5, -np.pi / 2, 0.0, -np.pi / 2])


def estimated(map_from_base, covariance, inliers=0):
    """A localization that knows no more than its estimate."""
    known = (0.9, 1.0, None, True, MOUNT, inliers)
    estimate = Estimate(map_from_base, covariance, covariance, *known)
    return Localization("front", None, [], True, 1.0, {}, None, None, "", estimate)


def test_a_camera_mounted_elsewhere_puts_the_vehicle_where_its_own_mount_says():
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    own = Transform.from_xyz_rpy([-1.0, 0.3, 2.0, -np.pi / 2, 0.0, -np.pi / 2 + 0.4])
    found = estimated(here, np.eye(6))
    assert distance(found.map_from_base(MOUNT), here) == pytest.approx((0, 0), abs=1e-6)
    seen = found.map_from_base(own) @ own
    assert distance(seen, here @ MOUNT) == pytest.approx((0, 0), abs=1e-5)


def test_a_relation_to_a_map_image_leads_back_to_the_estimate_with_its_covariance():
    rng = np.random.default_rng(0)
    keyframe = Transform.from_xyz_rpy([10.0, 5.0, 0.0, 0.0, 0.0, np.pi / 2])
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    root = rng.standard_normal((6, 6))
    estimate = estimated(here, root @ root.T, inliers=40).estimate
    found = relation_to(keyframe, estimated(here, root @ root.T, inliers=40), MOUNT)
    assert distance(keyframe @ found.keyframe_from_base, here) == pytest.approx((0, 0), abs=1e-6)
    assert found.inliers == 40
    turned = keyframe.rotation @ found.covariance[:3, :3] @ keyframe.rotation.T
    assert np.allclose(turned, estimate.covariance[:3, :3])
    ahead = np.zeros((6, 6))
    ahead[1, 1] = 4.0  # the map's y is ahead of this keyframe
    along = relation_to(keyframe, estimated(here, ahead), MOUNT)
    assert along.covariance[0, 0] == pytest.approx(4.0) and along.covariance[1, 1] < 1e-9


LAP, RADIUS = 12, 6.0
CONFIG = LoopClosureConfig(
    enabled=True, keyframe_distance=1.0, min_age=5.0, min_path=15.0, agreeing=3, place_distance=3.0
)


class Vehicle:
    """Drives around a circle, in the place of a node; keeps what is published and warned."""

    def __init__(self, camera, config=CONFIG):
        self.published, self.warnings = [], []
        self.monitor = Monitor("loops")
        self._loops = LoopClosures(self, self.monitor, config, "base_link")
        self._camera = camera

    def create_lifecycle_publisher(self, kind, topic, depth):
        return SimpleNamespace(publish=self.published.append)

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)

    def drive(self, count):
        """The hints of so many images."""
        for i in range(count):
            rng = np.random.default_rng(i % LAP)
            coarse, fine = rng.standard_normal(32), torch.from_numpy(rng.standard_normal((4, 4, 4)))
            angle = 2 * np.pi * i / LAP
            x, y = RADIUS * np.sin(angle), -RADIUS * np.cos(angle)
            reading = Reading(Transform.from_xyz_rpy([x, y, 0.0, 0.0, 0.0, angle]), 0.0, 0)
            found = Localization("front", None, [], False, 1.0, {}, fine, coarse)
            shown = detailed(i % LAP)
            self._loops.look(None, found, (i + 1) * 10**9, reading, self._camera, Header(), shown)
        statuses = [message.status[0] for message in self.published]
        return [from_values({v.key: v.value for v in status.values}) for status in statuses]

    def count(self, key):
        pairs = self.monitor.status("active").values
        return int(next(pair.value for pair in pairs if pair.key == key))


def test_without_intrinsics_hints_of_the_drive_are_as_wide_as_ever_and_it_is_told_once():
    vehicle = Vehicle(UNKNOWN)
    hints = vehicle.drive(2 * LAP)
    assert len(hints) >= 3 and all(h.kind == OWN and h.relation.inliers == 0 for h in hints)
    assert all(np.trace(h.relation.covariance[:3, :3]) > 6.0 for h in hints)
    (told,) = vehicle.warnings
    assert "intrinsics of camera 'front'" in told and "loop_closure.points" in told
    assert told in vehicle.monitor.status("active").message
    assert vehicle.count(VERIFIED) == 0


def test_with_intrinsics_they_are_verified_and_nothing_is_told():
    vehicle = Vehicle(Camera(64, 48, 50.0, 50.0, 31.5, 23.5, (), MOUNT))
    hints = vehicle.drive(2 * LAP)
    assert len(hints) >= 3 and all(h.relation.inliers >= 12 for h in hints)
    assert vehicle.warnings == [] and vehicle.count(VERIFIED) == len(hints)


def test_who_wants_no_points_is_told_nothing_of_intrinsics():
    config = LoopClosureConfig(**{**vars(CONFIG), "points": 0})
    vehicle = Vehicle(UNKNOWN, config)
    assert vehicle.drive(2 * LAP) and vehicle.warnings == []
