# SPDX-License-Identifier: Apache-2.0
"""Outputs that are replaced or have several writers: a name leads to the old or the new one at any
moment."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.data import save_tiny_model
from support.faults import edit_json

from disam_ros.cli import main
from disam_ros.errors import MapError, OutputError
from disam_ros.files import outputs
from disam_ros.files.outputs import (
    MANIFEST,
    MAP,
    OutputDirectory,
    atomic_directory,
    output_file,
)
from disam_ros.files.writing import atomic_file
from disam_ros.mapping import place_map as place_map_module
from disam_ros.mapping.compression import learn_projection
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.added_files import add_projection, adding_onnx
from disam_ros.models.model_files import read_header

ROUNDS = 30
WRITERS, LENGTH = 4, 100_000  # of a file


class KilledError(BaseException):
    """Stands for SIGKILL: nothing is done after it."""


def write(path: Path, text: str, overwrite: bool = True) -> None:
    with atomic_directory(path, MAP, overwrite) as part:
        (part / "a").write_text(text)
        (part / "b").write_text(text)


def texts(path: Path) -> set[str]:
    return {(path / name).read_text() for name in ("a", "b")}


@pytest.fixture(params=["at one stroke", "one after the other"])
def way(request, monkeypatch):
    """File systems that exchange names at one stroke, and those that cannot."""
    if request.param == "one after the other":
        monkeypatch.setattr(outputs, "exchange", lambda first, second: False)
    return request.param


def test_a_name_always_leads_to_a_whole_directory(tmp_path):
    path, done = tmp_path / "map", threading.Event()
    write(path, "0")

    def read() -> int:
        count = 0
        while not done.is_set():
            handle = os.open(path, os.O_RDONLY)  # fails where there is none
            os.close(handle)
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            for number in range(ROUNDS):
                write(path, str(number))
        finally:
            done.set()
        assert reader.result()
    assert texts(path) == {str(ROUNDS - 1)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["map"]


def test_what_others_put_into_an_output_moves_along(tmp_path, way):
    path = tmp_path / "map"
    write(path, "old")
    (path / "mine.txt").write_text("mine")
    (path / "notes" / "deep").mkdir(parents=True)
    (path / "notes" / "deep" / "too.txt").write_text("mine")
    (path / "link").symlink_to("nowhere")
    write(path, "new")
    assert texts(path) == {"new"} and (path / "mine.txt").read_text() == "mine"
    assert (path / "notes" / "deep" / "too.txt").read_text() == "mine"
    assert (path / "link").is_symlink()
    write(path, "newer")
    assert texts(path) == {"newer"} and (path / "mine.txt").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["map"]


def test_an_output_keeps_its_rights(tmp_path, way):
    path = tmp_path / "map"
    write(path, "old")
    path.chmod(0o770)
    write(path, "new")
    assert path.stat().st_mode & 0o777 == 0o770


@pytest.mark.parametrize("name", ["../note", "/etc/hostname", "linked/note", "c/../../note"])
def test_a_manifest_cannot_make_a_writer_remove_files_elsewhere(tmp_path, name):
    path = tmp_path / "map"
    write(path, "old")
    (tmp_path / "note").write_text("dear")
    (path / "linked").symlink_to(tmp_path)
    edit_json(path / MANIFEST, lambda values: values["files"].append(name))
    write(path, "new")
    assert texts(path) == {"new"}
    assert (tmp_path / "note").exists() and Path("/etc/hostname").exists()


CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
MOMENTS = 24  # more than there are changes
killing: list[int] = []  # changes that may still be made; empty: all


def watch(event: str, values: tuple[object, ...]) -> None:
    if killing and event in CHANGES:
        killing[0] -= 1
        if killing[0] < 0:
            raise KilledError


@pytest.fixture(scope="module")
def watched():
    sys.addaudithook(watch)  # it stays
    yield
    killing.clear()


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_kill_while_an_output_is_replaced_leaves_the_old_or_the_new_one(
    watched, tmp_path, way, moment
):
    path = tmp_path / "map"
    write(path, "old")
    (path / "mine.txt").write_text("mine")
    output = OutputDirectory(path, MAP, overwrite=True)
    for name in ("a", "b"):
        (output.part / name).write_text("new")
    killing[:] = [moment]
    with suppress(KilledError):
        output.publish()
    killing.clear()
    output.close()
    if path.exists():
        assert texts(path) in ({"old"}, {"new"})
    else:
        assert way == "one after the other"
    write(path, "again")
    assert texts(path) == {"again"} and (path / "mine.txt").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["map"]


def test_a_file_keeps_its_name_while_it_is_replaced(tmp_path, monkeypatch):
    path, rename = tmp_path / "answers.csv", Path.rename
    path.write_text("old")

    def renamed(source: Path, target: Path) -> Path:
        assert path.exists()
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", renamed)
    for text in ("new", "newer"):
        with output_file(path, overwrite=True) as file:
            file.write(text)
    contents = [file.read_text() for file in sorted(tmp_path.iterdir())]
    assert contents == ["newer", "old", "new"]  # of answers.csv, answers.csv.1, answers.csv.2


def test_what_a_killed_writer_of_a_file_left_is_removed_and_nothing_of_a_living_one(tmp_path):
    path = tmp_path / "answers.csv"
    killed, foreign = tmp_path / ".answers.csv.abc.part", tmp_path / ".other.csv.abc.part"
    for folder in (killed, foreign):
        folder.mkdir()
        (folder / "answers.csv.part").write_text("half")
        os.utime(folder, (0, 0))
    with output_file(path) as first:
        first.write("first")
        assert not killed.exists() and foreign.exists()
        (scratch,) = tmp_path.glob(".answers.csv.*.part")
        os.utime(scratch, (0, 0))
        with output_file(path, overwrite=True) as second:
            second.write("second")
        assert scratch.exists()
    assert {p.read_text() for p in tmp_path.glob("answers*")} == {"first", "second"}


def test_a_model_gets_what_two_commands_add_at_once(tmp_path):
    """The second one waits and adds to what the first one wrote."""
    model = save_tiny_model(tmp_path / "model")
    rows = np.random.default_rng(0).standard_normal((256, 16 * 3 * 4)).astype(np.float32)
    directory = tmp_path / "model"
    with ThreadPoolExecutor(1) as pool:
        with adding_onnx(directory, "float32") as path_of:
            second = pool.submit(add_projection, directory, learn_projection(rows, 32), {"seed": 0})
            for domain in model.domain_names():
                path_of(domain).write_bytes(b"network")
            assert not second.done()
        second.result()
    names = set(read_header(directory)["sha256"])
    assert {"directions", *(f"{name}.onnx" for name in model.domain_names())} <= names


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
