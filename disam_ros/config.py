# SPDX-License-Identifier: Apache-2.0
"""Every setting as a dataclass field with its help, unit and range; YAML that rejects unknown keys.

ROS parameters are declared from these same fields (nodes/rclpy_extra/parameters.py), one to one; a
field that is itself a dataclass becomes a dotted prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from disam_ros.settings import setting

BACKENDS = ("auto", "torch", "onnx", "onnx-int8")  # runtimes of the encoders (models/backend.py)

RETRIEVALS = ("tolerant", "paper")

FIX_DEVIATION = 5.0  # of a fix whose covariance is unknown, 1 σ in east and in north [m]

LOCAL_FEATURES = ("auto", "sift", "orb", "xfeat", "aliked")  # for geometric verification


def unset(help: str, limit: float) -> Any:
    """A setting within ± limit, unset by default."""
    return setting(float("nan"), help, minimum=-limit, maximum=limit)


def seconds(default: float, help: str, minimum: float = 0.0, maximum: float = 3600.0) -> Any:
    """A setting of a duration [s]."""
    return setting(default, help, minimum=minimum, maximum=maximum)


@dataclass(frozen=True)
class DescriptorConfig:
    """Descriptors of a map (models/similarity.py). Part of a map's identity."""

    retrieval: str = setting(
        "tolerant",
        "comparison of images; tolerant: pooled, centred features over shifts of the view; paper: "
        "DISAM's, whole features, Eq. 16 and the cosine of N = 3, for its checkpoints",
        choices=RETRIEVALS,
    )
    coarse_grid: int = setting(
        8,
        "cells along the longer side of pooled coarse features; not with retrieval paper",
        minimum=1,
        maximum=256,
    )
    coarse_size: int = setting(
        512,
        "size of a coarse descriptor [bytes], for models without directions",
        minimum=1,
        maximum=4096,
    )
    fine_grid: int = setting(
        16,
        "cells along the longer side of pooled fine features; not with retrieval paper",
        minimum=1,
        maximum=256,
    )

    @cached_property
    def as_in_paper(self) -> bool:
        """Whether features are compared as the paper does: whole, unshifted and uncentred."""
        return self.retrieval == "paper"


@dataclass
class MapBuilderConfig:
    """Map building (mapping/builder.py)."""

    keyframe_distance: float = setting(
        0.5,
        "distance between keyframes of one camera [m]; 0 keeps all images",
        minimum=0.0,
        maximum=1e6,
    )
    keyframe_angle: float = setting(
        10.0, "rotation after which an image is a keyframe [deg]", minimum=0.0, maximum=360.0
    )
    batch_size: int = setting(8, "images encoded at once", minimum=1, maximum=1024)
    checkpoint_every: int = setting(
        256,
        "images between checkpoints of a build",
        minimum=1,
        maximum=100_000,
    )
    domain: str = setting("", "domain of all images; empty: the dataset's, else by clock and sun")
    keypoints: int = setting(
        1024, "keypoints per image for geometric verification; 0: none", minimum=0, maximum=4096
    )
    local_features: str = setting(
        "auto",
        "their kind; xfeat and aliked need the extras xfeat and lightglue; auto: xfeat, else sift",
        choices=LOCAL_FEATURES,
    )
    thumbnails: bool = setting(True, "keep a JPEG of each image, 6 KiB, that shows the place")
    field_of_view: float = setting(
        0.0,
        "width of the map's view [deg], level and undistorted; 0: the mapping camera's, 90 for a "
        "fisheye or panorama",
        minimum=0.0,
        maximum=140.0,
    )
    descriptor: DescriptorConfig = field(default=DescriptorConfig())


@dataclass
class DomainConfig:
    """Choice of the domain (domains/domain.py)."""

    override: str = setting("", "domain to use always; empty: by sun, season and weather")
    weather: str = setting("", "weather, such as 'snow' or 'light rain'; empty: unknown")
    latitude: float = unset(
        "latitude of the vehicle [deg]; nan: of the topic fix, else the map's", 90.0
    )
    longitude: float = unset(
        "longitude of the vehicle [deg]; nan: of the topic fix, else the map's", 180.0
    )
    from_image: bool = setting(
        False,
        "classify the image if clock, sun and weather leave the domain open; needs a model with a "
        "domain classifier",
    )


