# SPDX-License-Identifier: Apache-2.0
"""Track a sequence with odometry: track_sequence.py MAP DATASET [MODEL]

Images and odometry of a dataset directory stand for a robot's. `OdometryTrack` takes the poses as
they come and interpolates them at an image's stamp.
"""

import sys

from disam_ros import Frame, Pipeline, Shot
from disam_ros.datasets.sources import open_dataset
from disam_ros.files.paths import find_model
from disam_ros.localization.sequence.odometry import OdometryTrack

map_dir, dataset, *rest = sys.argv[1:]
pipeline = Pipeline.open(map_dir, find_model(*rest or ["outdoor"]))
source = open_dataset(dataset)
odometry = OdometryTrack.of_config(pipeline.config)
if source.odometry is not None:
    for stamp_ns, odom_from_base in zip(*source.odometry, strict=True):
        odometry.move(int(stamp_ns), odom_from_base)

for item in source.images:
    stamp_ns = item.record.stamp_ns
    frame = Frame(item.load(), item.record.camera, stamp_ns)
    (result,) = pipeline.process([Shot(frame, odometry.reading(stamp_ns))])
    answer = result.answer
    x, y, _ = answer.map_from_base.translation
    state = f"x {x:.1f} m, y {y:.1f} m" if answer.known else "unknown place"
    print(f"{answer.probability:.2f} (on the map {answer.on_map:.2f}): {state}")
