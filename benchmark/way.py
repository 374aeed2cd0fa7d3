# SPDX-License-Identifier: Apache-2.0
"""The way of an image through the code: calls, functions, files and changes of file.

`python -m benchmark.way` counts, for night images of the demo tracked as a sequence, the calls of
this package's functions between the node's callback and the publication on `~/pose`, and those
inside the pipeline alone. A change of file is a call of a function in another file than the last
call's. Each figure is the median over IMAGES images after WARM_UP others. With --files it prints
the files that the last one passed, in this order.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import CodeType, FrameType
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

import disam_ros
from benchmark.machine import circumstances
from disam_ros.config import LocalizerConfig
from disam_ros.demo.drives import DATA, MODEL, make_map, read_drive
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.nodes import conversions
from disam_ros.nodes.localizer.node import create
from disam_ros.pose_buffer import NANOSECONDS

PACKAGE = str(Path(disam_ros.__file__).parent)
CONDITION = "night"
WARM_UP, IMAGES = 12, 9
TARGETS = {"calls": 800, "files": 30, "changes of file": 300}  # of the node
PATIENCE = 60.0  # that an answer takes at most [s]


@dataclass
class Way:
    """Calls between the first function of a way and the return of its last."""

    first: tuple[str, str]  # end of the file's path, name of the function
    last: tuple[str, str]
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # by file and function
    changes: int = 0
    files: Sequence[str] = ()  # of the last image, as it passed them
    _open: bool = False
    _left: int | None = None  # thread that began the way and has other things to do
    _file: str = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Takes an event of the profiler."""
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        thread = threading.get_ident()
        if event == "call" and self._is(code, self.first):
            self._open, self._left = True, None
        if self._open and event == "call" and thread != self._left:
            self.calls[code.co_filename, f"{code.co_name}:{code.co_firstlineno}"] += 1
            self.changes += code.co_filename != self._file
            self._file = code.co_filename
        if event == "return" and self._is(code, self.first):
            self._left = thread
        if event == "return" and self._is(code, self.last):
            self._open = False

    @staticmethod
    def _is(code: CodeType, place: tuple[str, str]) -> bool:
        return code.co_name == place[1] and code.co_filename.endswith(place[0])

    def figures(self) -> dict[str, int]:
        """Returns what was counted, and begins again."""
        self.files = list(dict.fromkeys(file for file, _ in self.calls))
        counts = {
            "calls": self.calls.total(),
            "functions": len(self.calls),
            "files": len(self.files),
            "changes of file": self.changes,
        }
        self.calls.clear()
        self.changes, self._file = 0, ""
        return counts


def through_pipeline(map_dir: Path, way: Way) -> list[dict[str, int]]:
    """Figures of images through the pipeline."""
    pipeline = Pipeline.open(map_dir, MODEL, LocalizerConfig(device="cpu"))
    camera = pipeline.localizer.map.main_camera()
    drive, rows = read_drive(DATA / CONDITION), []
    for stamp_ns, image in zip(drive.stamps_ns[: WARM_UP + IMAGES], drive.images, strict=False):
        sys.setprofile(way)
        pipeline.process([Shot(Frame(image, camera, stamp_ns))])
        sys.setprofile(None)
        rows.append(way.figures())
    return rows[WARM_UP:]


def through_node(map_dir: Path, way: Way) -> list[dict[str, int]]:
    """Figures of images through a running node, which another node sends."""
    threading.setprofile(way)  # of the threads that begin from now on
    parameters = {"map": map_dir, "model": MODEL, "localizer.device": "cpu", "use_tf": False}
    settings = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", "--log-level", "warn", *settings])
    node, sender, answers = create(), Node("sender"), list[DiagnosticArray]()
    try:
        with _spinning(node, sender):
            sender.create_subscription(DiagnosticArray, "/localizer/answer", answers.append, 10)
            publisher = sender.create_publisher(Image, "/image", QoSProfile(depth=10))
            _wait(
                lambda: (
                    publisher.get_subscription_count() > 0
                    and sender.count_publishers("/localizer/answer") > 0
                )
            )
            drive, rows = read_drive(DATA / CONDITION), []
            frames = zip(drive.stamps_ns[: WARM_UP + IMAGES], drive.images, strict=False)
            for number, (stamp_ns, image) in enumerate(frames):
                publisher.publish(_message(stamp_ns, image))
                _wait(partial(_longer, answers, number))
                rows.append(way.figures())
    finally:
        threading.setprofile(None)
        node.destroy_node()
        sender.destroy_node()
        rclpy.try_shutdown()
    return rows[WARM_UP:]


def _longer(answers: Sequence[DiagnosticArray], number: int) -> bool:
    """Whether there are more answers than that."""
    return len(answers) > number


def _message(stamp_ns: int, image: NDArray[np.uint8]) -> Image:
    header = Header(stamp=Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS))
    return conversions.image_to_message(image, header)


@contextmanager
def _spinning(*nodes: Node) -> Iterator[None]:
    """Spins nodes on a thread."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()


def _wait(condition: Callable[[], bool]) -> None:
    """Waits for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the node did not answer within {PATIENCE:g} s")
        time.sleep(0.01)


def main() -> int:
    """Print the table. Returns 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="print the files of each way, too")
    with_files = parser.parse_args().files
    process = "/pipeline.py", "process"
    ways = {
        "pipeline": (through_pipeline, Way(process, process)),
        "callback to ~/pose": (
            through_node,
            Way(("/image_input.py", "_on_image"), ("/outputs.py", "publish")),
        ),
    }
    with tempfile.TemporaryDirectory() as scratch:
        make_map(Path(scratch) / "map")
        rows_of = {name: walk(Path(scratch) / "map", way) for name, (walk, way) in ways.items()}
    print(f"{CONDITION} images of the demo, sequence on; {circumstances()}\n")
    print("| way | calls | functions | files | changes of file |\n|---|---|---|---|---|")
    medians = {}
    for name, rows in rows_of.items():
        medians = {key: median(row[key] for row in rows) for key in rows[0]}
        print(f"| {name} | {' | '.join(f'{value:.0f}' for value in medians.values())} |")
    for name, (_, way) in ways.items() if with_files else ():
        print(f"\n{name}:", *(Path(file).relative_to(PACKAGE) for file in way.files), sep="\n  ")
    met = {key: medians[key] <= most for key, most in TARGETS.items()}
    for key, most in TARGETS.items():
        print(f"{key} of the node ≤ {most}: {'met' if met[key] else 'missed'}")
    return int(not all(met.values()))


if __name__ == "__main__":
    raise SystemExit(main())
