# SPDX-License-Identifier: Apache-2.0
"""The examples run as their first lines say."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from support.data import texture, write_dataset
from support.messages import values
from support.node_process import node_process
from support.onnx_files import write_onnx
from support.robot import Robot

from disam_ros.demo.drives import MODEL

EXAMPLES = Path(__file__).parents[1] / "examples"
COUNT = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, a folder of images and the map that `build_map.py` makes."""
    folder = tmp_path_factory.mktemp("examples")
    write_dataset(folder / "drive", COUNT)
    (folder / "images").mkdir()
    for k in range(2):
        picture = cv2.cvtColor(texture(k), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / "images" / f"{k}.jpg"), picture)
    (folder / "images" / "damaged.jpg").write_bytes(b"no image")
    run("build_map.py", folder / "drive", folder / "map")
    return folder


def run(name, *arguments):
    """Output of an example."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_eight_of_them_and_they_are_short():
    files = list(EXAMPLES.glob("*.py"))
    assert len(files) == 8
    assert all(len(file.read_text().splitlines()) <= 60 for file in files)


@pytest.mark.slow
def test_an_image_and_a_folder_are_localized(world):
    image = world / "images" / "1.jpg"
    assert "best map image" in run("localize_image.py", world / "map", image)
    table = run("localize_folder.py", world / "map", world / "images")
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == ["0.jpg", "1.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["localize_bag.py", "track_sequence.py", "loop_closures.py"])
def test_a_drive_is_localized(world, name):
    assert run(name, world / "map", world / "drive") or name == "localize_bag.py"


@pytest.mark.slow
def test_an_own_descriptor_makes_a_map(world, tmp_path):
    pytest.importorskip("onnx")
    write_onnx(tmp_path / "network.onnx")
    out = run(
        "own_descriptor.py",
        tmp_path / "network.onnx",
        tmp_path / "model",
        world / "drive",
        tmp_path / "map",
    )
    assert out.count("similarity") == COUNT


@pytest.mark.slow
def test_a_node_hears_answers(world, tmp_path):
    parameters = {"map": world / "map", "model": MODEL}
    with (
        node_process("localizer.node", tmp_path / "node.log", parameters) as process,
        Robot(process) as robot,
    ):
        reader = subprocess.Popen(
            [sys.executable, EXAMPLES / "read_answers.py"], stdout=subprocess.PIPE, text=True
        )
        # The node must know the reader; that this client does says nothing of it.
        robot.client.diagnosis(
            lambda s: int(values(s).get("answer subscribers", 0)) > 1, "the reader", since=0
        )
        robot.answer(texture(1))
        answer, pose = sorted(reader.stdout.readline() for _ in range(2))
        assert answer.startswith("known: probability") and pose.startswith("pose x 1.00 m")
        reader.terminate()
        reader.wait()
