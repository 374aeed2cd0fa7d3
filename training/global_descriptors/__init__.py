# SPDX-License-Identifier: Apache-2.0
"""Training of global descriptors: recipes with `method: global`, run by training.train.

config.py     settings                          losses.py          pure functions
routes.py     positions and headings            library_losses.py  pytorch-metric-learning's
tuples.py     anchor, near and far images       terms.py           the loss terms of one step
neighbourhoods.py  pairs of one neighbourhood   stage.py           optimizers, mined negatives
data.py       batches                           branches.py        networks by branch
views.py      crops and their depth             run.py             the run, whitening, export
"""
