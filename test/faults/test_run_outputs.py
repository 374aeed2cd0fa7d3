# SPDX-License-Identifier: Apache-2.0
"""Laws of the folders of training runs and the demonstration: only what they wrote is removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import tree

from demo import make_data
from disam_ros.cli import main
from disam_ros.demo import run
from disam_ros.errors import OutputError
from disam_ros.files.outputs import MANIFEST, add_to_output, remove_output
from training.engine import checkpoints

KIND = "set of drives"


def foreign(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "photo.jpg").write_bytes(b"dear")
    return folder


def test_files_that_are_listed_one_by_one_are_removed_and_others_stay(tmp_path):
    folder = tmp_path / "folder"
    for name in ("a", "b", "a"):
        add_to_output(folder, KIND, name).write_text(name)
    foreign(folder)
    remove_output(folder, KIND)
    assert set(tree(folder)) == {MANIFEST, "sub", "sub/photo.jpg"}
    (folder / "a").write_text("mine now")
    remove_output(folder, KIND)
    assert (folder / "a").exists()


def test_a_folder_of_which_all_is_listed_is_removed(tmp_path):
    add_to_output(tmp_path / "folder", KIND, "a").write_text("a")
    remove_output(tmp_path / "folder", KIND)
    remove_output(tmp_path / "folder", KIND)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_kind_is_left_alone(tmp_path):
    foreign(tmp_path / "mine")
    add_to_output(tmp_path / "other", "picture album", "a").write_text("a")
    before = tree(tmp_path)
    for name in ("mine", "other"):
        with pytest.raises(OutputError, match=rf"{name} holds .*, expected a manifest of a set of"):
            remove_output(tmp_path / name, KIND)
    with pytest.raises(OutputError, match="other is a picture album, no set of drives"):
        add_to_output(tmp_path / "other", KIND, "b")
    assert tree(tmp_path) == before


def test_the_demonstration_refuses_a_folder_that_is_not_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "make_map", lambda _: pytest.fail("the work began"))
    foreign(tmp_path / "demo_output")
    before = tree(tmp_path)
    assert main(["demo", "--output", str(tmp_path / "demo_output")]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"disam: {tmp_path / 'demo_output'} holds files that this command did")
    assert "choose another output or move it away" in line and tree(tmp_path) == before


def test_drives_without_a_manifest_are_not_rendered_anew(tmp_path, capsys, monkeypatch):
    pytest.importorskip("season_town")
    monkeypatch.setattr(make_data, "write_drive", lambda *_: pytest.fail("the work began"))
    foreign(tmp_path / "data")
    before = tree(tmp_path)
    assert make_data.main(["--output", str(tmp_path / "data")]) == 1
    line = capsys.readouterr().err
    assert "data holds files that this command did not write" in line and "--output" in line
    assert tree(tmp_path) == before


def test_a_run_forgets_the_stages_that_it_wrote_and_refuses_others(tmp_path):
    checkpoints.save_stage(tmp_path / "run", "coarse", {})
    checkpoints.forget_stages(tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()
    (tmp_path / "run" / "stages").mkdir()
    (tmp_path / "run" / "stages" / "coarse.safetensors").write_text("dear")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="stages holds files that this command did not write"):
        checkpoints.forget_stages(tmp_path / "run")
    assert tree(tmp_path) == before
