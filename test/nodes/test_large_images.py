# SPDX-License-Identifier: Apache-2.0
"""Large raw images over Fast DDS: what cures their loss, and who says so."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from rclpy.utilities import get_rmw_implementation_identifier
from support.node_process import node_process
from support.robot import NODE
from support.ros import Client

from disam_ros.files.paths import DISCOVERY, FAST_DDS, PROFILE_VARIABLES, missing_profile, profile

CAMERA = """
import signal, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node, ended = rclpy.create_node("camera"), []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
image = Image(width=1280, height=720, step=3840, encoding="rgb8", data=bytes(3840 * 720))
while not ended:
    publisher.publish(image)
    time.sleep(0.05)
node.destroy_node()  # a node that is killed stays on the graph for 20 seconds
rclpy.shutdown()
"""


@contextmanager
def camera(environment=()):
    """A best-effort driver of 2.8 MB images in another process."""
    plain = {name: text for name, text in os.environ.items() if name not in PROFILE_VARIABLES}
    process = subprocess.Popen([sys.executable, "-c", CAMERA], env={**plain, **dict(environment)})
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_lost_images_are_reported_with_what_cures_it_and_it_does(places, tmp_path):
    if get_rmw_implementation_identifier() not in FAST_DDS:
        pytest.skip("about Fast DDS")
    with (
        node_process("localizer.node", tmp_path / "log", places) as process,
        Client(NODE) as client,
    ):
        with camera():
            client.problem("the middleware lost messages of /image; set image_transport", 0)
        remedy = re.search(r"start the driver \(not this node\) with (\w+)=(\S+)", process.log)
        assert remedy and Path(remedy[2]).is_file()
        before = client.facts()
        with camera([remedy.groups()]):
            target = int(before["images received"]) + 20
            client.until(lambda: int(client.facts()["images received"]) >= target, "images")
        lost = int(client.facts()["messages lost"]) - int(before["messages lost"])
        assert lost < 10  # of more than 20; on a busy machine one comes late now and then


def test_the_profile_is_for_fast_dds_where_there_is_none():
    result = missing_profile({})
    assert set(result) == set(PROFILE_VARIABLES)
    assert all(Path(path).is_file() for path in result.values())
    assert missing_profile({"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}) == result
    assert missing_profile({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}) == {}
    for name in PROFILE_VARIABLES:
        assert missing_profile({name: "own.xml"}) == {}
    assert missing_profile(profile(DISCOVERY)) == result
    assert missing_profile(result, DISCOVERY) == {}
