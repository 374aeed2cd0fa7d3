# SPDX-License-Identifier: Apache-2.0
"""Tutorials and README do what they say: a page's bash blocks run as one script, as printed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.short_drives import cut_drives

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "tutorials"
USED = ("config", "models", "training")  # of the repository, by the pages
IMAGES, SECONDS = 160, 16.0  # of the demo's drives: some 160 m to map and 100 m to localize
PATIENCE = 800.0  # seconds; only a page that hangs needs them
# What a reader puts in the place of these words of the README.
PLACES = {"SUMMER_BAG": "town/summer", "NIGHT_BAG": "demo/data/night", "MAP": "town/map"}
CALL = "ros2 service call /localizer/relocalize"
READY = "until grep -q 'active, waiting for images' log; do sleep 0.1; done"

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def blocks(text):
    """The page's blocks in their order."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def repository(tmp_path):
    """A folder in which the commands of the pages find what they name, and write."""
    for name in USED:
        (tmp_path / name).symlink_to(ROOT / name)
    cut_drives(ROOT / "demo" / "data", tmp_path / "demo" / "data", IMAGES, SECONDS)
    bin = tmp_path / ".venv" / "bin"
    bin.mkdir(parents=True)
    for name in ("disam", "localizer_node"):
        (bin / name).symlink_to(Path(sys.executable).parent / name)
    (bin / "activate").write_text(f"PATH={bin}:{Path(sys.executable).parent}:$PATH\n")
    if shutil.which("ros2") is None:
        ros2 = bin / "ros2"
        ros2.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m support.ros2_command "$@"\n')
        ros2.chmod(0o755)
    return tmp_path


def start(script, repository):
    """Run a script in a process group of its own; what it prints is in its log."""
    paths = [str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join([str(repository / ".venv/bin"), str(Path(sys.executable).parent)])
    environment = {
        **os.environ,
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    with (repository / "log").open("w") as log:
        return subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n{script}"],
            cwd=repository,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process):
    """End a script and what it left in the background. Nodes get the time to leave ROS: killed,
    they could leave memory locked that this process shares."""
    deadline, signum = time.monotonic() + PATIENCE, signal.SIGTERM
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, signum)
            process.poll()
            signum = 0 if time.monotonic() < deadline else signal.SIGKILL
            time.sleep(0.05)


def run(name, repository, topics=None):
    """Run a tutorial."""
    return run_script(blocks((PAGES / f"{name}.md").read_text()), repository, topics)


def run_script(script, repository, topics=None):
    """Run a script to its end; returns what was printed and the messages of topics → types."""
    from support.ros import Client

    with Client("/localizer") as client:
        heard = {topic: client.collect(kind, topic) for topic, kind in (topics or {}).items()}
        process = start(script, repository)
        try:
            client.until(lambda: process.poll() is not None, "its end", PATIENCE)
        finally:
            end(process)
    text = (repository / "log").read_text()
    assert process.returncode == 0 and "Traceback" not in text, text
    return text, heard


def metrics(folder):
    return json.loads((folder / "results.json").read_text())["overall"]["metrics"]


def test_every_tutorial_is_run_here():
    tested = set(re.findall(r'(?:run\(|PAGES / )"(\w+)', Path(__file__).read_text()))
    assert tested == {path.stem for path in PAGES.glob("*.md")}


def test_a_first_map(repository):
    text, _ = run("first_map", repository)
    assert metrics(repository / "town/evaluation")["recall"]["R@1"] > 0.8
    assert len(re.findall("^(?:camera front|waiting for images)", text, re.M)) == 10


def test_another_robot_drives_on_the_map_of_the_first(repository):
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    run("other_robot", repository)
    frames = json.loads((repository / "other/evaluation/results.json").read_text())["frames"]
    assert np.mean(np.array(frames["error_m"]) < 5.0) > 0.8  # known yet or not
    assert (repository / "other/unwarped.csv").is_file()


