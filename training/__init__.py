# SPDX-License-Identifier: Apache-2.0
"""Training of models: `python -m training.train --config config/train_outdoor.yaml`.

train.py               command line             data/                images, places, augmentation
recipes.py             YAML of every method     engine/              training loop, checkpoints
settings.py            what recipes share       disam/               the paper's method
domain_classifier.py   domain from the image    global_descriptors/  one vector per image
"""
