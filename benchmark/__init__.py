# SPDX-License-Identifier: Apache-2.0
"""Measurements and the baselines they stand beside; not part of the product."""
