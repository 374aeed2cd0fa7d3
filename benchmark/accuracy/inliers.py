# SPDX-License-Identifier: Apache-2.0
"""Inliers at right places and off the map, and the model of features/inlier_evidence.py by them.

    python -m benchmark.accuracy.inliers [KIND ...]

with KIND of sift, orb, xfeat and aliked prints how many keypoints agree with the chosen place of
images on the map and off it, and the constants that a logistic regression fits to them. Data are
those of "known" (known.py), all validation data: maps of a half of San Francisco's streets, whose
queries are years younger, and KITTI odometry 00, a drive that leaves the map and other streets. The
constants are fitted to FITTED; the other maps check them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy.drives import EVERY_IMAGE, KEYPOINTS, frame_of
from benchmark.accuracy.kitti import DATA, MODEL, part
from benchmark.accuracy.kitti import drive as kitti_drive
from benchmark.accuracy.known import (
    DAY,
    FAR_M,
    NEAR_M,
    gaps_between,
    opened,
    positions_of,
    street_halves,
    streets_source,
)
from benchmark.single_images import describe
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.features.inlier_evidence import fit_ratio
from disam_ros.features.two_view import PLACE_RADIUS
from disam_ros.localization.verification import MAX_CANDIDATES, Verifier, with_inliers
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model

FITTED = "west", "south", "KITTI, other streets"  # maps that the constants are fitted to
KINDS = "sift", "orb", "xfeat"


@dataclass(frozen=True)
class Inliers:
    """Inliers of a map's queries that show its places, and of those off the map.

    Columns, float [n, 2]: inliers at the chosen place, and the reference that they are compared
    with: the most at any other place, at least the map's own repetition.
    """

    right: NDArray[np.float64]
    off: NDArray[np.float64]


def maps() -> Iterator[tuple[str, ImageSource, list[PosedImage]]]:
    """Name, mapped images and queries of each map."""
    queries = list(streets_source("query").images)
    for name, source in street_halves():
        yield name, source, queries
    whole = kitti_drive(DATA)
    frames = list(whole.images)
    yield "KITTI, leaving", part(whole, frames[:1200:2]), frames[1481:1700:2]
    yield "KITTI, other streets", part(whole, frames[:420:2]), frames[600:1500:3]


def inliers_of(
    source: ImageSource, queries: Sequence[PosedImage], kind: str, directory: Path
) -> Inliers:
    """Builds a map of a source and compares the keypoints of each query with its candidates."""
    settings = replace(EVERY_IMAGE, keypoints=KEYPOINTS, local_features=kind, domain=DAY)
    build_map(source, load_model(MODEL), directory, settings, show_progress=False)
    localizer = opened(directory, single=True, domain=DAY)
    place_map, camera = localizer.map, localizer.map.main_camera()
    verifier = Verifier(place_map)
    header = place_map.header.keypoints
    assert header is not None
    chance = verifier.model.by_chance(header.repetition)
    truth = positions_of(queries)
    gaps = gaps_between(truth, positions_of(list(source.images)))
    right, off = list[tuple[float, float]](), list[tuple[float, float]]()
    for item, position, gap in zip(queries, truth, gaps, strict=True):
        query = describe(localizer, frame_of(item, camera))
        candidates = localizer.rerank(query, localizer.search(query, localizer.config))
        verified = verifier.verify(query.frame, candidates.rows[:MAX_CANDIDATES])
        chosen = with_inliers(candidates, verified).positions[0]
        inliers = np.array([one.inliers for one in verified], float)
        places = place_map.poses[[one.row for one in verified], :3]
        nearby = np.linalg.norm(places - chosen, axis=1) <= PLACE_RADIUS
        reference = max(chance, inliers[~nearby].max(initial=0.0))
        pair = float(inliers[nearby].max(initial=0.0)), float(reference)
        if gap > FAR_M:
            off.append(pair)
        elif gap <= NEAR_M and np.linalg.norm(chosen - position) <= NEAR_M:
            right.append(pair)
    return Inliers(np.reshape(right, (-1, 2)), np.reshape(off, (-1, 2)))


def main(kinds: Sequence[str]) -> None:
    """Prints the table and the constants of each kind."""
    print("| kind | map | on it | off it | inliers on it, 10 %, median | off it, median, most |")
    print("|---|---|---|---|---|---|")
    for kind in kinds:
        results = dict[str, Inliers]()
        with tempfile.TemporaryDirectory() as scratch:
            for number, (name, source, queries) in enumerate(maps()):
                result = inliers_of(source, queries, kind, Path(scratch) / str(number))
                results[name] = result
                print(_row(kind, name, result), flush=True)
        right, off = (
            np.concatenate([getattr(results[name], which) for name in FITTED])
            for which in ("right", "off")
        )
        ratio = fit_ratio(tuple(right.T), tuple(off.T), len(right) + len(off))
        print(f"\n{kind}: {ratio}, fitted to {', '.join(FITTED)}")
        for name, result in results.items():
            for label, pairs in (("on", result.right), ("off", result.off)):
                if len(pairs):
                    logs = ratio(*pairs.T)
                    print(
                        f"{name}, {label} it: {np.percentile(logs, [1, 10, 50, 90, 99]).round(1)}"
                    )


def _row(kind: str, name: str, result: Inliers) -> str:
    """Formats a map's row of the table."""
    on, off = result.right[:, 0], result.off[:, 0]
    few = f"{np.percentile(on, 10):.0f}, {np.median(on):.0f}" if len(on) else ""
    most = f"{np.median(off):.0f}, {off.max():.0f}" if len(off) else ""
    return f"| {kind} | {name} | {len(on)} | {len(off)} | {few} | {most} |"


if __name__ == "__main__":
    main(sys.argv[1:] or KINDS)
