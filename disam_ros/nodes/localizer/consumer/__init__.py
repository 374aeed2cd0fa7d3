# SPDX-License-Identifier: Apache-2.0
"""The node that takes our poses (AMCL, slam_toolbox, …): its initial pose, its supervision."""
