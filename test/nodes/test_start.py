# SPDX-License-Identifier: Apache-2.0
"""What a node has loaded when it has opened a model, or answered its first image."""

import subprocess
import sys

import pytest
from support.data import save_tiny_model, write_dataset

from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.device import has_cuda_driver
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model

MODEL = "outdoor"
NEEDLESS = {  # until a map, a fix or a setting asks for it
    "faiss": "search of maps above 2,000 images",
    "jinja2": "reports",
    "matplotlib": "figures",
    "pandas": "tables",
    "pymap3d": "fixes",
    "rich": "tables in a terminal",
    "rosbags": "bags",
    "scipy.ndimage": "clock offsets",
    "scipy.optimize": "poses from keypoints, calibration",
    "scipy.signal": "clock offsets",
    "torch": "training, GPUs and the paper's encoders",
}

FIRST_ANSWER = """
import sys
import numpy as np
import disam_ros.nodes.localizer.node
from disam_ros.config import LocalizerConfig
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
pipeline = Pipeline(Localizer.open(*sys.argv[1:3], LocalizerConfig()))
image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
(localized,) = pipeline.process([Shot(Frame(image, "front", 10**18))])
print(localized.answer.record.id, *(name for name in sys.argv[3:] if name in sys.modules))
"""


@pytest.mark.slow
@pytest.mark.skipif(has_cuda_driver(), reason="on a machine with a GPU torch runs the encoders")
def test_the_first_answer_needs_no_library_that_is_slow_to_load(tmp_path):
    pytest.importorskip("rclpy")
    pytest.importorskip("onnxruntime")
    write_dataset(tmp_path / "data", 3)
    config = MapBuilderConfig(domain="summer_day", keypoints=0, keyframe_distance=0.0)
    source, model = open_dataset(tmp_path / "data"), load_model(MODEL)
    build_map(source, model, tmp_path / "map", config, "cpu", False)
    command = [sys.executable, "-c", FIRST_ANSWER, tmp_path / "map", MODEL, *NEEDLESS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, *loaded = done.stdout.split()
    assert number.isdecimal()
    assert {name: NEEDLESS[name] for name in loaded} == {}


@pytest.mark.slow
def test_a_model_of_torch_is_opened_without_its_compiler(tmp_path):
    save_tiny_model(tmp_path / "model")
    code = (
        "import sys; from disam_ros.models.model import load_model; load_model(sys.argv[1]);"
        "print([name for name in ('torch', 'torch._dynamo', 'sympy') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "['torch']", done.stderr
