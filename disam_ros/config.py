# SPDX-License-Identifier: Apache-2.0
"""Every setting as a dataclass field with its help, unit and range; YAML that rejects unknown keys.

ROS parameters are declared from these same fields (nodes/parameters.py), one to one; a field that
is itself a dataclass becomes a dotted prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from disam_ros.settings import setting

BACKENDS = ("auto", "torch", "onnx")  # what can run the encoders of a query (backend.py)

CONSUMERS = ("amcl", "robot_localization", "rtabmap", "autoware", "slam_toolbox")  # (consumers.py)

LOCAL_FEATURES = ("sift", "orb", "xfeat")  # what finds points to verify a place by


@dataclass
class DescriptorConfig:
    """How features become what a map stores (descriptor.py). Part of a map's identity."""

    coarse_grid: int = setting(
        16, "cells along the longer side that coarse features are pooled to", minimum=1, maximum=256
    )
    coarse_size: int = setting(
        512, "bytes of a coarse descriptor in the map (compression.py)", minimum=1, maximum=4096
    )
    fine_grid: int = setting(
        16, "cells along the longer side that fine features are pooled to", minimum=1, maximum=256
    )
    centered: bool = setting(
        False, "subtract each channel's mean before the metric (not in the paper)"
    )


@dataclass
class MapBuilderConfig:
    """Settings of map building (map_builder.py)."""

    keyframe_distance: float = setting(
        0.5, "metres between kept images of one camera; 0 keeps all", minimum=0.0
    )
    keyframe_angle: float = setting(
        10.0, "degrees of turn after which an image is kept although it is near", minimum=0.0
    )
    batch_size: int = setting(8, "images encoded at once", minimum=1, maximum=1024)
    checkpoint_every: int = setting(
        64, "images between two points a killed build resumes from", minimum=1
    )
    domain: str = setting(
        "", "domain of all images; empty: the dataset's own names, else chosen by clock and sun"
    )
    keypoints: int = setting(
        0,
        "points kept of an image to verify places by (verify.py), such as 512; 0: none",
        minimum=0,
        maximum=4096,
    )
    local_features: str = setting("sift", "what finds these points", choices=LOCAL_FEATURES)
    xfeat: str = setting("", "ONNX file that finds them, of xfeat")
    descriptor: DescriptorConfig = field(default_factory=DescriptorConfig)


@dataclass
class DomainConfig:
    """What the choice of the domain starts from (domain.py)."""

    override: str = setting("", "always use this domain; empty: choose")
    weather: str = setting("", "weather word, such as 'snow' or 'light rain'; empty: unknown")
    latitude: float = setting(
        float("nan"), "degrees north; nan: from fix or map", minimum=-90.0, maximum=90.0
    )
    longitude: float = setting(
        float("nan"), "degrees east; nan: from fix or map", minimum=-180.0, maximum=180.0
    )
    from_image: bool = setting(
        False,
        "choose the domain by the image where clock, sun and weather do not confirm one; "
        "needs a model with a domain classifier",
    )


@dataclass
class PriorConfig:
    """What is known of the place before the image, and how far it is believed (prior.py)."""

    source: str = setting(
        "none",
        "what tells the node roughly where it is; fix: satellite fixes of the topic fix; odom: the "
        "last answer, moved by the topic odom; topic: poses with covariance of the topic prior",
        choices=("none", "fix", "odom", "topic"),
    )
    outlier_share: float = setting(
        0.05,
        "probability that a prior is wrong altogether; 1: priors have no say",
        minimum=1e-9,
        maximum=1.0,
    )
    temperature: float = setting(
        0.05,
        "difference of fine similarity that makes up for a place e times less likely; a prior is "
        "overruled by temperature * log(1 / outlier_share)",
        minimum=0.0,
        maximum=10.0,
    )
    slack: float = setting(
        2.0,
        "metres (1 sigma), besides half the map's spacing, between a map image and where the prior "
        "is of: another lane, the antenna's place on the vehicle",
        minimum=0.0,
    )
    max_age: float = setting(
        1.0,
        "seconds between an image and what tells its prior beyond which it has none",
        minimum=0.0,
    )
    odometry_growth: float = setting(
        0.1, "metres (1 sigma) by which the last answer is off per metre driven since", minimum=0.0
    )
    origin_latitude: float = setting(
        float("nan"),
        "degrees north of the map frame's origin, for fixes; nan: the map's own place, which is "
        "that of the first fix for a map made from a bag",
        minimum=-90.0,
        maximum=90.0,
    )
    origin_longitude: float = setting(
        float("nan"),
        "degrees east of the map frame's origin, for fixes; nan: the map's own place",
        minimum=-180.0,
        maximum=180.0,
    )
    origin_yaw: float = setting(
        0.0, "radians, counter-clockwise, from east to the map's x axis, for fixes"
    )


