# SPDX-License-Identifier: Apache-2.0
"""A localizer node of bounded address space: what does not fit is reported, all else goes on."""

import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image
from support.messages import compressed_message, values
from support.vehicle import PLACES, Vehicle, driving, write_town

pytestmark = pytest.mark.slow

SPARE = 2**26  # bytes that a running node may take in addition
LARGE = 2**29  # bytes of the coarse descriptors of a map that does not fit


class CompressedVehicle(Vehicle):
    """Its camera compresses."""

    def ask(self, message, topic="image/compressed"):
        if isinstance(message, Image):
            pixels = np.frombuffer(message.data, np.uint8)
            message = compressed_message(pixels.reshape(message.height, message.width, 3))
        return super().ask(message, topic)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder for a model, a map of it, and a copy of the map that takes much memory."""
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def vehicle(world):
    parameters = write_town(world, image_transport="compressed")
    large = shutil.copytree(world / "map", world / "large")
    size = np.load(large / "coarse.npy").shape[1]
    np.lib.format.open_memmap(large / "coarse.npy", "w+", np.int8, (LARGE // size, size))
    with driving(parameters, world / "log", CompressedVehicle) as vehicle:
        yield vehicle


@contextmanager
def bounded(vehicle):
    """The node, which has localized, may take SPARE bytes more in this block."""
    for _ in range(PLACES):
        vehicle.drive()
    pid, hard = vehicle.process.pid, resource.RLIM_INFINITY
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
    vehicle.check()


def test_a_map_that_does_not_fit_is_reported_and_the_old_one_stays(vehicle, world):
    before = vehicle.client.now()
    vehicle.set("map", str(world / "large"))
    with bounded(vehicle):
        for _ in range(2):
            answer = vehicle.client.trigger("reload")
            assert not answer.success and "all goes on as before" in answer.message
            assert "do not fit into the memory" in answer.message and "large" in answer.message
            vehicle.drive()
        vehicle.client.problem("reload failed", before)
    vehicle.set("map", str(world / "map"))
    assert vehicle.client.trigger("reload").success


def test_an_image_that_does_not_fit_is_answered_and_the_next_one_localized(vehicle):
    huge = compressed_message(np.zeros((7000, 7000, 3), np.uint8))
    with bounded(vehicle):
        answer = values(vehicle.ask(huge).status[0])
        assert answer["outcome"] == "unreadable" and "allocate" in answer["reason"]
        vehicle.drive()
