# SPDX-License-Identifier: Apache-2.0
"""Localize one image: python examples/localize_image.py MAP IMAGE [MODEL]"""

import sys

from disam_ros import Frame, LocalizerConfig, Pipeline, Shot
from disam_ros.files.paths import find_model
from disam_ros.image import read

map_dir, image_file, *rest = sys.argv[1:]
config = LocalizerConfig()
config.sequence.enabled = False  # this image alone
pipeline = Pipeline.open(map_dir, find_model(*rest or ["outdoor"]), config)

camera = pipeline.localizer.map.main_camera()  # its name in the map
(result,) = pipeline.process([Shot(Frame(read(image_file), camera))])
answer = result.answer  # raises what is wrong with the image, such as BlindError

x, y, _ = answer.map_from_base.translation
print(f"{'known' if answer.known else 'unknown'}, probability {answer.probability:.2f}")
print(f"x {x:.2f} m, y {y:.2f} m, best map image {answer.best.record.source}")
