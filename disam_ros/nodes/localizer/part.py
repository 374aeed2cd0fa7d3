# SPDX-License-Identifier: Apache-2.0
"""What the session of a localizer node consists of."""

from __future__ import annotations

from disam_ros.node_config import LocalizerNodeConfig
from disam_ros.nodes.localizer.loaded import Loaded


class Part:
    """A part of the session, such as the publishers of a topic; most override both methods."""

    def configure(self, loaded: Loaded, config: LocalizerNodeConfig) -> None:
        """Takes settings that changed, or another map or model; called between two images."""

    def destroy(self) -> None:
        """Gives back topics and services."""
