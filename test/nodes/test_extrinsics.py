# SPDX-License-Identifier: Apache-2.0
"""Where the camera sits: TF, parameter or map. tf2_ros is replaced by a stand-in where needed."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TransformStamped

from disam_ros.errors import ConfigError
from disam_ros.geometry import Transform
from disam_ros.nodes.localizer.cameras import Extrinsics
from disam_ros.nodes.rclpy_extra.diagnostics import Monitor
from disam_ros.nodes.tf import from_parameter

FIXED = {"front": Transform.from_xyz_rpy([1.0, 0, 0, 0, 0, 0])}


class NoTransformError(Exception):
    """What a TF buffer raises."""


class Buffer:
    """Knows base_link ← cam from the second request on."""

    asked = 0

    def lookup_transform(self, target, source, _):
        Buffer.asked += 1
        if (target, source) != ("base_link", "cam") or Buffer.asked == 1:
            raise NoTransformError(f"no {source}")
        result = TransformStamped()
        result.transform.translation.x = 5.0
        return result


@pytest.fixture
def tf(monkeypatch):
    listener = SimpleNamespace(unregister=lambda: None)
    module = SimpleNamespace(
        Buffer=Buffer,
        TransformListener=lambda buffer, node: listener,
        TransformException=NoTransformError,
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    monkeypatch.setattr(Buffer, "asked", 0)


def test_tf_is_asked_until_it_knows_and_then_kept(make_node, tf):
    monitor = Monitor("probe")
    extrinsics = Extrinsics(make_node(), monitor, "base_link", FIXED, use_tf=True)
    assert extrinsics.base_from_camera("front", "cam").translation[0] == 1.0
    assert "no TF base_link ← cam yet" in monitor.status("active").message
    assert extrinsics.base_from_camera("front", "cam").translation[0] == 5.0
    asked = Buffer.asked
    assert extrinsics.base_from_camera("front", "cam").translation[0] == 5.0
    assert Buffer.asked == asked
    extrinsics.destroy()


@pytest.mark.parametrize(("frame", "use_tf"), [("", True), ("cam", False)])
def test_without_a_frame_or_without_tf_the_fixed_extrinsics_count(make_node, tf, frame, use_tf):
    extrinsics = Extrinsics(make_node(), Monitor("probe"), "base_link", FIXED, use_tf)
    assert extrinsics.base_from_camera("front", frame).translation[0] == 1.0
    assert Buffer.asked == 0


def test_six_numbers_per_camera_are_taken_and_all_zero_means_not_given():
    result = from_parameter([1, 2, 3, 0, 0, 0, 4, 5, 6, 0, 0, 0], ["left", "right"])
    assert np.allclose(result["right"].translation, [4, 5, 6])
    assert from_parameter([0.0] * 6, ["left", "right"]) is None
    with pytest.raises(ConfigError, match="12 numbers, got 6"):
        from_parameter([1.0, 0, 0, 0, 0, 0], ["left", "right"])
