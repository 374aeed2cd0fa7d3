# SPDX-License-Identifier: Apache-2.0
"""What a user says of a bag; what is not said is read from its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from disam_ros.geometry import Transform

# Where an option names no camera: the only one of the bag.
ONLY = ""


@dataclass(frozen=True)
class BagOptions:
    """What a user says of a bag's cameras, frames and clocks."""

    image_topics: Mapping[str, str] = field(default_factory=dict)  # by camera; ONLY: named by it
    camera_infos: Mapping[str, str] = field(default_factory=dict)  # topic or YAML file by camera
    mounts: Mapping[str, Transform] = field(default_factory=dict)  # base_from_camera by camera
    map_frame: str = ""  # of the poses that are taken as the map's; empty: map
    base_frame: str = ""  # empty: base_link, or what stands in its place (`TfTree.base_frame`)
    bit_depth: int = 0  # bits that 16-bit images use; 0: by the first ones
    recorded_stamps: bool = False  # take the times of recording in place of the headers' stamps

    @property
    def identity(self) -> str:
        """A text that differs where the options do; empty without any."""
        return "" if self == BagOptions() else repr(self)
