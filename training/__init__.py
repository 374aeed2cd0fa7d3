# SPDX-License-Identifier: Apache-2.0
"""Training of DISAM models: `python -m training.train --config config/train_town_lite.yaml`.

config.py    every setting                       losses.py       Eq. 12, 16–23, pure functions
sources.py   which images, domains and places    steps.py        the loss terms of one step
places.py    do two crops show one place?        networks.py     what is trained and remembered
datasets.py  decoded images, crops               stage.py        optimizers and one step
sampling.py  random batches                      train.py        the run, command line
validate.py  recall while training               checkpoints.py  save and resume
parallel.py  several processes                   export.py       the finished model directory
memory.py    advice when memory runs out         reporting.py    progress, TensorBoard, NaN guard
"""
