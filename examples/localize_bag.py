# SPDX-License-Identifier: Apache-2.0
"""Localize a bag as the node would: localize_bag.py MAP BAG [MODEL]

Odometry, fixes, camera_info and the weather are taken from the bag. Prints a trajectory in the
format of TUM: stamp x y z qx qy qz qw.
"""

import sys

from disam_ros import Pipeline
from disam_ros.datasets.sources import open_images
from disam_ros.files.paths import find_model
from disam_ros.localization.drive import localize_drive

map_dir, bag, *rest = sys.argv[1:]
pipeline = Pipeline.open(map_dir, find_model(*rest or ["outdoor"]))
header = pipeline.localizer.map.header
source = open_images(bag, header.map_frame, mapped=header.cameras)

for record, result in localize_drive(pipeline, source):
    if result is None or not result.answer.known:  # unreadable, or an unknown place
        continue
    pose = result.answer.map_from_base
    numbers = (*pose.translation, *pose.quaternion)
    print(f"{record.stamp_ns / 1e9:.6f}", *(f"{number:.6f}" for number in numbers))
