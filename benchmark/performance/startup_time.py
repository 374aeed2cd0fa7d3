# SPDX-License-Identifier: Apache-2.0
"""Time of a localizer node from its start to its first pose.

Python's bytecode is there, as after an installation by pip; without it a start takes twice as long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from benchmark.machine import resident
from disam_ros.errors import DisamError
from disam_ros.nodes import conversions
from disam_ros.nodes.replay.answer_recorder import AnswerRecorder
from disam_ros.nodes.replay.domain import own_domain
from disam_ros.nodes.replay.localizer_process import localizer_process, require_alive

PERIOD = 0.05  # time between two images [s]
TOPIC = "camera/image_raw"


@contextmanager
def kept_bytecode(folder: Path) -> Iterator[None]:
    """In this block processes that start keep their bytecode in a folder, whatever the environment
    says: the second start finds it."""
    names = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = str(folder)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class Start(NamedTuple):
    """A node at its first pose: seconds since its start, peak of its resident memory [MiB]."""

    seconds: float
    mebibytes: float


def first_pose(
    map_dir: Path | str, model_dir: Path | str, image: NDArray[Any], timeout: float = 60.0
) -> Start:
    """The start of a node up to its pose of an image, uint8 RGB, that is sent repeatedly.

    timeout: [s]. Raises DisamError where the node ends or no pose comes in time.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain_id = own_domain()
    parameters = {
        "map": map_dir,
        "model": model_dir,
        "image_transport": "raw",
        "localizer.min_probability": 0.0,  # maps of noise show no known place
    }
    with AnswerRecorder(domain_id=domain_id) as recorder:
        publisher = recorder.node.create_publisher(Image, TOPIC, QoSProfile(depth=1))
        message = conversions.image_to_message(image, Header())
        began = time.monotonic()
        with localizer_process(parameters, {"image": TOPIC}, domain_id) as process:
            while time.monotonic() - began < timeout:
                require_alive(process)
                message.header.stamp = recorder.node.get_clock().now().to_msg()
                publisher.publish(message)
                if recorder.wait(lambda: bool(recorder.poses), PERIOD):
                    seconds = time.monotonic() - began
                    return Start(seconds, resident("VmHWM", process.pid) / 2**20)
    raise DisamError(f"no pose came within {timeout:g} s of the node's start")
