# SPDX-License-Identifier: Apache-2.0
"""Signals that come while a callback runs."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from disam_ros.nodes.rclpy_extra.process import GuardedExecutor, InterruptibleExecutor


def convert():
    """As C code that converts a message while a signal comes."""
    try:
        raise KeyboardInterrupt(15)
    except KeyboardInterrupt as interrupt:
        raise TypeError("Unable to convert function return value") from interrupt


@pytest.mark.parametrize("guarded", [False, True])
def test_an_interrupt_that_c_code_turned_into_an_error_of_its_own_is_an_interrupt(
    make_node, guarded
):
    node, reports = make_node(), []
    executor = (
        GuardedExecutor(reports.append, context=node.context)
        if guarded
        else InterruptibleExecutor(context=node.context)
    )
    executor.add_node(node)
    node.create_timer(0.001, convert)
    with pytest.raises(KeyboardInterrupt) as caught:
        while True:
            executor.spin_once(timeout_sec=1.0)
    assert caught.value.args == (15,) and not reports
