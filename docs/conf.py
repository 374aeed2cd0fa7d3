# SPDX-License-Identifier: Apache-2.0
"""Sphinx: `make docs` builds the site into build/site; rosdoc2 reads this file, too."""

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes

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


def break_names(app: object, doctree: nodes.document, page: str) -> None:
    """Lets the names in heads of tables break after an underscore."""
    for head in doctree.findall(nodes.thead):
        for text in list(head.findall(nodes.Text)):
            text.parent.replace(text, nodes.Text(text.replace("_", "_\u200b")))


def setup(app: Any) -> None:
    app.connect("doctree-resolved", break_names)
