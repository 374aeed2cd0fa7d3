# SPDX-License-Identifier: Apache-2.0
"""Queries of another camera than the map's."""

from dataclasses import replace

import numpy as np
import pytest
from support.data import DESCRIPTOR, save_tiny_model
from support.lenses import fisheye, picture_of, pinhole, turned
from support.localize import candidates_of, describe, localize

from disam_ros.camera import Camera
from disam_ros.config import DomainConfig, LocalizerConfig, MapBuilderConfig, VerifyConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import MapError
from disam_ros.evaluation.answers import localize_all
from disam_ros.evaluation.drive import as_mapped
from disam_ros.features.local_features import open_features
from disam_ros.features.matching import match
from disam_ros.geometry import Transform, distance
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline
from disam_ros.localization.query import Frame
from disam_ros.localization.verification import Verifier
from disam_ros.mapping.builder import build_map
from disam_ros.models.arrays import biased, unbiased
from disam_ros.models.codes import shifted_features, squares_of
from disam_ros.models.similarity import Shifts

PLACES = 8
DETAIL = 40.0  # enough for keypoints
MAPPED = pinhole(80)
CONFIG = LocalizerConfig(device="cpu", candidates=3, domain=DomainConfig(override="day"))


def base_pose(index):
    return Transform.from_xyz_rpy([3.0 * index, 0.0, 0.0, 0.0, 0.0, 0.0])


def drive(camera, name="front", detail=5.0):
    """Each place has a scene of its own, all around it."""
    mount = camera.base_from_camera
    images = [
        PosedImage(
            ImageRecord(k, (k + 1) * 10**9, name, "day", "", base_pose(k) @ mount),
            lambda k=k: picture_of(camera, k, detail),
        )
        for k in range(PLACES)
    ]
    return ImageSource(images, DatasetInfo("scenes", {name: camera}), str(camera), PLACES)


