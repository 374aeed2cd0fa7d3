# SPDX-License-Identifier: Apache-2.0
"""On a new machine, whose Python refuses pip: scripts/check_install.sh without its downloads."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "check_install.sh"
DEADLINE = 600.0  # seconds; only what hangs needs them


@pytest.mark.slow
def test_a_managed_python_without_packages_is_shown_how_to_install_them(tmp_path):
    made = subprocess.run(
        [SCRIPT, "python", tmp_path / "new"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert made.returncode == 0, made.stdout + made.stderr
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ROS_DISTRO")}
    doctor = subprocess.run(
        [tmp_path / "new/system/bin/python3", "-m", "disam_ros.cli", "doctor"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert doctor.returncode == 1 and doctor.stderr == ""
    assert "missing             onnxruntime" in doctor.stdout
    assert "refuses pip: make a virtual environment with scripts/install_robot.sh" in doctor.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "expected robot, demo or python"), (("python", "."), ". exists: name a new folder")],
)
def test_the_script_says_what_it_expects(arguments, words):
    ran = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 1 and words in ran.stderr
