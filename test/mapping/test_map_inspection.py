# SPDX-License-Identifier: Apache-2.0
import re

import cv2
import numpy as np
import pytest
from support.data import CAMERA, DESCRIPTOR, camera_pose, save_tiny_model, texture

from disam_ros.cli import main
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.geometry import Transform
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.life.inspection import findings, worst_places
from disam_ros.mapping.life.weakness import risk_at, weakness
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.models.similarity import descriptor_shapes

CONFIG = MapBuilderConfig(keyframe_distance=0.0, descriptor=DESCRIPTOR, keypoints=0)
COUNT, TWINS = 60, (8, 44)  # images 1 m apart; two stretches look the same
LENGTH = 8
DARK = 30


def picture(number):
    """A view that changes slowly along the drive, but for the twins' stretch."""
    for first in TWINS:
        if first <= number < first + LENGTH:
            return texture(900 + number - first)
    block, share = divmod(number, 12)
    a, b = texture(block).astype(float), texture(block + 1).astype(float)
    mixed = ((12 - share) * a + share * b) / 12
    return np.uint8(mixed * (0.06 if DARK <= number < DARK + 3 else 1.0))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("inspection")
    model = save_tiny_model(root / "model")
    with DatasetWriter(root / "data", DatasetInfo("street", {"front": CAMERA})) as writer:
        for number in range(COUNT):
            data = cv2.imencode(".png", picture(number)[..., ::-1])[1].tobytes()
            place = camera_pose(number + 20 * (number >= 55))  # a gap of 21 m before image 55
            writer.add(data, (number + 1) * 10**9, "front", "day", place, "")
    build_map(open_dataset(root / "data"), model, root / "map", CONFIG, show_progress=False)
    return root


@pytest.fixture(scope="module")
def found(root):
    model = load_model(root / "model")
    shape = descriptor_shapes(model.network, DESCRIPTOR)["fine"]
    return weakness(PlaceMap(root / "map"), shape)


def test_places_that_look_the_same_are_each_others_twins(found):
    for offset in range(LENGTH):
        one, other = (first + offset for first in TWINS)
        assert found.twin[one] == other and found.twin[other] == one
        assert found.aliasing[[one, other]].min() > 0
    twins, others = (found.risk[some] for some in ([11, 12, 47, 48], slice(26, 34)))
    assert twins.min() > others.max()


def test_gaps_darkness_and_headings_are_found(found):
    assert set(np.flatnonzero(found.hole)) == {54, 55}
    assert set(np.flatnonzero(found.light < 30)) == {DARK, DARK + 1, DARK + 2}
    assert (found.headings.sum(1) == 1).all() and found.domain_names == ("day",)
    names = {finding.name: finding.share for finding in findings(found)}
    assert names["headings"] == 1.0 and names["light"] == pytest.approx(3 / COUNT)
    assert names["coverage"] == pytest.approx(2 / COUNT) and names["aliasing"] >= 2 * LENGTH / COUNT


def test_a_second_drive_the_other_way_and_at_night_is_seen(root):
    place_map = PlaceMap(root / "map")
    turn = Transform.from_xyz_rpy([0, 0, 0, 0, 0, np.pi])
    other = turn @ Transform(np.zeros(3), place_map.poses[0, 3:])
    place_map.poses[30:, 3:] = other.quaternion
    place_map.poses[30:, :3] = place_map.poses[:30, :3]
    shape = descriptor_shapes(load_model(root / "model").network, DESCRIPTOR)["fine"]
    assert (weakness(place_map, shape).headings.sum(1) == 2).all()


def test_the_risk_of_a_pose_is_that_of_the_images_there(root, found):
    place_map = PlaceMap(root / "map")
    risks = risk_at(place_map, found, place_map.poses)
    assert np.array_equal(risks, found.risk)


def test_the_worst_places_are_apart(root, found):
    place_map = PlaceMap(root / "map")
    worst = worst_places(place_map, found)
    positions = place_map.poses[found.rows[worst], 0]
    gaps = np.abs(positions[:, None] - positions)[~np.eye(len(worst), dtype=bool)]
    assert gaps.min() >= 15 and found.risk[worst[0]] == found.risk.max()


def test_the_page_is_one_file_without_links(root, tmp_path, capsys):
    words = ["map", "inspect", str(root / "map"), "--model", str(root / "model"), "--output"]
    assert main([*words, str(tmp_path / "page.html")]) == 0
    assert "lie at a gap in the drive" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "http" not in page
    assert page.count('<circle cx="') >= COUNT and "data:image/jpeg;base64," in page
    assert main([*words, str(tmp_path / "page.html")]) == 1  # it is there
    assert "exists" in capsys.readouterr().err


def test_a_map_without_thumbnails_or_of_one_image_has_a_page(root, tmp_path):
    from disam_ros.mapping.life.assembly import Part, assemble

    place_map = PlaceMap(root / "map")
    place_map.thumbnail_rows = None
    assemble([Part(place_map, np.array([4]))], tmp_path / "one", {"operation": "crop"})
    words = ["map", "inspect", str(tmp_path / "one"), "--model", str(root / "model"), "--output"]
    assert main([*words, str(tmp_path / "page.html")]) == 0
