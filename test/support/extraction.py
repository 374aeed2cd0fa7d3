# SPDX-License-Identifier: Apache-2.0
"""Extraction of datasets from bags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from disam_ros.datasets.bags.images import BagImages
from disam_ros.datasets.bags.to_dataset import BagConversion, Extraction, bag_to_dataset


def extracted(
    bag: Path, directory: Path, domain: str, max_pose_gap: float = 0.5, **settings: Any
) -> BagConversion:
    """Extract a bag with the settings of `Extraction`."""
    images = BagImages(bag, max_pose_gap=max_pose_gap)
    return bag_to_dataset(images, directory, Extraction(domain, **settings), show_progress=False)
