# SPDX-License-Identifier: Apache-2.0
"""Loop closures of the node: with the map by the sequence's estimate, of the drive by keypoints."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

import torch
from std_msgs.msg import Header
from support.data import detailed

from disam_ros.camera import Camera, uncalibrated
from disam_ros.config import LoopClosureConfig
from disam_ros.geometry import PoseWithCovariance, Transform, distance
from disam_ros.localization.pipeline import Localized, Shot
from disam_ros.localization.query import Answer, Frame, Query
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import _of_vehicle
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.publishers.loop_closures import VERIFIED, LoopClosures
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.slam.loop_closure_message import OWN, from_values
from disam_ros.slam.map_match import relative_to

MOUNT = Transform.from_xyz_rpy([0.8, 0.0, 1.5, -np.pi / 2, 0.0, -np.pi / 2])


def tracked(map_from_base, covariance):
    """An answer of a sequence that consists of its pose."""
    pose = PoseWithCovariance(map_from_base, covariance)
    return Answer("front", None, [], None, pose, MOUNT, True, 0.9, 1.0, tracked=True)


def test_a_camera_mounted_elsewhere_puts_the_vehicle_where_its_own_mount_says():
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    own = Transform.from_xyz_rpy([-1.0, 0.3, 2.0, -np.pi / 2, 0.0, -np.pi / 2 + 0.4])
    estimate = PoseWithCovariance(here, np.eye(6))
    same = _of_vehicle(estimate, MOUNT, MOUNT)
    assert distance(same.pose, here) == pytest.approx((0, 0), abs=1e-6)
    assert np.array_equal(same.covariance, np.eye(6))
    other = _of_vehicle(estimate, MOUNT, own)
    assert distance(other.pose @ own, here @ MOUNT) == pytest.approx((0, 0), abs=1e-5)
    assert np.trace(other.covariance[:3, :3]) > 3.0  # of the lever arm between the two bases


def test_a_pose_relative_to_a_map_image_leads_back_to_the_estimate_with_its_covariance():
    rng = np.random.default_rng(0)
    keyframe = Transform.from_xyz_rpy([10.0, 5.0, 0.0, 0.0, 0.0, np.pi / 2])
    here = Transform.from_xyz_rpy([10.5, 6.0, 0.1, 0.0, 0.0, 1.5])
    root = rng.standard_normal((6, 6))
    covariance = root @ root.T
    result = relative_to(keyframe, tracked(here, covariance))
    assert distance(keyframe @ result.pose, here) == pytest.approx((0, 0), abs=1e-6)
    turned = keyframe.rotation @ result.covariance[:3, :3] @ keyframe.rotation.T
    assert np.allclose(turned, covariance[:3, :3])
    ahead = np.zeros((6, 6))
    ahead[1, 1] = 4.0  # the map's y is ahead of this keyframe
    along = relative_to(keyframe, tracked(here, ahead))
    assert along.covariance[0, 0] == pytest.approx(4.0) and along.covariance[1, 1] < 1e-9


LAP, RADIUS, SECONDS = 12, 6.0, 3  # images of a circle of 38 m, and the time between them
CONFIG = LoopClosureConfig(enabled=True, keyframe_distance=1.0, min_path=15.0)


class Vehicle:
    """Drives around a circle, in the place of a node; keeps what is published and warned."""

    def __init__(self, camera, config=CONFIG):
        self.published, self.times, self.warnings = [], [], []
        self.monitor = Monitor("loops", self.get_logger())
        self._loops = LoopClosures(self, self.monitor, config, "base_link")
        self._loops.configure(SimpleNamespace(localizer=None), LocalizerNodeConfig())
        self._camera = camera

    def create_lifecycle_publisher(self, kind, topic, depth, event_callbacks):
        kept = self.times if topic.endswith("_times") else self.published
        return SimpleNamespace(publish=kept.append)

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)

    def drive(self, count, odometry=True):
        """The loop closures of so many images."""
        for i in range(count):
            rng = np.random.default_rng(i % LAP)
            coarse = rng.standard_normal((1, 32))
            fine = torch.from_numpy(rng.standard_normal((4, 4, 4)))
            angle = 2 * np.pi * i / LAP
            x, y = RADIUS * np.sin(angle), -RADIUS * np.cos(angle)
            reading = Reading(Transform.from_xyz_rpy([x, y, 0.0, 0.0, 0.0, angle]), 0.0, 0)
            stamp_ns = SECONDS * (i + 1) * 10**9
            frame = Frame(detailed(i % LAP), "front", stamp_ns, self._camera)
            unknown = replace(tracked(Transform.identity(), np.eye(6)), known=False)
            shot = Shot(frame, reading if odometry else None)
            query = Query(frame, None, coarse, fine)
            self._loops.answered(Localized(shot, query, unknown), Header())
        statuses = [message.status[0] for message in self.published]
        return [from_values({v.key: v.value for v in status.values}) for status in statuses]

    def count(self, key):
        pairs = self.monitor.status("active").values
        return int(next(pair.value for pair in pairs if pair.key == key))


def test_without_intrinsics_loop_closures_are_unverified_which_is_reported_once():
    vehicle = Vehicle(uncalibrated())
    closures = vehicle.drive(3 * LAP)
    assert len(closures) >= 3 and all(c.kind == OWN and c.inliers == 0 for c in closures)
    assert all(np.trace(c.keyframe_from_base.covariance[:3, :3]) > 6.0 for c in closures)
    (warning,) = vehicle.warnings
    assert "intrinsics of camera 'front'" in warning and "loop_closure.keypoints" in warning
    assert warning in vehicle.monitor.status("active").message
    assert vehicle.count(VERIFIED) == 0


def test_with_intrinsics_they_are_verified_without_a_warning():
    vehicle = Vehicle(Camera(64, 48, 50.0, 50.0, 31.5, 23.5, (), MOUNT))
    closures = vehicle.drive(3 * LAP)
    assert len(closures) >= 3 and all(c.inliers >= 12 for c in closures)
    assert vehicle.warnings == [] and vehicle.count(VERIFIED) == len(closures)


def test_lio_sam_finds_both_ends_of_a_loop_closure_by_its_times():
    vehicle = Vehicle(uncalibrated())
    closures = vehicle.drive(3 * LAP)
    assert len(vehicle.times) == len(closures) >= 3
    keyframes = [float(SECONDS * (i + 1)) for i in range(3 * LAP)]  # LIO-SAM's, in their order
    for closure, message in zip(closures, vehicle.times, strict=True):
        assert len(message.data) == 2
        now, then = message.data
        assert now - then >= 30.0  # historyKeyframeSearchTimeDiff
        # Its rule: the first keyframe not before `now`, the last one not after `then`.
        result = next(t for t in keyframes if t >= now), [t for t in keyframes if t <= then][-1]
        expected = closure.stamp_ns / 1e9, closure.keyframe_stamp_ns / 1e9
        assert result == expected


def test_without_verification_missing_intrinsics_are_no_warning():
    vehicle = Vehicle(uncalibrated(), replace(CONFIG, keypoints=0))
    assert vehicle.drive(3 * LAP) and vehicle.warnings == []


def test_without_odometry_loop_closures_are_published_and_of_unknown_scale():
    vehicle = Vehicle(Camera(64, 48, 50.0, 50.0, 31.5, 23.5, (), MOUNT))
    closures = vehicle.drive(4 * LAP, odometry=False)
    assert closures and vehicle.count(VERIFIED) == len(closures) and vehicle.warnings == []
    for closure in closures:
        assert closure.kind == OWN and not closure.metric and closure.inliers >= 12
        assert (closure.stamp_ns - closure.keyframe_stamp_ns) % (SECONDS * LAP * 10**9) == 0
