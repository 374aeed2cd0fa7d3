# SPDX-License-Identifier: Apache-2.0
"""disam doctor: what is installed, what is missing, and what to do about it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from disam_ros.cli import doctor, main
from disam_ros.cli.doctor import BROKEN, MISSING, OK, OLD, PACKAGES, ROS_PACKAGES, Package, examine
from disam_ros.device import has_cuda_driver

ROOT = Path(__file__).parents[1]
NOT_LISTED = {"setuptools"}  # of setup.py: needed to install, not to run
OF_EXTRAS = {"websockets>=10.0", "av>=12.0", "onnx>=1.17"}


def run_without(modules, *arguments):
    """disam doctor in an interpreter that lacks modules."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({list(modules)}));"
        f"from disam_ros.cli import main; sys.exit(main({['doctor', *arguments]}))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_the_packages_of_the_doctor_are_those_of_setup_py():
    setup = (ROOT / "setup.py").read_text()
    block = setup[setup.index("install_requires=[") : setup.index("extras_require")]
    declared = set(re.findall(r'^\s+"([^"]+)"', block, re.MULTILINE))
    listed = {p.requirement for p in PACKAGES}
    assert {p.requirement for p in PACKAGES if p.required} <= declared
    assert declared - NOT_LISTED == listed - OF_EXTRAS
    assert all(f'"{requirement}"' in setup for requirement in OF_EXTRAS)


def test_a_machine_without_any_package_is_told_what_to_install():
    ran = run_without({p.module for p in (*PACKAGES, *ROS_PACKAGES)})
    assert ran.returncode == 1 and ran.stderr == ""
    for package in PACKAGES:
        assert re.search(rf"^missing.* {package.module} ", ran.stdout, re.MULTILINE)
    assert "-m pip install 'numpy>=1.24'" in ran.stdout


def test_what_is_missing_is_printed_as_requirements_for_pip():
    ran = run_without({"torch", "faiss", "onnxruntime"}, "--missing")
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("#")]
    assert ran.returncode == 1
    torch = ["torch>=2.2"] if has_cuda_driver() else []  # a CPU alone does without
    assert lines == [*torch, "onnxruntime>=1.18"]


def test_with_all_that_is_needed_the_status_is_zero(capsys):
    pytest.importorskip("rclpy")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ok +torch +\d", shown, re.MULTILINE)
    assert re.search(r"^ok +model outdoor +/", shown, re.MULTILINE)
    assert main(["doctor", "--missing"]) == 0
    assert capsys.readouterr().out == ""


def test_a_package_that_is_too_old_or_cannot_be_loaded_is_reported(monkeypatch):
    result = {
        "old": SimpleNamespace(__version__="1.9.3rc1"),
        "new": SimpleNamespace(__version__="1.10"),
    }

    def load(name):
        if name == "damaged":
            raise AttributeError("_ARRAY_API not found\nand more")
        if name == "half":
            raise ModuleNotFoundError("No module named 'other'", name="other")
        if name not in result:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return result[name]

    monkeypatch.setattr(doctor.importlib, "import_module", load)
    states = {
        name: examine(Package(name, f"{name}>=1.10", ""))
        for name in ("old", "new", "damaged", "half", "absent")
    }
    assert {name: finding.state for name, finding in states.items()} == {
        "old": OLD,
        "new": OK,
        "damaged": BROKEN,
        "half": BROKEN,
        "absent": MISSING,
    }
    assert states["old"].detail == "1.9.3rc1, needs 1.10"
    assert states["damaged"].detail == "AttributeError: _ARRAY_API not found"
    assert states["half"].detail == "needs other"


def test_missing_packages_of_ros_are_named_as_the_distribution_has_them(monkeypatch, capsys):
    gone = {"rclpy", "tf2_ros", "visualization_msgs"}
    monkeypatch.setattr(
        doctor, "examine", lambda p: doctor.Finding(p, MISSING if p.module in gone else OK, "")
    )
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "sudo apt install ros-jazzy-rclpy ros-jazzy-visualization-msgs\n" in shown
    assert "sudo apt install ros-jazzy-tf2-ros-py\n" in shown


@pytest.mark.parametrize(("gone", "pip"), [("rclpy", True), ("tf2_ros", False)])
def test_what_pip_cannot_bring_is_not_asked_of_it(monkeypatch, tmp_path, capsys, gone, pip):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(doctor, "Path", lambda *_: tmp_path)  # no ROS 2 is installed
    monkeypatch.setattr(
        doctor, "examine", lambda p: doctor.Finding(p, MISSING if p.module == gone else OK, "")
    )
    main(["doctor"])
    advice = capsys.readouterr().out.splitlines()[-1]
    assert "install ROS 2" in advice and ("disam_ros[ros]" in advice) == pip


def test_the_state_is_printed_as_json(capsys):
    ran = run_without({"onnxruntime"}, "--json")
    report = json.loads(ran.stdout)
    states = {entry["module"]: entry["state"] for entry in report["packages"]}
    assert ran.returncode == 1 and not report["complete"] and "outdoor" in report["models"]
    assert states["onnxruntime"] == MISSING and states["numpy"] == OK
    assert set(states) == {package.module for package in (*PACKAGES, *ROS_PACKAGES)}
    assert main(["doctor", "bag", "--json"]) == 1
    assert "drop them, or the bag" in capsys.readouterr().err
