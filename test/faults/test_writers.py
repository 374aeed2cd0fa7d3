# SPDX-License-Identifier: Apache-2.0
"""Several writers of one output, and a map that is replaced while it is opened."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from disam_ros.cli import main
from disam_ros.errors import MapError, OutputError
from disam_ros.files.outputs import MAP, OutputDirectory, output_file
from disam_ros.files.writing import atomic_file
from disam_ros.mapping import place_map as place_map_module
from disam_ros.mapping.place_map import PlaceMap

WRITERS, ROUNDS, LENGTH = 4, 20, 100_000


def test_a_file_of_many_writers_is_always_that_of_one(tmp_path):
    path, done = tmp_path / "model.json", threading.Event()
    path.write_text("0" * LENGTH)

    def write(letter: str) -> None:
        for _ in range(ROUNDS):
            with atomic_file(path) as file:
                for _ in range(10):
                    file.write(letter * (LENGTH // 10))
                    file.flush()

    def read() -> None:
        while not done.is_set():
            text = path.read_text()
            assert len(text) == LENGTH and len(set(text)) == 1

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, letter) for letter in "abcd"]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        reader.result()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.json"]


def test_a_writer_that_fails_takes_nothing_from_the_next_one(tmp_path):
    path = tmp_path / "model.json"
    for fails in (True, False, True):
        try:
            with atomic_file(path) as file:
                file.write("new")
                if fails:
                    raise MapError("no")
        except MapError:
            pass
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_tables_that_are_written_at_once_to_one_name_are_both_kept(tmp_path):
    path = tmp_path / "answers.csv"
    with output_file(path, overwrite=True) as first:
        first.write("first")
        with output_file(path, overwrite=True) as second:
            second.write("second")
    assert {file.read_text() for file in tmp_path.iterdir()} == {"first", "second"}


def test_a_directory_has_one_writer(tmp_path):
    first = OutputDirectory(tmp_path / "map", MAP)
    with pytest.raises(OutputError, match="being written by another process"):
        OutputDirectory(tmp_path / "map", MAP)
    (first.part / "file").write_text("whole")
    first.publish()
    assert (tmp_path / "map" / "file").read_text() == "whole"


@pytest.fixture(scope="module")
def maps(inputs, tmp_path_factory) -> tuple[Path, Path]:
    """Two maps of as many images, whose other files differ in their header alone."""
    bare = tmp_path_factory.mktemp("maps") / "bare"
    line = f"map prune {inputs}/map --keep 1 --no-thumbnails --output {bare}"
    assert main(line.split()) == 0
    return inputs / "map", bare


@pytest.mark.parametrize("verify", [None, True, False])
def test_a_map_that_is_replaced_while_it_is_opened_is_an_error(maps, tmp_path, monkeypatch, verify):
    (first, second), path = maps, tmp_path / "map"
    shutil.copytree(first, path)
    opened = place_map_module.HeldFile

    def replaced(file: Path, *rest):
        if file.name == "fine.npy" and not (tmp_path / "old").exists():
            path.rename(tmp_path / "old")
            shutil.copytree(second, path)
        return opened(file, *rest)

    monkeypatch.setattr(place_map_module, "HeldFile", replaced)
    with pytest.raises(MapError, match=r"was replaced|damaged|missing"):
        PlaceMap(path, verify)
    assert len(PlaceMap(path, verify)) == len(PlaceMap(second))
