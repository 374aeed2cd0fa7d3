# SPDX-License-Identifier: Apache-2.0
"""Frame numbers of H.264, by which a lost packet shows: FFmpeg conceals it (ITU-T H.264, 7.3)."""

from __future__ import annotations

START_CODE = b"\x00\x00\x01"  # of Annex B, before each NAL unit
HEAD = 80  # bytes of a unit that are read
SLICE, IDR, PARAMETERS = 1, 5, 7  # types of NAL units
HIGH = (100, 110, 122, 244, 44, 83, 86, 118, 128)  # profiles with more fields about colours


class FrameNumbers:
    """Follows the frame numbers of a stream."""

    def __init__(self) -> None:
        self._bits = 0  # length of a frame number; 0: not known
        self._planes = False  # whether a slice names its colour plane
        self._last = 0  # number of the last reference frame

    def misses(self, unit: bytes) -> bool:
        """Whether a reference frame between this access unit and the last one is missing."""
        at = unit.find(START_CODE)
        while at >= 0 and len(head := unit[at + 3 : at + 3 + HEAD]) > 1:
            at = unit.find(START_CODE, at + 3)
            kind, is_reference = head[0] & 31, head[0] >> 5 & 3
            if kind == PARAMETERS:
                self._read_parameters(_Bits(head[1:]))
            if kind not in (SLICE, IDR) or not self._bits:
                continue
            bits = _Bits(head[1:])
            bits.golomb(), bits.golomb(), bits.golomb()  # first macroblock, type, parameter set
            bits.take(2 if self._planes else 0)
            number = bits.take(self._bits)
            following = (self._last, (self._last + 1) % 2**self._bits)
            missing = kind == SLICE and number not in following
            self._last = number if is_reference else self._last
            return missing
        return False

    def _read_parameters(self, bits: _Bits) -> None:
        """Read the length of frame numbers from a sequence parameter set."""
        profile = bits.take(8)
        bits.take(16)  # constraints, level
        bits.golomb()  # number of the set
        self._planes, self._bits = False, 0
        if profile in HIGH:
            if bits.golomb() == 3:
                self._planes = bool(bits.take(1))
            bits.golomb(), bits.golomb(), bits.take(1)  # depths, bypass
            if bits.take(1):
                return  # scaling lists: frame numbers are not followed
        self._bits = min(bits.golomb() + 4, 16)


class _Bits:
    """Bits of a NAL unit, most significant first; zeros beyond its end."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\x00\x00\x03", b"\x00\x00")  # emulation prevention
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """Read an unsigned number of `count` bits."""
        self._left -= count
        shifted: int = self._value >> self._left if self._left >= 0 else 0
        return shifted & ((1 << count) - 1)

    def golomb(self) -> int:
        """Read an unsigned Exp-Golomb code."""
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
