# SPDX-License-Identifier: Apache-2.0
"""Figures as inline SVG in one style; colours follow the light or dark theme of the page."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence

import matplotlib
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.figure import Figure

FULL = 1080  # width of the page, in CSS pixels (points of the figure)
HALF = 530  # width of one of two in a row
MAX_VECTORS = 5000  # markers in one scatter plot; more are rasterized
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

STYLE = {
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
LINKED = "example-"  # begin of ids of the page, which keep their names
styled = matplotlib.rc_context(STYLE)  # decorates every function that draws


def new_figure(width: int, height: float) -> Figure:
    """An empty figure of that size in CSS pixels."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.get_layout_engine().set(w_pad=2 / 72, h_pad=4 / 72)
    return figure


def named_style(index: int) -> dict[str, str]:
    """Colour and dashes of the index-th name."""
    return {
        "color": NAMED[index % len(NAMED)],
        "linestyle": DASHES[index // len(NAMED) % len(DASHES)],
    }


def label_of(name: str, most: int = 34) -> str:
    """A name as a legend label: shortened, and shown despite a leading underscore."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return f" {short}" if short.startswith("_") else short


def to_svg(
    figure: Figure,
    about: str,
    titles: Mapping[str, Sequence[str]] | None = None,
    links: Mapping[str, Sequence[str]] | None = None,
) -> Markup:
    """A figure as an <svg> element without fixed size.

    about: text for screen readers. titles: tooltips of the markers of an artist, by its gid. links:
    ids of the page that they lead to, beginning with LINKED; empty: none.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the page's font has more letters
        figure.savefig(buffer, format="svg", dpi=PIXELS_PER_INCH, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    for gid, texts in (titles or {}).items():
        text = _with_titles(text, gid, texts, (links or {}).get(gid, [""] * len(texts)))
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(about)}"', 1)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(re.sub(r"\s*\n\s*", "\n", _own_ids(text)))


def _with_titles(svg: str, gid: str, titles: Sequence[str], links: Sequence[str]) -> str:
    """Adds tooltips and links to the markers of a group."""
    start = svg.index(f'id="{gid}"')
    about = zip(titles, links, strict=True)

    def marker(use: re.Match[str]) -> str:
        title, link = next(about)
        shown = f"<use {use[1]}><title>{escape(title)}</title></use>"
        return f'<a href="#{link}">{shown}</a>' if link else shown

    return svg[:start] + re.sub(r"<use ([^>]*)/>", marker, svg[start:], count=len(titles))


def _own_ids(svg: str) -> str:
    """Keeps only ids that are referred to, with a prefix unique to the figure."""
    prefix = f"f{zlib.crc32(svg.encode()):08x}"
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', svg))
    svg = re.sub(rf'(url\(|href=")#(?!{LINKED})([\w.-]+)', rf"\1#{prefix}\2", svg)
    return re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
