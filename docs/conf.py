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
# Within a name, but not within a tag: after a separator, or before a capital.
SEAM = re.compile(r"((?<=\w)[_/.:](?=\w)|(?<=[a-z])(?=[A-Z]))(?![^<]*>)")


def break_names(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Lets the names in tables break where they are joined."""
    if "body" in context:
        context["body"] = TABLE.sub(lambda m: SEAM.sub(r"\1<wbr>", m[0]), context["body"])


def setup(app: Any) -> None:
    app.connect("html-page-context", break_names)
