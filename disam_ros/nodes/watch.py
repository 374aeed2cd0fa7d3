# SPDX-License-Identifier: Apache-2.0
"""What a running localizer says, in a terminal: redrawn in place, or a line per image in a pipe."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from scipy.spatial.transform import Rotation

from disam_ros.errors import DisamError
from disam_ros.files.printable import printable
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.publishers import answer_status
from disam_ros.nodes.rclpy_extra.process import GuardedExecutor
from disam_ros.nodes.rclpy_extra.starting import require_node_name, starting

DEPTH = 100
PERIOD = 0.2  # seconds between two drawings
CLEAR, HOME, END_OF_LINE, BELOW = "\033[2J", "\033[H", "\033[K", "\033[J"  # of a terminal
NOTHING = "–"


@dataclass
class Seen:
    """The last messages of a localizer."""

    node: str
    answer: DiagnosticArray | None = None
    pose: PoseWithCovarianceStamped | None = None  # of the last known place
    status: DiagnosticStatus | None = None  # of /diagnostics
    outcomes: Counter[str] = field(default_factory=Counter)  # images by outcome
    fresh: list[DiagnosticArray] = field(default_factory=list)  # answers since the last drawing

    def lines(self) -> list[str]:
        """The view, a line for each thing."""
        if self.answer is None and self.status is None:
            return [f"{self.node}: nothing heard yet; is it running, with this ROS_DOMAIN_ID?"]
        facts = _values(self.status)
        head = self.status.message if self.status is not None else "no diagnostics"
        rows = {
            "": head,
            "last image": image_text(self.answer),
            "pose": pose_text(self.pose),
            "domain": facts.get("domain reason", NOTHING),
            "images": self._rate(facts),
            "outcomes": ", ".join(f"{n} {word}" for word, n in self.outcomes.most_common()),
            "map": facts.get("map", NOTHING),
            "model": facts.get("model", NOTHING),
        }
        named = (f"{name:<12}{printable(text or NOTHING)}" for name, text in rows.items())
        return [self.node, *named]

    def _rate(self, facts: Mapping[str, str]) -> str:
        stage = answer_status.PUBLISHED
        parts = {
            "in": facts.get("images in (Hz)"),
            "answered": facts.get("images out (Hz)"),
            "p50": facts.get(f"{stage} p50 (ms)"),
            "p99": facts.get(f"{stage} p99 (ms)"),
            "dropped": facts.get("images dropped"),
        }
        units = {"in": " Hz", "answered": " Hz", "p50": " ms", "p99": " ms", "dropped": ""}
        return ", ".join(f"{name} {text}{units[name]}" for name, text in parts.items() if text)


def image_text(answer: DiagnosticArray | None) -> str:
    """An outcome in words: camera, place, probability, time."""
    if answer is None or not answer.status:
        return NOTHING
    status, values = answer.status[0], answer_status.values_of(answer)
    took = values.get(f"{answer_status.PUBLISHED}{answer_status.MILLISECONDS}")
    milliseconds = answer_status.number(took)
    time = "" if milliseconds is None else f", {milliseconds:.0f} ms"
    return printable(f"camera {status.hardware_id}: {status.message}{time}")


def pose_text(message: PoseWithCovarianceStamped | None) -> str:
    """Position [m] and heading [deg] with their standard deviations; the larger one of x and y."""
    if message is None:
        return NOTHING
    covariance = conversions.covariance_of(message)
    try:
        pose = conversions.pose_to_transform(message.pose.pose)
    except DisamError as error:
        return str(error)
    if not np.isfinite(covariance).all():
        return "its covariance is not finite"
    metres = np.sqrt(np.linalg.eigvalsh(covariance[:2, :2])[-1])
    yaw = Rotation.from_quat(pose.quaternion).as_euler("ZYX", degrees=True)[0]
    x, y, z = pose.translation
    turn = np.degrees(np.sqrt(covariance[5, 5]))
    return (
        f"x {x:.2f} m, y {y:.2f} m, z {z:.2f} m, yaw {yaw:.1f}° in {message.header.frame_id}, "
        f"± {metres:.2f} m {turn:.1f}° (1 σ)"
    )


def screen(lines: list[str]) -> str:
    """Lines, cut to the terminal's width, drawn over the last ones."""
    width = shutil.get_terminal_size().columns
    return HOME + "".join(f"{line[:width]}{END_OF_LINE}\n" for line in lines) + BELOW


def json_text(answer: DiagnosticArray) -> str:
    """Returns an answer as a line of JSON: stamp, camera and the keys of ~/answer as text."""
    status = answer.status[0] if answer.status else DiagnosticStatus()
    stamp = conversions.stamp_to_ns(answer.header)
    values = answer_status.values_of(answer)
    return json.dumps({"stamp_ns": stamp, "camera": status.hardware_id, **values})


def watch(node: str = "/localizer", output: TextIO | None = None, *, as_json: bool = False) -> None:
    """Show a localizer until interrupted. node: its name with the namespace.

    as_json: a line of JSON per image, and nothing else.

    Raises ConfigError where no node can have this name, or ROS does not start; BrokenPipeError
    where nobody reads the output any more.
    """
    output = output or sys.stdout
    seen, drawn = Seen(node := "/" + node.strip("/")), output.isatty() and not as_json
    text_of = json_text if as_json else image_text
    require_node_name(node)
    with starting():
        rclpy.init()
        watcher = rclpy.create_node("disam_watch", enable_rosout=False)
        _subscribe(watcher, seen)
    executor = GuardedExecutor(watcher.get_logger().warning)
    executor.add_node(watcher)
    try:
        if not as_json:
            print(CLEAR if drawn else f"waiting for images of {node}", file=output, flush=True)
        while rclpy.ok():
            if drawn:
                print(screen(seen.lines()), end="", file=output, flush=True)
            else:  # here, not in a callback, whose failures do not end this
                for answer in seen.fresh:
                    print(text_of(answer), file=output, flush=True)
            seen.fresh.clear()
            executor.spin_once(timeout_sec=PERIOD)
    except KeyboardInterrupt:
        pass
    finally:
        watcher.destroy_node()
        rclpy.try_shutdown()


def _subscribe(watcher: Node, seen: Seen) -> None:
    """Subscribe to a localizer; messages are kept in `seen`."""

    def on_answer(message: DiagnosticArray) -> None:
        seen.answer = message
        seen.outcomes[answer_status.values_of(message).get("outcome", NOTHING)] += 1
        seen.fresh.append(message)

    def on_pose(message: PoseWithCovarianceStamped) -> None:
        seen.pose = message

    def on_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{seen.node[1:]}: relocalization":
                seen.status = status

    watcher.create_subscription(DiagnosticArray, f"{seen.node}/answer", on_answer, DEPTH)
    pose = f"{seen.node}/pose_with_covariance"
    watcher.create_subscription(PoseWithCovarianceStamped, pose, on_pose, DEPTH)
    watcher.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, DEPTH)


def _values(status: DiagnosticStatus | None) -> dict[str, str]:
    return {} if status is None else {pair.key: pair.value for pair in status.values}
