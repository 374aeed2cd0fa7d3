# SPDX-License-Identifier: Apache-2.0
"""What `disam view` with an open page costs the node at 10 Hz.

`python -m benchmark.performance view_latency`. Runs without and with a page take turns, each first
in every other round; their medians are compared within a round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.machine import load
from benchmark.performance.map_building import enlarged
from benchmark.performance.node_latency import FRAMES
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.demo.drives import MODEL, make_map
from disam_ros.nodes.localizer.publishers.answer_status import PUBLISHED, timings_ms
from disam_ros.nodes.replay.domain import claim_domain
from disam_ros.nodes.replay.node_run import NodeOptions, run_node_on_bag

ROUNDS = 5
SIZE = (640, 480)
PERIOD_NS = 100_000_000
ALONE, WATCHED = "without", "with an open page"
PORT = 8187
WARM = 20  # first images, which are not counted
READER = """
import asyncio, websockets

async def read():
    while True:
        try:
            async with websockets.connect("ws://127.0.0.1:{port}/live") as page:
                print(len(await page.recv()), flush=True)
                async for _ in page:
                    pass
        except OSError:  # it is not up yet
            await asyncio.sleep(0.1)

asyncio.run(read())
"""


def measure() -> dict[str, Any]:
    """Milliseconds from an image to its pose, with and without a page, in turn."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(claim_domain()))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_map(root / "map")
        drive = enlarged(root / "drive", FRAMES, SIZE, PERIOD_NS)
        dataset_to_bag(drive, root / "bag", raw=True, show_progress=False)
        times: dict[str, list[list[float]]] = {ALONE: [], WATCHED: []}
        modes: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [
            (ALONE, nullcontext),
            (WATCHED, page),
        ]
        for turn in range(ROUNDS):
            for name, open_page in modes[:: 1 if turn % 2 else -1]:
                with open_page():
                    run = run_node_on_bag(root / "bag", root / "map", MODEL, NodeOptions(rate=1.0))
                laps = [timings_ms(values) for values in run.answers.values()][WARM:]
                times[name].append([lap[PUBLISHED] for lap in laps])
    medians = {name: [float(np.median(run)) for run in runs] for name, runs in times.items()}
    differences = np.subtract(medians[WATCHED], medians[ALONE])
    return {
        "width": SIZE[0],
        "height": SIZE[1],
        "rows": {name: {"each": medians[name], **figures(runs)} for name, runs in times.items()},
        "difference": float(np.median(differences)),
        "range": [float(differences.min()), float(differences.max())],
        "load": load(),
    }


def figures(runs: list[list[float]]) -> dict[str, float]:
    """Percentiles of the images of all runs together."""
    together = np.concatenate(runs)
    middle, high = np.percentile(together, (50, 90))
    return {"images": len(together), "p50": float(middle), "p90": float(high)}


@contextmanager
def page() -> Iterator[None]:
    """`disam view` with a page that reads all it is sent, once it is connected."""
    view = [sys.executable, "-m", "disam_ros.cli", "view", "--port", str(PORT)]
    reader = [sys.executable, "-c", READER.format(port=PORT)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in (view, reader)]
    try:
        stdout = processes[1].stdout
        if stdout is None or not stdout.readline():
            raise RuntimeError("the page of disam view could not be read")
        yield
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("disam view or its page ended early")
    finally:
        for process in reversed(processes):
            process.terminate()
            process.communicate()
