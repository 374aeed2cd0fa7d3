# SPDX-License-Identifier: Apache-2.0
"""`make bench`: measures and writes docs/performance.md, whole or section by section.

A section is a module with `measure() -> dict` of figures, `render(figures) -> str` and perhaps
`draw(figures)`, which writes a picture. Figures are kept in docs/performance.json; the page is made
of them alone.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from benchmark.machine import circumstances
from benchmark.pages import render_page, section

SECTIONS = (
    "node_latency",
    "speed",
    "backends",
    "scale",
    "opening",
    "ranking",
    "map_building",
    "training_step",
)  # in the page's order
FIGURES, PAGE = Path("docs/performance.json"), Path("docs/performance.md")
HEAD = """# Performance

Written by `make bench`; figures of one run on one machine, whose circumstances stand below each
section. Targets are told with what became of them.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the named sections and write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--page-only", action="store_true", help="measure nothing, write the page")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; choose from {', '.join(SECTIONS)}")
    logging.basicConfig(level=logging.WARNING)
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in () if arguments.page_only else arguments.sections or SECTIONS:
        measured_under = circumstances()
        results = json.loads(json.dumps(section(name).measure()))  # as they are read again
        figures[name] = {"measured_under": measured_under, "results": results}
        FIGURES.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
        PAGE.write_text(page(figures))
        if (draw := getattr(section(name), "draw", None)) is not None:
            draw(results)
    if arguments.page_only:
        PAGE.write_text(page(figures))


def page(figures: dict) -> str:
    """The page of all sections that have figures."""
    return render_page(HEAD, SECTIONS, figures, section)


if __name__ == "__main__":
    main()
