# SPDX-License-Identifier: Apache-2.0
"""Every setting as a dataclass field with its help, unit and range; YAML that rejects unknown keys.

ROS parameters are declared from these same fields (nodes/parameters.py), one to one; a field that
is itself a dataclass becomes a dotted prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from disam_ros.settings import setting

BACKENDS = ("auto", "torch", "onnx")  # runtimes of the encoders (models/backend.py)

LOCAL_FEATURES = ("auto", "sift", "orb", "xfeat", "aliked")  # for geometric verification


def _unset(help: str, limit: float) -> Any:
    """A number within ± limit, unset by default."""
    return setting(float("nan"), help, minimum=-limit, maximum=limit)


def _seconds(default: float, help: str, minimum: float = 0.0, maximum: float = 3600.0) -> Any:
    """A duration [s]."""
    return setting(default, help, minimum=minimum, maximum=maximum)


def _mount(help: str) -> Any:
    """Extrinsics x y z [m] roll pitch yaw [rad]."""
    return setting([0.0] * 6, help, minimum=-1000.0, maximum=1000.0)


@dataclass
class DescriptorConfig:
    """Descriptors of a map (models/descriptor.py). Part of a map's identity."""

    REMOVED: ClassVar[dict[str, str]] = {
        "centered": "the map's mean is always subtracted from fine descriptors now"
    }
    coarse_grid: int = setting(
        8, "cells along the longer side that coarse features are pooled to", minimum=1, maximum=256
    )
    coarse_size: int = setting(
        512, "size of a coarse descriptor in the map [bytes]", minimum=1, maximum=4096
    )
    fine_grid: int = setting(
        16, "cells along the longer side that fine features are pooled to", minimum=1, maximum=256
    )


@dataclass
class MapBuilderConfig:
    """Map building (mapping/builder.py)."""

    REMOVED: ClassVar[dict[str, str]] = {"xfeat": "use pip install 'disam_ros[xfeat]' instead"}
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
        64,
        "images between two checkpoints that an interrupted build resumes from",
        minimum=1,
        maximum=100_000,
    )
    domain: str = setting(
        "", "domain of all images; empty: as named by the dataset, else chosen by clock and sun"
    )
    keypoints: int = setting(
        1024, "keypoints per image for geometric verification; 0: none", minimum=0, maximum=4096
    )
    local_features: str = setting(
        "auto",
        "kind of these; xfeat and aliked need the extra xfeat or lightglue; auto: xfeat, else sift",
        choices=LOCAL_FEATURES,
    )
    descriptor: DescriptorConfig = field(default_factory=DescriptorConfig)


@dataclass
class DomainConfig:
    """Choice of the domain (domains/domain.py)."""

    override: str = setting("", "use this domain always; empty: choose by sun, season and weather")
    weather: str = setting("", "weather word, such as 'snow' or 'light rain'; empty: unknown")
    latitude: float = _unset(
        "latitude of the vehicle [deg]; nan: from the topic fix, else the map's", 90.0
    )
    longitude: float = _unset(
        "longitude of the vehicle [deg]; nan: from the topic fix, else the map's", 180.0
    )
    from_image: bool = setting(
        False,
        "classify the domain from the image where clock, sun and weather leave it open; needs a "
        "model with a domain classifier",
    )


@dataclass
class PriorConfig:
    """Position priors (localization/prior.py)."""

    REMOVED: ClassVar[dict[str, str]] = {
        "outlier_share": "it is 'outlier_ratio' now",
        "temperature": "it is a constant now; scale the weight of a prior by 'outlier_ratio'",
        "slack": "it is a constant of 2 m now",
        "odometry_growth": "it is 'localizer.sequence.odometry_noise' now",
    }
    source: str = setting(
        "none",
        "source of position priors; fix: satellite fixes on the topic fix; odom: the last answer "
        "propagated by the topic odom; topic: PoseWithCovarianceStamped on the topic prior",
        choices=("none", "fix", "odom", "topic"),
    )
    outlier_ratio: float = setting(
        0.05,
        "probability that a prior is an outlier; a fine similarity higher by 0.05 ln(1 / "
        "outlier_ratio) overrules it; 1: priors have no weight",
        minimum=1e-9,
        maximum=1.0,
    )
    max_age: float = _seconds(1.0, "maximum time between an image and its prior or odometry [s]")
    origin_latitude: float = _unset(
        "latitude of the map frame's origin [deg], for fixes; nan: as stored in the map", 90.0
    )
    origin_longitude: float = _unset(
        "longitude of the map frame's origin [deg], for fixes; nan: as stored in the map", 180.0
    )
    origin_yaw: float = setting(
        0.0,
        "angle from east to the map's x axis, counter-clockwise [rad], for fixes",
        minimum=-6.2832,
        maximum=6.2832,
    )


