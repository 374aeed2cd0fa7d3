# SPDX-License-Identifier: Apache-2.0
"""A robot that goes on driving, and is answered rightly, whatever else its node is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geometry_msgs.msg import TransformStamped

from disam_ros.geometry import Transform
from support.data import detailed, save_tiny_model
from support.maps import save_tiny_map
from support.messages import image_message, odometry_message, values
from support.node_process import RELIABLE, SINGLE, NodeProcess, node_process
from support.robot import Robot
from support.tf import tf2_ros

PLACES = 6  # of the map; place i shows detailed(i)
OTHER = 1  # place that it never is at: a test's own images are no repetition
STEP = 4.0  # metres between two images: each is a keyframe
LONGEST_LINE = 4000  # characters of a line in the log
# What a node runs first that shall find the stand-in of tf2_ros.
TF_STAND_IN = f"import sys; sys.path.insert(0, {str(Path(tf2_ros.__file__).parent)!r})"


class Vehicle(Robot):
    """Drives straight on in odometry, and round and round on the map."""

    def __init__(self, process: NodeProcess, topics: Mapping[str, type] | None = None) -> None:
        super().__init__(process, topics)
        self._turn = self._keyframes = 0

    def drive(self) -> dict[str, str]:
        """The answer to a good image of the next place, with odometry."""
        index = [i for i in range(PLACES) if i != OTHER][self._turn % (PLACES - 1)]
        self._turn += 1
        moved = Transform.from_xyz_rpy([STEP * self._turn, 0.0, 0.0, 0.0, 0.0, 0.0])
        self.deliver("odom", odometry_message(moved))
        answer = values(self.ask(image_message(detailed(index))).status[0])
        assert (answer["outcome"], answer.get("map image")) == ("known", str(index)), answer
        return answer

    def check(self) -> None:
        """The node lives, answers rightly, has answered each image once, and logs in lines."""
        self.drive()
        assert self.process.returncode is None
        stamps = Counter((m.header.stamp.sec, m.header.stamp.nanosec) for m in self.answers)
        assert [stamp for stamp, count in stamps.items() if count != 1] == []
        log = self.process.log
        assert "Traceback" not in log, log
        assert max(map(len, log.splitlines()), default=0) < LONGEST_LINE

    def sees(self, words: str, since: int) -> None:
        """Diagnostics and log name a problem."""
        self.client.problem(words, since)
        assert words in self.process.log

    def goes_on(self, words: str) -> None:
        """A problem is gone, and keyframes are added for loop closures."""
        key = "keyframes of this drive"
        status = self.client.diagnosis(
            lambda s: words not in s.message and int(values(s).get(key, 0)) > self._keyframes,
            f"more than {self._keyframes} {key}, and no '{words}'",
        )
        self._keyframes = int(values(status)[key])


def write_town(folder: Path, **changes: Any) -> dict[str, Any]:
    """A model and a map of the places; returns parameters of a localizer with them."""
    model = save_tiny_model(folder / "model")
    save_tiny_map(folder / "map", model, PLACES, picture=detailed, place=(48.0, 11.0))
    return {
        "map": str(folder / "map"),
        "model": str(folder / "model"),
        "localizer.domain.override": "day",
        "stale_after": 60.0,
        **RELIABLE,
        **SINGLE,
        **changes,
    }


@contextmanager
def driving(
    parameters: dict[str, Any], log: Path, kind: type[Vehicle] = Vehicle
) -> Iterator[Vehicle]:
    """A vehicle with a node in an interpreter of its own, which takes TF of the stand-in."""
    options = {"fresh": True, "before": TF_STAND_IN}
    with (
        node_process("localizer.node", log, parameters, **options) as process,
        kind(process) as vehicle,
    ):
        yield vehicle


def transform_message(parent: str, child: str, a_from_b: Transform) -> TransformStamped:
    """`parent_from_child` for the stand-in of tf2_ros."""
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    at, turn = message.transform.translation, message.transform.rotation
    at.x, at.y, at.z = a_from_b.translation.tolist()
    turn.x, turn.y, turn.z, turn.w = a_from_b.quaternion.tolist()
    return message
