# SPDX-License-Identifier: Apache-2.0
"""Laws of files and directories that are whole or absent."""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disam_ros.errors import MapError, OutputError
from disam_ros.files.outputs import (
    FILE,
    MANIFEST,
    MAP,
    OutputDirectory,
    atomic_directory,
    output_file,
    require_output,
)
from disam_ros.files.reading import read_json
from disam_ros.files.writing import atomic_file, number_text, write_json


@given(st.floats(-1e7, 1e7))
def test_a_number_keeps_micrometres_up_to_the_size_of_the_earth(value):
    assert abs(float(number_text(value)) - value) <= 0.51e-6


@given(st.integers(-(10**10), 10**10))
def test_millimetres_come_back_without_more_digits(millimetres):
    text = number_text(millimetres / 1000)
    assert float(text) == millimetres / 1000 and len(text.partition(".")[2]) <= 3


@given(st.floats(allow_nan=False))
def test_any_number_is_read_back_to_nine_digits(value):
    assert float(number_text(value)) == pytest.approx(value, rel=1e-8, abs=1e-300)


def left_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("write", [atomic_file, partial(output_file, overwrite=True)])
def test_a_file_whose_writing_fails_keeps_its_old_content(write, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old" and left_in(tmp_path) == ["file"]


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_file(path, "wb") as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and left_in(tmp_path) == ["file"]


def test_a_place_that_takes_no_file_is_reported_as_it_was_found(tmp_path):
    (tmp_path / "file.part").mkdir()
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path / "file"):
        pass


def test_a_directory_appears_with_all_its_files_or_not_at_all(tmp_path):
    path = tmp_path / "directory"
    with pytest.raises(RuntimeError), atomic_directory(path, MAP) as part:
        (part / "file").touch()
        raise RuntimeError
    assert left_in(tmp_path) == []
    killed = OutputDirectory(path, MAP)
    (killed.part / "remains").touch()
    killed.close()
    path.mkdir()
    with atomic_directory(path, MAP) as part:
        (part / "file").touch()
    with pytest.raises(RuntimeError), atomic_directory(path, MAP, overwrite=True) as part:
        (part / "another").touch()
        raise RuntimeError
    assert left_in(path) == [MANIFEST, "file"] and left_in(tmp_path) == ["directory"]


@pytest.mark.parametrize("path", ["", ".", "..", "/", "x" * 5000, "loop"])
def test_a_path_that_no_file_can_have_is_no_output(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for kind in (MAP, FILE):
        with pytest.raises(OutputError):
            require_output(Path(path), kind)
    assert left_in(tmp_path) == ["loop"]


@pytest.mark.parametrize("mine", ["file", "folder", "folder/file"])
def test_what_is_in_the_way_of_a_new_file_is_left_and_so_is_the_old_directory(tmp_path, mine):
    path = tmp_path / "directory"
    with atomic_directory(path, MAP) as part:
        (part / "old").touch()
    (path / mine).parent.mkdir(exist_ok=True)
    (path / mine).write_text("dear")
    with (
        pytest.raises(OutputError, match=f"{mine} is in the way"),
        atomic_directory(path, MAP, overwrite=True) as part,
    ):
        (part / "folder").mkdir()
        (part / "folder" / "file").touch()
        (part / "file").touch()
    assert (path / mine).read_text() == "dear" and (path / "old").exists()
    assert left_in(tmp_path) == ["directory"]


def test_files_that_are_expected_later_belong_to_a_directory(tmp_path):
    path = tmp_path / "directory"
    for _ in range(2):
        with atomic_directory(path, MAP, overwrite=True, expected=["later"]) as part:
            (part / "file").touch()
        assert left_in(path) == [MANIFEST, "file"]
        (path / "later").touch()


def test_json_that_was_written_is_read_back(tmp_path):
    values = {"format_version": 3, "name": "Straße"}
    write_json(tmp_path / "file.json", values)
    assert read_json(tmp_path / "file.json", 3, MapError) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "file.json is malformed"),
        ('{"a":' * 100_000, "file.json .*nested too deeply"),
        ("1" * 10_000, "malformed|expected an object"),
        ("\xff\xfe", "file.json is malformed"),
        ("null", "file.json: expected an object"),
        ("[]", "file.json: expected an object with the keys format_version; got"),
        ("{}", "file.json: 'format_version' expects a whole number; it is missing"),
        ('{"format_version": null}', "'format_version' expects a whole number; got None"),
        ('{"format_version": 2}', "file.json has format version 2, expected 3"),
    ],
)
def test_json_that_is_not_of_the_format_is_refused(tmp_path, text, words):
    (tmp_path / "file.json").write_text(text, encoding="latin-1")
    with pytest.raises(MapError, match=words):
        read_json(tmp_path / "file.json", 3, MapError)
    with pytest.raises(MapError, match=r"absent\.json cannot be read: No such file"):
        read_json(tmp_path / "absent.json", 3, MapError)
