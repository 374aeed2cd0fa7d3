# SPDX-License-Identifier: Apache-2.0
"""Plays a bag to a freshly started localizer node and collects its answers: real processes, DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disam_ros.bags import BagReader
from disam_ros.errors import DisamError
from disam_ros.geometry import Transform
from disam_ros.nodes.answer_recorder import AnswerRecorder

START_TIMEOUT = 60.0  # seconds until the node must be active
DRAIN_TIMEOUT = 5.0  # seconds for the last images after the bag ended
STOP_TIMEOUT = 20.0


@dataclass(frozen=True)
class NodeRun:
    """poses: `map_from_base` by image stamp (ns). diagnostics: the node's last values by key."""

    poses: dict[int, Transform]
    diagnostics: dict[str, str]


def run_node_on_bag(
    bag: Path | str,
    map_dir: Path | str,
    model_dir: Path | str,
    rate: float = 1.0,
    camera: str = "front",
    parameters: Mapping[str, object] | None = None,
) -> NodeRun:
    """Answers of the localizer node to the images of a bag.

    rate: speed relative to the recording. parameters: further ones of the node, such as
    `image_transport` for a bag of raw images.
    Raises DisamError when the node does not start or the replay fails; both say why on stderr.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    given = {"map": map_dir, "model": model_dir, "image_transport": "compressed"}
    given |= {"use_sim_time": "true", **(parameters or {})}
    topic = f"/camera/{camera}"
    remapped = {"image": f"{topic}/image_raw", "camera_info": f"{topic}/camera_info"}
    remapped |= {"image/compressed": f"{topic}/image_raw/compressed"}
    remapped |= {name: f"/{name}" for name in ("fix", "weather", "odom")}
    with AnswerRecorder() as recorder, _localizer_node(given, remapped):
        if not recorder.wait_until_active(START_TIMEOUT):
            raise DisamError("the localizer node did not become active; its log says why")
        with BagReader(bag) as reader:
            topics = [topic for topic in remapped.values() if topic in reader.topics()]
        replay = [sys.executable, "-m", "disam_ros.cli", "replay", str(bag), "--rate", str(rate)]
        replay += ["--start-delay", "10", "--topics", *topics]
        if subprocess.run(replay).returncode:
            raise DisamError(f"replay of {bag} failed; its log says why")
        recorder.wait_until_idle(DRAIN_TIMEOUT)
        return NodeRun(dict(recorder.poses), dict(recorder.diagnostics))


@contextmanager
def _localizer_node(
    parameters: Mapping[str, object], remappings: Mapping[str, str]
) -> Iterator[None]:
    command = [sys.executable, "-m", "disam_ros.nodes.localizer_node", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    for name, topic in remappings.items():
        command += ["-r", f"{name}:={topic}"]
    process = subprocess.Popen([*command, "--log-level", "warn"])
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
