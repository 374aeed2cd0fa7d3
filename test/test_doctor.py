# SPDX-License-Identifier: Apache-2.0
"""disam doctor: what is installed, what is missing, and what to do about it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from disam_ros.cli import doctor, machine, main
from disam_ros.cli.doctor import BROKEN, MISSING, OK, OLD, PACKAGES, ROS_PACKAGES, Package, examine
from disam_ros.device import has_cuda_driver

ROOT = Path(__file__).parents[1]


def run_without(modules, *arguments):
    """disam doctor in an interpreter that lacks modules."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({list(modules)}));"
        f"from disam_ros.cli import main; sys.exit(main({['doctor', *arguments]}))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


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


def find(monkeypatch, states, detail=""):
    """Let these packages, by module, be found in these states, and all others as they should be."""
    monkeypatch.setattr(
        doctor, "examine", lambda p: doctor.Finding(p, states.get(p.module, OK), detail)
    )


def test_missing_packages_of_ros_are_named_as_the_distribution_has_them(monkeypatch, capsys):
    find(monkeypatch, dict.fromkeys(("rclpy", "tf2_ros", "visualization_msgs"), MISSING))
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "apt install ros-jazzy-rclpy ros-jazzy-visualization-msgs" in shown
    assert "apt install ros-jazzy-tf2-ros-py" in shown


@pytest.mark.parametrize(("gone", "pip"), [("rclpy", True), ("tf2_ros", False)])
def test_what_pip_cannot_bring_is_not_asked_of_it(monkeypatch, tmp_path, capsys, gone, pip):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(doctor, "Path", lambda *_: tmp_path)  # no ROS 2 is installed
    find(monkeypatch, {gone: MISSING})
    main(["doctor"])
    advice = capsys.readouterr().out.splitlines()[-1]
    assert "install ROS 2" in advice and ("disam_ros[ros]" in advice) == pip


@pytest.mark.parametrize(
    ("user", "sudo", "command"),
    [
        (0, None, "apt install ros-jazzy-rclpy"),
        (1000, "/usr/bin/sudo", "sudo apt install ros-jazzy-rclpy"),
        (1000, None, "ask who administers this machine, as sudo is not there: apt install ros-"),
    ],
)
def test_debs_are_asked_for_as_this_user_may(monkeypatch, user, sudo, command):
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr("shutil.which", lambda _: sudo)
    assert machine.apt_command(["ros-jazzy-rclpy"]).startswith(command)


def test_half_an_install_is_done_again(monkeypatch, capsys):
    find(monkeypatch, {"scipy": BROKEN}, "needs scipy._lib")
    assert main(["doctor"]) == 1
    assert "install --force-reinstall --no-deps 'scipy>=1.11'" in capsys.readouterr().out


def test_an_environment_of_another_python_is_told_how_to_be_made_anew(tmp_path):
    (tmp_path / "lib/python3.10/site-packages").mkdir(parents=True)
    assert machine.environment_of_another_python(tmp_path, (3, 12)) == ""  # of the system
    (tmp_path / "pyvenv.cfg").touch()
    said = machine.environment_of_another_python(tmp_path, (3, 12))
    assert "made by python3.10, and this is python3.12: make it anew, python3 -m venv " in said
    assert machine.environment_of_another_python(tmp_path, (3, 10)) == ""


def test_a_ros_of_another_python_is_told_how_to_be_used(tmp_path):
    (tmp_path / "lib/python3.12/site-packages/rclpy").mkdir(parents=True)
    said = machine.ros_of_another_python([tmp_path / "other", tmp_path], (3, 11))
    assert "is built for python3.12, and this is python3.11" in said
    assert "python3.12 -m venv --clear --system-site-packages .venv" in said
    assert machine.ros_of_another_python([tmp_path], (3, 12)) == ""


def test_torch_without_what_writes_onnx_files_is_told_what_it_lacks():
    assert "install 'onnxscript>=0.5'" in machine.torch_without_onnx({"torch", "onnx"})
    assert machine.torch_without_onnx({"torch", "onnx", "onnxscript"}) == ""
    assert machine.torch_without_onnx({"onnx"}) == ""


def test_a_proxy_is_named_without_its_password():
    said = machine.proxy({"https_proxy": "http://me:secret@proxy.lab:3128"})
    assert "proxy.lab" in said and "--resume-retries" in said and "secret" not in said
    assert machine.proxy({"http_proxy": ""}) == ""


def test_a_machine_without_multicast_or_ipv6_is_told_what_that_costs(monkeypatch, capsys):
    monkeypatch.setattr(machine, "multicast", lambda: "No such device")
    monkeypatch.setattr(machine, "ipv6", lambda: "Address family not supported by protocol")
    main(["doctor"])
    shown = capsys.readouterr().out
    assert re.search(r"^missing \(optional\) +multicast +No such device; nodes of", shown, re.M)
    assert re.search(r"^missing \(optional\) +IPv6 +Address family .* --host ::$", shown, re.M)


def test_the_state_is_printed_as_json(capsys):
    ran = run_without({"onnxruntime"}, "--json")
    report = json.loads(ran.stdout)
    states = {entry["module"]: entry["state"] for entry in report["packages"]}
    assert ran.returncode == 1 and not report["complete"] and "outdoor" in report["models"]
    assert states["onnxruntime"] == MISSING and states["numpy"] == OK
    assert set(states) == {package.module for package in (*PACKAGES, *ROS_PACKAGES)}
    assert main(["doctor", "bag", "--json"]) == 1
    assert "drop them, or the bag" in capsys.readouterr().err
