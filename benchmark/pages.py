# SPDX-License-Identifier: Apache-2.0
"""A page of measured sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Protocol


class Section(Protocol):
    """A module of this package that measures something."""

    def measure(self, *arguments: object) -> dict: ...

    def render(self, results: dict) -> str: ...


def section(name: str) -> Section:
    """The module of a section."""
    return import_module(f"benchmark.{name}")


def render_page(
    head: str,
    names: Iterable[str],
    figures: Mapping[str, dict],
    find: Callable[[str], Section],
    *tail: str,
) -> str:
    """Head, all sections that have figures with their circumstances, tail."""
    parts = [head]
    for name in names:
        if name in figures:
            parts.append(find(name).render(figures[name]["results"]))
            parts.append(f"Measured under: {figures[name]['measured_under']}.\n")
    return "\n".join([*parts, *tail])
