# SPDX-License-Identifier: Apache-2.0
"""Signals, each twice and to the whole process group: a clean end, nothing lost."""

import json
import re
import signal

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage
from support.data import save_tiny_model, texture
from support.maps import BASE_FROM_CAMERA, START_S, base_pose, save_tiny_map
from support.node_process import SINGLE, CommandProcess, NodeProcess
from support.robot import Robot
from support.ros import Client
from support.survey import Survey, builder_parameters

from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.entry import WORDS
from disam_ros.image import encode_jpeg

pytestmark = pytest.mark.slow

IMAGES = 8
SECOND = 10**9


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, its map and a bag of a long drive."""
    folder = tmp_path_factory.mktemp("world")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"))
    with BagWriter(folder / "drive", map_frame="town") as bag:
        bag.tf_static(START_S * SECOND, {"front": BASE_FROM_CAMERA})
        for index in range(300):
            stamp = START_S * SECOND + (index + 1) * SECOND // 5
            bag.compressed_image("front", stamp, encode_jpeg(texture(index % 6)))
            bag.ground_truth(stamp, base_pose(index % 6))
    return folder


def slowed(function: str, seconds: float) -> str:
    """Statements that make a function of a module take longer."""
    module, name = function.rsplit(".", 1)
    return (
        f"import time, {module} as m; f = m.{name}; "
        f"m.{name} = lambda *a, **k: (print('slow'), time.sleep({seconds}), f(*a, **k))[-1]"
    )


def assert_clean(process: NodeProcess) -> None:
    assert "Traceback" not in process.log, process.log
    assert "KeyboardInterrupt" not in process.log, process.log


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_localizer_ends_cleanly(world, tmp_path, signum):
    parameters = {"map": world / "map", "model": world / "model", **SINGLE}
    process = NodeProcess("localizer.node", tmp_path / "log", parameters, fresh=True)
    with Robot(process) as robot:
        robot.localize(1)
        assert process.interrupt(signum) == 0
    assert_clean(process)


def test_a_localizer_that_still_loads_ends_at_once(world, tmp_path):
    parameters = {"map": world / "map", "model": world / "model"}
    before = slowed("disam_ros.nodes.localizer.loaded.load", 3600)
    process = NodeProcess("localizer.node", tmp_path / "log", parameters, fresh=True, before=before)
    with Client("/localizer") as client:
        client.until(lambda: "slow" in process.log, "the map being loaded")
        assert process.interrupt(signal.SIGTERM) == 0
    assert_clean(process)


def test_a_map_builder_saves_the_images_that_it_accepted(world, tmp_path):
    parameters = builder_parameters(world / "model", tmp_path / "map", **{"builder.keypoints": 0})
    process = NodeProcess(
        "map_builder.node",
        tmp_path / "log",
        parameters,
        fresh=True,
        before=slowed("disam_ros.nodes.map_builder.live_map.image_from_message", 0.3),
    )
    with Survey() as survey:
        survey.camera_info()
        survey.pose(0)
        for second in range(IMAGES):
            survey.image(second)
            survey.pose(second + 1)
        assert process.interrupt(signal.SIGTERM) == 0
    assert_clean(process)
    assert f"{IMAGES} images are safe" in process.log
    progress = json.loads((tmp_path / "map.part" / ".disam_progress.json").read_text())
    assert progress["count"] == IMAGES


def evaluation(world, output, rate, log, before="pass"):
    """An evaluation through the node, in a process of its own."""
    line = ["evaluate", world / "drive", "--map", world / "map", "--model", world / "model"]
    line += ["--through-node", "--rate", rate, "--output", output]
    return CommandProcess(log, list(map(str, line)), fresh=True, before=before)


def test_an_evaluation_writes_the_answers_that_it_has(world, tmp_path):
    process = evaluation(world, tmp_path / "results", 1.0, tmp_path / "log")
    with Client("/localizer") as client:
        answers = client.collect(DiagnosticArray, "/localizer/answer")
        client.until(lambda: len(answers) >= 3, "answers")
        assert process.interrupt(signal.SIGINT) == 130
        client.until(
            lambda: not client.node.count_publishers("/localizer/answer"), "the localizer's end"
        )
    assert_clean(process)
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    (note,) = [note for note in results["notes"] if "interrupted" in note]
    assert int(re.search(r"after (\d+) of 300", note)[1]) >= 1
    assert (tmp_path / "results" / "report.html").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_replay_ends_cleanly(world, tmp_path, signum):
    line = ["replay", str(world / "drive"), "--rate", "0.5", "--start-delay", "0"]
    process = CommandProcess(tmp_path / "log", line, fresh=True)
    with Client("/replay") as client:
        images = client.collect(CompressedImage, "/camera/front/image_raw/compressed")
        client.until(lambda: images, "an image")
        assert process.interrupt(signum) == 128 + signum
    assert_clean(process)
    assert "stopped after" in process.log
    assert process.log.splitlines()[-1] == f"disam: {WORDS[signum]}"
