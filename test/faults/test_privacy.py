# SPDX-License-Identifier: Apache-2.0
"""What a map keeps of places is said, and can be left out."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from support.commands import COMMANDS

from disam_ros.cli import main
from disam_ros.mapping import thumbnails
from disam_ros.mapping.place_map import PlaceMap

JPEG = b"\xff\xd8\xff"


@pytest.mark.parametrize("kept", [True, False])
def test_whoever_builds_a_map_with_pictures_is_told(inputs, tmp_path, caplog, kept):
    build = inputs / "build.yaml"
    text = build.read_text()
    config = tmp_path / "build.yaml"
    config.write_text(f"{text}thumbnails: {str(kept).lower()}\n")
    line = COMMANDS["build-map"].arguments.replace("{w}/build.yaml", str(config))
    with caplog.at_level(logging.INFO, "disam_ros"):
        assert main([*line.format(w=inputs).split(), "--output", str(tmp_path / "map")]) == 0
    assert any("a picture of every place" in r.getMessage() for r in caplog.records) == kept


def test_a_map_without_pictures_holds_no_jpeg_and_is_otherwise_the_same(inputs, tmp_path):
    line = f"map prune {inputs}/map --keep 1 --no-thumbnails --output {tmp_path}/bare"
    assert main(line.split()) == 0
    old, bare = PlaceMap(inputs / "map"), PlaceMap(tmp_path / "bare")
    assert old.header.thumbnails and not bare.header.thumbnails
    assert not (tmp_path / "bare" / thumbnails.FILE).exists()
    assert not any(JPEG in path.read_bytes() for path in (tmp_path / "bare").iterdir())
    assert np.array_equal(old.coarse, bare.coarse) and np.array_equal(old.poses, bare.poses)
    rows = np.arange(len(old))
    assert np.array_equal(old.fine[rows], bare.fine[rows])
    assert main(["map", "check", str(tmp_path / "bare")]) == 0
