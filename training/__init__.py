# SPDX-License-Identifier: Apache-2.0
"""Training of models: `python -m training.train --config config/train_outdoor.yaml`.

train.py               command line             data/                images, places, augmentation
recipes.py             YAML of every method     engine/              training loop, checkpoints
settings.py            what recipes share       disam/               the paper's method
domain_classifier.py   domain from the image    global_descriptors/  one vector per image
directions.py          coarse descriptors' directions
ranges.py              activations' ranges, for 8-bit integers
"""

from disam_ros.device import require_torch
from disam_ros.errors import ConfigError

try:
    require_torch("training")
except ConfigError as error:
    raise SystemExit(str(error)) from error
