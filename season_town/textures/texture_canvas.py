# SPDX-License-Identifier: Apache-2.0
"""Size, noise and plain surfaces of all textures."""

from __future__ import annotations

import numpy as np

from season_town.arrays import Picture, Points

SIZE = 256  # pixels a side


def fractal_noise(rng: np.random.Generator, power: float, size: int = SIZE) -> Points:
    """Draws tileable noise, float [size, size] in 0..1; amplitude falls with frequency**power."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**power
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, (size, size))
    clipped: Points = np.clip(0.5 + noise / (5.0 * noise.std()), 0.0, 1.0)
    return clipped


def grey(value: Points, colour: tuple[float, float, float] = (1, 1, 1)) -> Picture:
    """Returns RGBA of full coverage from brightness [S, S] (0..255) and a colour."""
    rgb = np.clip(value[..., None] * np.array(colour), 0, 255)
    return np.dstack([rgb, np.full((SIZE, SIZE), 255.0)]).astype(np.uint8)
