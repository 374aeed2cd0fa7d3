# SPDX-License-Identifier: Apache-2.0
"""The localizer node with models other than the paper's."""

import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import String
from support.data import texture
from support.maps import base_pose, beside, save_tiny_map
from support.node_process import SINGLE
from support.onnx_files import write_onnx

from disam_ros.models.import_model import import_model
from disam_ros.nodes.conversions import pose_to_transform


def test_the_node_answers_with_an_imported_model(start_localizer, tmp_path):
    pytest.importorskip("onnxruntime", reason="not installed: pip install '.[onnx]'")
    pytest.importorskip("onnx", reason="not installed: pip install '.[onnx]'")
    file, half = write_onnx(tmp_path / "network.onnx"), (0.5, 0.5, 0.5)
    model = import_model(file, tmp_path / "model", "small", "MIT", (48, 64), half, half)
    save_tiny_map(tmp_path / "map", model)
    imported = {"map": str(tmp_path / "map"), "model": str(tmp_path / "model")}
    with start_localizer({**imported, **SINGLE}) as robot:
        assert beside(pose_to_transform(robot.localize(3).pose), base_pose(3))
        robot.deliver("domain", String(data="night"))
        assert robot.answer(texture(1))["domain"] == "any"
        assert "ignored" not in robot.process.log