def test_a_robot_with_amcl_gets_an_initial_pose_that_amcl_takes(repository):
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from slam.consumer_rules import PublishedPose, problems

    # The drive begins again and again; where the place is not known yet, the reader asks again.
    script = blocks((PAGES / "amcl_robot.md").read_text())
    script = re.sub(
        rf"^{CALL}.*$", r"until \g<0> | grep success=True; do sleep 1; done", script, flags=re.M
    )
    _, heard = run_script(script, repository, {"/initialpose": PoseWithCovarianceStamped})
    (message,) = heard["/initialpose"]
    config = yaml.safe_load((ROOT / "config/consumers/amcl.yaml").read_text())
    parameters = config["amcl"]["ros__parameters"]
    assert problems("amcl", PublishedPose.of(message), parameters) == []


def test_a_vehicle_without_gnss_gets_fixes_where_it_is(repository):
    from sensor_msgs.msg import NavSatFix

    _, heard = run("gnss_denied_vehicle", repository, {"/localizer/fix": NavSatFix})
    fixes = np.array([(m.latitude, m.longitude) for m in heard["/localizer/fix"]])
    assert len(fixes) > 0
    assert np.abs(fixes - (51.05, 13.74)).max() < 0.005  # the town's origin; some 300 m
    results = json.loads((repository / "town/evaluation/results.json").read_text())
    assert set(results["conditions"]) == {"night"}


def test_own_training_ends_with_a_model_that_recognizes_places_on_other_drives(repository):
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    from disam_ros.models.model import load_model
    from training.disam.matching import similarity_of
    from training.disam.networks import create_networks
    from training.disam.run import Training
    from training.engine.validate import recall
    from training.recipes import load_config

    run("own_training", repository)
    results = json.loads((repository / "runs/smoke_evaluation/results.json").read_text())
    errors = np.array(results["frames"]["error_m"], float)
    assert np.mean(errors < 5.0) > 0.5  # known or not: the model is sure of little
    model = load_model(repository / "runs/smoke/model")
    config = load_config(ROOT / "config/train_smoke.yaml")
    config.data = [str(repository / path) for path in config.data]
    config.validation.data = [str(repository / path) for path in config.validation.data]
    config.output = str(repository / "another")
    training = Training(config)
    start = create_networks(config.network.build(), training.domains, False, 0).encoders
    chance = 100 * 3 / len(training.validation.images["night"])
    for name in ("coarse", "fine"):
        similarity = similarity_of(name, config.descriptor)
        trained, untrained = (
            recall(encoders, similarity, training.validation, torch.device("cpu"))["mean"]
            for encoders in (getattr(model, name), start)
        )
        assert trained > untrained + 5, name
        assert trained > 3 * chance, name


def test_a_new_release_is_compared_with_the_one_before(repository):
    text, _ = run("new_release", repository)
    assert "median error" in text
    for name in ("before", "after"):  # forty images in snow, of which the first are in doubt
        assert metrics(repository / "town" / name)["recall"]["R@1"] > 0.3


def test_the_commands_of_the_readme_map_a_bag_and_localize_another(repository):
    from geometry_msgs.msg import PoseStamped

    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Your own bag") : text.index("## On a ROS 2 robot")]
    script = blocks(section).replace("\\\n", " ")
    for word, path in PLACES.items():
        script = re.sub(rf"\b{word}\b", path, script)
    # The node runs in a terminal of its own, and the reader sees that it is ready.
    script = re.sub(r"^(.*localizer_node.*)$", rf"\1 &\n{READY}", script, flags=re.MULTILINE)
    dataset = f"disam to-bag --dataset demo/data/reference --output {PLACES['SUMMER_BAG']}\n"
    _, heard = run_script(
        f"{dataset}{script}\nkill %1\nwait", repository, {"/localizer/pose": PoseStamped}
    )
    assert heard["/localizer/pose"]
    assert metrics(repository / "evaluation")["recall"]["R@1"] > 0.8
