# SPDX-License-Identifier: Apache-2.0
"""Find loop closures of a drive with itself: loop_closures.py MAP DATASET [MODEL]

Descriptors are those of the pipeline's queries, so that localization costs nothing more.
"""

import sys

from disam_ros import Pipeline
from disam_ros.config import LoopClosureConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.files.paths import find_model
from disam_ros.localization.drive import OdometryReplay, localize_drive
from disam_ros.models.arrays import as_numpy
from disam_ros.slam.loop_closure import LoopCloser

map_dir, dataset, *rest = sys.argv[1:]
pipeline = Pipeline.open(map_dir, find_model(*rest or ["outdoor"]))
source = open_dataset(dataset)
odometry = OdometryReplay(pipeline, source)
closer = LoopCloser(LoopClosureConfig(enabled=True))

for record, result in localize_drive(pipeline, source):
    if result is None or result.query is None:
        continue
    query, reading = result.query, odometry.at(record.stamp_ns)
    for closure in closer.add(record.stamp_ns, reading, query.coarse, as_numpy(query.fine)):
        x, y, _ = closure.keyframe_from_base.pose.translation
        print(f"{closure.stamp_ns} meets {closure.keyframe_stamp_ns}: x {x:.2f} m, y {y:.2f} m")
print(f"{len(closer)} keyframes")
