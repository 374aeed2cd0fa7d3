# SPDX-License-Identifier: Apache-2.0
"""disam doctor --live, on topics that another process publishes."""

import subprocess
import sys

from support.bags import write_drive


def test_topics_that_are_published_are_reported_on_as_a_bag(tmp_path):
    write_drive(tmp_path / "drive", count=40)
    disam = [sys.executable, "-m", "disam_ros.cli"]
    listen = ["doctor", "--live", "--seconds", "8", "--base-from-camera", "0.5,0,1.2,-1.57,0,-1.57"]
    replay = subprocess.Popen([*disam, "replay", tmp_path / "drive", "--loop"])
    try:
        doctor = subprocess.run([*disam, *listen], capture_output=True, text=True)
    finally:
        replay.terminate()
        replay.wait()
    assert "/camera/front/image_raw/compressed" in doctor.stdout
    assert "at x 0.50 m, y 0.00 m, z 1.20 m, looking 0°" in doctor.stdout
    assert "/ground_truth/pose" in doctor.stdout


def test_silence_is_reported_as_such(tmp_path):
    doctor = subprocess.run(
        [sys.executable, "-m", "disam_ros.cli", "doctor", "--live", "--seconds", "1"],
        capture_output=True,
        text=True,
    )
    assert doctor.returncode == 1
    assert "nothing was heard in 1 s" in doctor.stderr
