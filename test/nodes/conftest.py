# SPDX-License-Identifier: Apache-2.0
"""Nodes, small maps and localizers that several tests of nodes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from support.data import save_tiny_model
from support.maps import save_tiny_map

Start = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def make_node() -> Iterator[Callable[..., Any]]:
    """Makes nodes in the test's process; arguments: of ROS."""
    rclpy = pytest.importorskip("rclpy")
    from rclpy.context import Context
    from support.ros import DOMAIN_ID

    context, nodes = Context(), []
    rclpy.init(context=context, domain_id=DOMAIN_ID)

    def make(*arguments: str) -> Any:
        command_line = ["--ros-args", *arguments] if arguments else None
        nodes.append(rclpy.create_node("probe", context=context, cli_args=command_line))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Parameters that name a model and its map of six places, which no test changes."""
    folder = tmp_path_factory.mktemp("places")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"))
    return {"map": str(folder / "map"), "model": str(folder / "model")}


@pytest.fixture(scope="session")
def start_localizer(tmp_path_factory: pytest.TempPathFactory, places: dict[str, str]) -> Start:
    """Starts a localizer of `places`, unless its parameters name others, and gives its robot.

    kind, topics: of the robot. options: of the process.
    """
    from support.node_process import node_process
    from support.robot import Robot

    @contextmanager
    def start(
        parameters: dict[str, Any],
        *arguments: str,
        kind: type[Robot] = Robot,
        topics: dict[str, type] | None = None,
        **options: Any,
    ) -> Iterator[Robot]:
        log = tmp_path_factory.mktemp("localizer") / "log"
        with (
            node_process(
                "localizer.node", log, {**places, **parameters}, *arguments, **options
            ) as process,
            kind(process, topics) as robot,
        ):
            yield robot

    return start


@pytest.fixture(scope="session")
def ring_places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Parameters that name a model and its map of a circle (support/ring.py)."""
    from support.ring import LAP, ring

    folder = tmp_path_factory.mktemp("ring")
    save_tiny_map(folder / "map", save_tiny_model(folder / "model"), LAP, pose=ring)
    return {"map": str(folder / "map"), "model": str(folder / "model")}
