# SPDX-License-Identifier: Apache-2.0
"""What a wrong domain costs: every encoder of town-lite on every condition of the demo's town.

Offline, on the demo's summer map. The demo's drives are used where there are any; the others are
rendered once, on the same route, and left out where nothing can be rendered. The town is for
testing only: nothing is trained, tuned or chosen on it.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.peers.table import markdown, percent
from demo.drives import CONDITIONS as SHIPPED
from demo.drives import DATA, MODEL, Drive, make_map, read_drive
from demo.make_data import JPEG_QUALITY, LENGTH, TOWN_SEED
from disam_ros import image
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.evaluation import THRESHOLDS, errors
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.models.model import load_model
from disam_ros.synthetic import CONDITIONS, DriveConfig, RenderError, write_drive

RENDERED = Path("runs/town_test")
DRIVE_SEEDS = {"summer_day": 3, "autumn_rain": 4, "spring_morning": 5, "dusk": 6}  # 0–2: the demo's
RECALL_M = 5.0  # metres
HALF_M, HALF_DEG = THRESHOLDS[1]
CHOOSER = "chooser"

log = logging.getLogger(__name__)


def measure(rendered: Path = RENDERED) -> dict:
    """Shares by condition and domain. rendered: folder of drives, rendered where missing."""
    model = load_model(MODEL)
    with tempfile.TemporaryDirectory() as scratch:
        place_map = make_map(Path(scratch) / "map")
        localizer = Localizer(model, place_map, LocalizerConfig(device="cpu"))
        conditions = {
            condition: row(localizer, drive, CONDITIONS[condition].weather)
            for condition in CONDITIONS
            if (drive := drive_of(condition, rendered)) is not None
        }
    return {
        "model": model.label,
        "map_images": len(place_map),
        "map_domain": place_map.records[0].domain,
        "conditions": conditions,
    }


def drive_of(condition: str, rendered: Path) -> Drive | None:
    """The drive of a condition through the demo's town; None where it cannot be rendered."""
    if condition in SHIPPED:
        return read_drive(DATA / condition)
    directory = rendered / condition
    if not (directory / "images.csv").exists():
        config = DriveConfig(
            condition, TOWN_SEED, DRIVE_SEEDS[condition], rate_hz=2.5, length_m=LENGTH
        )
        try:
            write_drive(config, directory, JPEG_QUALITY)
        except RenderError as error:
            log.warning("%s left out: %s", condition, error)
            return None
    data = Dataset(directory)
    camera_from_base = data.info.cameras["front"].base_from_camera.inverse()
    return Drive(
        [record.stamp_ns for record in data.records],
        [image.read(data.path(record)) for record in data.records],
        [record.map_from_camera @ camera_from_base for record in data.records],
    )


def row(localizer: Localizer, drive: Drive, weather: str) -> dict:
    """Scores of a drive with each domain of the model, and with what the chooser picks."""
    cameras = localizer.map.header.cameras
    answers = {}
    for domain in localizer.model.domain_names():
        found = [localizer.localize(picture, domain=domain) for picture in drive.images]
        answers[domain] = [
            f.best.record.map_from_camera @ cameras[f.camera].base_from_camera.inverse()
            for f in found
        ]
    chosen = [localizer.choose_domain(stamp, weather).name for stamp in drive.stamps_ns]
    return scores(drive.truth, answers, chosen)


def scores(
    truth: Sequence[Transform], answers: Mapping[str, Sequence[Transform]], chosen: Sequence[str]
) -> dict:
    """Shares right by domain and for the `chosen` domain of each query.

    truth, answers: map_from_base. Gives [within 5 m, within 0.5 m 5°] by domain.
    """
    picked = [answers[name][i] for i, name in enumerate(chosen)]
    return {
        "queries": len(truth),
        "chosen": dict(Counter(chosen).most_common()),
        "shares": {name: _shares(truth, poses) for name, poses in answers.items()}
        | {CHOOSER: _shares(truth, picked)},
    }


def _shares(truth: Sequence[Transform], answers: Sequence[Transform]) -> list[float]:
    metres, degrees = errors(truth, answers)
    near = (metres <= HALF_M) & (degrees <= HALF_DEG)
    return [float(np.mean(metres <= RECALL_M)), float(np.mean(near))]


def render(results: dict) -> str:
    """The figures as a section of a page."""
    conditions = results["conditions"]
    domains = [name for name in next(iter(conditions.values()))["shares"] if name != CHOOSER]
    header = ["condition", "queries", *domains, "chooser's choice", "chooser"]
    rows = []
    for condition, result in conditions.items():
        shares = result["shares"]
        columns = [[shares[name][k] for name in domains] for k in (0, 1)]
        cells = {
            name: " / ".join(
                percent(s, column) for s, column in zip(shares[name], columns, strict=True)
            )
            for name in (*domains, CHOOSER)
        }
        rows.append(
            [
                condition,
                str(result["queries"]),
                *(cells[name] for name in domains),
                ", ".join(result["chosen"]),
                cells[CHOOSER],
            ]
        )
    means = {
        name: np.mean([result["shares"][name] for result in conditions.values()], axis=0)
        for name in (*domains, CHOOSER)
    }
    mean = {name: " / ".join(percent(share) for share in shares) for name, shares in means.items()}
    rows.append(["mean", "", *(mean[name] for name in domains), "", mean[CHOOSER]])
    query = max(100 / result["queries"] for result in conditions.values())
    fixed = max(domains, key=lambda name: tuple(means[name]))
    return (
        "## What a wrong domain costs\n\n"
        "`python -m benchmark.accuracy wrong_domain`: every condition of the season town (seed "
        f"{TOWN_SEED}) with the encoders of every domain, off line; {results['map_domain']} map of "
        f"{results['map_images']} images. R@1 within {RECALL_M:g} m / within {HALF_M:g} m "
        f"{HALF_DEG:g}°; bold: the best domain. One drive a condition: a query is up to "
        f"{query:.1f} points. Model: {results['model']}.\n\n"
        f"{markdown(header, rows)}\n"
        f"{_verdict(conditions, domains)} Best fixed domain: {fixed}, on average {mean[fixed]}; "
        f"the chooser {mean[CHOOSER]}.\n"
    )


def _verdict(conditions: Mapping[str, dict], domains: Sequence[str]) -> str:
    """Whether the chooser's domain is the best, and what the worst costs; from the figures."""
    parts = []
    for k, what in enumerate((f"R@1 {RECALL_M:g} m", f"{HALF_M:g} m {HALF_DEG:g}°")):
        better = []
        for condition, result in conditions.items():
            shares = {name: share[k] for name, share in result["shares"].items()}
            best = max(domains, key=shares.__getitem__)
            if shares[best] > shares[CHOOSER]:
                points = 100 * (shares[best] - shares[CHOOSER])
                better.append(f"{best} is {points:.1f} points better in {condition}")
        count = f"{len(conditions) - len(better)} of {len(conditions)}"
        parts.append(f"by {what} in {count} conditions{_in_brackets(better)}")
    lost, worst, condition = max(
        (result["shares"][CHOOSER][0] - result["shares"][name][0], name, condition)
        for condition, result in conditions.items()
        for name in domains
    )
    return (
        f"The chooser's domain is the best {', '.join(parts)}. At worst a wrong domain costs "
        f"{100 * lost:.1f} points of R@1: {worst} in {condition}."
    )


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({'; '.join(parts)})" if parts else ""
