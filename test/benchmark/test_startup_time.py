# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.performance.startup_time import kept_bytecode


def test_started_processes_keep_their_bytecode_and_the_environment_comes_back(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    (tmp_path / "module.py").write_text("")
    command = [sys.executable, "-c", "import module"]
    with kept_bytecode(tmp_path / "kept"):
        subprocess.run(command, cwd=tmp_path, check=True)
    assert [path.stem.split(".")[0] for path in (tmp_path / "kept").rglob("module*.pyc")]
    assert os.environ["PYTHONDONTWRITEBYTECODE"] == "1"
    assert "PYTHONPYCACHEPREFIX" not in os.environ
