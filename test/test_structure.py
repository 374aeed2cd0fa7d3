# SPDX-License-Identifier: Apache-2.0
"""Limits that keep the code readable."""

import inspect
from pathlib import Path

import disam_ros
from disam_ros.localization.pipeline import Pipeline
from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.settings import parameter_rows

PACKAGE = Path(disam_ros.__file__).parent
ROOMS = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]


def test_no_room_has_more_than_17_modules_and_the_root_at_most_14():
    counts = {
        room.relative_to(PACKAGE): sum(path.suffix == ".py" for path in room.iterdir())
        for room in ROOMS
        if room.name != "__pycache__"
    }
    assert {room: count for room, count in counts.items() if count > 17} == {}
    assert counts[Path()] <= 14


def test_no_file_has_more_than_400_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_the_way_of_an_image_fits_on_a_screen():
    assert len(inspect.getsource(Pipeline.process).splitlines()) <= 25


def test_the_localizer_node_has_at_most_40_parameters():
    assert len(parameter_rows(LocalizerNodeConfig)) <= 40
