# SPDX-License-Identifier: Apache-2.0
"""Whether this working tree answers as an earlier commit did.

`python -m benchmark.answers COMMIT` builds maps and localizes images with both trees, one by one
and as a sequence: the demo's drives and, where they are, KITTI 00 with odometry and Gardens Point
by night. It prints the largest differences. Where all of them are equal to TOLERANCE and the tree
is committed, docs/answers.json keeps that, and figures of accuracy of COMMIT are not stale
(`benchmark.machine.is_stale`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from benchmark.accuracy import gardens_point, kitti
from benchmark.machine import ANSWERS, commit, commit_of
from benchmark.quick import ROOT, extracted
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import ImageSource, open_dataset
from disam_ros.demo.drives import CONDITIONS, DATA, REFERENCE, read_drive
from disam_ros.errors import DatasetError
from disam_ros.files.writing import write_json
from disam_ros.image import encode_jpeg

MAPPED, QUERIES = 200, 50  # images of a set, at most
STEP = 4  # frames of KITTI from one map image to the next, of Gardens Point between queries
FIELDS = ("candidate", "known", "score", "probability", "x", "y", "z")
# Scores that differ by 1e-4 make log odds differ by a hundredth (calibration.lead_slope).
TOLERANCE = {"candidate": 0.0, "known": 0.0, "score": 1e-4, "probability": 1e-3, "position": 1e-3}

# Runs in a process of its own with either tree on its path; thus it uses few names of the package.
# Prints by set, drive and kind a row of FIELDS for each image; nan where there is no answer.
RUN = """
import json, sys
from pathlib import Path
from disam_ros import DisamError, Frame, LocalizerConfig, MapBuilderConfig, Pipeline, Shot
from disam_ros import load_model
from disam_ros.datasets.sources import open_dataset
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.mapping.builder import build_map

def row(localized):
    try:
        answer = localized.answer
    except DisamError:
        return [float("nan")] * 7
    best = answer.best
    values = best.record.stamp_ns, answer.known, best.fine_score, answer.probability
    return [*map(float, values), *answer.map_from_base.translation.tolist()]

folder, scratch, model_dir = (Path(argument) for argument in sys.argv[1:])
model, rows = load_model(model_dir), {}
for part in sorted(folder.iterdir()):
    settings = MapBuilderConfig(keyframe_distance=0.0, local_features="sift")
    map_dir = scratch / part.name
    build_map(open_dataset(part / "map"), model, map_dir, settings, show_progress=False)
    for drive in sorted(path for path in part.iterdir() if path.name != "map"):
        source = open_dataset(drive)
        items = [(item.record, item.load()) for item in source.images]
        for kind in ("one by one", "sequence", "sequence with odometry"):
            config = LocalizerConfig(device="cpu")
            config.sequence.enabled = kind != "one by one"
            pipeline, answers = Pipeline.open(map_dir, model_dir, config), []
            for number, (record, pixels) in enumerate(items):
                mount = source.info.cameras[record.camera].base_from_camera
                pose = record.map_from_camera @ mount.inverse()
                reading = Reading(pose, float(number), 0) if "odometry" in kind else None
                shot = Shot(Frame(pixels, record.camera, record.stamp_ns), reading)
                answers.append(row(*pipeline.process([shot])))
            rows[f"{part.name}: {drive.name}, {kind}"] = answers
print(json.dumps(rows))
"""

Rows = dict[str, list[list[float]]]
Differences = dict[str, dict[str, float]]  # by rows and key of TOLERANCE; "images": their number


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the differences. Returns 1 where one is above TOLERANCE, else 0."""
    parser = argparse.ArgumentParser(prog="benchmark.answers", description=__doc__)
    parser.add_argument("commit")
    before, now = commit_of(parser.parse_args(argv).commit), commit()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        left_out = write_sets(folder / "sets")
        tree = extracted(before, folder / "tree")
        largest = differences(answers(tree, folder / "sets"), answers(ROOT, folder / "sets"))
    print(table(largest))
    equal = all(by[name] <= most for by in largest.values() for name, most in TOLERANCE.items())
    if now.endswith("-dirty"):
        left_out = "the tree has changes that are not committed"
    if equal and left_out:
        print(f"not kept: {left_out}")
    elif equal:
        remember(before, now, largest)
    return 0 if equal else 1


