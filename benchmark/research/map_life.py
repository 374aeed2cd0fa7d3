# SPDX-License-Identifier: Apache-2.0
"""What the operations on maps cost and gain: directions, merging, conditions, pruning, inspection.

The validation town of seed 50 as in offline_town.py, and its reference drive in two more,
`disam synth --output runs/conditions --seed 50 --drive-seed 0 --spacing 4 --conditions night
winter_snow`. Each image alone, its domain known, offline. Its queries stand every 8 m on the map's
own way, in step with an image per metre: pruning is measured on the demo's town, whose drives have
speeds of their own, and what `inspect` foretells there too. Nothing was chosen on it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmark.accuracy.drives import town_drives
from benchmark.accuracy.gardens_point import SHIPPED
from benchmark.research.offline_town import MAP, QUERIES
from benchmark.single_images import describe
from benchmark.truth import truth_of
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import ImageSource, open_bag, open_dataset
from disam_ros.demo.drives import DATA
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.life.assembly import Part, assemble
from disam_ros.mapping.life.frames import align_maps
from disam_ros.mapping.life.merging import fine_shape, merge
from disam_ros.mapping.life.pruning import kept_rows, stood_for
from disam_ros.mapping.life.weakness import risk_at, weakness
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import Model, load_model

CONDITIONS = ("summer_day", "winter_snow", "autumn_rain", "night")
RENDERED = Path("runs/conditions")
EVERY_IMAGE = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, thumbnails=False)
SPACING = 4.0  # of the maps of one condition each [m]
RIGHT = 5.0  # metres
OVERLAP = 0.6  # of the drive, in each of two maps that are merged
KEPT = (0.5, 0.25)  # shares of a pruned map
DEMO = {"autumn_rain": "autumn_rain", "dusk": "night", "spring_morning": "summer_day"}


def measure() -> dict[str, Any]:
    """Recall within RIGHT by map and condition, and what the operations say of themselves."""
    model = load_model(SHIPPED / "outdoor")
    drives = {name: open_dataset(QUERIES / name) for name in CONDITIONS}
    town = _Queries(model, drives)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = build_map(open_dataset(MAP), model, folder / "whole", EVERY_IMAGE)
        directions = _directions(model, whole, town, folder)
        demo = _demo(model, folder)
        return {
            "model": model.label,
            "images": len(whole),
            "directions": directions,
            "conditions": _conditions(model, town, folder),
            "merge": _merge(model, whole, town, folder),
            "prune": _prune(*demo, folder),
            "inspect": {
                "validation town": _auc(model, whole, town),
                "the demo's town": _auc(model, *demo),
            },
        }


class _Queries:
    """Queries of several drives, read once for all maps."""

    def __init__(self, model: Model, drives: Mapping[str, ImageSource]) -> None:
        self._model = model
        self._items = {name: list(drive.images) for name, drive in drives.items()}
        self._pixels = {n: [item.load() for item in items] for n, items in self._items.items()}
        self.domains = {name: name for name in drives}

    def poses(self, name: str) -> NDArray[Any]:
        """True map_from_camera, [n, 7]."""
        poses = [truth_of(item.record) for item in self._items[name]]
        return np.array([[*pose.translation, *pose.quaternion] for pose in poses])

    def errors(self, place_map: PlaceMap, stage: str = "") -> dict[str, NDArray[Any]]:
        """Distances [m] of the answers from the truth, by drive.

        stage: "" of the answer; "1" of the coarse stage's first; "all" of its nearest candidate.
        """
        localizer = Localizer(self._model, place_map, LocalizerConfig(device="cpu"))
        errors = {}
        for name, items in self._items.items():
            metres = []
            for item, pixels in zip(items, self._pixels[name], strict=True):
                frame = Frame(pixels, localizer.map.main_camera(), domain=self.domains[name])
                query = describe(localizer, frame)
                shortlist = localizer.search(query, localizer.config)
                rows = shortlist.rows[:1] if stage == "1" else shortlist.rows
                if not stage:
                    rows = localizer.rerank(query, shortlist).rows[:1]
                truth = truth_of(item.record).translation
                gaps = np.linalg.norm(place_map.poses[rows, :3] - truth, axis=1)
                metres.append(float(gaps.min()))
            errors[name] = np.array(metres)
        return errors

    def recalls(self, place_map: PlaceMap, stage: str = "") -> dict[str, float]:
        """Shares within RIGHT by drive, and of all."""
        errors = self.errors(place_map, stage)
        shares = {name: float((metres <= RIGHT).mean()) for name, metres in errors.items()}
        return {**shares, "all": float((np.concatenate([*errors.values()]) <= RIGHT).mean())}


def _directions(model: Model, whole: PlaceMap, town: _Queries, folder: Path) -> dict[str, Any]:
    """Figures of one map with the model's directions and with its own."""
    without_directions = replace(model, projection=None)
    own_map = build_map(open_dataset(MAP), without_directions, folder / "own", EVERY_IMAGE)
    rows = {}
    for name, place_map in (("the map's own", own_map), ("the model's", whole)):
        size = sum(path.stat().st_size for path in place_map.directory.iterdir())
        rows[name] = {
            "coarse": town.recalls(place_map, "1"),
            "shortlist": town.recalls(place_map, "all"),
            "answer": town.recalls(place_map),
            "bytes": size / len(place_map),
            "fixed": sum(
                path.stat().st_size
                for path in place_map.directory.iterdir()
                if path.name in ("directions.npy", "steps.npy", "mean.npy")
            ),
        }
    return rows


