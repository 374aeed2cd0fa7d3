# SPDX-License-Identifier: Apache-2.0
"""`disam watch`: the view of what was heard, and a real localizer seen through a pipe."""

import json
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header
from support.data import texture
from support.messages import image_message
from support.node_process import RELIABLE, SINGLE
from support.robot import NODE
from support.ros import Client

from disam_ros.geometry import Transform
from disam_ros.nodes import conversions
from disam_ros.nodes.watch import Seen, image_text, json_text, pose_text, screen


def status(message: str, **values: str) -> DiagnosticStatus:
    pairs = [KeyValue(key=key.replace("_", " "), value=text) for key, text in values.items()]
    return DiagnosticStatus(hardware_id="front", message=message, values=pairs)


def test_before_anything_is_heard_the_view_says_what_may_be_wrong():
    assert Seen("/a/localizer").lines() == [
        "/a/localizer: nothing heard yet; is it running, with this ROS_DOMAIN_ID?"
    ]


def test_the_view_shows_place_probability_pose_rates_and_faults():
    pose = Transform.from_xyz_rpy([12.345, -4.5, 0.25, 0.0, 0.0, np.radians(93.0)])
    covariance = np.diag([0.09, 0.04, 1.0, 0.1, 0.1, np.radians(2.0) ** 2])
    seen = Seen("/localizer")
    answer = status("known: map image 7, probability 0.993", outcome="known")
    answer.values.append(KeyValue(key="callback to published (ms)", value="38.4"))
    seen.answer = DiagnosticArray(status=[answer])
    seen.pose = conversions.pose_with_covariance(pose, covariance, Header(frame_id="town"))
    seen.status = status("active: no image of camera 'rear'", domain_reason="night: sun −20°")
    seen.status.values.append(KeyValue(key="images in (Hz)", value="5.00"))
    text = "\n".join(seen.lines())
    for part in (
        "camera front: known: map image 7, probability 0.993, 38 ms",
        "x 12.35 m, y -4.50 m, z 0.25 m, yaw 93.0° in town, ± 0.30 m 2.0° (1 σ)",
        "no image of camera 'rear'",
        "night: sun −20°",
        "in 5.00 Hz",
    ):
        assert part in text


def test_a_pose_that_is_not_finite_is_said_to_be_so():
    message = conversions.pose_with_covariance(Transform.identity(), np.eye(6), Header())
    message.pose.covariance[0] = float("nan")
    assert pose_text(message) == "its covariance is not finite"
    message.pose.pose.position.x = float("inf")
    assert "finite" in pose_text(message)


def test_an_answer_is_a_line_of_json_for_programs():
    answer = status("known: map image 7", outcome="known", map_image="7")
    message = DiagnosticArray(status=[answer])
    message.header.stamp.sec, message.header.stamp.nanosec = 3, 5
    values = {"stamp_ns": 3_000_000_005, "camera": "front", "outcome": "known", "map image": "7"}
    assert json.loads(json_text(message)) == values


def test_a_message_does_not_steer_the_terminal():
    answer = status("known\033[2J\n", **{"callback to published (ms)": "soon"})
    text = image_text(DiagnosticArray(status=[answer]))
    assert text.isprintable()


def test_a_line_longer_than_the_terminal_is_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert "x" * 20 in screen(["x" * 50]) and "x" * 21 not in screen(["x" * 50])


def test_a_pipe_gets_a_line_for_each_image_until_ctrl_c(start_localizer, tmp_path):
    log = tmp_path / "lines"
    command = [sys.executable, "-m", "disam_ros.cli", "watch", "--node", NODE]
    with (
        start_localizer({**SINGLE, **RELIABLE}) as robot,
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as watching,
    ):
        try:
            robot.client.until(
                lambda: "camera front: known: map image 3, probability " in log.read_text(),
                "the line of an image",
                timeout=300.0,
                again=lambda: robot.send(image_message(texture(3))),
            )
            watching.send_signal(signal.SIGINT)
            assert watching.wait(300.0) == 0
        finally:
            watching.kill()
    assert log.read_text().startswith(f"waiting for images of {NODE}\n")
    assert "Traceback" not in log.read_text()


def test_it_ends_where_nobody_reads_it_any_more():
    command = [sys.executable, "-m", "disam_ros.cli", "watch", "--node", NODE]
    with (
        Client(NODE) as client,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching,
    ):
        try:
            answers = client.node.create_publisher(DiagnosticArray, f"{NODE}/answer", 10)
            assert watching.stdout.readline() == f"waiting for images of {NODE}\n".encode()
            watching.stdout.close()
            answer = DiagnosticArray(status=[status("unknown")])
            client.until(
                lambda: watching.poll() is not None,
                "its end",
                again=lambda: answers.publish(answer),
            )
            assert watching.returncode == 0 and watching.stderr.read() == b""
        finally:
            watching.kill()
