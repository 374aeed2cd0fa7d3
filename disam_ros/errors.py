# SPDX-License-Identifier: Apache-2.0
"""Errors of this package. A message says what was expected, what came and what to do."""


class DisamError(Exception):
    """Root of all errors raised by this package."""


class ConfigError(DisamError):
    """A setting is unknown, of the wrong type or out of range."""


class ImageError(DisamError):
    """An image cannot be decoded or has the wrong shape or type."""


class BlindError(ImageError):
    """An image has no usable content: the camera is covered, blinded or frozen."""


class GeometryError(DisamError):
    """A pose is not a finite rigid transform."""


class DomainError(DisamError):
    """A domain, weather word or domain rule is unknown or contradictory."""


class ModelError(DisamError):
    """A model directory or checkpoint is missing, damaged or does not fit."""


class MapError(DisamError):
    """A map is missing, damaged, half-written or belongs to another model."""


class RequirementError(DisamError):
    """An evaluation does not reach what was required of it."""


class DatasetError(DisamError):
    """A dataset directory is missing, damaged or inconsistent."""


class PriorError(DisamError):
    """A position prior is not finite, has no valid covariance or lies far from the map."""


class LoopClosureError(DisamError):
    """A keyframe is out of order, or a loop closure is malformed."""


class OutputError(DisamError):
    """An output exists already, belongs to somebody else or cannot be written."""


class BagError(DisamError):
    """A bag cannot be read or lacks a required topic."""
