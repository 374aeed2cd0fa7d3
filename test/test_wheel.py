# SPDX-License-Identifier: Apache-2.0
"""What `pip wheel .` makes, in a virtual environment with nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("disam_ros", "config", "demo", "launch", "models", "resource")
MAX_BYTES = 40_000_000  # docs/deployment.md names the size
FILES = ("package.xml", "pyproject.toml", "setup.cfg", "setup.py")
CLEAN = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ROS_DISTRO")}

pytestmark = pytest.mark.slow


def run(*words, cwd):
    ran = subprocess.run([*map(str, words)], cwd=cwd, env=CLEAN, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy of the sources."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / "sources" / part, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder / "sources")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    status, said = run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=folder / "sources")
    assert status == 0, said
    (path,) = folder.glob("disam_ros-*.whl")
    return path


def test_a_wheel_holds_every_file_of_the_package_and_what_it_ships(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "disam_ros").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= held
    shared = {name.partition("/share/disam_ros/")[2] for name in held}
    for pattern in ("models/*/*.*", "launch/*.launch.py", "config/*.yaml", "demo/data/**/*.*"):
        files = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file()}
        assert files and files <= shared
    assert wheel.stat().st_size < MAX_BYTES


def test_an_environment_with_the_wheel_alone_has_the_command_and_its_doctor(wheel, tmp_path):
    python = tmp_path / "new" / "bin" / "python"
    assert run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "new", cwd=ROOT)[0] == 0
    install = ("--python", python, "install", "--no-deps", "--no-index", wheel)
    status, said = run(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    assert status == 0, said
    disam = python.with_name("disam")
    status, said = run(disam, "--help", cwd=tmp_path)
    assert status == 0 and "build-map" in said
    status, said = run(disam, "doctor", cwd=tmp_path)
    assert status == 1 and "Traceback" not in said
    assert f"{python} -m pip install 'numpy>=" in said
    assert f"{tmp_path}/new/share/disam_ros/models/outdoor" in said
    status, said = run(disam, "demo", cwd=tmp_path)
    assert status == 1 and "this needs the package " in said and "Traceback" not in said
    code = "from disam_ros.files.paths import share; print(share() / 'demo' / 'data')"
    assert run(python, "-c", code, cwd=tmp_path)[1].strip().startswith(f"{tmp_path}/new/share/")
