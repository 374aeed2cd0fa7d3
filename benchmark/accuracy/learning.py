# SPDX-License-Identifier: Apache-2.0
"""Command lines of the sections that train networks, seed by seed."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from benchmark.accuracy.page import PAGE
from benchmark.machine import circumstances
from training.engine.loop import Interrupted

STOPPED = 130  # exit code after Ctrl-C


def seeds_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser of the seeds to train. name: of the section, which is its module's."""
    parser = argparse.ArgumentParser(prog=f"benchmark.accuracy.{name}", description=doc)
    parser.add_argument("seeds", nargs="*", type=int, help="default: all, and the page is written")
    return parser


def train_section(
    name: str,
    measure: Callable[[], dict],
    whole: bool,
    finish: Callable[[dict, str], tuple[dict, str]] | None = None,
) -> int:
    """Measure, then write the section if it is whole, else print it. Returns the exit code:
    STOPPED where it was interrupted, after which the same command goes on.

    finish: takes the results and how they were made, returns what the section shall say of both.
    """
    logging.basicConfig(level=logging.WARNING)
    try:
        results = measure()
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on")
        return STOPPED
    if not whole:
        PAGE.show(name, results)
        return 0
    under = circumstances()
    PAGE.keep(name, *((results, under) if finish is None else finish(results, under)))
    PAGE.write()
    return 0
