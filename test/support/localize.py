# SPDX-License-Identifier: Apache-2.0
"""Localization of single images in tests."""

from dataclasses import replace

from disam_ros.config import SequenceConfig
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Answer, Frame, Query


def frame_of(localizer: Localizer, image, stamp_ns=None, camera=None, **conditions) -> Frame:
    """An image of the map's only camera, unless another is named."""
    return Frame(image, camera or localizer.map.main_camera(), stamp_ns, **conditions)


def describe(localizer: Localizer, image, *arguments, **conditions) -> Query:
    """Descriptors of an image; arguments as those of `frame_of`."""
    frame = frame_of(localizer, image, *arguments, **conditions)
    return localizer.encode([frame], localizer.choose_domain(frame))[0]


def candidates_of(localizer: Localizer, query: Query):
    """Candidates of a query, best first."""
    return localizer.rerank(query, localizer.search(query, localizer.config))


def localize(localizer: Localizer, image, *arguments, prior=None, **conditions) -> Answer:
    """Answer to an image by itself; arguments as those of `frame_of`."""
    alone = replace(localizer.config, sequence=SequenceConfig(enabled=False))
    frame = frame_of(localizer, image, *arguments, **conditions)
    return Pipeline(localizer, alone).process([Shot(frame, prior=prior)])[0].answer


def process(pipeline: Pipeline, frame: Frame, odometry=None) -> Answer:
    """The pipeline's answer to its next image."""
    return pipeline.process([Shot(frame, odometry)])[0].answer


def outcomes(pipeline: Pipeline, shots) -> list:
    """Answers to images that were taken together, or errors."""
    return [localized.outcome for localized in pipeline.process(shots)]