def fix_deviation() -> Any:
    """Return the setting of how sure a fix is that does not say so."""
    return setting(
        FIX_DEVIATION,
        "standard deviation of fixes of unknown covariance, east and north [m]",
        minimum=0.01,
        maximum=1000.0,
    )


@dataclass
class PriorConfig:
    """Position priors (localization/prior.py)."""

    source: str = setting(
        "none",
        "source of position priors; fix: topic fix; odom: the last answer, propagated by topic "
        "odom; topic: topic prior",
        choices=("none", "fix", "odom", "topic"),
    )
    outlier_ratio: float = setting(
        0.05,
        "probability that a prior is an outlier; a fine similarity higher by 0.05 ln(1 / "
        "outlier_ratio) overrules it; 1: no weight",
        minimum=1e-9,
        maximum=1.0,
    )
    max_age: float = seconds(1.0, "maximum time between an image and its prior or odometry [s]")
    origin_latitude: float = unset(
        "latitude of the map frame's origin [deg]; nan: as in the map", 90.0
    )
    origin_longitude: float = unset(
        "longitude of the map frame's origin [deg]; nan: as in the map", 180.0
    )
    origin_yaw: float = setting(
        0.0,
        "angle from east to the map's x axis, counter-clockwise [rad]",
        minimum=-6.2832,
        maximum=6.2832,
    )
    fix_deviation: float = fix_deviation()


@dataclass
class SequenceConfig:
    """Sequence tracking by a Bayes filter over the map images (sequence/tracker.py)."""

    enabled: bool = setting(
        True, "track the sequence of images and odometry; false: localize each image alone"
    )
    odometry_noise: float = setting(
        0.1,
        "standard deviation of odometry per distance driven [m/m]",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass
class VerifyConfig:
    """Geometric verification of places (localization/verification.py)."""

    when: str = setting(
        "unsure",
        "when to verify; unsure: if it can change the answer",
        choices=("never", "unsure", "always"),
    )


@dataclass
class LocalizerConfig:
    """Localization of images against a map (localization/pipeline.py)."""

    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    backend: str = setting(
        "auto",
        "runtime of the encoders; onnx: ONNX Runtime on the CPU; onnx-int8: in 8-bit integers; "
        "auto: onnx where possible, else torch",
        choices=BACKENDS,
    )
    candidates: int = setting(
        50,
        "map images that are re-ranked by fine similarity; 3 on maps of retrieval paper",
        minimum=1,
        maximum=1000,
    )
    min_probability: float = setting(
        0.8, "probability of a place below which it is unknown", minimum=0.0, maximum=1.0
    )
    max_speed: float = setting(
        20.0,
        "top speed of the vehicle [m/s]: bounds the motion without odometry; faster than twice "
        "that is a jump of odometry",
        minimum=0.1,
        maximum=1000.0,
    )
    domain: DomainConfig = field(default_factory=DomainConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)


@dataclass
class LoopClosureConfig:
    """Loop closure detection (slam/loop_closure.py)."""

    enabled: bool = setting(
        False, "publish ~/loop_closure: revisited places of this drive and, with odom, of the map"
    )
    keyframe_distance: float = setting(
        3.0, "distance between keyframes of the drive [m]", minimum=0.1, maximum=100.0
    )
    min_path: float = setting(
        50.0,
        "path driven before a keyframe may be met again [m]",
        minimum=0.0,
        maximum=1e6,
    )
    score_threshold: float = setting(
        0.6,
        "least fine similarity of images of one place; two thirds of it if 50 keypoints agree",
        minimum=-1.0,
        maximum=1.0,
    )
    keypoints: int = setting(
        256,
        "local features of a keyframe for verification and the relative pose, 144 bytes each; 0: "
        "no verification",
        minimum=0,
        maximum=4096,
    )
