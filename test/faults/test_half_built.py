# SPDX-License-Identifier: Apache-2.0
"""Faults of a half-built map: what is injected, where, what must be seen."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.commands import SETTINGS
from support.faults import BUILD, edit_json, fault_of, tree, write_half_built

from disam_ros.cli import main
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import MapError
from disam_ros.files.outputs import MANIFEST, OutputDirectory
from disam_ros.mapping.builder import MapBuilder
from disam_ros.mapping.rows import RowFile
from disam_ros.models.model import load_model

KEYS = ("header", "shapes", "source", "count", "position", "skipped", "csv_bytes")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_half_built(tmp_path_factory.mktemp("half"))


@pytest.fixture
def world(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "world")


def build_line(world: Path) -> list[str]:
    line = "build-map --dataset {0}/dataset --model {0}/model --output {0}/map --config {0}/b.yaml"
    (world / "b.yaml").write_text(SETTINGS)
    return line.format(world).split()


EDITS = [
    *[(lambda v, key=key: v.pop(key), f"'{key}' expects .*; it is missing") for key in KEYS],
    *[(lambda v, key=key: v.update({key: -1}), f"'{key}' expects 0 or more") for key in KEYS[3:]],
    (lambda v: v.update(count=2**70), "'count' expects a whole number; got 1180"),
    (lambda v: v.update(count=1.5), "'count' expects a whole number; got 1.5"),
    (lambda v: v.update(count=True), "'count' expects a whole number; got True"),
    (lambda v: v.update(count=5), "coarse_whole.npy is damaged: it has .* bytes, expected"),
    (lambda v: v.update(csv_bytes=10**9), "images.csv is damaged: it has .* bytes, expected 10"),
    (lambda v: v.update(header=[]), r"'header' expects an object; got \[\]"),
    (lambda v: v.update(header={}), "half-built map of another model, source or settings"),
    (lambda v: v["shapes"].update(fine=[1]), "half-built map of another model, source"),
]


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_a_progress_edited_by_hand_is_one_line_with_file_key_and_remedy(world, capsys, number):
    change, words = EDITS[number]
    edit_json(world / "map.part/.disam_progress.json", change)
    before = tree(world / "map.part")
    assert_words(fault_of(capsys, build_line(world)), world, words)
    assert tree(world / "map.part") == before


def assert_words(line: str, world: Path, words: str) -> None:
    assert re.search(rf"^disam: {world}/map\.part.*{words}.*; move {world}/map\.part away", line), (
        line
    )


PROGRESS = ".disam_progress.json"
FILES = [
    (PROGRESS, lambda path: path.write_text('{"header": {'), "is malformed: .*; expected JSON"),
    (PROGRESS, lambda path: path.write_text("[]"), "expected an object with the keys header, sha"),
    (PROGRESS, Path.mkdir, "is no regular file"),
    (PROGRESS, os.mkfifo, "is no regular file"),
    ("images.csv", lambda path: None, "images.csv cannot be read: No such file"),
    ("coarse_whole.npy", lambda path: None, "coarse_whole.npy cannot be read: No such file"),
    ("fine_whole.npy", lambda path: path.write_bytes(bytes(9)), "is damaged: it has 9 bytes"),
]


@pytest.mark.parametrize(("name", "put", "words"), FILES)
def test_a_file_of_a_half_built_map_that_is_lost_or_another_is_named(
    world, capsys, name, put, words
):
    path = world / "map.part" / name
    path.unlink()
    put(path)
    assert_words(fault_of(capsys, build_line(world)), world, words)


def test_rows_that_are_replaced_stay_and_rows_that_are_cut_off_are_an_error(tmp_path):
    kind = np.dtype([("count", np.uint32), ("depths", np.float32, 3)])
    table = np.zeros(4, kind)
    table["count"] = range(4)
    path = tmp_path / "rows"
    path.write_bytes(b"head" + table.tobytes())
    with RowFile(path, kind, 4) as rows:
        row = rows[2]
        row["depths"][:2] = 7
        rows[2] = row
        assert rows[2]["depths"].tolist() == [7, 7, 0] and rows[3]["count"] == 3
    assert path.stat().st_size == 4 + table.nbytes
    os.truncate(path, 4 + 2 * kind.itemsize)
    with RowFile(path, kind, 4) as rows, pytest.raises(OSError, match="cut off"):
        rows[2]


def test_a_disk_that_takes_no_more_is_an_error_where_a_row_is_written():
    kind = np.dtype([("values", np.uint8, 1 << 16)])
    with pytest.raises(OSError, match="No space left"), RowFile(Path("/dev/full"), kind, 0) as rows:
        rows[0] = np.zeros(1, kind)[0]


def without_poses(folder: Path) -> None:
    lines = (folder / "images.csv").read_text().splitlines()
    columns = lines[0].split(",")
    first = columns.index("tx")
    rows = [line.split(",") for line in lines[1:]]
    rows = [[*row[:first], *[""] * 7, *row[first + 7 :]] for row in rows]
    text = "\n".join([lines[0], *(",".join(row) for row in rows)])
    (folder / "images.csv").write_text(text + "\n")


def test_a_build_that_kept_no_image_leaves_nothing_that_blocks_the_corrected_one(world, capsys):
    shutil.rmtree(world / "map.part")
    shutil.copytree(world / "dataset", world / "posed")
    without_poses(world / "dataset")
    assert "none of 8 images could be used" in fault_of(capsys, build_line(world))
    assert not (world / "map.part").exists()
    shutil.rmtree(world / "dataset")
    (world / "posed").rename(world / "dataset")
    assert main([*build_line(world), "--keyframe-distance", "0.1"]) == 0


def test_a_build_killed_before_its_first_image_does_not_block_other_settings(world):
    edit_json(
        world / "map.part/.disam_progress.json", lambda v: v.update(count=0, header={}, position=3)
    )
    assert main([*build_line(world), "--keyframe-distance", "0.1"]) == 0


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("live", [False, True])
def test_a_build_that_lacks_only_its_name_gets_it_and_takes_no_more_images(
    world, monkeypatch, live
):
    monkeypatch.setattr(OutputDirectory, "publish", interrupted)
    source, model = open_dataset(world / "dataset"), load_model(world / "model")
    settings = {"source": source.identity, "live": live}
    with (
        pytest.raises(KeyboardInterrupt),
        MapBuilder(source.info, model, world / "map", BUILD, **settings) as builder,
    ):
        for item in source.images:
            builder.add(item)
        builder.finish()
    monkeypatch.undo()
    before = tree(world / "map.part")
    with MapBuilder(source.info, model, world / "map", BUILD, **settings) as builder:
        assert builder.complete
        if live:
            with pytest.raises(MapError, match="complete but for its name"):
                for item in source.images:
                    builder.add(item)
                builder.commit()
        else:
            assert not any([builder.add(item) for item in source.images])
    with MapBuilder(source.info, model, world / "map", BUILD, **settings) as builder:
        builder.finish()
    after = tree(world / "map")
    assert {k: v for k, v in after.items() if k in before and k != MANIFEST} == {
        k: v for k, v in before.items() if k != MANIFEST
    }
    assert "coarse_whole.npy" not in after and "map.json" in after
