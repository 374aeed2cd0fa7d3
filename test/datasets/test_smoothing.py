# SPDX-License-Identifier: Apache-2.0
"""Smoothing of fixes and odometry: how near to the truth, outliers, gaps, and what is refused."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from disam_ros.cli import main
from disam_ros.datasets.bags.fixes import FixPoses
from disam_ros.datasets.bags.images import BagImages
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.smoothing import Fixes, smooth
from disam_ros.errors import DatasetError
from disam_ros.geometry import Transform
from disam_ros.pose_buffer import PoseBuffer

ROOT = Path(__file__).parents[2]
NS = 10**9
SIGMA = 2.0  # m, of a fix in x and in y
COUNT, STEP_NS = 300, NS // 4


def pose(x, y, yaw):
    return Transform.from_xyz_rpy([x, y, 0, 0, 0, yaw])


def drive():
    """Stamps and map_from_base of two rounds of some 80 m across, 6 m/s."""
    turns = np.linspace(0, 4 * np.pi, COUNT)
    truth = [pose(40 * np.sin(t), 30 - 30 * np.cos(t), 0) for t in turns]
    yaws = [np.arctan2(*(b.translation - a.translation)[[1, 0]]) for a, b in pairwise(truth)]
    truth = [pose(*p.translation[:2], yaw) for p, yaw in zip(truth, [*yaws, yaws[-1]], strict=True)]
    return NS + np.arange(COUNT) * STEP_NS, truth


def wheels(truth, scale=1.015, yaw=0.0002, seed=0):
    """odom_from_base of wheels with a wrong radius and a drift in heading [rad/m]."""
    random, here, found = np.random.default_rng(seed), pose(3, -4, 1.0), []
    for a, b in pairwise([truth[0], *truth]):
        step = a.inverse() @ b
        metres = np.linalg.norm(step.translation)
        turn = pose(0, 0, yaw * metres + 0.0005 * random.normal() * metres**0.5)
        here = here @ Transform(step.translation * scale, (step @ turn).quaternion)
        found.append(here)
    return found


def fixes_of(stamps, truth, seed=0, outliers=0.0, every=1):
    random = np.random.default_rng(seed)
    noise = random.normal(size=(len(truth), 3)) * [SIGMA, SIGMA, 2 * SIGMA]
    away = random.random(len(truth)) < outliers
    noise[away, :2] += random.normal(size=(away.sum(), 2)) * 30
    places = np.stack([p.translation for p in truth]) + noise
    return Fixes(stamps[::every], places[::every], np.full(len(stamps[::every]), SIGMA))


def deviation(stamps, found, truth):
    """Root mean square distance to the truth in the plane [m]."""
    away = [found[k].translation - truth[k].translation for k in range(len(found))]
    return float(np.sqrt((np.array(away)[:, :2] ** 2).sum(1).mean()))


@pytest.mark.parametrize(("outliers", "every"), [(0.0, 1), (0.1, 1), (0.1, 4)])
def test_smoothed_poses_are_less_than_half_as_far_from_the_truth_as_fixes(outliers, every):
    pytest.importorskip("gtsam")
    stamps, truth = drive()
    fixes = fixes_of(stamps, truth, outliers=outliers, every=every)
    when, found = smooth((stamps, wheels(truth)), fixes, NS)
    assert when.tolist() == stamps.tolist()
    assert deviation(stamps, found, truth) < 0.5 * np.sqrt(2) * SIGMA
    turns = [
        np.degrees(np.arccos((a.rotation[:, 0] @ b.rotation[:, 0]).clip(-1, 1)))
        for a, b in zip(found, truth, strict=True)
    ]
    assert np.median(turns) < 2


def test_odometry_that_drifts_is_believed_less(caplog):
    pytest.importorskip("gtsam")
    caplog.set_level("INFO")
    stamps, truth = drive()
    fixes = fixes_of(stamps, truth, outliers=0.02)
    skids = wheels(truth, scale=1.05, yaw=0.01)  # 7 rad in all
    _, found = smooth((stamps, skids), fixes, NS)
    assert deviation(stamps, found, truth) < 0.6 * np.sqrt(2) * SIGMA


def test_nothing_is_continued_across_a_gap_and_pieces_without_a_heading_are_left_out(caplog):
    pytest.importorskip("gtsam")
    stamps, truth = drive()
    fixes = fixes_of(stamps, truth)
    keep = np.r_[0:120, 140:144, 160:COUNT]  # the second piece is 5 m long
    odometry = wheels(truth)
    reset = [p if k < 160 else pose(500, 500, 0) @ p for k, p in enumerate(odometry)]
    when, found = smooth((stamps[keep], [reset[k] for k in keep]), fixes, NS)
    inside = set(range(120)) | set(range(160, COUNT))
    assert set(((when - NS) // STEP_NS).tolist()) == inside
    assert "tell no heading and are left out" in caplog.text
    path = PoseBuffer.of(when, found, NS)
    assert path.at(int(stamps[150])) is None
    rows = sorted(inside)
    assert deviation(stamps, found, [truth[k] for k in rows]) < 0.6 * np.sqrt(2) * SIGMA


def test_a_vehicle_that_stands_and_fixes_of_another_time_give_no_poses():
    pytest.importorskip("gtsam")
    stamps, truth = drive()
    still = [pose(0, 0, 0)] * COUNT
    with pytest.raises(DatasetError, match="expected both at the same time over 10 m"):
        smooth((stamps, still), fixes_of(stamps, still), NS)
    with pytest.raises(DatasetError, match="expected both at the same time"):
        smooth((stamps + 10**13, wheels(truth)), fixes_of(stamps, truth), NS)


def test_without_gtsam_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gtsam", None)
    stamps, truth = drive()
    with pytest.raises(DatasetError, match=r"pip install 'disam_ros\[graph\]'"):
        smooth((stamps, wheels(truth)), fixes_of(stamps, truth), NS)


def extract(tmp_path, *options):
    line = ["extract", "--bag", ROOT / "demo/data/winter_snow", "--domain", "snow", "--output"]
    return main([str(word) for word in [*line, tmp_path / "out", *options]])


def test_a_bag_without_poses_becomes_a_dataset_by_its_fixes(tmp_path):
    """The town's fixes have errors of 2.5 m that last for 20 s: what is common to all remains."""
    pytest.importorskip("gtsam")
    assert extract(tmp_path, "--poses", "fix+odometry") == 0
    found, truth = Dataset(tmp_path / "out"), BagImages(ROOT / "demo/data/winter_snow")
    known = {item.stamp_ns: item.map_from_camera for item in truth}
    assert len(found) > 0.9 * len(known)
    here = np.stack([r.map_from_camera.translation[:2] for r in found.records])
    there = np.stack([known[r.stamp_ns].translation[:2] for r in found.records])
    away = here - there
    assert np.linalg.norm(away - away.mean(0), axis=1).mean() < 2.5


@pytest.mark.parametrize(
    "options", [["--pose-topic", "/odom"], ["--trajectory", "a.txt"], ["--time-offset", "3"]]
)
def test_poses_of_fixes_exclude_those_of_other_sources(tmp_path, capsys, options):
    assert extract(tmp_path, "--poses", "fix+odometry", *options) == 1
    assert "drop --pose-topic and --trajectory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bag_without_an_imu_has_no_turns_of_one(tmp_path, capsys):
    assert extract(tmp_path, "--poses", "fix+odometry+imu") == 1
    assert "no sensor_msgs/Imu" in capsys.readouterr().err


def test_the_settings_of_a_source_are_in_its_identity():
    names = {FixPoses().identity, FixPoses(gyro=True).identity, FixPoses(max_gap=1.0).identity}
    assert len(names) == 3
