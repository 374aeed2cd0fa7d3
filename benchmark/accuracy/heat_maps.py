# SPDX-License-Identifier: Apache-2.0
"""Local heat maps (Xia et al., RA-L 2021): how alike one query and every map image around it are.

`python -m benchmark.accuracy.heat_maps` draws docs/images/heat_maps.png with the rows of the
companions' table that learned with negatives from all towns and within 50 m.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmark.accuracy.companions_data import ROOT, queries, reference
from benchmark.accuracy.companions_rows import run_of
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.records import ImageRecord
from disam_ros.image import read, to_tensor
from disam_ros.models.model import Model, load_model

ROWS = ("camera, negatives from all towns", "camera, negatives within 50 m")
CONDITION = "night"
RADIUS = 50.0  # metres around the query
PICTURE = Path("docs/images/heat_maps.png")
BATCH = 16


def similarities(model: Model, query: ImageRecord, drive: Dataset, mapped: Dataset) -> np.ndarray:
    """Cosine of the query's descriptor and of every map image's, [M] in [−1, 1]."""
    size = model.network.image_size
    (asked,) = _described(model, [drive.path(query)], query.domain, size)
    domain = mapped.records[0].domain
    return _described(model, [mapped.path(r) for r in mapped.records], domain, size) @ asked


def _described(
    model: Model, paths: Sequence[Path], domain: str, size: tuple[int, int]
) -> np.ndarray:
    """Descriptors [N, D] of norm 1; a domain that the model does not know takes its first."""
    known = model.domain_names()
    encoder = model.coarse[domain if domain in known else known[0]]
    found = []
    with torch.inference_mode():
        for k in range(0, len(paths), BATCH):
            images = torch.stack([to_tensor(read(path), size) for path in paths[k : k + BATCH]])
            found.append(encoder(images).flatten(1).numpy())
    return np.concatenate(found)


def near(positions: np.ndarray, centre: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Which positions [M, 2] lie within `radius` of the centre, bool [M]."""
    return np.linalg.norm(positions - centre, axis=1) <= radius


def draw(root: Path = ROOT, path: Path = PICTURE) -> None:
    """One panel a row: map images within RADIUS, coloured by similarity; the cross is the query."""
    drive, mapped = Dataset(queries(CONDITION, root)), Dataset(reference(root))
    query = drive.records[len(drive.records) // 2]
    positions = np.stack([r.map_from_camera.translation[:2] for r in mapped.records])
    centre = query.map_from_camera.translation[:2]
    chosen = near(positions, centre)
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(ROWS)), ROWS, strict=True):
        scores = similarities(load_model(run_of(name, 0, root) / "model"), query, drive, mapped)
        shown = axes.scatter(*positions[chosen].T, c=scores[chosen], s=14)
        axes.plot(*centre, "rx", markersize=10)
        axes.set(title=name, xlabel="x (m)", ylabel="y (m)", aspect="equal")
        figure.colorbar(shown, ax=axes, label=f"similarity to a query by {CONDITION}")
    figure.savefig(path, dpi=100)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    torch.set_num_threads(1)
    draw()


if __name__ == "__main__":
    main()
