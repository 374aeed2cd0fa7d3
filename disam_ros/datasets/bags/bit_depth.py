# SPDX-License-Identifier: Apache-2.0
"""How many of 16 bits the images of a camera use, which no message says.

Machine vision cameras leave 10, 12 or 14 bits in the lower ones, thermal cameras publish
temperatures: values of a narrow band far above 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from disam_ros.errors import ConfigError

logger = logging.getLogger(__name__)

FIRST = 10  # images of a camera after which its bits are settled; more are found later, not fewer
BITS = (8, 10, 12, 14, 16)  # of sensors
PERCENTILES = (1.0, 99.0)  # shown as black and white of thermal images
SAMPLES = 20_000  # about as many pixels the percentiles are of
NARROW = 1 / 6  # of the full range, the widest band of thermal images
ABOVE = 2.0  # of a band's width, the least value of thermal images
LEAST_BAND = 16.0  # width of a band that shows more than noise
SMOOTHING = 0.05  # weight of a new image in the band of thermal images


class BitDepth:
    """The range of values of one camera's 16-bit images, learned from the first ones.

    bits: 8 to 16; 0: by the images. report: takes a line that says what was decided.
    Raises ConfigError.
    """

    def __init__(
        self, camera: str = "", bits: int = 0, report: Callable[[str], None] = logger.info
    ) -> None:
        if bits and not BITS[0] <= bits <= BITS[-1]:
            raise ConfigError(f"bit_depth: expected 0 or {BITS[0]} to {BITS[-1]}, got {bits}")
        self._camera, self._report, self._fixed = camera, report, bits > 0
        self._bits = bits or BITS[0]
        self._seen = 0
        self._band: tuple[float, float] | None = None  # of thermal images; None: no thermal ones

    @property
    def settled(self) -> bool:
        """Whether no more images are needed to decide."""
        return self._fixed or self._seen >= FIRST

    def settle(self) -> None:
        """Decide by the images so far: there are no more."""
        if 0 < self._seen < FIRST and not self._fixed:
            self._seen = FIRST
            self._say()

    def to_8_bit(self, values: NDArray[np.uint16], grey: bool) -> NDArray[np.uint8]:
        """Scale values to 0…255, rounded. grey: they are no colours, and may be temperatures."""
        if not self._fixed:
            self._learn(values, grey)
        if self._band is not None and grey:
            low, high = self._band
            scaled = (values.astype(np.float32) - low) * (255.0 / max(high - low, LEAST_BAND))
            return np.asarray(np.rint(scaled).clip(0, 255), np.uint8)
        return scale_to_8_bit(values, self._bits)

    def _learn(self, values: NDArray[np.uint16], grey: bool) -> None:
        bits = int(values.max()).bit_length()
        bits = next(number for number in BITS if number >= bits)
        grown = bits > self._bits
        self._bits = max(bits, self._bits)
        if grey and (self._band is not None or not self.settled):
            self._follow_band(values)
        if self._seen < FIRST:
            self._seen += 1
            if self._seen == FIRST:
                self._say()
        elif grown and self._band is None:
            self._say()

    def _follow_band(self, values: NDArray[np.uint16]) -> None:
        """Take the band of another image into account, while the camera may be a thermal one."""
        step = max(1, round((values.size / SAMPLES) ** 0.5))
        low, high = np.percentile(values[::step, ::step], PERCENTILES).tolist()
        narrow = high - low < NARROW * 2**self._bits and low > ABOVE * (high - low)
        if self._band is None:
            if narrow and not self._seen and high - low >= LEAST_BAND:
                self._band = low, high
        elif not (narrow or self.settled):
            self._band = None
        else:
            old_low, old_high = self._band
            self._band = (
                old_low + SMOOTHING * (low - old_low),
                old_high + SMOOTHING * (high - old_high),
            )

    def _say(self) -> None:
        """Report what was decided, unless all bits are used."""
        images = f"16-bit images of camera '{self._camera}'"
        if self._band is not None:
            low, high = self._band
            self._report(
                f"{images} have values of {low:.0f} to {high:.0f}: taken for thermal ones, this "
                "range is shown, following the drive; set bit_depth to show all values"
            )
        elif self._bits < BITS[-1]:
            self._report(
                f"{images} use {self._bits} bits, as the largest value so far says; set bit_depth "
                "if that is wrong"
            )


def scale_to_8_bit(values: NDArray[np.uint16], bits: int = 16) -> NDArray[np.uint8]:
    """Scale values of so many bits to 0…255, rounded; larger ones are white."""
    return _table(bits)[values]


@cache
def _table(bits: int) -> NDArray[np.uint8]:
    """8-bit values by 16-bit ones."""
    largest = 2**bits - 1
    values = np.minimum(np.arange(1 << 16, dtype=np.int64), largest)
    table: NDArray[np.uint8] = ((values * 255 + largest // 2) // largest).astype(np.uint8)
    return table
