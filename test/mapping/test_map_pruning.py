# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from support.data import DESCRIPTOR, save_tiny_model, texture, write_dataset
from support.localize import localize

from disam_ros.cli import main
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import MapError
from disam_ros.geometry import Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.life.assembly import Part, assemble
from disam_ros.mapping.life.pruning import NEAR, kept_rows, stood_for, uses_of
from disam_ros.mapping.place_map import PlaceMap

CONFIG = MapBuilderConfig(
    keyframe_distance=0.0, descriptor=DESCRIPTOR, domain="day", keypoints=0, thumbnails=False
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("pruning")
    model = save_tiny_model(root / "model")
    data = write_dataset(root / "data", 24)
    build_map(open_dataset(data.directory), model, root / "map", CONFIG, show_progress=False)
    return root


@pytest.fixture
def place_map(root):
    """Changes to its arrays do not reach the file."""
    return PlaceMap(root / "map")


def test_of_two_images_at_one_place_one_goes_first(place_map):
    place_map.poses[7] = place_map.poses[6]
    kept = kept_rows(place_map, 23 / 24)
    assert len(kept) == 23 and len({6, 7} & set(kept.tolist())) == 1


def test_what_stays_is_spread_evenly(place_map):
    assert set(np.diff(kept_rows(place_map, 0.5))) == {2}
    assert set(np.diff(kept_rows(place_map, 0.25))) == {4}


def test_what_goes_is_near_to_what_stays_whatever_the_track(place_map):
    rng = np.random.default_rng(0)
    place_map.poses[:, :2] = rng.uniform(0, 30, (24, 2))
    kept = kept_rows(place_map, 1 / 3)
    assert len(kept) == 8
    stays = place_map.poses[kept, :2]
    gaps = np.linalg.norm(stays[:, None] - stays, axis=2) + 1e9 * np.eye(8)
    goes = np.delete(place_map.poses[:, :2], kept, axis=0)
    away = np.linalg.norm(goes[:, None] - stays, axis=2).min(1)
    assert away.max() <= gaps.min() * 2.0  # a net: covering radius about the packing radius


def test_an_image_seen_in_another_direction_stays(place_map):
    place_map.poses[7] = place_map.poses[6]
    turned = Transform.from_xyz_rpy([0, 0, 0, 0, 0, np.pi]) @ place_map.records[6].map_from_camera
    place_map.poses[7, 3:] = turned.quaternion
    assert {6, 7} <= set(kept_rows(place_map, 0.75).tolist())


def test_an_image_that_was_the_right_answer_stays(place_map):
    uses = np.zeros(24, int)
    uses[[3, 9, 14]] = 50
    assert {3, 9, 14} <= set(kept_rows(place_map, 0.25, uses).tolist())


def test_every_condition_keeps_its_share(place_map):
    place_map.camera_of[12:] = 1
    place_map.camera_names.append("rear")
    kept = kept_rows(place_map, 1 / 3)
    assert (kept < 12).sum() == (kept >= 12).sum() == 4


@pytest.mark.parametrize("keep", [0.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(place_map, keep):
    with pytest.raises(MapError, match="share of images"):
        kept_rows(place_map, keep)


def test_all_images_stay_on_request_and_one_of_each_group_at_least(place_map):
    assert np.array_equal(kept_rows(place_map, 1.0), np.arange(24))
    assert len(kept_rows(place_map, 0.001)) == 1


def test_right_answers_are_counted_and_wrong_ones_are_not(place_map):
    frames = [(3, 0.5, 1.0), (3, 2.0, 1.0), (5, 80.0, 1.0), (6, 1.0, 90.0), (None, None, None)]
    uses = uses_of(place_map, frames, 5.0, 10.0)
    assert uses[3] == 2 and uses.sum() == 2
    with pytest.raises(MapError, match="was it of this map"):
        uses_of(place_map, [(24, 0.0, 0.0)], 5.0, 10.0)


def test_a_pruned_map_answers_near_by_and_keeps_what_an_evaluation_used(root, tmp_path, capsys):
    words = [str(root / "map"), "--model", str(root / "model"), "--device", "cpu"]
    words = ["evaluate", str(root / "data"), "--map", *words, "--output", str(root / "evaluation")]
    assert main(words) == 0
    columns = json.loads((root / "evaluation" / "results.json").read_text())["frames"]
    assert columns["matched_id"] == list(range(24))
    words = ["map", "prune", str(root / "map"), "--used", str(root / "evaluation")]
    assert main([*words, "--output", str(tmp_path / "half")]) == 0
    assert "12 of 24 images, 24 were right answers" in capsys.readouterr().out
    localizer = Localizer.open(tmp_path / "half", root / "model", LocalizerConfig(device="cpu"))
    kept = {round(float(x)) for x in localizer.map.poses[:, 0]}
    assert len(kept) == 12
    for seed in kept:
        found = localize(localizer, texture(seed), domain="day").record.map_from_camera
        assert found.translation[0] == pytest.approx(seed)


def test_what_stays_stands_for_what_goes_beside_it_and_for_nothing_far_away(place_map):
    kept = kept_rows(place_map, 0.5)
    groups = stood_for(place_map, kept)
    assert all(group[0] == row for group, row in zip(groups, kept, strict=True))
    gone = np.setdiff1d(np.arange(24), kept)
    assert np.array_equal(np.unique(np.concatenate(groups)), np.arange(24))
    for row in gone.tolist():
        takers = [int(group[0]) for group in groups if row in group[1:]]
        assert set(takers) == {row - 1, row + 1} & set(kept.tolist())
    place_map.poses[:, 0] *= 2 * NEAR
    assert [group.tolist() for group in stood_for(place_map, kept)] == [[row] for row in kept]


def pruned(place_map, kept, output):
    groups = stood_for(place_map, kept)
    part = Part(place_map, kept, mean_of=groups)
    return assemble([part], output, {"operation": "prune"}), groups


def test_the_descriptors_of_what_stays_are_means_of_directions(place_map, tmp_path):
    found, groups = pruned(place_map, kept_rows(place_map, 0.5), tmp_path / "half")
    assert np.array_equal(found.mean, place_map.mean)
    for stage, steps in (("fine", 1.0), ("coarse", place_map.steps.astype(np.float64))):
        for row, group in enumerate(groups):
            every = np.asarray(getattr(place_map, stage)[group], np.float64) * steps
            wanted = (every / np.linalg.norm(every, axis=1, keepdims=True)).mean(0)
            given = np.asarray(getattr(found, stage)[row], np.float64) * steps
            cosine = given @ wanted / np.linalg.norm(given) / np.linalg.norm(wanted)
            assert cosine > 0.995  # int8


def test_a_map_of_which_all_stays_keeps_its_descriptors(place_map, tmp_path):
    found, _ = pruned(place_map, np.arange(24), tmp_path / "all")
    for stage in ("fine", "coarse"):
        apart = getattr(found, stage)[:].astype(int) - getattr(place_map, stage)[:].astype(int)
        assert abs(apart).max() <= 1