def write_sets(folder: Path, data: Path = Path("data")) -> str:
    """Writes a folder per set with the dataset `map` and the drives to localize in it.

    Returns why sets are left out; empty: none is.
    """
    reference = open_dataset(REFERENCE)
    write(folder / "demo" / "map", reference, 0, MAPPED, 1)
    for name in CONDITIONS:
        drive = read_drive(DATA / name)
        ((camera, lens),) = reference.info.cameras.items()
        with DatasetWriter(folder / "demo" / name, reference.info) as writer:
            for stamp, picture, pose in islice(
                zip(drive.stamps_ns, drive.images, drive.truth, strict=True), QUERIES
            ):
                writer.add(encode_jpeg(picture), stamp, camera, "", pose @ lens.base_from_camera)
    try:
        whole = kitti.drive(data / "kitti")
        write(folder / "kitti" / "map", whole, 0, MAPPED, STEP)
        write(folder / "kitti" / "halfway", whole, STEP // 2, QUERIES, STEP)
        for part, name, step in (("map", "day_left", 1), ("night", "night_right", STEP)):
            with tempfile.TemporaryDirectory() as scratch:
                directory = Path(scratch) / name
                gardens_point.aligned_dataset(data / "gardens_point" / name, directory, "")
                source = open_dataset(directory)
                write(folder / "gardens_point" / part, source, 0, MAPPED // step, step)
    except DatasetError as error:
        return str(error)
    return ""


def write(folder: Path, source: ImageSource, first: int, count: int, step: int) -> None:
    """Writes a part of a source as a dataset."""
    with DatasetWriter(folder, DatasetInfo(source.info.name, source.info.cameras)) as writer:
        for item in islice(source.images, first, first + count * step, step):
            record = item.record
            jpeg = encode_jpeg(item.load())
            writer.add(jpeg, record.stamp_ns, record.camera, "", record.map_from_camera)


def answers(tree: Path, sets: Path) -> Rows:
    """Rows of FIELDS of a tree, in a process of its own. Raises CalledProcessError."""
    paths = os.environ | {"PYTHONPATH": str(tree)}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", RUN, str(sets), scratch, str(tree / "models" / "outdoor")]
        ran = subprocess.run(
            command, env=paths, cwd=tree, stdout=subprocess.PIPE, text=True, check=True
        )
    rows: Rows = json.loads(ran.stdout)
    return rows


def differences(before: Rows, now: Rows) -> Differences:
    """Largest differences of scores, probabilities and positions; shares of other candidates and of
    other decisions. An answer that one tree alone gives differs by infinity."""
    results: Differences = {}
    for name, rows in before.items():
        a, b = np.array(rows), np.array(now[name])
        gaps = np.abs(a - b)
        gaps[np.isnan(a) & np.isnan(b)] = 0.0
        gaps[np.isnan(gaps)] = np.inf
        values = dict(zip(FIELDS, gaps.T, strict=True))
        results[name] = {
            "images": len(rows),
            "candidate": float((values["candidate"] > 0).mean()),
            "known": float((values["known"] > 0).mean()),
            "score": float(values["score"].max()),
            "probability": float(values["probability"].max()),
            "position": float(np.linalg.norm(gaps[:, -3:], axis=1).max()),
        }
    return results


def table(largest: Differences) -> str:
    """Makes a table in Markdown."""
    lines = [f"| largest difference | images | {' | '.join(TOLERANCE)} |", "|---" * 7 + "|"]
    for name, by in largest.items():
        values = " | ".join(f"{by[key]:.1g}" for key in TOLERANCE)
        lines.append(f"| {name} | {by['images']} | {values} |")
    return "\n".join(lines)


def remember(before: str, now: str, largest: Differences) -> None:
    """Notes in ANSWERS that both commits answer alike, and by which images."""
    images = {name: int(by["images"]) for name, by in largest.items()}
    pair = {"before": before, "now": now, "images": images}
    write_json(ANSWERS, {"alike": [*json.loads(ANSWERS.read_text())["alike"], pair]})


if __name__ == "__main__":
    sys.exit(main())
