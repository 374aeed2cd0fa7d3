# SPDX-License-Identifier: Apache-2.0
"""The chosen domains over time and the reasons, drive by drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from disam_ros.evaluation.answers import QueryResult
from disam_ros.evaluation.drive import Drive
from disam_ros.evaluation.report.svg import FULL, NAMED, label_of, new_figure, styled, to_svg
from disam_ros.mapping.place_map import PlaceMap

MAX_ROWS = 20  # of the list of reasons
MAX_PIECES = 2000  # of a strip; more are rasterized
UTC_FROM_NS = 10**18  # 2001: earlier stamps are no clock time


@dataclass(frozen=True)
class Change:
    """The choice of another domain, or for another reason."""

    when: str  # time of the first image
    domain: str  # name of the chosen domain
    reason: str  # why it was chosen, without the domain's name


def changes(drive: Drive) -> tuple[list[Change], str]:
    """Lists changes of domain or reason, and describes those left out, if any.

    Where there are too many reasons, only changes of the domain itself are listed.
    """
    answers = [answer for answer in drive.answers if answer.domain]
    starts = _starts([(a.domain, a.domain_reason) for a in answers])
    left_out = ""
    if len(starts) > MAX_ROWS:
        left_out = (
            f"The reason changed {len(starts) - 1} times: only changes of the domain are listed"
        )
        starts = _starts([a.domain for a in answers])
    first_ns = drive.answers[0].record.stamp_ns
    rows = [
        Change(_when(a, first_ns), a.domain, _without_name(a))
        for a in (answers[start] for start in starts[:MAX_ROWS])
    ]
    if len(starts) > MAX_ROWS:
        left_out += f", the first {MAX_ROWS} of {len(starts)}"
    return rows, left_out and f"{left_out}."


def labelled_domains(drive: Drive, domains: set[str]) -> list[str] | None:
    """Returns the condition that each image is labelled with; None where there are no labels.

    Labels are the domains of a dataset's images, else the drive's name if it is among `domains`.
    """
    if any(answer.record.domain for answer in drive.answers):
        return [answer.record.domain for answer in drive.answers]
    return [drive.name] * len(drive.answers) if drive.name in domains else None


def known_domains(drives: Sequence[Drive], place_map: PlaceMap) -> set[str]:
    """Returns the names of the domains that were chosen and of those of the map."""
    chosen = {answer.domain for drive in drives for answer in drive.answers}
    return (chosen | {record.domain for record in place_map.records}) - {""}


@styled
def strip(drive: Drive, labels: list[str] | None, colours: dict[str, str]) -> Markup:
    """Draws the labelled and the chosen domain over time.

    colours: by name of a domain, see domain_colours.
    """
    lines = {"chosen": [answer.domain for answer in drive.answers]}
    if labels is not None:
        lines = {"labelled": labels, **lines}
    edges, unit = _edges(drive.answers)
    figure = new_figure(FULL, 90 + 24 * len(lines))
    axes = figure.add_subplot()
    for row, names in enumerate(lines.values()):
        starts = _starts(names)
        ends = [*starts[1:], len(names)]
        pieces = [(edges[a], edges[b] - edges[a]) for a, b in zip(starts, ends, strict=True)]
        faces = [colours.get(names[start], "none") for start in starts]
        many = len(pieces) > MAX_PIECES
        axes.broken_barh(pieces, (row - 0.36, 0.72), facecolors=faces, rasterized=many, lw=0)
    shown = dict.fromkeys(name for names in lines.values() for name in names if name)
    for name in shown:
        axes.plot([], [], marker="s", ls="none", ms=9, color=colours[name], label=label_of(name))
    axes.set(yticks=range(len(lines)), yticklabels=lines, xlabel=unit)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(len(lines) - 0.5, -0.5))
    axes.grid(False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=5, columnspacing=1.4, handletextpad=0.2)
    return to_svg(figure, f"Domains of {drive.name} over time")


def domain_colours(drives: Sequence[Drive], domains: set[str]) -> dict[str, str]:
    """Assigns a colour to each name of a domain, in the order of appearance."""
    names: dict[str, None] = {}
    for drive in drives:
        labels = labelled_domains(drive, domains) or []
        names |= dict.fromkeys([*labels, *(answer.domain for answer in drive.answers)])
    names.pop("", None)
    return {name: NAMED[i % len(NAMED)] for i, name in enumerate(names)}


def moment(stamp_ns: int) -> str:
    """Formats a stamp as UTC or seconds; empty where there is none."""
    if stamp_ns < UTC_FROM_NS:
        return f"{stamp_ns / 1e9:.2f} s" if stamp_ns else ""
    return f"{_utc(stamp_ns):%d %b %Y, %H:%M:%S} UTC"


def _when(answer: QueryResult, first_ns: int) -> str:
    stamp_ns = answer.record.stamp_ns
    if not stamp_ns:
        return f"image {answer.record.id}"
    after = f"+{(stamp_ns - first_ns) / 1e9:.1f} s"
    return f"{_utc(stamp_ns):%H:%M:%S} ({after})" if stamp_ns >= UTC_FROM_NS else after


def _without_name(answer: QueryResult) -> str:
    """Returns the reason without the domain's name, which has a column of its own."""
    return answer.domain_reason.removeprefix(f"{answer.domain}:").strip()


def _utc(stamp_ns: int) -> datetime:
    return datetime.fromtimestamp(stamp_ns // 10**9, tz=timezone.utc)


def _starts(keys: Sequence[object]) -> list[int]:
    """Returns the indices at which runs of equal values begin."""
    return [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]


def _edges(answers: Sequence[QueryResult]) -> tuple[NDArray[np.float64], str]:
    """Returns the time of each answer and of the end [N + 1], and its unit in words."""
    stamps = np.array([answer.record.stamp_ns for answer in answers])
    if not stamps.all() or len(stamps) < 2 or (np.diff(stamps) < 0).any() or not np.ptp(stamps):
        return np.arange(len(answers) + 1, dtype=np.float64), "image number"
    seconds: NDArray[np.float64] = (stamps - stamps[0]) / 1e9
    seconds = np.append(seconds, seconds[-1] + np.median(np.diff(seconds)))
    if seconds[-1] > 600:
        return seconds / 60, "minutes from the first image"
    return seconds, "seconds from the first image"
