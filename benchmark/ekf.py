# SPDX-License-Identifier: Apache-2.0
"""Error of robot_localization's EKF on the demo's night drive, with the localizer's poses or not.

`python -m benchmark.ekf EKF_NODE MAP` runs the executable `ekf_node` of robot_localization, in an
environment where it starts, with config/consumers/robot_localization.yaml on the demo's night bag,
and beside it the localizer on the demo's map. Without its poses the filter integrates odometry, and
is given the first true pose. Errors are horizontal, at the stamps of the true poses.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from benchmark.machine import circumstances
from disam_ros.datasets.bags.poses import read_topic
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.demo.drives import DATA, MODEL
from disam_ros.files.paths import find_config
from disam_ros.geometry import Transform, distance
from disam_ros.nodes import conversions
from disam_ros.pose_buffer import NANOSECONDS, PoseBuffer, Track, sort_by_stamp

BAG = DATA / "night"
CONFIG = Path(__file__).parents[1] / "config/consumers/robot_localization.yaml"
STARTING, SETTLED = 6.0, 10.0  # time that nodes take to start, and that a filter takes [s]
IMAGES = "/camera/front/image_raw/compressed"
LOCALIZER = {"image_transport": "compressed", "use_sim_time": "true"}
REMAPPED = {"image/compressed": IMAGES, "camera_info": "/camera/front/camera_info"}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ekf_node", type=Path)
    parser.add_argument("map", type=Path)
    arguments = parser.parse_args()
    with BagReader(BAG) as reader:
        truth = read_topic(reader, "/ground_truth/pose")
    rclpy.init()
    print(f"{BAG.name} drive of the demo; {circumstances()}\n")
    print("| poses of disam_ros | median | 90 % | largest after 10 s | at the end |")
    print("|---|---|---|---|---|")
    for name in ("without", "with"):
        errors = driven(arguments.ekf_node, arguments.map if name == "with" else None, truth)
        settled = errors[truth.stamps > truth.stamps[0] + SETTLED * NANOSECONDS]
        last = settled[np.isfinite(settled)][-1]
        figures = np.nanpercentile(errors, [50, 90]).tolist() + [np.nanmax(settled), last]
        print(f"| {name} | " + " | ".join(f"{value:.2f} m" for value in figures) + " |")
    rclpy.shutdown()


def driven(ekf_node: Path, place_map: Path | None, truth: Track) -> NDArray[np.float64]:
    """Horizontal errors [N] [m] at the true poses, nan before the filter begins.

    place_map: None: without the localizer.
    """
    node, stamps, poses = Node("recorder"), list[int](), list[Transform]()

    def record(message: Odometry) -> None:
        stamps.append(conversions.stamp_to_ns(message.header))
        poses.append(conversions.pose_to_transform(message.pose.pose))

    node.create_subscription(Odometry, "/odometry/filtered", record, QoSProfile(depth=1000))
    options = ["-p", "use_sim_time:=true", "-r", "__node:=ekf_filter_node_map"]
    commands = [[str(ekf_node), "--ros-args", "--params-file", str(CONFIG), *options]]
    if place_map is not None:
        commands.append(_localizer(place_map))
    processes = [subprocess.Popen(command) for command in commands]
    try:
        time.sleep(STARTING)
        tool = Path(sys.executable).with_name("disam")
        replay = subprocess.Popen([tool, "replay", BAG], env=os.environ)
        while replay.poll() is None:
            rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(timeout=30)
        node.destroy_node()
    track = sort_by_stamp(stamps, poses)
    begin = Transform.identity()
    if place_map is None:
        begin = truth.poses[0] @ track.poses[0].inverse()
    estimates = PoseBuffer.of(*track, NANOSECONDS)
    errors = []
    for stamp, pose in zip(truth.stamps.tolist(), truth.poses, strict=True):
        estimate = estimates.at(stamp)
        errors.append(np.nan if estimate is None else _apart(begin @ estimate, pose))
    return np.array(errors)


def _localizer(place_map: Path) -> list[str]:
    """The command of the localizer."""
    command = [str(Path(sys.executable).with_name("localizer_node")), "--ros-args"]
    command += ["--params-file", str(find_config("cpu_robot"))]
    for name, value in ({"map": place_map, "model": MODEL} | LOCALIZER).items():
        command += ["-p", f"{name}:={value}"]
    for name, topic in REMAPPED.items():
        command += ["-r", f"{name}:={topic}"]
    return command


def _apart(a: Transform, b: Transform) -> float:
    """Horizontal distance [m]."""
    level = np.array([1.0, 1.0, 0.0])
    places = [Transform(pose.translation * level, pose.quaternion) for pose in (a, b)]
    return distance(*places)[0]


if __name__ == "__main__":
    main()
