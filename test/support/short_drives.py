# SPDX-License-Identifier: Apache-2.0
"""The demo's drives, cut off after some seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from disam_ros.datasets.bags.messages import TYPESTORE


def cut_drives(source: Path, target: Path, images: int, seconds: float) -> None:
    """images: of the dataset. seconds: of each bag."""
    _cut_dataset(source / "reference", target / "reference", images)
    for bag in sorted(path.parent for path in source.glob("*/metadata.yaml")):
        _cut_bag(bag, target / bag.name, seconds)


def _cut_dataset(source: Path, target: Path, images: int) -> None:
    target.mkdir(parents=True)
    shutil.copy(source / "dataset.json", target)
    (target / "images").symlink_to(source / "images")
    for table in source.glob("*.csv"):
        lines = table.read_text().splitlines(keepends=True)
        (target / table.name).write_text("".join(lines[: images + 1]))


def _cut_bag(source: Path, target: Path, seconds: float) -> None:
    with (
        Reader(source) as reader,
        Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as bag,
    ):
        connections = {
            c.id: bag.add_connection(
                c.topic,
                c.msgtype,
                typestore=TYPESTORE,
                offered_qos_profiles=c.ext.offered_qos_profiles,
            )
            for c in reader.connections
        }
        end = reader.start_time + seconds * 1e9
        for connection, stamp_ns, data in reader.messages():
            if stamp_ns <= end:
                bag.write(connections[connection.id], stamp_ns, data)
