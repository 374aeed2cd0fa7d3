# SPDX-License-Identifier: Apache-2.0
"""Maps and models whose files have the right checksums and hold what cannot be."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.data import save_tiny_model
from support.faults import edit_json
from support.maps import save_tiny_map

from disam_ros.config import LocalizerConfig
from disam_ros.domains.classifier import DomainClassifier, weight_shapes
from disam_ros.errors import MapError, ModelError
from disam_ros.features.inlier_evidence import PoseErrors
from disam_ros.files.writing import file_sha256
from disam_ros.localization.calibration import (
    DEFAULT,
    Calibration,
    load_calibration,
    save_calibration,
)
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.projection import FILE, NAME, read_projection

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    save_tiny_map(root / "map", save_tiny_model(root / "model"))
    return root / "map"


@pytest.fixture
def place_map(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "map")


def put(directory: Path, name: str, array: np.ndarray) -> None:
    """Replace an array of a map, and its checksum."""
    np.save(directory / name, array)
    digest = file_sha256(directory / name)
    edit_json(directory / "map.json", lambda v: v["sha256"].update({name: digest}))


def test_a_mean_of_twice_as_many_channels_is_refused_by_who_knows_the_model(sound, place_map):
    mean = np.load(place_map / "mean.npy")
    put(place_map, "mean.npy", np.concatenate([mean, mean]))
    with pytest.raises(
        MapError, match=rf"mean\.npy is damaged: expected the means of {len(mean)} "
    ):
        Localizer.open(place_map, sound.parent / "model", LocalizerConfig())


def at(row: int, column: int, value: float):
    def change(array):
        array[row, column] = value
        return array

    return change


ARRAYS = {
    "a position that is no number": ("poses.npy", at(2, 0, NAN), "row 2"),
    "a position beyond the Earth": ("poses.npy", at(3, 2, -1e300), "row 3"),
    "a quaternion of zeros": (
        "poses.npy",
        lambda a: np.r_[a[:1], a[1:] * [1, 1, 1, 0, 0, 0, 0]],
        "1",
    ),
    "a large quaternion": ("poses.npy", at(1, 6, 1e200), "unit quaternion.*row 1"),
    "poses of six numbers": ("poses.npy", lambda a: a[:, :6], "expected 7 numbers a pose, got 6"),
    "a step of zero": ("steps.npy", lambda a: a * 0, "steps above 0"),
    "a step that is no number": ("steps.npy", lambda a: a * np.float32(NAN), "steps above 0"),
    "too few steps": ("steps.npy", lambda a: a[:-1], "one for each code"),
    "directions that are no numbers": ("directions.npy", lambda a: a * np.float16(NAN), "finite"),
    "too few directions": ("directions.npy", lambda a: a[:-1], "expected 6 directions"),
    "a mean that is no number": ("mean.npy", lambda a: a + np.float32(INF), "a finite mean"),
    "a mean beyond all features": ("mean.npy", lambda a: a + np.float32(3e38), "a finite mean"),
    "a step beyond all features": ("steps.npy", lambda a: a + np.float32(1e38), "steps above 0"),
    "a mean of no channel": ("mean.npy", lambda a: a[:0], "a finite mean of each channel"),
    "a mean of other channels": (
        "mean.npy",
        lambda a: np.r_[a, a, a, a[:1]],
        "mean of each channel",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_no_map_has_is_refused_when_the_map_opens(name, place_map):
    file, change, words = ARRAYS[name]
    put(place_map, file, change(np.load(place_map / file)))
    with pytest.raises(MapError, match=rf"map/\w+\.npy is damaged.*{words}"):
        PlaceMap(place_map)


NUMBERS = [f.name for f in fields(Calibration) if isinstance(getattr(DEFAULT, f.name), float)]


@pytest.mark.parametrize("value", [-1e300, 1e300])
@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_a_calibration_has_a_range(name, value, tmp_path):
    save_calibration(DEFAULT, tmp_path)
    edit_json(tmp_path / "calibration.json", lambda v: v.update({name: value}))
    with pytest.raises(ModelError, match=rf"n\.json is malformed.*'{name}' (expects|does)"):
        load_calibration(tmp_path)


def test_calibrations_with_errors_at_the_edge_of_the_ranges_are_read(tmp_path):
    edge = Calibration(0, 1e-9, 0, 0, 0, 0, 0, 0, keypoints={"orb": PoseErrors(1e4, 0, 0, 1e4)})
    save_calibration(edge, tmp_path)
    assert load_calibration(tmp_path).keypoints["orb"].scale == 1e4
    with pytest.raises(ValueError, match="from 0 to 10000"):
        PoseErrors(1e300, 0, 0, 0)


@pytest.mark.parametrize("name", ["steps", "scales"])
@pytest.mark.parametrize("value", [NAN, INF, 0.0])
def test_directions_of_a_model_whose_numbers_cannot_be_are_refused(name, value, tmp_path):
    tensors = {
        NAME: np.ones((3, 5), np.int8),
        **{key: np.ones(3, np.float32) for key in ("scales", "steps")},
    }
    tensors[name][1] = value
    save_file(tensors, tmp_path / FILE)
    with pytest.raises(ModelError, match=r"scales and steps \[d\] above 0"):
        read_projection(tmp_path, file_sha256(tmp_path / FILE))


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_classifier_whose_weights_are_no_numbers_is_refused(value):
    weights = {key: np.zeros(shape, np.float32) for key, shape in weight_shapes(2).items()}
    DomainClassifier(("day", "night"), weights)
    weights["head.bias"][0] = value
    with pytest.raises(ModelError, match=r"weights head\.bias .* are no finite numbers"):
        DomainClassifier(("day", "night"), weights)
