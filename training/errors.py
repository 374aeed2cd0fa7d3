# SPDX-License-Identifier: Apache-2.0
"""Errors of training: expected, found and the remedy."""

from disam_ros.errors import DisamError


class TrainingError(DisamError):
    """Training cannot start or go on."""


class NotFiniteError(TrainingError):
    """A loss or a weight is NaN or infinite."""
