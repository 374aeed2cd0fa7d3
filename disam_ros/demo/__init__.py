# SPDX-License-Identifier: Apache-2.0
"""Demonstration: the shipped drives through the season town, localized by the real node."""