@dataclass
class FilterConfig:
    """Answers from a sequence of images (sequence.py, filter.py)."""

    enabled: bool = setting(
        False, "answer from all images so far and odometry instead of from each image alone"
    )
    least_probability: float = setting(
        0.8, "probability of a place below which it is unknown", minimum=0.0, maximum=1.0
    )
    max_speed: float = setting(
        20.0, "metres a second at most, where no odometry tells the motion", minimum=0.0
    )
    odometry_noise: float = setting(
        0.1, "standard deviation of odometry, metres per metre", minimum=0.0, maximum=1.0
    )
    step: float = setting(
        0.5,
        "metres after which an image counts as new evidence, where odometry tells the motion",
        minimum=0.0,
    )
    evidence: float = setting(
        0.6,
        "weight of an image's evidence; below 1, since images of one place err alike",
        minimum=0.0,
        maximum=1.0,
    )
    jump: float = setting(
        0.01, "chance that the vehicle is anywhere else after a step", minimum=0.0, maximum=0.4
    )
    leave: float = setting(0.01, "chance to leave the map in a step", minimum=0.0, maximum=0.4)
    back: float = setting(0.1, "chance to come back to it in a step", minimum=0.0, maximum=1.0)
    off_map: float = setting(
        0.5, "chance to be off the map before the first image", minimum=0.001, maximum=0.999
    )
    radius: float = setting(5.0, "metres within which images show one place", minimum=0.0)


@dataclass
class VerifyConfig:
    """Geometric verification of a sequence's places, where the map has keypoints
    (verification.py)."""

    when: str = setting(
        "unsure",
        "when to verify; unsure: while verification can change the answer",
        choices=("never", "unsure", "always"),
    )
    budget_ms: float = setting(
        100.0, "time after which no further map image is verified [ms]", minimum=0.0
    )
    keypoints: int = setting(
        512, "local features extracted from a query at most", minimum=8, maximum=4096
    )
    xfeat: str = setting("", "ONNX file of XFeat, for a map whose keypoints are XFeat's")