def build(camera, model, directory, detail=5.0, **settings):
    defaults = {"keypoints": 0, "keyframe_distance": 0.0, "descriptor": DESCRIPTOR}
    config = MapBuilderConfig(**defaults | settings)
    return build_map(drive(camera, detail=detail), model, directory, config, show_progress=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def localizer(model, tmp_path_factory):
    return Localizer(model, build(MAPPED, model, tmp_path_factory.mktemp("maps") / "map"), CONFIG)


OTHERS = {
    "wider": pinhole(120, 480, 360),
    "narrower": pinhole(60),
    "fisheye": fisheye(),
    "turned and tilted": pinhole(90, mount=turned(roll=4.0, pitch=6.0, yaw=20.0, height=2.5)),
    "tilted fisheye": fisheye(mount=turned(roll=-5.0, pitch=15.0, yaw=-20.0)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_camera_finds_every_place_and_the_heading_of_its_vehicle(localizer, name):
    camera = OTHERS[name]
    for index in range(PLACES):
        picture = picture_of(camera, seed=index)
        answer = localize(localizer, picture, lens=camera)
        assert answer.record.id == index
        forward = answer.map_from_base.rotation[:, 0]
        assert np.allclose(forward, [1.0, 0.0, 0.0], atol=0.06)
        own = answer.map_from_base @ camera.base_from_camera
        assert np.allclose(answer.map_from_camera.rotation, own.rotation, atol=1e-9)
        assert answer.best.fine_score > 0.8
        assert answer.best.fine_score > localize(localizer, picture).best.fine_score


def test_the_maps_own_camera_gives_the_same_bits_as_before(localizer):
    picture = picture_of(MAPPED, seed=2)
    plain, given = describe(localizer, picture), describe(localizer, picture, lens=MAPPED)
    assert given.frame.warp is None and given.frame.image is picture and given.seen is None
    assert np.array_equal(plain.shifted, given.shifted) and np.array_equal(plain.fine, given.fine)


def test_what_the_camera_does_not_see_has_no_part_in_the_fine_score(localizer):
    """The same view with and without its rim: the score is the cosine of the cells it sees."""
    camera = pinhole(60)
    query = describe(localizer, picture_of(camera, seed=3), lens=camera)
    assert query.seen is not None and 0.3 < float(query.seen.mean()) < 0.8
    codes = biased(localizer.map.fine[np.array([3])].reshape(1, *query.fine.shape))
    here = query.fine[:, query.seen > 0].ravel()
    there = unbiased(codes)[0][:, query.seen > 0].ravel()
    cosine = here @ there / np.linalg.norm(here) / np.linalg.norm(there)
    shifts = Shifts.of_grid(*query.fine.shape[-2:])
    scores = query.moved.similarities(codes, squares_of(codes))
    assert scores[0, 0, len(shifts) // 2] == pytest.approx(cosine, abs=1e-5)
    changed = query.fine + 100.0 * (query.seen == 0)  # whatever the encoder made of the rest
    again = shifted_features(changed[None], shifts, query.seen)
    assert np.allclose(again.similarities(codes, squares_of(codes)), scores, atol=1e-5)


def test_a_map_of_a_fisheye_is_one_of_a_level_pinhole(model, tmp_path):
    lens = fisheye(mount=turned(roll=5.0, pitch=10.0, yaw=30.0))
    place_map = build(lens, model, tmp_path / "map")
    view = place_map.header.cameras["front"]
    assert view.model == "pinhole" and not view.distortion
    level = turned(yaw=30.0).rotation
    assert np.allclose(view.base_from_camera.rotation, level, atol=1e-9)
    base_from_camera = view.base_from_camera.inverse()
    for index, pose in enumerate(place_map.poses):
        base = Transform(pose[:3], pose[3:]) @ base_from_camera
        assert np.allclose(base.translation, base_pose(index).translation, atol=1e-9)
    localizer = Localizer(model, place_map, CONFIG)
    other = pinhole(90, mount=turned(yaw=25.0))
    for index in range(PLACES):
        assert localize(localizer, picture_of(other, seed=index), lens=other).record.id == index
        assert localize(localizer, picture_of(lens, seed=index), lens=lens).record.id == index


def test_a_map_has_the_field_of_view_that_is_asked_for(model, tmp_path):
    view = build(MAPPED, model, tmp_path / "map", field_of_view=60.0).header.cameras["front"]
    assert np.degrees(2 * np.arctan(view.width / 2 / view.fx)) == pytest.approx(60.0)
    with pytest.raises(MapError, match=r"camera 'front': the camera sees .* smaller field_of_view"):
        build(MAPPED, model, tmp_path / "wide", field_of_view=100.0)
    assert not (tmp_path / "wide").exists()


def test_keypoints_agree_across_lenses(model, tmp_path):
    """A far scene has one direction for each keypoint, through a tilted fisheye too."""
    config = replace(CONFIG, verify=VerifyConfig(when="always"))
    place_map = build(MAPPED, model, tmp_path / "map", DETAIL, keypoints=256, local_features="sift")
    pipeline = Pipeline(Localizer(model, place_map, config))
    pipeline.config.sequence.enabled = False
    lens = fisheye(side=640, mount=turned(roll=4.0, yaw=10.0))
    *_, (record, localized) = localize_drive(pipeline, drive(lens, detail=DETAIL))
    assert localized.answer.record.id == record.id
    frame = localized.query.frame
    here = open_features("sift").extract(frame.image, 256).seen_by(frame.lens, frame.image)
    there = place_map.keypoints(record.id)
    pairs = match("sift", here.descriptors, there.descriptors)
    between = here[pairs[:, 0]].bearings - there[pairs[:, 1]].bearings
    assert len(pairs) > 100
    assert np.median(np.abs(between)) < 1e-3


def test_keypoints_that_the_camera_did_not_see_are_left_out(model, tmp_path):
    place_map = build(MAPPED, model, tmp_path / "map", DETAIL, keypoints=256, local_features="sift")
    verifier = Verifier(place_map)
    lens = pinhole(40)
    frame = Frame(picture_of(lens, 3, DETAIL), "front", lens=lens).seen_as(MAPPED)
    whole, masked = (
        verifier.verify(replace(frame, warp=warp), [3])[0].matches for warp in (None, frame.warp)
    )
    assert 20 < masked <= whole
    result = open_features("sift").extract(frame.image, 256).pixels
    kept = result[frame.warp.shows(result)]
    middle, half = np.array([(MAPPED.width - 1) / 2, (MAPPED.height - 1) / 2]), MAPPED.fx / lens.fx
    inside = (np.abs(kept - middle) <= half * np.array([160.0, 120.0]) + 1.0).all(1)
    assert len(kept) < len(result) and inside.all()


def test_a_camera_without_intrinsics_is_taken_for_the_maps(localizer):
    unknown = Camera(320, 240, 0.0, 0.0, 0.0, 0.0, (), MAPPED.base_from_camera)
    picture = picture_of(MAPPED, seed=1)
    query = describe(localizer, picture, lens=unknown)
    assert query.frame.warp is None and candidates_of(localizer, query).rows[0] == 1


def test_the_results_of_a_drive_are_poses_of_its_own_camera(localizer):
    lens = fisheye(mount=turned(roll=3.0, yaw=20.0))
    for result in localize_all(localizer, drive(lens)):
        true = result.record.map_from_camera
        for pose in (result.pose, result.best.map_from_camera):
            metres, degrees = distance(true, pose)
            assert metres < 0.3 and degrees < 3.0


def test_a_drive_whose_only_camera_has_another_name_is_compared_with_the_maps_only(localizer):
    lens = fisheye(mount=turned(yaw=20.0))
    source, notes = as_mapped(localizer.map, drive(lens, "cam0"))
    assert notes == ["camera 'cam0' is compared with 'front', the only camera of the map"]
    assert [result.best.id for result in localize_all(localizer, source)] == list(range(PLACES))
