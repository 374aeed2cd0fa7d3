# SPDX-License-Identifier: Apache-2.0
"""Read the answers of a running localizer: read_answers.py [NODE]

`~/pose` has known places only; `~/answer` has one message for every image, whatever became of it.
"""

import sys
from contextlib import suppress

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

NODE = sys.argv[1] if len(sys.argv) > 1 else "/localizer"


class Reader(Node):
    """Prints answers and poses."""

    def __init__(self) -> None:
        super().__init__("answer_reader")
        pose, answer = f"{NODE}/pose_with_covariance", f"{NODE}/answer"
        self.create_subscription(PoseWithCovarianceStamped, pose, self._on_pose, 10)
        self.create_subscription(DiagnosticArray, answer, self._on_answer, 10)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        position, covariance = message.pose.pose.position, message.pose.covariance
        sigma = max(covariance[0], covariance[7]) ** 0.5
        print(f"pose x {position.x:.2f} m, y {position.y:.2f} m, ±{sigma:.2f} m", flush=True)

    def _on_answer(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            print(f"{values['outcome']}: probability {values.get('probability', '-')}", flush=True)


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(Reader())
