# SPDX-License-Identifier: Apache-2.0
"""Calibration from a drive with poses: scores, and errors of poses."""
