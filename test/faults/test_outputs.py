# SPDX-License-Identifier: Apache-2.0
"""Laws of what commands write: nothing foreign is touched, nothing half-written stays."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import (
    COMMANDS,
    RENDERED,
    Command,
    write_calibration_inputs,
    write_network,
)

from disam_ros.cli import main
from disam_ros.files.outputs import MANIFEST, OutputDirectory, atomic_directory

ALL = COMMANDS | RENDERED
DIRECTORIES = [name for name, command in ALL.items() if not command.file]
FILES = [name for name, command in ALL.items() if command.file]
NOWHERE = Path("/proc/nothing")  # where nobody can write, and no input is


def tree(root: Path) -> dict[str, bytes | str]:
    """All that lies below a folder: contents of files, targets of links."""
    result: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            result[name] = f"→ {path.readlink()}"
        else:
            result[name] = path.read_bytes() if path.is_file() else "folder"
    return result


def fault_of(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line with which a command ends in status 1, its last on stderr."""
    capsys.readouterr()
    assert main(arguments) == 1
    text = capsys.readouterr().err
    lines = text.rstrip("\n").splitlines()
    assert "Traceback" not in text and "Exception ignored" not in text, text
    assert [line for line in lines if line.startswith("disam: ")] == lines[-1:], text
    return lines[-1]


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


def with_manifest(target: Path, text: str) -> None:
    foreign(target)
    (target / MANIFEST).write_text(text)


def of_another_command(target: Path) -> None:
    with atomic_directory(target, "picture album") as part:
        (part / "file").write_text("dear")


def link(target: Path, to: str) -> None:
    target.parent.mkdir(exist_ok=True, parents=True)
    (target.parent / "elsewhere").mkdir()
    target.symlink_to(to)


def listing(*names: str) -> str:
    return json.dumps({"format_version": 1, "kind": "", "files": names})


def file_as_parent(target: Path) -> None:
    target.parent.parent.mkdir(exist_ok=True, parents=True)
    target.parent.write_text("dear")


