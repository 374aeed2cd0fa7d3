# SPDX-License-Identifier: Apache-2.0
"""Answers → submission file of the long-term visual localization benchmark.

From the READMEs of CMU-Seasons and RobotCar-Seasons: a line `name qw qx qy qz tx ty tz` for each
image that was localized, with the rotation world→camera and the camera's TRANSLATION, which is not
its centre, in the reference model's frame. CMU: bare file names, in CMU_eval_<method>.txt, all
slices in one file; RobotCar: `camera/<µs>.jpg`, in RobotCar_eval_<method>.txt.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from disam_ros.datasets.dataset import Dataset
from disam_ros.errors import DatasetError, GeometryError
from disam_ros.evaluation.answers import ANSWER_POSE
from disam_ros.files.outputs import output_file
from disam_ros.files.reading import read_lines
from disam_ros.geometry import Transform

# How many of the last parts of an image's original path make up its name
NAME_PARTS = {"cmu-seasons": 1, "robotcar-seasons": 2}


def submission_line(name: str, map_from_camera: Transform) -> str:
    """Formats camera_from_map as `name qw qx qy qz tx ty tz` with 15 digits."""
    pose = map_from_camera.inverse()
    x, y, z, w = pose.quaternion
    return " ".join([name, *(f"{v + 0.0:.15g}" for v in (w, x, y, z, *pose.translation))])


def write_submission(
    path: Path | str, poses: Mapping[str, Transform], overwrite: bool = False
) -> None:
    """Writes map_from_camera by image name; the file appears when it is complete.

    overwrite: see `output_file`. Raises OutputError.
    """
    with output_file(path, overwrite) as file:
        file.writelines(f"{submission_line(name, pose)}\n" for name, pose in poses.items())


def answered_poses(answers: Path | str, dataset: Dataset, benchmark: str) -> dict[str, Transform]:
    """Reads map_from_camera by the benchmark's image names from an answers.csv.

    dataset: the queries, as converted, whose `source` column holds the original names. Images that
    were not localized are left out. benchmark: a key of NAME_PARTS. Raises DatasetError where the
    answers are malformed or of other images.
    """
    sources = {record.path: record.source for record in dataset.records}
    parts = NAME_PARTS[benchmark]
    poses: dict[str, Transform] = {}
    for where, row in _rows(Path(answers)):
        stored = "/".join(PurePosixPath(row["path"]).parts[-4:])  # images/domain/camera/stamp.jpg
        if stored not in sources:
            raise DatasetError(f"{where}: {row['path']} is no image of {dataset.directory}")
        name = "/".join(PurePosixPath(sources[stored]).parts[-parts:])
        if name in poses:
            raise DatasetError(f"{where}: {name} is answered twice")
        fields = [row[column] for column in ANSWER_POSE]
        if fields[0]:
            poses[name] = _pose(where, fields)
    return poses


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(read_lines(path, DatasetError), restval="")
    expected = "expected the table that `disam localize` writes"
    try:
        if missing := {"path", *ANSWER_POSE} - set(reader.fieldnames or ()):
            raise DatasetError(f"{path} lacks the columns {sorted(missing)}; {expected}")
        return [(f"{path} line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise DatasetError(f"{path} is malformed: {error}; {expected}") from error


def _pose(where: str, fields: list[str]) -> Transform:
    try:
        values = np.array([float(field) for field in fields])
        return Transform(values[:3], values[3:])
    except (ValueError, TypeError, GeometryError) as error:
        raise DatasetError(f"{where} is malformed: {error}") from error
