# SPDX-License-Identifier: Apache-2.0
"""Where the modules of 0.1 are: importing one of them names its successor."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

PACKAGE = "disam_ros"
SINCE = "0.2"

# Module of 0.1 → module that holds its contents now, both below the package; empty: removed.
MOVED = {
    "adapters": "datasets.formats",
    "adapters.aligned": "datasets.formats.aligned",
    "adapters.cmu_seasons": "datasets.formats.cmu_seasons",
    "adapters.conversion": "datasets.formats.conversion",
    "adapters.foreign": "datasets.formats.foreign",
    "adapters.kitti_odometry": "datasets.formats.kitti_odometry",
    "adapters.nvm": "datasets.formats.nvm",
    "adapters.robotcar_seasons": "datasets.formats.robotcar_seasons",
    "adapters.submission": "evaluation.submission",
    "adapters.tum": "datasets.formats.tum",
    "aerial": "datasets.aerial.polar",
    "answers": "evaluation.answers",
    "areas": "localization.areas",
    "backend": "models.backend",
    "bags": "datasets.bags",
    "bags.cameras": "datasets.bags.cameras",
    "bags.depth": "datasets.bags.depth",
    "bags.from_dataset": "datasets.bags.from_dataset",
    "bags.images": "datasets.bags.images",
    "bags.messages": "datasets.bags.messages",
    "bags.poses": "datasets.bags.poses",
    "bags.reader": "datasets.bags.reader",
    "bags.tf": "datasets.bags.tf",
    "bags.to_dataset": "datasets.bags.to_dataset",
    "bags.writer": "datasets.bags.writer",
    "calibrate": "localization.fitting.calibrate",
    "calibration": "localization.calibration",
    "candidates": "localization.candidates",
    "checkpoint": "models.model",
    "checkpoint_import": "models.import_checkpoint",
    "compression": "mapping.compression",
    "consumers": "",
    "covariance": "uncertainty",
    "dataset": "datasets.dataset",
    "depth": "datasets.depth",
    "descriptor": "models.descriptor",
    "distributed": "mapping.ray_encoder",
    "domain": "domains.domain",
    "domain_classifier": "domains.classifier",
    "domain_rules": "domains.rules",
    "drive_keyframes": "slam.keyframes",
    "drive_points": "slam.keyframe_depths",
    "encoding": "mapping.encoding",
    "evaluation.clock": "",
    "evaluation.finish": "evaluation.write",
    "evaluation.priors": "evaluation.prior_trials",
    "evaluation.report.tables": "evaluation.tables",
    "evaluation.report.verdict": "evaluation.frames",
    "export": "models.export",
    "filter": "localization.sequence.bayes_filter",
    "global_descriptors": "models.global_descriptors",
    "global_descriptors.backbone_weights": "models.global_descriptors.backbone_weights",
    "global_descriptors.backbones": "models.global_descriptors.backbones",
    "global_descriptors.config": "models.global_descriptors.config",
    "global_descriptors.depth": "models.global_descriptors.depth",
    "global_descriptors.heads": "models.global_descriptors.heads",
    "global_descriptors.network": "models.global_descriptors.network",
    "global_descriptors.whitening": "models.global_descriptors.whitening",
    "hashing": "files.writing",
    "image_checks": "localization.image_checks",
    "image_messages": "datasets.bags.image_messages",
    "index": "mapping.index",
    "keyframes": "datasets.keyframes",
    "keypoints": "mapping.keypoints",
    "local_features": "features.local_features",
    "localizer": "localization.localizer",
    "loop_closure": "slam.loop_closure",
    "loop_hint": "slam.loop_closure_message",
    "map_builder": "mapping.builder",
    "map_writer": "mapping.writer",
    "mobile": "models.mobile",
    "model_files": "models.model_files",
    "networks": "models.networks",
    "nodes.answer_bag": "nodes.replay.answer_bag",
    "nodes.answer_recorder": "nodes.replay.answer_recorder",
    "nodes.answer_status": "nodes.localizer.publishers.answer_status",
    "nodes.area_watch": "nodes.localizer.area_watch",
    "nodes.bag_topics": "nodes.replay.bag_topics",
    "nodes.camera_checks": "nodes.localizer.input_checks",
    "nodes.conditions": "nodes.localizer.conditions",
    "nodes.consumer_check": "",
    "nodes.images": "nodes.subscriptions",
    "nodes.live_map": "nodes.map_builder.live_map",
    "nodes.loaded": "nodes.localizer.loaded",
    "nodes.localizer_node": "nodes.localizer.node",
    "nodes.localizer_process": "nodes.replay.localizer_process",
    "nodes.loop_closures": "nodes.localizer.publishers.loop_closures",
    "nodes.map_builder_node": "nodes.map_builder.node",
    "nodes.map_odom": "nodes.localizer.publishers.map_odom",
    "nodes.node_run": "nodes.replay.node_run",
    "nodes.odometry_input": "nodes.localizer.odometry_input",
    "nodes.odometry_prior": "localization.sequence.odometry",
    "nodes.outputs": "nodes.localizer.publishers.outputs",
    "nodes.player": "nodes.replay.player",
    "nodes.pose_track": "pose_buffer",
    "nodes.priors": "nodes.localizer.priors",
    "nodes.reload": "nodes.localizer.reload",
    "nodes.relocalize": "nodes.localizer.relocalize",
    "nodes.replay_drive": "nodes.replay.replay_drive",
    "nodes.replay_evaluation": "nodes.replay.evaluation",
    "nodes.replay_node": "nodes.replay.node",
    "nodes.reports": "nodes.localizer.reports",
    "nodes.session": "nodes.localizer.session",
    "nodes.start": "",
    "odometry": "localization.sequence.odometry",
    "perspective": "features.absolute_pose",
    "place_map": "mapping.place_map",
    "prior": "localization.prior",
    "prior_trials": "evaluation.prior_trials",
    "records": "datasets.records",
    "relative_pose": "features.relative_pose",
    "sensor_tables": "datasets.sensor_tables",
    "sequence": "localization.sequence.tracker",
    "similarity": "models.similarity",
    "sources": "datasets.sources",
    "stopwatch": "device",
    "sun": "domains.sun",
    "synthetic.facade_textures": "synthetic.textures.facade_textures",
    "synthetic.gl": "synthetic.rendering.gl",
    "synthetic.graphics": "synthetic.rendering.graphics",
    "synthetic.ground": "synthetic.town.ground",
    "synthetic.houses": "synthetic.town.houses",
    "synthetic.layout": "synthetic.town.layout",
    "synthetic.lots": "synthetic.town.lots",
    "synthetic.material_textures": "synthetic.textures.material_textures",
    "synthetic.meshes": "synthetic.town.meshes",
    "synthetic.planting": "synthetic.town.planting",
    "synthetic.props": "synthetic.town.props",
    "synthetic.renderer": "synthetic.rendering.renderer",
    "synthetic.scene": "synthetic.town.scene",
    "synthetic.shaders": "synthetic.rendering.shaders",
    "synthetic.shaders_ground": "synthetic.rendering.shaders_ground",
    "synthetic.shaders_post": "synthetic.rendering.shaders_post",
    "synthetic.streets": "synthetic.town.streets",
    "synthetic.texture_canvas": "synthetic.textures.texture_canvas",
    "synthetic.trees": "synthetic.town.trees",
    "tiles": "datasets.aerial.tiles",
    "triangulation": "features.triangulation",
    "verify": "localization.verification",
}


class MovedFinder:
    """Raises ModuleNotFoundError with the new path for a module of 0.1; finds nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Called for modules that no other finder found."""
        name = fullname.removeprefix(f"{PACKAGE}.")
        if name != fullname and name in MOVED:
            raise ModuleNotFoundError(explain(name), name=fullname)


def install() -> None:
    """Append the finder to those of this interpreter, once."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())


def explain(name: str) -> str:
    """Where a module is now, and those modules of a package that did not move along."""
    if not MOVED[name]:
        return f"{PACKAGE}.{name} was removed in {SINCE}"
    others = [
        old
        for old, new in MOVED.items()
        if old.startswith(f"{name}.") and new != MOVED[name] + old.removeprefix(name)
    ]
    return "; ".join(
        f"{PACKAGE}.{old} is {PACKAGE}.{MOVED[old]} since {SINCE}" for old in (name, *others)
    )