@dataclass
class LocalizerConfig:
    """Settings of one localization (localizer.py)."""

    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    backend: str = setting(
        "auto",
        "what runs the encoders; onnx: ONNX Runtime on the CPU with the files of 'disam export'; "
        "auto: that where it is possible, else torch",
        choices=BACKENDS,
    )
    candidates: int = setting(
        3,
        "images the coarse search hands to the fine stage (paper: N = 3)",
        minimum=1,
        maximum=1000,
    )
    fine_shift: int = setting(
        0,
        "cells by which the fine stage may move a candidate sideways, half as many up and down, to "
        "match a view from another lane; take more candidates with it, such as 2 and 10",
        minimum=0,
        maximum=8,
    )
    score_threshold: float = setting(
        -1.0,
        "fine similarity below which the place is unknown; -1: always answer",
        minimum=-1.0,
        maximum=1.0,
    )
    domain: DomainConfig = field(default_factory=DomainConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    sequence: FilterConfig = field(default_factory=FilterConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)


@dataclass
class LoopClosureConfig:
    """Loop closure detection (slam/loop_closure.py)."""

    enabled: bool = setting(
        False, "publish ~/loop_closure: places of this drive and of the map met again; needs odom"
    )
    keyframe_distance: float = setting(
        3.0, "distance between keyframes of the drive [m]", minimum=0.1, maximum=100.0
    )
    min_path: float = setting(
        50.0, "path driven since a keyframe before it may be met again [m]", minimum=0.0
    )
    score_threshold: float = setting(
        0.6,
        "fine similarity below which two images show different places",
        minimum=-1.0,
        maximum=1.0,
    )
    keypoints: int = setting(
        256,
        "local features kept of a keyframe for geometric verification and the relative pose, 144 "
        "bytes each; 0: loop closures are not verified",
        minimum=0,
        maximum=4096,
    )


@dataclass
class LocalizerNodeConfig:
    """Parameters of the localizer node."""

    autostart: bool = setting(
        True, "configure and activate at start; false: leave it to a lifecycle manager"
    )
    map: str = setting("", "map directory")
    model: str = setting("", "model directory the map was built with")
    areas: list[str] = setting(
        [""],
        "map directories to choose from by the topic fix while driving, all built with the model; "
        "one empty string: only `map`",
    )
    cameras: list[str] = setting(
        ["front"],
        "camera names as in the map; with one camera topics are image, camera_info, "
        "with several NAME/image, NAME/camera_info",
    )
    image_transport: str = setting(
        "raw", "which image topic to read", choices=("raw", "compressed")
    )
    reliability: str = setting(
        "auto",
        "QoS of image subscriptions; auto: reliable, else what the publisher offers",
        choices=("auto", "best_effort", "reliable"),
    )
    base_frame: str = setting("base_link", "vehicle frame whose pose is published")
    base_from_camera: list[float] = setting(
        [0.0] * 6,
        "x y z (m) roll pitch yaw (rad) per camera, one after the other, of the OPTICAL frame "
        "in the base frame; used where TF cannot be asked; all zero: as recorded in the map",
    )
    use_tf: bool = setting(True, "take extrinsics from TF where tf2_ros is installed")
    publish_markers: bool = setting(True, "publish ~/candidates and ~/markers")
    stale_after: float = setting(
        2.0, "seconds without an image before diagnostics turn to WARN", minimum=0.1
    )
    relocalize_timeout: float = setting(
        5.0, "seconds ~/relocalize waits for a fresh image", minimum=0.1
    )
    odometry_max_speed: float = setting(
        40.0,
        "metres a second beyond which the topic odom has jumped: the motion is then unknown",
        minimum=0.1,
    )
    publish_tf: bool = setting(
        False,
        "broadcast TF map → odom with every pose; leave it false where another node does; needs "
        "odom and tf2_msgs",
    )
    tf_tolerance: float = setting(
        1.0, "seconds after the image for which that TF is said to hold", minimum=0.0
    )
    consumer: str = setting(
        "none",
        "what takes the poses: diagnostics tell which of its rules they break (docs/slam.md)",
        choices=("none", *CONSUMERS),
    )
    consumer_map_frame: str = setting("map", "its name of the map's frame")
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    loop_closure: LoopClosureConfig = field(default_factory=LoopClosureConfig)


@dataclass
class MapBuilderNodeConfig:
    """Parameters of the live map builder node."""

    output: str = setting("", "map directory to write")
    model: str = setting("", "model directory")
    camera: str = setting("front", "camera name to store in the map")
    image_transport: str = setting(
        "raw", "which image topic to read", choices=("raw", "compressed")
    )
    reliability: str = setting(
        "auto",
        "QoS of the image subscription; auto: reliable, else what the publisher offers",
        choices=("auto", "best_effort", "reliable"),
    )
    pose_source: str = setting(
        "pose", "topic that carries the vehicle's pose", choices=("pose", "odom")
    )
    max_pose_gap: float = setting(
        0.5, "seconds between two poses beyond which none is interpolated", minimum=0.001
    )
    base_frame: str = setting("base_link", "vehicle frame that the poses are of")
    base_from_camera: list[float] = setting(
        [0.0] * 6, "x y z (m) roll pitch yaw (rad) of the OPTICAL camera frame in the base frame"
    )
    use_tf: bool = setting(
        True, "take extrinsics from TF where tf2_ros is installed and the parameter is all zero"
    )
    camera_info_timeout: float = setting(
        2.0, "seconds to wait for camera_info before a map without intrinsics begins", minimum=0.0
    )
    latitude: float = setting(
        float("nan"), "degrees north of the map; nan: unknown", minimum=-90.0, maximum=90.0
    )
    longitude: float = setting(
        float("nan"), "degrees east of the map; nan: unknown", minimum=-180.0, maximum=180.0
    )
    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    builder: MapBuilderConfig = field(default_factory=MapBuilderConfig)


@dataclass
class ReplayNodeConfig:
    """Parameters of the replay node."""

    bag: str = setting("", "rosbag2 directory, or one .mcap or .db3 file")
    rate: float = setting(
        1.0, "speed relative to the recording; 0: as fast as it can be read", minimum=0.0
    )
    start_delay: float = setting(
        1.0, "seconds to wait for subscribers before the first message", minimum=0.0
    )
    loop: bool = setting(False, "start again when the bag ends")
    topics: list[str] = setting([""], "topics to play; one empty string: all")
    prefix: str = setting("", "put before every topic name")


@dataclass
class ReplayEvaluationConfig:
    """Parameters of the replay evaluation."""

    bag: str = setting("", "rosbag2 directory, or one .mcap or .db3 file, of the drive")
    map: str = setting("", "map directory")
    model: str = setting("", "model directory the map was built with")
    camera: str = setting("", "camera of the bag, or its image topic; empty: its only camera")
    rate: float = setting(
        0.0, "speed relative to the recording; 0: an image once the last was answered", minimum=0.0
    )
    output: str = setting("replay_evaluation", "directory for the results")
    record: str = setting("", "bag to write with answers and true poses; empty: none")
    record_images: bool = setting(True, "write the images to that bag, too")
    start_node: bool = setting(True, "start a localizer; false: one is running")
