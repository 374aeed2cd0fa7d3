# SPDX-License-Identifier: Apache-2.0
"""`make bench-accuracy`: measures and writes docs/accuracy.md, whole or section by section.

A section is a module with `measure() -> dict` of figures (empty: nothing to measure) and
`render(figures) -> str`. Figures are kept in docs/accuracy.json; the page is made of them alone.
The sections `ablation` and `companions` train what is missing in runs/, one to two hours each on
two cores; where their folder is missing they are skipped unless they are named. Sections without
their data are skipped.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from benchmark.machine import circumstances
from benchmark.pages import render_page, section
from benchmark.peers import ABOUT
from disam_ros.errors import DatasetError, ModelError
from training.errors import TrainingError

SECTIONS = (  # in the page's order
    "town",
    "gardens_point",
    "nordland",
    "sequences",
    "trust",
    "kidnap",
    "companions",
    "ablation",
    "remedies",
    "wrong_domain",
    "domains",
    "year",
)
TRAINED = {  # sections that train for hours, and where
    "ablation": Path("runs/ablation"),
    "companions": Path("runs/companions"),
}
FIGURES, PAGE = Path("docs/accuracy.json"), Path("docs/accuracy.md")
HEAD = """# Accuracy

Percent unless a unit is given. Every table names the command that makes it. Nothing was trained,
tuned or chosen on the data below, but where a section says so.
"""
MISSING = (DatasetError, ModelError, TrainingError, FileNotFoundError, ModuleNotFoundError)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the named sections and write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--gardens-point", type=Path, help="folder of the three drives")
    parser.add_argument("--page-only", action="store_true", help="measure nothing, write the page")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; choose from {', '.join(SECTIONS)}")
    logging.basicConfig(level=logging.WARNING)
    given = {"gardens_point": [arguments.gardens_point]} if arguments.gardens_point else {}
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    measured_under = circumstances()
    for name in () if arguments.page_only else arguments.sections or SECTIONS:
        if name not in arguments.sections and name in TRAINED and not TRAINED[name].is_dir():
            print(f"{name}: skipped, {TRAINED[name]} is missing; name the section to train it")
            continue
        try:
            results = section(name).measure(*given.get(name, []))
        except MISSING as error:
            print(f"{name}: skipped, {error}")
            continue
        if not results:
            print(f"{name}: skipped, nothing to measure")
        else:
            figures[name] = {"measured_under": measured_under, "results": results}
            FIGURES.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
            PAGE.write_text(page(figures))
    if arguments.page_only:
        PAGE.write_text(page(figures))


def page(figures: dict) -> str:
    """The page of all sections that have figures."""
    return render_page(HEAD, SECTIONS, figures, section, ABOUT)


if __name__ == "__main__":
    main()
