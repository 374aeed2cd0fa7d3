# SPDX-License-Identifier: Apache-2.0
"""Procedural textures, drawn once and shared by all conditions: names, order and drawing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from season_town.arrays import Picture
from season_town.textures.facade_textures import BAYS, STYLES, paint_facade
from season_town.textures.material_textures import (
    CUTOUT_PAINTERS,
    OTHER_PAINTERS,
    paint_sign,
)

FACADES = tuple(f"{style}_{bay}" for style in STYLES for bay in BAYS)
CUTOUTS = tuple(CUTOUT_PAINTERS)
OTHERS = tuple(OTHER_PAINTERS)
SIGNS = ("sign_a", "sign_b", "sign_c", "sign_d")
NAMES = FACADES + CUTOUTS + OTHERS + SIGNS
LAYER = {name: float(i) for i, name in enumerate(NAMES)}


@lru_cache(maxsize=1)
def texture_layers() -> Picture:
    """Paints all layers, uint8 [len(NAMES), SIZE, SIZE, 4], first row at the top of the picture."""
    rng = np.random.default_rng(7)
    layers = [paint_facade(rng, *name.rsplit("_", 1)) for name in FACADES]
    layers += [CUTOUT_PAINTERS[name](rng) for name in CUTOUTS]
    layers += [OTHER_PAINTERS[name](rng) for name in OTHERS]
    layers += [paint_sign(i) for i in range(len(SIGNS))]
    return np.stack(layers)
