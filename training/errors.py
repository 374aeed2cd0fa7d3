# SPDX-License-Identifier: Apache-2.0
"""Errors of training; the message says what was expected, what came and what to do."""

from disam_ros.errors import DisamError


class TrainingError(DisamError):
    """Training cannot start or go on."""
