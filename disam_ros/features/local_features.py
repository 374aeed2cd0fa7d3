# SPDX-License-Identifier: Apache-2.0
"""Local features by name: SIFT and ORB of OpenCV (detection.py), XFeat and ALIKED (learned/)."""

from __future__ import annotations

from functools import cache

from disam_ros.errors import ConfigError
from disam_ros.features.detection import DESCRIPTOR_BYTES, LEARNED, LocalFeatures, Orb, Sift

AUTO = "auto"


@cache
def open_features(name: str, device: str = "cpu") -> LocalFeatures:
    """Opens the local features of a name. device: of learned ones, as torch names it.

    Raises ConfigError for an unknown name, or learned ones whose weights are not installed.
    """
    if name == "sift":
        return Sift()
    if name == "orb":
        return Orb()
    if name in LEARNED:
        from disam_ros.features.learned.extractors import open_learned

        return open_learned(name, device)
    names = ", ".join(DESCRIPTOR_BYTES)
    raise ConfigError(f"unknown local features '{name}'; known: {names}")


def weights_of(name: str) -> str:
    """Returns the SHA-256 of their weights; empty where they have none. Raises ConfigError."""
    if name not in LEARNED:
        return ""
    from disam_ros.features.learned.extractors import WEIGHTS
    from disam_ros.features.learned.weights import weights_sha256

    return weights_sha256(*WEIGHTS[name])


def resolve(name: str) -> str:
    """Resolves AUTO to what is installed and worth its time; other names stay."""
    if name != AUTO:
        return name
    from disam_ros.features.learned.weights import installed

    return "xfeat" if installed("xfeat") else "sift"
