# SPDX-License-Identifier: Apache-2.0
"""Modules of 0.1 have no aliases, but importing one names its successor."""

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import disam_ros
from disam_ros.moved import MOVED, install

MODULES = (Path(__file__).parent / "data" / "version_0_1" / "modules.txt").read_text().split()
OLD = [name for name in MODULES if name.removeprefix("disam_ros.") in MOVED]


def test_the_table_has_every_module_of_0_1_that_is_no_more():
    assert {f"disam_ros.{name}" for name in MOVED} <= set(MODULES)
    for name in set(MODULES) - set(OLD):
        assert find_spec(name), name


@pytest.mark.parametrize("name", OLD)
def test_importing_an_old_module_names_the_new_one(name):
    short = name.removeprefix("disam_ros.")
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(name)
    text, new = str(caught.value), f"disam_ros.{MOVED[short]}"
    package = name.rpartition(".")[0]
    if not MOVED[short]:
        assert text == f"{name} was removed in 0.2"
    elif package in OLD and new == f"disam_ros.{MOVED[package[10:]]}{name.removeprefix(package)}":
        assert f"{package} is disam_ros.{MOVED[package[10:]]} since 0.2" in text
    else:
        assert f"{name} is {new} since 0.2" in text


@pytest.mark.parametrize("new", sorted({new for new in MOVED.values() if new}))
def test_the_new_modules_import(new):
    if new.startswith("nodes."):
        pytest.importorskip("rclpy")
    importlib.import_module(f"disam_ros.{new}")


def test_other_modules_that_are_missing_are_missing_as_ever():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'disam_ros.nonsense'$"):
        importlib.import_module("disam_ros.nonsense")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'place_map'$"):
        importlib.import_module("place_map")


def test_a_class_that_was_renamed_names_its_successor():
    with pytest.raises(
        ImportError, match=r"disam_ros\.Localization is disam_ros\.Answer since 0\.2"
    ):
        from disam_ros import Localization  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from disam_ros import Nonsense  # noqa: F401
    with pytest.raises(AttributeError, match="'disam_ros' has no attribute 'nonsense'"):
        _ = disam_ros.nonsense


def test_the_finder_is_installed_once():
    install()
    names = [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path]
    assert names.count("MovedFinder") == 1


def test_a_program_of_0_1_ends_with_the_new_path():
    program = "from disam_ros.place_map import PlaceMap"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = ended.stderr.strip().splitlines()[-1]
    moved = "disam_ros.place_map is disam_ros.mapping.place_map since 0.2"
    assert last == f"ModuleNotFoundError: {moved}"
