# SPDX-License-Identifier: Apache-2.0
"""How many large raw images of a best-effort camera driver arrive, by who has Fast DDS's profile.

`python -m benchmark.performance.large_images`: prints the table of docs/ros.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from benchmark.machine import circumstances
from disam_ros.files.paths import LARGE_IMAGES, PROFILE_VARIABLES, profile
from disam_ros.nodes.replay.domain import claim_domain

IMAGES = 40  # at 10 Hz
SIZES = ((640, 480), (1280, 720))
LARGE_DATA = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}
START = """
import sys, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node(sys.argv[1])
"""
DRIVER = """
width, height, count = map(int, sys.argv[2:])
publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
image = Image(width=width, height=height, step=3 * width, encoding="rgb8")
image.data = bytes(3 * width * height)
while not publisher.get_subscription_count():
    time.sleep(0.05)
time.sleep(1)
for _ in range(count):
    publisher.publish(image)
    time.sleep(0.1)
time.sleep(1)
"""
NODE = """
heard = []
node.create_subscription(Image, "image", heard.append, qos_profile_sensor_data)
try:
    rclpy.spin(node)
except KeyboardInterrupt:
    print(len(heard))
"""


def main() -> None:
    """Measure and print."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(claim_domain()))
    for name in (*PROFILE_VARIABLES, *LARGE_DATA):
        os.environ.pop(name, None)
    shipped = profile(LARGE_IMAGES)
    cases: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "nobody": ({}, {}),
        "the node alone": ({}, shipped),
        "the driver alone": (shipped, {}),
        "`FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA`, both": (LARGE_DATA, LARGE_DATA),
    }
    print(f"{circumstances()}\n")
    print(f"| profile set for | {' | '.join(f'{w}×{h}' for w, h in SIZES)} |")
    print("|---|" + "---|" * len(SIZES))
    for name, (driver, node) in cases.items():
        arrived = [count_arrived(driver, node, size) for size in SIZES]
        print(f"| {name} | {' | '.join(map(str, arrived))} |", flush=True)


def count_arrived(driver: dict[str, str], node: dict[str, str], size: tuple[int, int]) -> int:
    """Counts the images that arrive, of IMAGES of size [width, height].

    driver, node: what their environments have in addition.
    """
    listening = subprocess.Popen(
        [sys.executable, "-c", START + NODE, "listener"],
        env={**os.environ, **node},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        words = ("camera", *map(str, size), str(IMAGES))
        command = [sys.executable, "-c", START + DRIVER, *words]
        subprocess.run(command, env={**os.environ, **driver}, check=True)
        listening.send_signal(signal.SIGINT)
        return int(listening.communicate()[0])
    finally:
        listening.kill()
        listening.wait()


if __name__ == "__main__":
    main()
