# SPDX-License-Identifier: Apache-2.0
"""The `ros2` command where it is not installed: `run disam_ros …`, `service call` of a Trigger."""

import os
import sys

import rclpy
from std_srvs.srv import Trigger


def main(words: list[str]) -> int:
    if words[:2] == ["run", "disam_ros"]:
        os.execvp(words[2], words[2:])
    if words[:2] == ["service", "call"] and words[3:] == ["std_srvs/srv/Trigger"]:
        return call(words[2])
    print(f"ros2 {' '.join(words)}: the stand-in does not know that", file=sys.stderr)
    return 2


def call(service: str) -> int:
    """Print the answer as ros2 does."""
    rclpy.init()
    node = rclpy.create_node("caller")
    client = node.create_client(Trigger, service)
    client.wait_for_service()
    future = client.call_async(Trigger.Request())
    rclpy.spin_until_future_complete(node, future)
    print(f"response:\n{future.result()!r}")
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
