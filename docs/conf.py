# SPDX-License-Identifier: Apache-2.0
"""Sphinx: `make docs` builds the site into build/site; rosdoc2 reads this file, too."""

import sys
from pathlib import Path
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
