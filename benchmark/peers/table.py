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