def _conditions(model: Model, town: _Queries, folder: Path) -> dict[str, Any]:
    """Maps of one condition each, and of all."""
    config = replace(EVERY_IMAGE, keyframe_distance=SPACING, keyframe_angle=360.0)
    sources = {"summer_day": MAP, **{name: RENDERED / name for name in ("night", "winter_snow")}}
    maps = {
        name: build_map(open_dataset(path), model, folder / f"of_{name}", config)
        for name, path in sources.items()
    }
    merged = merge(list(maps.values()), model, folder / "of_all")
    rows = {name: {"images": len(m), **town.recalls(m)} for name, m in maps.items()}
    frames = [entry["frame"] for entry in merged.history[-1]["maps"]]
    return {**rows, "merged": {"images": len(merged), **town.recalls(merged)}, "frames": frames}


def _merge(model: Model, whole: PlaceMap, town: _Queries, folder: Path) -> dict[str, Any]:
    """The first and the last part of the drive, and both merged."""
    count = round(OVERLAP * len(whole))
    parts = {"first part": slice(count), "last part": slice(len(whole) - count, None)}
    maps = {
        name: assemble(
            [Part(whole, np.arange(len(whole))[rows])],
            folder / name.replace(" ", "_"),
            {"operation": "crop"},
        )
        for name, rows in parts.items()
    }
    merged = merge(list(maps.values()), model, folder / "merged")
    maps |= {"merged": merged, "the whole": whole}
    alignment = align_maps(maps["first part"], maps["last part"], fine_shape(whole, model))
    rows = {name: {"images": len(m), **town.recalls(m)} for name, m in maps.items()}
    return {**rows, "frames": str(alignment)}


def _prune(place_map: PlaceMap, queries: _Queries, folder: Path) -> dict[str, Any]:
    """The map with fewer images. Its queries must not be in step with the map's images."""
    rows = {"1": {"images": len(place_map), **queries.recalls(place_map)}}
    for keep in KEPT:
        kept = kept_rows(place_map, keep)
        part = Part(place_map, kept, mean_of=stood_for(place_map, kept))
        pruned = assemble([part], folder / f"kept_{keep:g}", {"operation": "prune"})
        rows[f"{keep:g}"] = {"images": len(pruned), **queries.recalls(pruned)}
    return rows


def _demo(model: Model, folder: Path) -> tuple[PlaceMap, _Queries]:
    """Map of the demo's town, an image per metre, and queries of all its drives."""
    drives = {name: _open(path) for name, path in town_drives()}
    place_map = build_map(open_dataset(DATA / "reference"), model, folder / "demo", EVERY_IMAGE)
    queries = _Queries(model, drives)
    queries.domains |= {name: DEMO.get(name, name) for name in drives}
    return place_map, queries


def _auc(model: Model, place_map: PlaceMap, queries: _Queries) -> dict[str, Any]:
    weak = weakness(place_map, fine_shape(place_map, model))
    errors = queries.errors(place_map)
    risks = {name: risk_at(place_map, weak, queries.poses(name)) for name in errors}
    wrong = np.concatenate([errors[name] > RIGHT for name in errors])
    return {
        "queries": len(wrong),
        "wrong": int(wrong.sum()),
        "auc": area(np.concatenate([risks[name] for name in errors]), wrong),
    }


def area(scores: NDArray[Any], positive: NDArray[Any]) -> float | None:
    """Area under the ROC curve (Mann–Whitney); None where only one kind is there."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return None
    above = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positive) - count)))


def _open(path: Path) -> ImageSource:
    return open_dataset(path) if (path / "dataset.json").exists() else open_bag(path)
