# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of methods beside each other."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; every row has as many cells as the header."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, "|---" * len(header) + "|")
    return "\n".join(lines) + "\n"


def percent(share: float, of: Sequence[float] = ()) -> str:
    """A share in percent; bold where it is the best of others, as they are written."""
    text = f"{100 * share:.1f}"
    return f"**{text}**" if of and text == f"{100 * max(of):.1f}" else text


def verdict(what: str, value: float, target: float, unit: str, at_least: bool = False) -> str:
    """`what ≤ target: met` or by how much it was missed."""
    met = value >= target if at_least else value <= target
    sign = "≥" if at_least else "≤"
    told = "met" if met else f"missed by {abs(value - target):.3g} {unit}".rstrip()
    found = f"{what} {value:.3g} {unit}".rstrip()
    return f"{found} {sign} {target:g}: {told}"
