# SPDX-License-Identifier: Apache-2.0
"""A drifting odometry corrected by loop closures: `python -m benchmark.pose_graph.example`.

Two laps of the test town at night, and a map of seven tenths of the lap, in summer. Loop closures
of the drive with itself are detected twice: verified by keypoints and not. Drive, map and
descriptors are kept in runs/pose_graph: the first run takes minutes, later ones some, too. Needs
season_town and the extra [graph]; an example, no part of what runs on a vehicle.
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
from benchmark.pose_graph.drive import DRIVE, EncodedDrive, load_drive
from benchmark.pose_graph.figure import draw
from benchmark.pose_graph.loop_closures import accuracy, costs, detect, is_wrong, outliers
from benchmark.pose_graph.solver import solve
from disam_ros.config import LoopClosureConfig
from disam_ros.geometry import Transform
from disam_ros.slam.loop_closure_message import MAP, OWN, LoopClosure
from season_town.drive import RenderedDrive
from season_town.sensors import wheel_odometry

FIGURE = Path("docs/images/pose_graph.png")
ODOMETRY_SEEDS = range(5)  # drifts that the one drive is measured with
CREDULOUS = LoopClosureConfig(score_threshold=0.3)  # with single matches: verification decides

UNVERIFIED = "own drive, not verified"
USES: dict[str, tuple[bool, Callable[[LoopClosure], bool]]] = {  # whether verified, and which
    UNVERIFIED: (False, lambda closure: closure.kind == OWN),
    "own drive": (True, lambda closure: closure.kind == OWN),
    "map": (True, lambda closure: closure.kind == MAP),
    "both, own not verified": (False, lambda closure: True),
    "both": (True, lambda closure: True),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, draw the figure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args(argv)
    drive = load_drive()
    results = [measure(drive, seed) for seed in ODOMETRY_SEEDS]
    draw(arguments.figure, drive.truth, results[0].tracks)
    print(render(results))
    odometry = wheel_odometry(RenderedDrive(DRIVE).trajectory, ODOMETRY_SEEDS[0])
    print(costs(drive, odometry, results[0].own))
    closures = detect(drive, [None] * len(odometry), verified=True)
    wrong = [is_wrong(drive, closure) for closure in closures]
    print(f"without odometry: {len(wrong)} of the own drive, {sum(wrong)} wrong")
    for verified in (False, True):
        closures = detect(drive, odometry, verified, CREDULOUS, consistent_keyframes=1)
        wrong = [is_wrong(drive, closure) for closure in closures if closure.kind == OWN]
        print(f"credulous, {verified=}: {len(wrong)} of the own drive, {sum(wrong)} wrong")
    print(f"Measured under: {circumstances()}.")


@dataclass(frozen=True)
class Measured:
    """What one drift gave."""

    errors: dict[str, float]  # absolute trajectory error by row of the table [m]
    tracks: dict[str, list[Transform]]  # trajectories that are drawn
    detected: dict[str, int]  # loop closures by kind
    wrong: dict[str, int]  # wrong ones among them
    own: list[LoopClosure]  # verified ones of the drive with itself
    relative_poses: dict[str, dict[str, float]]  # accuracy by row


def measure(drive: EncodedDrive, seed: int) -> Measured:
    """Trajectories and their errors with the odometry of one seed."""
    odometry = wheel_odometry(RenderedDrive(DRIVE).trajectory, seed)
    detected = {verified: detect(drive, odometry, verified) for verified in (False, True)}
    rng = np.random.default_rng(seed)
    bad = {verified: outliers(drive, closures, rng) for verified, closures in detected.items()}
    start = drive.truth[0]
    tracks = {"odometry": [start @ odometry[0].inverse() @ pose for pose in odometry]}
    for use, (verified, chosen) in USES.items():
        good = list(filter(chosen, detected[verified]))
        spoiled = [*good, *filter(chosen, bad[verified])]
        tracks[use] = solve(start, odometry, drive.stamps_ns, good)
        tracks[f"{use}, wrong ones injected"] = solve(start, odometry, drive.stamps_ns, spoiled)
        tracks[f"{use}, wrong ones injected, plain least squares"] = solve(
            start, odometry, drive.stamps_ns, spoiled, robust=False
        )
    kinds = {
        UNVERIFIED: [closure for closure in detected[False] if closure.kind == OWN],
        "own drive": [closure for closure in detected[True] if closure.kind == OWN],
        "map": [closure for closure in detected[True] if closure.kind == MAP],
    }
    return Measured(
        errors={name: trajectory_error(drive.truth, track) for name, track in tracks.items()},
        tracks=tracks,
        detected={kind: len(members) for kind, members in kinds.items()},
        wrong={kind: sum(is_wrong(drive, c) for c in members) for kind, members in kinds.items()},
        own=kinds["own drive"],
        relative_poses={kind: accuracy(drive, kinds[kind]) for kind in (UNVERIFIED, "own drive")},
    )


def trajectory_error(truth: Sequence[Transform], track: Sequence[Transform]) -> float:
    """Root mean square distance, metres; both begin at the true first pose, nothing is aligned."""
    gaps = [a.translation - b.translation for a, b in zip(truth, track, strict=True)]
    return float(np.sqrt(np.mean(np.sum(np.square(gaps), axis=1))))


def render(results: Sequence[Measured]) -> str:
    """Tables of docs/slam.md (trajectories) and docs/research/method_notes.md (relative poses)."""
    rows = []
    for name in results[0].errors:
        errors = [result.errors[name] for result in results]
        rows.append([name, f"{np.median(errors):.2f} m", f"{min(errors):.2f}–{max(errors):.2f} m"])
    kinds = results[0].detected
    detected = {k: [f"{r.detected[k]}, {r.wrong[k]} wrong" for r in results] for k in kinds}
    table = markdown(["loop closures", "median error", "smallest–largest"], rows)
    poses, columns = [], list(results[0].relative_poses["own drive"])
    for kind in results[0].relative_poses:
        cells = [np.median([r.relative_poses[kind][name] for r in results]) for name in columns]
        poses.append([kind, *(f"{cell:.2f}" for cell in cells)])
    return "\n".join([table, json.dumps(detected), markdown(["relative pose", *columns], poses)])


if __name__ == "__main__":
    main()
