# SPDX-License-Identifier: Apache-2.0
"""Loop closures and map priors behind a visual odometry of other authors, on KITTI odometry 00.

`python -m benchmark.pose_graph.front_end TRAJECTORY` reads camera poses of any odometry, in TUM's
format with the stamps of times.txt. The scale, which a monocular one does not know, is either that
of its first hundred metres, or each step has the length that wheels would measure. The drive passes
the loop closer as in the node; a stretch of it, of whose images the drive has none, is mapped.
Needs the extra [graph].
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmark.accuracy.drives import EVERY_IMAGE, frame_of
from benchmark.accuracy.gardens_point import SHIPPED, domain_of
from benchmark.accuracy.kitti import DATA, DRIFT, SECOND, drive, only_lens, part
from benchmark.machine import circumstances
from benchmark.peers.table import markdown
from benchmark.pose_graph.drive import EncodedDrive
from benchmark.pose_graph.example import trajectory_error
from benchmark.pose_graph.loop_closures import detect, is_wrong
from benchmark.pose_graph.solver import solve
from benchmark.single_images import describe
from benchmark.truth import bases
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.sources import ImageSource
from disam_ros.datasets.trajectories.reader import read_trajectory
from disam_ros.errors import ConfigError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from disam_ros.slam.keyframe_depths import View
from disam_ros.slam.loop_closure_message import MAP, OWN
from disam_ros.slam.map_match import MapMatch

MODEL = SHIPPED / "outdoor"
MAPPED = slice(600, 1000, 4)  # frames of the map
DRIVEN = slice(1, None, 2)  # frames of the drive, none of which is mapped
SCALED = 100.0  # [m]
SAME = 0.02  # [s] between stamps of one image
HEADER = ["loop closures", "number", "wrong", "error"]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trajectory", type=Path)
    arguments = parser.parse_args(argv)
    whole = drive(DATA)
    images = list(whole.images)[DRIVEN]
    odometry, tracked = read_odometry(arguments.trajectory, part(whole, images))
    encoded = encode(whole, part(whole, [images[row] for row in tracked]))
    length = _length(encoded.truth)
    print(f"{len(tracked)} of {len(images)} images tracked, {length:.0f} m; {circumstances()}\n")
    names = ("own drive", "map", "both")
    for scale in (scaled, measured):
        track = scale(odometry, encoded.truth)
        closures = detect(encoded, track, verified=True)
        rows = [["odometry alone", "", "", _error(encoded.truth, track)]]
        for name, kinds in zip(names, ({OWN}, {MAP}, {OWN, MAP}), strict=True):
            chosen = [closure for closure in closures if closure.kind in kinds]
            wrong = sum(is_wrong(encoded, closure) for closure in chosen)
            corrected = solve(encoded.truth[0], track, encoded.stamps_ns, chosen)
            cells = [str(len(chosen)), str(wrong), _error(encoded.truth, corrected)]
            rows.append([name, *cells])
        print(f"{scale.__name__}\n{markdown(HEADER, rows)}\n")


def read_odometry(path: Path, source: ImageSource) -> tuple[list[Transform], list[int]]:
    """Reads the poses odom_from_base of a source's images, and which images have one."""
    trajectory = read_trajectory(path)
    mount = only_lens(source).base_from_camera
    poses, rows = [], []
    for row, item in enumerate(source.images):
        gaps = np.abs(trajectory.stamps - (item.record.stamp_ns - SECOND))
        if gaps.min() <= SAME * SECOND:
            poses.append(mount @ trajectory.poses[int(gaps.argmin())] @ mount.inverse())
            rows.append(row)
    if not rows:
        raise ConfigError(f"{path}: expected stamps of KITTI's times.txt [s], none is near one")
    return poses, rows


def scaled(odometry: Sequence[Transform], truth: Sequence[Transform]) -> list[Transform]:
    """Returns the odometry with the true distance of its first SCALED metres."""
    last = next(i for i in range(len(truth)) if _length(truth[: i + 1]) >= SCALED)
    factor = _length(truth[: last + 1]) / _length(odometry[: last + 1])
    return [Transform(factor * pose.translation, pose.quaternion) for pose in odometry]


def measured(odometry: Sequence[Transform], truth: Sequence[Transform]) -> list[Transform]:
    """Returns the odometry with the distance of every step as wheels would measure it, DRIFT times
    the true one."""
    poses = [odometry[0]]
    for (before, after), ends in zip(pairwise(odometry), pairwise(truth), strict=True):
        step = before.inverse() @ after
        length = float(np.linalg.norm(step.translation))
        factor = DRIFT * _length(ends) / length if length > 0.0 else 0.0
        poses.append(poses[-1] @ Transform(factor * step.translation, step.quaternion))
    return poses


def encode(whole: ImageSource, source: ImageSource) -> EncodedDrive:
    """The drive as the localizer encodes it and matches it on the map of MAPPED."""
    model = load_model(MODEL)
    domain, images = domain_of(model, "day"), list(whole.images)
    with tempfile.TemporaryDirectory() as scratch:
        place_map = build_map(
            part(whole, images[MAPPED]), model, Path(scratch) / "map", EVERY_IMAGE
        )
        config = LocalizerConfig(device="cpu")
        config.domain.override = domain
        localizer = Localizer(model, place_map, config, MODEL)
        return _encode(localizer, source)


def _encode(localizer: Localizer, source: ImageSource) -> EncodedDrive:
    camera, lens = localizer.map.main_camera(), only_lens(source)
    items = list(source.images)
    queries, best, views = [], [], []
    for item in items:
        frame = frame_of(item, camera)
        queries.append(describe(localizer, Frame(frame.image, camera)))
        candidates = localizer.search(queries[-1], localizer.config)
        best.append(localizer.rerank(queries[-1], candidates)[0])
        views.append(View(frame.image, lens))
    poses = bases((candidate.record for candidate in best), lens)
    return EncodedDrive(
        stamps_ns=[item.record.stamp_ns for item in items],
        coarse=np.stack([query.coarse for query in queries]),
        fine=np.stack([query.fine for query in queries]),
        matches=[
            MapMatch(item.record.stamp_ns, pose, candidate.fine_score, localizer.map.spacing())
            for item, pose, candidate in zip(items, poses, best, strict=True)
        ],
        truth=bases((item.record for item in items), lens),
        views=views,
    )


def _length(poses: Sequence[Transform]) -> float:
    """Length of a track [m]."""
    points = np.array([pose.translation for pose in poses])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _error(truth: Sequence[Transform], track: Sequence[Transform]) -> str:
    moved = [truth[0] @ track[0].inverse() @ pose for pose in track]
    return f"{trajectory_error(truth, moved):.2f} m"


if __name__ == "__main__":
    main()
