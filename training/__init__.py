# SPDX-License-Identifier: Apache-2.0
"""Training of models: `python -m training.train --config config/train_town_lite.yaml`.

settings.py      what every recipe has           loop.py          the run, whatever the method
config.py        DISAM's recipes, `load_config`  optimization.py  optimizers and a guarded step
sources.py       which images and places         train.py         DISAM's run, command line
places.py        do two crops show one place?    stage.py         DISAM's step and memory
datasets.py      decoded images, crops           steps.py         the loss terms of one step
sampling.py      random batches                  losses.py        Eq. 12, 16–23, pure functions
validate.py      recall while training           networks.py      what is trained and remembered
parallel.py      several processes               checkpoints.py   save and resume
memory.py        advice when memory runs out     export.py        the finished model directory
augment.py       photometry of a crop            reporting.py     progress, TensorBoard, NaN guard
domain_classifier.py                             names the domain of an image
global_descriptors/                              the method `global`: one vector per image
"""
