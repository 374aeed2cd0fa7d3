# SPDX-License-Identifier: Apache-2.0
"""Build a map from a bag or a dataset with poses: build_map.py DRIVE MAP [MODEL]"""

import sys

from disam_ros import MapBuilderConfig, load_model
from disam_ros.datasets.sources import open_images
from disam_ros.files.paths import find_model
from disam_ros.mapping.builder import build_map

drive, output, *rest = sys.argv[1:]
config = MapBuilderConfig()
config.domain = "summer_day"  # when it was driven; empty: each image by its stamp and the sun
config.keyframe_distance = 1.0  # [m]

source = open_images(drive, map_frame="map")
model = load_model(find_model(*rest or ["outdoor"]))
place_map = build_map(source, model, output, config)
print(f"{len(place_map)} images, every {place_map.spacing():.2f} m, in {place_map.directory}")
