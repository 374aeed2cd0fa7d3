# SPDX-License-Identifier: Apache-2.0
"""Sphinx: `make docs` builds the site into build/site; rosdoc2 reads this file, too."""

import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "disam_ros"
author = copyright = "disam_ros maintainers"
release = ElementTree.parse(ROOT / "package.xml").findtext("version") or ""

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
myst_heading_anchors = 4  # as GitHub makes them
html_theme = "furo"
html_title = f"disam_ros {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_mock_imports = [  # docstrings are read without them
    "cv2",
    "faiss",
    "PIL",
    "pymap3d",
    "rosbags",
    "safetensors",
    "scipy",
    "torch",
    "tqdm",
]


TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
ROW, CELL = re.compile(r"<tr\b.*?</tr>", re.DOTALL), re.compile(r"<td\b")
HEADING = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
# Within a name, but not within a tag: after a separator, or before a capital.
SEAM = re.compile(r"((?<=\w)[_/.:](?=\w)|(?<=[a-z])(?=[A-Z]))(?![^<]*>)")


def adapt_tables(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Lets the names in tables break where they are joined, and gives each cell its heading, which
    phones show where cells stack (site.css)."""
    if "body" in context:
        context["body"] = TABLE.sub(
            lambda m: SEAM.sub(r"\1<wbr>", _labelled(m[0])), context["body"]
        )


def _labelled(table: str) -> str:
    """Adds to each cell of a table the heading of its column."""
    headings = [TAG.sub("", text).strip().replace('"', "&quot;") for text in HEADING.findall(table)]

    def label(row: re.Match[str]) -> str:
        labels = iter(headings)
        return CELL.sub(lambda _: f'<td data-label="{next(labels, "")}"', row[0])

    return ROW.sub(label, table)


def setup(app: Any) -> None:
    app.connect("html-page-context", adapt_tables)
