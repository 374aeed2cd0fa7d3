# SPDX-License-Identifier: Apache-2.0
"""Localize the images of a folder, each by itself: localize_folder.py MAP FOLDER [MODEL]"""

import sys
from pathlib import Path

from disam_ros import DisamError, Frame, LocalizerConfig, Pipeline, Shot
from disam_ros.files.paths import find_model
from disam_ros.image import read

map_dir, folder, *rest = sys.argv[1:]
config = LocalizerConfig()
config.sequence.enabled = False
config.domain.weather = "clear"  # what is known of the conditions; empty: nothing
pipeline = Pipeline.open(map_dir, find_model(*rest or ["outdoor"]), config)
camera = pipeline.localizer.map.main_camera()

print("file,known,probability,x,y")
for file in sorted(Path(folder).glob("*.jpg")):
    try:
        (result,) = pipeline.process([Shot(Frame(read(file), camera))])
        answer = result.answer
    except DisamError as error:  # a damaged or blank image costs no other
        print(f"{file.name}: {error}", file=sys.stderr)
        continue
    x, y, _ = answer.map_from_base.translation
    print(f"{file.name},{answer.known},{answer.probability:.3f},{x:.2f},{y:.2f}")
