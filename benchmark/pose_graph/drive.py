# SPDX-License-Identifier: Apache-2.0
"""The drive of the example: two laps of the test town at night, and a map of it in summer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.single_images import describe
from benchmark.truth import bases
from demo.make_data import TOWN_SEED
from disam_ros import image
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset
from disam_ros.demo.drives import MODEL, REFERENCE
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.slam.keyframe_depths import View
from disam_ros.slam.map_match import MapMatch
from season_town import DriveConfig, write_drive

KEPT = Path("runs/pose_graph")
LAPS = 1575.0  # metres: twice around
DRIVE = DriveConfig("night", TOWN_SEED, drive_seed=31, spacing_m=2.7, length_m=LAPS)
MAP_SPACING = 2.0  # metres


@dataclass(frozen=True, eq=False)
class EncodedDrive:
    """Per image: stamp, descriptors [N, d] and [N, D], the best match on the map, the true
    map_from_base, and the view for verification."""

    stamps_ns: list[int]
    coarse: NDArray[Any]
    fine: NDArray[Any]
    matches: list[MapMatch]
    truth: list[Transform]
    views: Sequence[View] = ()


def load_drive() -> EncodedDrive:
    """The drive as the localizer encodes and matches it; rendered and encoded the first time."""
    if not (KEPT / "drive" / "dataset.json").exists():
        write_drive(DRIVE, KEPT / "drive")
    if not (KEPT / "map").exists():
        config = MapBuilderConfig(keypoints=0, keyframe_distance=MAP_SPACING)
        build_map(open_dataset(REFERENCE), load_model(MODEL), KEPT / "map", config)
    drive, place_map = Dataset(KEPT / "drive"), PlaceMap(KEPT / "map")
    if not (KEPT / "encoded.npz").exists():
        _encode(drive)
    with np.load(KEPT / "encoded.npz") as kept:
        coarse, fine, ids, scores = (kept[k] for k in ("coarse", "fine", "ids", "scores"))
    camera = drive.info.cameras["front"]
    spacing, records = place_map.spacing(), [place_map.records[i] for i in ids]
    return EncodedDrive(
        stamps_ns=[record.stamp_ns for record in drive.records],
        coarse=coarse,
        fine=fine,
        matches=[
            MapMatch(record.stamp_ns, pose, float(score), spacing)
            for record, pose, score in zip(records, bases(records, camera), scores, strict=True)
        ],
        truth=bases(drive.records, camera),
        views=[View(image.read(drive.path(record)), camera) for record in drive.records],
    )


def _encode(drive: Dataset) -> None:
    localizer = Localizer.open(KEPT / "map", MODEL, LocalizerConfig(device="cpu"))
    queries = [
        describe(
            localizer,
            Frame(
                image.read(drive.path(record)), localizer.map.main_camera(), domain=record.domain
            ),
        )
        for record in drive.records
    ]
    config = localizer.config
    best = [localizer.rerank(query, localizer.search(query, config))[0] for query in queries]
    np.savez(
        KEPT / "encoded.npz",
        coarse=np.stack([query.coarse for query in queries]),
        fine=np.stack([query.fine for query in queries]).astype(np.float16),
        ids=np.array([candidate.record.id for candidate in best]),
        scores=np.array([candidate.fine_score for candidate in best]),
    )
