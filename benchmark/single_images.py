# SPDX-License-Identifier: Apache-2.0
"""Localization of images one by one, without the sequence that they belong to."""

from __future__ import annotations

from dataclasses import replace

from disam_ros.config import SequenceConfig
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Localized, Pipeline, Shot
from disam_ros.localization.query import Frame, Query


def single_pipeline(localizer: Localizer) -> Pipeline:
    """The pipeline with the localizer's settings, but for sequences."""
    return Pipeline(localizer, replace(localizer.config, sequence=SequenceConfig(enabled=False)))


def localize_alone(localizer: Localizer, frame: Frame) -> Localized:
    """The result of a pipeline that has seen no other image."""
    (localized,) = single_pipeline(localizer).process([Shot(frame)])
    return localized


def describe(localizer: Localizer, frame: Frame) -> Query:
    """Descriptors of an image by the encoders of its domain."""
    (query,) = localizer.encode([frame], localizer.choose_domain(frame))
    return query
