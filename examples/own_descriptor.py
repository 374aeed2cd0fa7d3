# SPDX-License-Identifier: Apache-2.0
"""Use a descriptor of your own: own_descriptor.py NETWORK.onnx MODEL_OUT DATASET MAP_OUT

The network maps images [B, 3, H, W] to descriptors [B, D] or feature maps [B, C, h, w]; the page
"Bring your own descriptor" says more, and how its answers are calibrated.
"""

import sys

from disam_ros import MapBuilderConfig, Pipeline
from disam_ros.datasets.sources import open_dataset
from disam_ros.localization.drive import localize_drive
from disam_ros.mapping.builder import build_map
from disam_ros.models.import_model import import_model

network, model_dir, dataset, map_dir = sys.argv[1:]
model = import_model(
    network,
    model_dir,
    name="my-descriptor",
    licence="MIT",
    image_size=(48, 64),  # height, width of its input [px]
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
source = open_dataset(dataset)
build_map(source, model, map_dir, MapBuilderConfig(keypoints=0))

for record, result in localize_drive(Pipeline.open(map_dir, model_dir), source):
    if result is not None:
        best = result.answer.best
        print(f"{record.source}: {best.record.source}, similarity {best.fine_score:.3f}")
