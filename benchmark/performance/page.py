# SPDX-License-Identifier: Apache-2.0
"""The page docs/performance.md."""

from benchmark.pages import Page

PAGE = Page(
    "performance",
    (
        "node_latency",
        "view_latency",
        "speed",
        "backends",
        "scale",
        "warp",
        "rig",
        "map_building",
        "keypoints",
        "map_merging",
        "gpu",
    ),
)