PLACES = {
    "a foreign directory": Place(foreign, "exists"),
    "a foreign directory to overwrite": Place(foreign, "did not write", overwrite=True),
    "a manifest that is none": Place(
        lambda target: with_manifest(target, "["), "did not write", overwrite=True
    ),
    "a manifest without a kind": Place(
        lambda target: with_manifest(target, '{"format_version": 1}'), "did not write", True
    ),
    "a manifest of nobody": Place(
        lambda target: with_manifest(target, listing("map.json")), "did not write", True
    ),
    "what another command wrote": Place(of_another_command, "expected a manifest", overwrite=True),
    "a foreign unfinished directory": Place(
        lambda target: foreign(target.with_name(target.name + ".part")), "is in the way"
    ),
    "a file": Place(lambda target: (target.parent.mkdir(), target.touch()), "is no "),
    "a file, to overwrite": Place(
        lambda target: (target.parent.mkdir(), target.touch()), "is no ", overwrite=True
    ),
    "a link to a directory": Place(lambda target: link(target, "elsewhere"), "symbolic link"),
    "a link to nothing": Place(lambda target: link(target, "nothing"), "symbolic link"),
    "a file as the folder above": Place(file_as_parent, "is no directory"),
}
FILE_PLACES = {
    "a file": Place(lambda target: target.write_text("dear"), "--overwrite, which keeps it"),
    "a directory": Place(foreign, "is no file"),
    "a directory, to overwrite": Place(foreign, "is no file", overwrite=True),
    "a pipe, to overwrite": Place(os.mkfifo, "no regular file", overwrite=True),
    "a link to a directory": Place(lambda target: link(target, "elsewhere"), "symbolic link"),
    "a link to nothing": Place(lambda target: link(target, "nothing"), "symbolic link"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_place_that_is_taken_is_refused_before_the_inputs_are_read(tmp_path, capsys, name, place):
    target, fault = tmp_path / "folder" / (ALL[name].folder or "out"), PLACES[place]
    fault.prepare(target)
    before = tree(tmp_path)
    options = ["--overwrite"] if fault.overwrite else []
    line = fault_of(capsys, ALL[name].line(NOWHERE, target, *options))
    assert fault.words in line and str(target.parent) in line
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", FILE_PLACES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_there_is_refused_before_the_inputs_are_read(tmp_path, capsys, name, place):
    target, fault = tmp_path / "out", FILE_PLACES[place]
    fault.prepare(target)
    pipe = target.is_fifo()
    before = {} if pipe else tree(tmp_path)
    options = ["--overwrite"] if fault.overwrite else []
    line = fault_of(capsys, ALL[name].line(NOWHERE, target, *options))
    assert fault.words in line and str(target) in line
    assert target.is_fifo() if pipe else tree(tmp_path) == before


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_a_folder_that_is_missing_is_refused_before_the_inputs_are_read(
    tmp_path, capsys, name
):
    line = fault_of(capsys, ALL[name].line(NOWHERE, tmp_path / "missing" / "out"))
    assert "missing does not exist: make it first" in line
    assert tree(tmp_path) == {}


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


def ready(name: str, inputs: Path) -> Command:
    """A command whose packages are here."""
    for package in ALL[name].packages:
        pytest.importorskip(package)
    if name == "import-model":
        write_network(inputs)
    return ALL[name]


@pytest.fixture(scope="module")
def write(inputs, tmp_path_factory) -> Callable[[str, Path], None]:
    """Puts what a command writes at a place; each command runs once."""
    outputs: dict[str, Path] = {}

    def put(name: str, target: Path) -> None:
        if name not in outputs:
            output = tmp_path_factory.mktemp(name) / (ALL[name].folder or "out")
            assert main(ready(name, inputs).line(inputs, output)) == 0
            outputs[name] = output
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copy if ALL[name].file else shutil.copytree)(outputs[name], target)

    return put


def some(names: object) -> list[object]:
    """Those that take long are slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in RENDERED else name for name in names
    ]


@pytest.mark.parametrize("name", some(DIRECTORIES))
def test_overwriting_removes_what_the_command_wrote_and_nothing_else(
    inputs, write, tmp_path, capsys, name
):
    command, target = ready(name, inputs), tmp_path / "folder" / (ALL[name].folder or "out")
    write(name, target)
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


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_overwritten_is_kept_beside_the_new_one(inputs, tmp_path, name):
    command, target = ready(name, inputs), tmp_path / "out.txt"
    for text in ("first", "second"):
        target.write_text(text)
        assert main(command.line(inputs, target, "--overwrite")) == 0
    assert {*tree(tmp_path)} == {"out.txt", "out.txt.1", "out.txt.2"}
    assert (tmp_path / "out.txt.1").read_text() == "first"
    assert (tmp_path / "out.txt.2").read_text() == "second"


@pytest.mark.parametrize("name", [n for n in COMMANDS if not COMMANDS[n].file])
def test_what_a_killed_command_left_is_replaced(inputs, write, tmp_path, name):
    command, target = ready(name, inputs), tmp_path / "out"
    write(name, target)
    (target / "half-written").write_text("stale")
    target.rename(tmp_path / "out.part")  # with a manifest of this kind: a killed command's
    (tmp_path / "out.part" / ".disam_progress.json").unlink(missing_ok=True)
    assert main(command.line(inputs, target)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("name", [n for n in COMMANDS if not COMMANDS[n].file])
def test_what_another_process_is_writing_is_left_to_it(inputs, write, tmp_path, capsys, name):
    command, target = ready(name, inputs), tmp_path / "out"
    write(name, tmp_path / "finished")
    kind = json.loads((tmp_path / "finished" / MANIFEST).read_text())["kind"]
    other = OutputDirectory(target, kind)
    (other.part / "file").write_text("dear")
    before = tree(other.part)
    line = fault_of(capsys, command.line(inputs, target))
    assert "is being written by another process" in line and tree(other.part) == before
    other.close()


@pytest.mark.parametrize("name", ["../note", "/etc/hostname", "linked/note", "a/../../note"])
def test_a_manifest_cannot_make_a_command_remove_files_elsewhere(inputs, tmp_path, name):
    target = tmp_path / "out"
    assert main(COMMANDS["localize"].line(inputs, tmp_path / "note")) == 0
    assert main(COMMANDS["convert"].line(inputs, target)) == 0
    (target / "linked").symlink_to(tmp_path)
    manifest = json.loads((target / MANIFEST).read_text())
    manifest["files"].append(name)
    (target / MANIFEST).write_text(json.dumps(manifest))
    assert main(COMMANDS["convert"].line(inputs, target, "--overwrite")) == 0
    assert (tmp_path / "note").exists() and Path("/etc/hostname").exists()


# --- Full disks ------------------------------------------------------------------------------

LIMITS = {
    "build-map": (0, 100, 1_000, 5_000, 9_000),
    "extract": (100, 1_000),
    "to-bag": (0, 5_000, 40_000),
    "to-bag-sqlite": (0, 5_000, 40_000),
    "aerial": (1_000,),
    "convert": (1_000,),
    "create-model": (0, 10_000),
    "import-checkpoint": (1_000,),
    "import-model": (100,),
    "evaluate": (0, 3_000, 20_000),
    "localize": (0, 500),
    "submission": (100,),
    "synth": (100,),
    "synth-aerial": (100,),
}


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
        for name, limits in LIMITS.items()
        for limit in limits
    ],
)
def test_a_full_disk_ends_in_one_line_with_the_output_and_the_remedy(
    inputs, tmp_path, capsys, name, file_bytes
):
    command, target = ready(name, inputs), tmp_path / (ALL[name].folder or "out")
    with full_disk(file_bytes):
        line = fault_of(capsys, command.line(inputs, target))
    assert f"{target} cannot be written: " in line or f"{target}.part cannot be" in line
    assert "; free space" in line
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= ({"out.part"} if name == "build-map" else set())
    assert main(command.line(inputs, target)) == 0
    assert [path.name for path in tmp_path.rglob("*.part")] == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "build-map"])
def test_a_full_disk_leaves_what_was_to_be_overwritten(inputs, write, tmp_path, capsys, name):
    command, target = ready(name, inputs), tmp_path / "out"
    write(name, target)
    before = tree(tmp_path)
    with full_disk(100):
        assert "free space" in fault_of(capsys, command.line(inputs, target, "--overwrite"))
    assert tree(tmp_path) == before


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
