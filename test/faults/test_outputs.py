# SPDX-License-Identifier: Apache-2.0
"""Laws of what commands write: nothing foreign is touched, nothing half-written stays."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import COMMANDS, RENDERED, Command, write_calibration_inputs
from support.faults import fault_of, tree

from disam_ros.cli import main
from disam_ros.files.outputs import MANIFEST, atomic_directory

ALL = COMMANDS | RENDERED
DIRECTORIES = [name for name, command in ALL.items() if not command.file]
FILES = [name for name, command in ALL.items() if command.file]
NOWHERE = Path("/proc/nothing")  # where nobody can write, and no input is


# --- Before the work -------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What lies where the output shall be, and the words of the refusal."""

    prepare: Callable[[Path], object]
    words: str
    overwrite: bool = False


def foreign(target: Path) -> None:
    """A directory of somebody with names that we use, too."""
    target.mkdir(parents=True)
    for name in ("results.json", "images.csv", "map.json", "metadata.yaml", "model.json"):
        (target / name).write_text("{}")
    (target / "images").mkdir()
    (target / "images" / "holiday.jpg").write_bytes(b"dear")


def with_a_manifest_of_nobody(target: Path) -> None:
    foreign(target)
    values = {"format_version": 1, "kind": "", "files": ["map.json"]}
    (target / MANIFEST).write_text(json.dumps(values))


def of_another_command(target: Path) -> None:
    with atomic_directory(target, "picture album") as part:
        (part / "file").write_text("dear")


def link(target: Path, to: str) -> None:
    target.parent.mkdir()
    (target.parent / "elsewhere").mkdir()
    target.symlink_to(to)


def file(target: Path) -> None:
    target.parent.mkdir()
    target.write_text("dear")


def pipe(target: Path) -> None:
    target.parent.mkdir()
    os.mkfifo(target)


LINKS = {
    "a link to a directory": Place(lambda target: link(target, "elsewhere"), "symbolic link"),
    "a link to nothing": Place(lambda target: link(target, "nothing"), "symbolic link"),
}
PLACES = LINKS | {
    "a foreign directory": Place(foreign, "exists"),
    "a foreign directory to overwrite": Place(foreign, "did not write", overwrite=True),
    "a manifest of nobody": Place(with_a_manifest_of_nobody, "did not write", overwrite=True),
    "what another command wrote": Place(of_another_command, "expected a manifest", overwrite=True),
    "a foreign unfinished directory": Place(
        lambda target: foreign(target.with_name(target.name + ".part")), "is in the way"
    ),
    "a file": Place(file, "is no "),
    "a file, to overwrite": Place(file, "is no ", overwrite=True),
    "a file as the folder above": Place(
        lambda target: target.parent.write_text("dear"), "is no directory"
    ),
}
FILE_PLACES = LINKS | {
    "a file": Place(file, "--overwrite, which keeps it"),
    "a directory": Place(foreign, "is no file"),
    "a directory, to overwrite": Place(foreign, "is no file", overwrite=True),
    "a pipe, to overwrite": Place(pipe, "no regular file", overwrite=True),
    "a missing folder": Place(lambda target: None, "folder does not exist: make it first"),
}


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name in DIRECTORIES for place in PLACES]
    + [(name, place) for name in FILES for place in FILE_PLACES],
)
def test_a_place_that_is_taken_is_refused_before_the_inputs_are_read(tmp_path, capsys, name, place):
    fault = (FILE_PLACES if name in FILES else PLACES)[place]
    target = tmp_path / "folder" / (ALL[name].folder or "out")
    fault.prepare(target)
    before = tree(tmp_path)
    options = ["--overwrite"] if fault.overwrite else []
    line = fault_of(capsys, ALL[name].line(NOWHERE, target, *options))
    assert fault.words in line and str(target.parent) in line
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ALL)
def test_a_folder_that_takes_nothing_is_named_before_the_inputs_are_read(tmp_path, capsys, name):
    target = Path("/proc") / (ALL[name].folder or "out")
    line = fault_of(capsys, ALL[name].line(tmp_path, target))
    assert f"{target} cannot be written" in line and "choose another output" in line


@pytest.mark.parametrize("name", ALL)
def test_a_folder_without_permission_is_named_before_the_inputs_are_read(tmp_path, capsys, name):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write everywhere")
    line = fault_of(capsys, ALL[name].line(NOWHERE, folder / (ALL[name].folder or "out")))
    assert str(folder) in line and "Permission denied; make it writable" in line


def test_the_bags_of_two_drives_of_one_name_are_refused_before_the_inputs_are_read(capsys):
    options = ["--map", "m", "--model", "m", "--record", "r"]
    line = fault_of(capsys, ["evaluate", "a/drive", "b/drive", *options])
    assert "rename one of them" in line