@dataclass
class SequenceConfig:
    """Sequence tracking by a Bayes filter over the map images (localization/tracker.py)."""

    REMOVED: ClassVar[dict[str, str]] = {
        "least_probability": "it is 'min_probability' now",
        "max_speed": "it is 'localizer.max_speed' now",
        **dict.fromkeys(
            ("step", "evidence", "jump", "leave", "back", "off_map", "radius"),
            "it is a constant of the filter now (localization/bayes_filter.py)",
        ),
    }
    enabled: bool = setting(
        False, "track the sequence of images and odometry instead of single images"
    )
    min_probability: float = setting(
        0.8, "probability of a place below which it is unknown", minimum=0.0, maximum=1.0
    )
    odometry_noise: float = setting(
        0.1,
        "standard deviation of odometry per distance driven [m/m]",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass
class VerifyConfig:
    """Geometric verification of a sequence's places (localization/verification.py)."""

    REMOVED: ClassVar[dict[str, str]] = {
        "points": "as many keypoints as the map has per image are extracted from a query",
        "xfeat": "use pip install 'disam_ros[xfeat]' instead",
        **dict.fromkeys(
            ("sure", "candidates", "radius"), "it is a constant now (localization/verification.py)"
        ),
    }
    when: str = setting(
        "unsure",
        "when to verify; unsure: while verification can change the answer",
        choices=("never", "unsure", "always"),
    )
    budget_ms: float = setting(
        100.0,
        "time after which no further map image is verified [ms]",
        minimum=0.0,
        maximum=1e9,
    )


@dataclass
class LocalizerConfig:
    """Localization of images against a map (localization/pipeline.py)."""

    REMOVED: ClassVar[dict[str, str]] = {
        "fine_shift": "re-ranking always tolerates a shift now (models/similarity.py: Shifts)"
    }
    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    backend: str = setting(
        "auto",
        "runtime of the encoders; onnx: ONNX Runtime on the CPU with the files of 'disam export'; "
        "auto: onnx where possible, else torch",
        choices=BACKENDS,
    )
    candidates: int = setting(
        50,
        "map images from the coarse search that are re-ranked by fine similarity (DISAM: N = 3)",
        minimum=1,
        maximum=1000,
    )
    score_threshold: float = setting(
        -1.0,
        "fine similarity below which a single image's place is unknown; -1: always known",
        minimum=-1.0,
        maximum=1.0,
    )
    max_speed: float = setting(
        20.0,
        "top speed of the vehicle [m/s]: bounds the motion where there is no odometry; odometry "
        "faster than twice that has jumped",
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

    REMOVED: ClassVar[dict[str, str]] = {
        "points": "it is 'keypoints' now",
        **dict.fromkeys(
            ("max_keyframes", "min_age", "agreeing", "max_drift", "place_distance"),
            "it is a constant now (slam/loop_closure.py)",
        ),
    }
    enabled: bool = setting(
        False, "publish ~/loop_closure: places of this drive, and with odom of the map, met again"
    )
    keyframe_distance: float = setting(
        3.0, "distance between keyframes of the drive [m]", minimum=0.1, maximum=100.0
    )
    min_path: float = setting(
        50.0,
        "path driven since a keyframe before it may be met again [m]",
        minimum=0.0,
        maximum=1e6,
    )
    score_threshold: float = setting(
        0.6,
        "fine similarity below which two images show different places; two thirds of it are enough "
        "where 50 keypoints agree",
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

    REMOVED: ClassVar[dict[str, str]] = {
        "reliability": "QoS adapts to the publisher; override it with "
        "'qos_overrides./TOPIC.subscription.reliability'",
        "publish_markers": "~/candidates and ~/markers are published when somebody subscribes",
        "relocalize_timeout": "~/relocalize waits 2.5 times 'stale_after'",
        "odometry_max_speed": "it is twice 'localizer.max_speed' now",
        "consumer": "see docs/slam.md for the rules of each consumer",
        "consumer_map_frame": "see docs/slam.md for the rules of each consumer",
    }
    autostart: bool = setting(
        True, "configure and activate at start; false: wait for a lifecycle manager"
    )
    map: str = setting("", "map directory")
    model: str = setting("", "model directory that the map was built with")
    areas: list[str] = setting(
        [""],
        "map directories to switch between by the topic fix, all built with the model; one empty "
        "string: only `map`",
    )
    cameras: list[str] = setting(
        ["front"],
        "camera names as in the map; topics of one camera are image and camera_info, of several "
        "NAME/image and NAME/camera_info",
    )
    image_transport: str = setting("raw", "image transport", choices=("raw", "compressed"))
    base_frame: str = setting("base_link", "vehicle frame whose pose is published")
    base_from_camera: list[float] = _mount(
        "extrinsics x y z [m] roll pitch yaw [rad] of each camera's OPTICAL frame in the base "
        "frame, camera after camera, where TF has none; all zero: as stored in the map",
    )
    use_tf: bool = setting(True, "take extrinsics from TF where tf2_ros is installed")
    stale_after: float = _seconds(
        2.0, "time without an image after which diagnostics warn [s]", minimum=0.1, maximum=86400.0
    )
    publish_tf: bool = setting(
        False,
        "broadcast TF map → odom with every pose, if no other node does; needs odom and tf2_msgs",
    )
    tf_tolerance: float = _seconds(1.0, "time by which that TF is dated ahead of its image [s]")
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    loop_closure: LoopClosureConfig = field(default_factory=LoopClosureConfig)


@dataclass
class MapBuilderNodeConfig:
    """Parameters of the live map builder node."""

    REMOVED: ClassVar[dict[str, str]] = {
        "reliability": "QoS adapts to the publisher; override it with "
        "'qos_overrides./TOPIC.subscription.reliability'",
    }
    output: str = setting("", "map directory to write")
    model: str = setting("", "model directory")
    camera: str = setting("front", "camera name to store in the map")
    image_transport: str = setting("raw", "image transport", choices=("raw", "compressed"))
    pose_source: str = setting("pose", "topic of the vehicle's pose", choices=("pose", "odom"))
    max_pose_gap: float = _seconds(
        0.5, "maximum time between two poses that are interpolated [s]", minimum=0.001
    )
    base_frame: str = setting("base_link", "vehicle frame whose poses are recorded")
    base_from_camera: list[float] = _mount(
        "extrinsics x y z [m] roll pitch yaw [rad] of the OPTICAL camera frame in the base frame",
    )
    use_tf: bool = setting(
        True, "take extrinsics from TF where tf2_ros is installed and the parameter is all zero"
    )
    identity_extrinsics: bool = setting(
        False, "the poses are those of the camera's OPTICAL frame itself: no extrinsics are needed"
    )
    camera_info_timeout: float = _seconds(
        2.0,
        "time to wait for camera_info before a map without intrinsics begins, and for TF before "
        "that is an error [s]",
    )
    latitude: float = _unset("latitude of the map [deg]; nan: unknown", 90.0)
    longitude: float = _unset("longitude of the map [deg]; nan: unknown", 180.0)
    device: str = setting("auto", "'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'")
    builder: MapBuilderConfig = field(default_factory=MapBuilderConfig)


@dataclass
class ReplayNodeConfig:
    """Parameters of the replay node."""

    bag: str = setting("", "rosbag2 directory, or one .mcap or .db3 file")
    rate: float = setting(
        1.0,
        "speed relative to the recording; 0: as fast as it can be read",
        minimum=0.0,
        maximum=1e6,
    )
    start_delay: float = _seconds(1.0, "longest wait for subscribers at the start [s]")
    loop: bool = setting(False, "start again when the bag ends")
    topics: list[str] = setting([""], "topics to play; one empty string: all")
    prefix: str = setting("", "prefix of every topic name")


@dataclass
class ReplayEvaluationConfig:
    """Parameters of the replay evaluation."""

    bag: str = setting("", "rosbag2 directory, or one .mcap or .db3 file, of the drive")
    map: str = setting("", "map directory")
    model: str = setting("", "model directory the map was built with")
    camera: str = setting("", "camera of the bag, or its image topic; empty: its only camera")
    rate: float = setting(
        0.0,
        "relative speed; 0: each image after the answer to the last one",
        minimum=0.0,
        maximum=1e6,
    )
    output: str = setting("replay_evaluation", "directory for the results")
    record: str = setting("", "bag to write with answers and ground truth; empty: none")
    record_images: bool = setting(True, "write the images to that bag")
    start_node: bool = setting(True, "start a localizer; false: use a running one")
