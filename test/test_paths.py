# SPDX-License-Identifier: Apache-2.0
"""Paths as users write them: the home directory, names of shipped models."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.data import save_tiny_model

from disam_ros.cli import command_line, main
from disam_ros.errors import ModelError
from disam_ros.files import paths
from disam_ros.files.checking import build
from disam_ros.files.paths import find_model, share, shipped_models
from disam_ros.models.model import load_model
from disam_ros.node_config import LocalizerNodeConfig, MapBuilderNodeConfig

ROOT = Path(__file__).parents[1]


def test_a_shipped_model_opens_by_its_name():
    assert load_model("outdoor").label == load_model(ROOT / "models" / "outdoor").label


def test_an_unknown_model_is_answered_with_the_known_names():
    with pytest.raises(ModelError, match=r"outdor is not a model directory.*: outdoor"):
        load_model("outdor")


def test_a_directory_of_that_name_comes_before_the_shipped_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outdoor").mkdir()
    assert find_model("outdoor") == str(ROOT / "models" / "outdoor")  # no model in it
    save_tiny_model(tmp_path / "outdoor")
    assert find_model("outdoor") == "outdoor"


def test_an_installed_package_finds_what_lies_in_its_share(tmp_path, monkeypatch):
    installed = tmp_path / "lib" / "python3.12" / "site-packages" / "disam_ros"
    installed.mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", installed)
    assert share() is None and shipped_models() == {}
    folder = tmp_path / "share" / "disam_ros"
    shutil.copytree(ROOT / "models", folder / "models")
    (folder / "package.xml").touch()
    assert share() == folder
    assert find_model("outdoor") == str(folder / "models" / "outdoor")


def test_the_home_directory_is_understood_in_every_parameter_and_option_that_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/robot")
    builder = build(MapBuilderNodeConfig, {"output": "~/a", "model": "~/b"})
    assert (builder.output, builder.model) == ("/home/robot/a", "/home/robot/b")
    localizer = build(LocalizerNodeConfig, {"map": "~/a", "model": "~/b", "areas": ["~/c", "d"]})
    assert (localizer.map, localizer.model) == ("/home/robot/a", "/home/robot/b")
    assert localizer.areas == ["/home/robot/c", "d"]
    line = ["evaluate", "~/drive", "--map=~/map", "--model=outdoor", "--output=~/out"]
    arguments = command_line().parse_args(line)
    assert arguments.drives == ["/home/robot/drive"]
    assert (arguments.map, arguments.output) == ("/home/robot/map", "/home/robot/out")
    assert arguments.model == str(ROOT / "models" / "outdoor")


HEAVY = (
    "torch",
    "numpy",
    "cv2",
    "scipy",
    "faiss",
    "yaml",
    "rosbags",
    "rclpy",
    "matplotlib",
    "rich",
)


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["build-map", "--help"]])
def test_help_and_version_load_no_heavy_package(line):
    code = (
        "import sys; from disam_ros.cli import main\n"
        f"try: main({line})\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stdout + ran.stderr


def test_the_version_is_that_of_package_xml(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    text = (ROOT / "package.xml").read_text()
    assert capsys.readouterr().out.split()[1] in text
