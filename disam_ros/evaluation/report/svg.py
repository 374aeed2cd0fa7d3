# SPDX-License-Identifier: Apache-2.0
"""Figures as inline SVG in one style; colours follow the light or dark theme of the page."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
from cycler import cycler
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

FULL = 1080  # width of the page, in CSS pixels (points of the figure)
HALF = 530  # width of one of two in a row
MAX_VECTORS = 5000  # markers in one scatter plot; more are rasterized
LONGEST = 34  # characters of a legend label
MAX_TITLES = 2000  # markers in one scatter plot that have tooltips
PIXELS_PER_INCH = 144  # of rasterized markers, twice the page's

# CSS variables and their values in the light theme.
COLOURS = {
    "ink": "#1f2430",
    "muted": "#6a7280",
    "grid": "#e4e7ec",
    "route": "#cfd4dc",
    "right": "#0b6fb0",  # blue and vermilion: distinguishable with any colour vision
    "wrong": "#d9541a",
    "unanswered": "#8c95a3",
}
# Colours of conditions and domains (after Paul Tol's "muted"); beyond these, dashes.
NAMED = ("#3b3393", "#3aa394", "#b8902f", "#8a2a5c", "#58a9d6", "#c4606f", "#2d7d46", "#a45aa5")
COLOURS |= {f"named{i}": colour for i, colour in enumerate(NAMED)}
DASHES = ("-", "--", ":")

STYLE: dict[Any, Any] = {  # matplotlib names the type of the keys from 3.11 on
    "font.family": ["DejaVu Sans"],  # wider than most: what fits here fits the page's font, too
    "font.size": 12,
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # names may hold a $
    "axes.edgecolor": COLOURS["route"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.prop_cycle": cycler(color=NAMED),
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 1.0,
    "xtick.color": COLOURS["route"],
    "ytick.color": COLOURS["route"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "legend.handletextpad": 0.5,
    "legend.borderpad": 0.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "disam_ros",
    "svg.image_inline": True,
}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
USE, HREF = f"{{{SVG}}}use", f"{{{XLINK}}}href"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
LINKED = "example-"  # beginning of ids of the page
styled = matplotlib.rc_context(STYLE)  # decorates every function that draws


def new_figure(
    width: int, height: float, hspace: float | None = None, wspace: float | None = None
) -> Figure:
    """Returns an empty figure of a size in CSS pixels. hspace, wspace: between its axes."""
    layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=4 / 72, hspace=hspace, wspace=wspace)
    return Figure(figsize=(width / 72, height / 72), layout=layout)


def named_style(index: int) -> dict[str, Any]:
    """Returns colour and dashes of the index-th name."""
    return {
        "color": NAMED[index % len(NAMED)],
        "linestyle": DASHES[index // len(NAMED) % len(DASHES)],
    }


def label_of(name: str) -> str:
    """Makes a legend label of a name: shortened, and shown despite a leading underscore."""
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return f" {short}" if short.startswith("_") else short


def to_svg(
    figure: Figure,
    about: str,
    titles: Mapping[str, Sequence[str]] | None = None,
    links: Mapping[str, Sequence[str]] | None = None,
) -> Markup:
    """Converts a figure to an <svg> element without fixed size.

    about: text for screen readers. titles: tooltips of the markers of an artist, by its gid. links:
    ids of the page that the markers lead to, beginning with LINKED; empty: none.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the page's font has more letters
        figure.savefig(
            buffer, format="svg", dpi=PIXELS_PER_INCH, transparent=True, metadata=NO_METADATA
        )
    root = ElementTree.fromstring(buffer.getvalue())
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {"role": "img", "aria-label": about}
    prefix = f"f{zlib.crc32(buffer.getvalue().encode()):08x}"
    _prefix_ids(root, prefix)
    for gid, texts in (titles or {}).items():
        group = root.find(f".//*[@id='{prefix}{gid}']")
        assert group is not None
        _annotate(group, texts, (links or {}).get(gid, [""] * len(texts)))
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(text)


def _prefix_ids(root: Element, prefix: str) -> None:
    """Makes ids, and references to them, unique among the figures of a page."""
    for element in root.iter():
        for key, value in element.items():
            if key == "id":
                element.set(key, prefix + value)
            elif key == HREF and value.startswith("#"):
                element.set(key, f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{prefix}"))


def _annotate(group: Element, titles: Sequence[str], links: Sequence[str]) -> None:
    """Adds tooltips and links to the markers of a group."""
    markers = [(parent, use) for parent in group.iter() for use in parent.findall(USE)]
    for (parent, use), title, link in zip(markers, titles, links, strict=True):
        ElementTree.SubElement(use, f"{{{SVG}}}title").text = title
        if link:
            anchor = Element(f"{{{SVG}}}a", {"href": f"#{link}"})
            parent[list(parent).index(use)] = anchor
            anchor.append(use)
