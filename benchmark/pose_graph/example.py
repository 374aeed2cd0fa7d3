# SPDX-License-Identifier: Apache-2.0
"""A drifting odometry corrected by hints, in a pose graph: `python -m benchmark.pose_graph.example`.

Two laps of the test town at night, and a map of seven tenths of the lap, in summer. Hints of the
own drive are given twice: verified by points and not. Drive, map and descriptors are kept in
runs/pose_graph: the first run takes minutes, later ones some, too. Needs the extras [synth] and
[graph]; an example, no part of what runs on a vehicle.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.machine import circumstances
from benchmark.peers.table import markdown
from benchmark.pose_graph.figure import draw
from benchmark.pose_graph.own_hints import accuracy, costs, relations
from benchmark.pose_graph.seen import Seen
from benchmark.pose_graph.solver import solve
from demo.drives import MODEL, REFERENCE
from demo.make_data import TOWN_SEED
from disam_ros import image
from disam_ros.config import LocalizerConfig, LoopClosureConfig, MapBuilderConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.slam.keypoints import View
from disam_ros.slam.loop_closure import LoopCloser, MapMatch
from disam_ros.slam.loop_hint import MAP, OWN, Hint, Relation
from disam_ros.synthetic import DriveConfig, write_drive
from disam_ros.synthetic.drive import simulate_drive
from disam_ros.synthetic.sensors import wheel_odometry

KEPT, FIGURE = Path("runs/pose_graph"), Path("docs/images/pose_graph.png")
LAPS = 1575.0  # metres: twice around
DRIVE = DriveConfig("night", TOWN_SEED, drive_seed=31, spacing_m=2.7, length_m=LAPS)
MAP_SPACING = 2.0  # metres
ODOMETRY_SEEDS = range(5)  # drifts that the one drive is measured with
WRONG_SHARE = 0.3  # wrong hints injected, as a share of the given ones
WRONG_DISTANCE = 30.0  # metres at least between the places of a wrong hint
RIGHT_DISTANCE = 5.0  # metres within which a hint is right
CREDULOUS = LoopClosureConfig(agreeing=1, score_threshold=0.3)  # so that points alone decide

Hints = Sequence[Hint]
UNVERIFIED = "own drive, not verified"
USES: dict[str, tuple[bool, Callable[[Hint], bool]]] = {  # whether verified, and which
    UNVERIFIED: (False, lambda hint: hint.kind == OWN),
    "own drive": (True, lambda hint: hint.kind == OWN),
    "map": (True, lambda hint: hint.kind == MAP),
    "both, own not verified": (False, lambda hint: True),
    "both": (True, lambda hint: True),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, draw the figure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args(argv)
    seen = look()
    results = [measure(seen, seed) for seed in ODOMETRY_SEEDS]
    draw(arguments.figure, seen.truth, results[0].tracks)
    print(render(results))
    odometry = wheel_odometry(simulate_drive(DRIVE).trajectory, ODOMETRY_SEEDS[0])
    print(costs(seen, odometry, results[0].own))
    for verified in (False, True):
        hints = give_hints(seen, odometry, verified, CREDULOUS)
        wrong = [is_wrong(seen, hint) for hint in hints if hint.kind == OWN]
        print(f"credulous, {verified=}: {len(wrong)} of the own drive, {sum(wrong)} wrong")
    print(f"Measured under: {circumstances()}.")


@dataclass(frozen=True)
class Measured:
    """One drift. errors: absolute trajectory error (metres) by row of the table; tracks: some of
    the trajectories; hints, wrong: how many were given by kind, how many of them were wrong;
    own: the verified ones of the own drive; relations: how good relations are, by row."""

    errors: dict[str, float]
    tracks: dict[str, list[Transform]]
    hints: dict[str, int]
    wrong: dict[str, int]
    own: list[Hint]
    relations: dict[str, dict[str, float]]


def look() -> Seen:
    """What the localizer tells of every image; rendered and encoded the first time."""
    if not (KEPT / "drive" / "dataset.json").exists():
        write_drive(DRIVE, KEPT / "drive")
    if not (KEPT / "map").exists():
        config = MapBuilderConfig(keyframe_distance=MAP_SPACING)
        build_map(open_dataset(REFERENCE), load_model(MODEL), KEPT / "map", config)
    drive, place_map = Dataset(KEPT / "drive"), PlaceMap(KEPT / "map")
    camera = drive.info.cameras["front"]
    camera_from_base = camera.base_from_camera.inverse()
    if not (KEPT / "seen.npz").exists():
        localizer = Localizer.open(KEPT / "map", MODEL, LocalizerConfig(device="cpu"))
        found = [
            localizer.localize(image.read(drive.path(record)), domain=record.domain)
            for record in drive.records
        ]
        np.savez(
            KEPT / "seen.npz",
            coarse=np.stack([f.coarse for f in found]),
            fine=np.stack([f.features.numpy().ravel() for f in found]).astype(np.float16),
            ids=np.array([f.best.record.id for f in found]),
            scores=np.array([f.best.fine_score for f in found]),
        )
    with np.load(KEPT / "seen.npz") as kept:
        coarse, fine, ids, scores = (kept[k] for k in ("coarse", "fine", "ids", "scores"))
    spacing, records = place_map.spacing(), [place_map.records[i] for i in ids]
    return Seen(
        stamps_ns=[record.stamp_ns for record in drive.records],
        coarse=coarse,
        fine=fine,
        matches=[
            MapMatch(r.stamp_ns, r.map_from_camera @ camera_from_base, float(score), spacing)
            for r, score in zip(records, scores, strict=True)
        ],
        truth=[record.map_from_camera @ camera_from_base for record in drive.records],
        views=[View(image.read(drive.path(record)), camera) for record in drive.records],
    )


def measure(seen: Seen, seed: int) -> Measured:
    """Trajectories and their errors with the odometry of one seed."""
    odometry = wheel_odometry(simulate_drive(DRIVE).trajectory, seed)
    given = {verified: give_hints(seen, odometry, verified) for verified in (False, True)}
    rng = np.random.default_rng(seed)
    bad = {verified: wrong_hints(seen, hints, rng) for verified, hints in given.items()}
    start = seen.truth[0]
    tracks = {"odometry": [start @ odometry[0].inverse() @ pose for pose in odometry]}
    for use, (verified, chosen) in USES.items():
        good = list(filter(chosen, given[verified]))
        spoiled = [*good, *filter(chosen, bad[verified])]
        tracks[use] = solve(start, odometry, seen.stamps_ns, good)
        tracks[f"{use}, wrong ones injected"] = solve(start, odometry, seen.stamps_ns, spoiled)
        tracks[f"{use}, wrong ones injected, plain least squares"] = solve(
            start, odometry, seen.stamps_ns, spoiled, robust=False
        )
    kinds = {
        UNVERIFIED: [hint for hint in given[False] if hint.kind == OWN],
        "own drive": [hint for hint in given[True] if hint.kind == OWN],
        "map": [hint for hint in given[True] if hint.kind == MAP],
    }
    return Measured(
        errors={name: trajectory_error(seen.truth, track) for name, track in tracks.items()},
        tracks=tracks,
        hints={kind: len(some) for kind, some in kinds.items()},
        wrong={kind: sum(is_wrong(seen, h) for h in some) for kind, some in kinds.items()},
        own=kinds["own drive"],
        relations={kind: accuracy(seen, kinds[kind]) for kind in (UNVERIFIED, "own drive")},
    )


def give_hints(
    seen: Seen,
    odometry: Sequence[Transform],
    verified: bool,
    config: LoopClosureConfig = LoopClosureConfig(),
) -> list[Hint]:
    """Those of the whole drive; verified: those of the own drive are."""
    closer, hints = LoopCloser(config), []
    for i, (stamp_ns, pose) in enumerate(zip(seen.stamps_ns, odometry, strict=True)):
        view = seen.views[i] if verified else None
        hints += closer.add(stamp_ns, pose, seen.coarse[i], seen.fine[i], view)
        hints += closer.map_hint(stamp_ns, pose, seen.matches[i])
    return hints


def wrong_hints(seen: Seen, hints: Hints, rng: np.random.Generator) -> list[Hint]:
    """Hints that claim two distant places to be one, as sure of it as the right ones."""
    bad: list[Hint] = []
    while len(bad) < round(WRONG_SHARE * len(hints)):
        like, (then, now) = hints[len(bad)], sorted(rng.integers(len(seen.truth), size=2))
        relation = Relation(Transform.identity(), like.relation.covariance)
        match = seen.matches[then] if like.kind == MAP else None
        hint = Hint(
            stamp_ns=seen.stamps_ns[now],
            keyframe_stamp_ns=seen.stamps_ns[then],
            relation=relation,
            score=like.score,
            kind=like.kind,
            map_from_keyframe=match and match.map_from_base,
        )
        if _gap(seen, hint) > WRONG_DISTANCE:
            bad.append(hint)
    return bad


def is_wrong(seen: Seen, hint: Hint) -> bool:
    """Whether the vehicle was elsewhere."""
    return _gap(seen, hint) > RIGHT_DISTANCE


def trajectory_error(truth: Sequence[Transform], track: Sequence[Transform]) -> float:
    """Root mean square distance, metres; both begin at the true first pose, nothing is aligned."""
    gaps = [a.translation - b.translation for a, b in zip(truth, track, strict=True)]
    return float(np.sqrt(np.mean(np.sum(np.square(gaps), axis=1))))


def render(results: Sequence[Measured]) -> str:
    """The table of docs/slam.md."""
    rows = []
    for name in results[0].errors:
        errors = [result.errors[name] for result in results]
        rows.append([name, f"{np.median(errors):.2f} m", f"{min(errors):.2f}–{max(errors):.2f} m"])
    kinds = results[0].hints
    given = {k: [f"{r.hints[k]}, {r.wrong[k]} wrong" for r in results] for k in kinds}
    table = markdown(["hints", "median error", "smallest–largest"], rows)
    return "\n".join([table, json.dumps(given), relations([r.relations for r in results])])


def _gap(seen: Seen, hint: Hint) -> float:
    """Metres between where the hint says the vehicle is and where it is."""
    at = dict(zip(seen.stamps_ns, seen.truth, strict=True))
    keyframe = hint.map_from_keyframe or at[hint.keyframe_stamp_ns]
    claimed = keyframe @ hint.relation.keyframe_from_base
    return float(np.linalg.norm(claimed.translation - at[hint.stamp_ns].translation))


if __name__ == "__main__":
    main()