@pytest.mark.parametrize("domain", ["../../x", "/x", "..", ".", "a/b", "a\\b"])
@pytest.mark.parametrize("name", ["extract", "aerial"])
def test_a_domain_cannot_lead_out_of_the_output(inputs, tmp_path, capsys, name, domain):
    line = ALL[name].line(inputs, tmp_path / "a" / "out")
    if "--domain" in line:
        line = [domain if word == "day" else word for word in line]
    else:
        line += ["--domain", domain]
    assert f"'{domain}' cannot name a folder" in fault_of(capsys, line)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


# --- What is there already -------------------------------------------------------------------


def ready(name: str) -> Command:
    """A command whose packages are here."""
    for package in ALL[name].packages:
        pytest.importorskip(package)
    return ALL[name]


def some(names: object) -> list[object]:
    """Those that take long are slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in RENDERED else name for name in names
    ]


@pytest.mark.parametrize("name", some(DIRECTORIES))
def test_overwriting_removes_what_the_command_wrote_and_nothing_else(
    inputs, tmp_path, capsys, name
):
    command, target = ready(name), tmp_path / "folder" / (ALL[name].folder or "out")
    assert main(command.line(inputs, target)) == 0
    written = tree(target)
    listed = json.loads((target / MANIFEST).read_text())["files"]
    assert {path for path in written if (target / path).is_file()} <= {MANIFEST, *listed}
    assert "exists" in fault_of(capsys, command.line(inputs, target))
    assert tree(target) == written
    (target / "notes" / "mine").mkdir(parents=True)
    (target / "notes" / "mine" / "note.txt").write_text("dear")
    file = next(path for path in listed if (target / path).is_file())
    (target / file).write_text("stale")
    assert main(command.line(inputs, target, "--overwrite")) == 0
    assert (target / "notes" / "mine" / "note.txt").read_text() == "dear"
    assert (target / file).read_bytes() != b"stale"
    assert {*tree(target)} == {*written, "notes", "notes/mine", "notes/mine/note.txt"}
    assert [path.name for path in tmp_path.rglob("*.part")] == []


# --- Full disks ------------------------------------------------------------------------------

LIMITS = [(name, 100) for name in ALL]  # bytes of a file
LIMITS += [("build-map", 0), ("build-map", 5_000), ("build-map", 9_000)]
LIMITS += [("to-bag", 40_000), ("to-bag-sqlite", 40_000), ("evaluate", 20_000)]


@contextmanager
def full_disk(file_bytes: int) -> Iterator[None]:
    """No file can grow beyond a size; Python ignores the signal, so writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "file_bytes"),
    [
        pytest.param(name, limit, marks=[pytest.mark.slow] if name in RENDERED else [])
        for name, limit in LIMITS
    ],
)
def test_a_full_disk_ends_in_one_line_with_the_output_and_the_remedy(
    inputs, tmp_path, capsys, name, file_bytes
):
    command, target = ready(name), tmp_path / (ALL[name].folder or "out")
    with full_disk(file_bytes):
        line = fault_of(capsys, command.line(inputs, target))
    assert f"{target} cannot be written: " in line or f"{target}.part cannot be" in line
    assert "; free space" in line
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= ({"out.part"} if name == "build-map" else set())
    assert main(command.line(inputs, target)) == 0
    assert [path.name for path in tmp_path.rglob("*.part")] == []


# --- Calibrations ----------------------------------------------------------------------------


def test_an_old_calibration_is_kept_beside_the_new_one(tmp_path, capsys):
    line = write_calibration_inputs(tmp_path)
    assert main(line) == 0
    model, table = tmp_path / "calibrated", tmp_path / "calibrated" / "calibration.json"
    first = table.read_text()
    assert "calibration.json exists" in fault_of(capsys, line)
    assert table.read_text() == first
    assert main([*line, "--accuracy", "0.5", "2", "--overwrite"]) == 0
    assert table.read_text() != first and (model / "calibration.json.1").read_text() == first
    before = tree(model)
    with full_disk(100):
        fault = fault_of(capsys, [*line, "--overwrite"])
    assert f"{table} cannot be written: File too large; free space" in fault
    assert tree(model) == before


SHIPPED = Path(__file__).parents[2] / "models" / "outdoor"


@pytest.mark.parametrize("way", ["its path", "a link", "an installed package"])
def test_a_shipped_model_is_calibrated_on_request_only(tmp_path, capsys, caplog, way):
    installed = tmp_path / "share" / "disam_ros" / "models" / "outdoor"
    installed.mkdir(parents=True)
    (tmp_path / "link").symlink_to(SHIPPED)
    model = {"its path": SHIPPED, "a link": tmp_path / "link"}.get(way, installed)
    before = tree(SHIPPED)
    line = ["calibrate", str(NOWHERE), "--map", str(NOWHERE), "--model", str(model)]
    assert f"{model} came with disam_ros: calibrate a copy" in fault_of(capsys, line)
    assert "not found" in fault_of(capsys, [*line, "--overwrite"])  # it begins
    assert "its calibration is replaced" in caplog.text
    assert tree(SHIPPED) == before
