# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.data import camera_pose, save_tiny_model, texture, write_dataset
from support.localize import candidates_of, describe, localize
from support.maps import CAMERA as MOUNTED
from support.maps import save_tiny_map

from disam_ros import image
from disam_ros.config import DescriptorConfig, DomainConfig, LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.domain import Domain
from disam_ros.errors import ConfigError, DomainError, ImageError, MapError, ModelError
from disam_ros.geometry import Transform, distance
from disam_ros.image import to_tensor
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.import_checkpoint import import_checkpoint
from disam_ros.models.model import load_model, save_model
from disam_ros.models.networks import Decoder, Encoder
from disam_ros.models.similarity import (
    Shifts,
    coarse_similarity,
    fine_descriptor,
    shifted_similarities,
)

CONFIG = LocalizerConfig(device="cpu", candidates=3, domain=DomainConfig(override="day"))


@pytest.fixture
def place_map(dataset, model, tmp_path, builder_config):
    source = open_dataset(dataset.directory)
    return build_map(source, model, tmp_path / "map", builder_config, show_progress=False)


@pytest.fixture
def localizer(model, place_map):
    return Localizer(model, place_map, CONFIG)


@pytest.mark.parametrize("index", range(12))
def test_a_map_image_is_found_between_its_own_pose_and_its_neighbours(localizer, index):
    answer = localize(localizer, texture(index))
    metres, degrees = distance(answer.map_from_camera, camera_pose(index))
    assert answer.record.id == index
    assert metres < 0.1 * localizer.map.spacing() and degrees < 0.1
    assert answer.best.fine_score == pytest.approx(1.0, abs=2e-3)
    assert answer.best.coarse_score == pytest.approx(1.0, abs=1e-2)  # int8 in four directions


def test_the_fine_stage_only_reorders_the_coarse_candidates(localizer):
    answer = localize(localizer, texture(99))
    wide = Localizer(localizer.model, localizer.map, replace(CONFIG, candidates=12))
    everything = sorted(localize(wide, texture(99)).candidates, key=lambda c: -c.coarse_score)
    assert {c.record.id for c in answer.candidates} == {c.record.id for c in everything[:3]}
    fine = [c.fine_score for c in answer.candidates]
    assert fine == sorted(fine, reverse=True)


def test_fine_scores_are_the_best_cosine_over_shifts_of_features_less_the_maps_mean(localizer):
    image = texture(99)
    query = describe(localizer, image)
    z = localizer.model.fine["day"](to_tensor(image, localizer.model.network.image_size)[None])
    pooled = fine_descriptor(z, localizer.map.header.descriptor).reshape(query.fine.shape)
    mean = torch.from_numpy(localizer.map.mean)[:, None, None]
    assert np.allclose(query.fine, (pooled - mean).numpy(), atol=1e-6)
    shifts = Shifts.of_grid(*query.fine.shape[1:])
    for candidate in candidates_of(localizer, query):
        reference = np.asarray(localizer.map.fine[candidate.record.id], np.float32)
        reference = reference.reshape(1, *query.fine.shape)
        expected = shifted_similarities(query.fine[None], reference, shifts).max()
        assert candidate.fine_score == pytest.approx(expected.item(), abs=1e-5)


def test_below_the_least_probability_the_place_is_unknown(model, place_map):
    for least, known in ((0.0, True), (1.0, False)):
        config = replace(CONFIG, min_probability=least)
        assert localize(Localizer(model, place_map, config), texture(99)).known is known


def test_the_encoder_of_the_chosen_domain_is_used(place_map, model):
    for parameter in model.fine["night"].parameters():
        parameter.data += 0.1
    localizer = Localizer(model, place_map, CONFIG)
    day = localize(localizer, texture(5), domain="day")
    night = localize(localizer, texture(5), domain="night")
    assert day.domain.name == "day" and night.domain.name == "night"
    assert day.best.fine_score > night.best.fine_score


def test_cameras_are_searched_separately(tmp_path, model, builder_config):
    data = write_dataset(tmp_path / "two", 5, cameras=("left", "right"))
    source = open_dataset(data.directory)
    place_map = build_map(source, model, tmp_path / "map2", builder_config, show_progress=False)
    localizer = Localizer(model, place_map, CONFIG)
    result = localize(localizer, texture(1002), camera="right").best.record
    assert result.camera == "right" and result.stamp_ns == 3_000_000_000
    candidates = localize(localizer, texture(1002), camera="left").candidates
    assert {c.record.camera for c in candidates} == {"left"}
    with pytest.raises(MapError, match="several cameras"):
        localize(localizer, texture(0))
    with pytest.raises(MapError, match="no camera 'rear'"):
        localize(localizer, texture(0), camera="rear")


def test_of_cameras_on_one_mount_the_commonest_needs_no_name(tmp_path, model):
    zoomed = replace(MOUNTED, fx=80.0, fy=80.0)
    save_tiny_map(tmp_path / "map", model, cameras={"wide": MOUNTED, "zoom": zoomed})
    assert localize(open_map(tmp_path, model), texture(2)).best.record.camera == "wide"
    apart = Transform.from_xyz_rpy([0.0, 0.5, 0.0, 0.0, 0.0, 0.0]) @ MOUNTED.base_from_camera
    other = replace(zoomed, base_from_camera=apart)
    save_tiny_map(tmp_path / "apart" / "map", model, cameras={"wide": MOUNTED, "zoom": other})
    with pytest.raises(MapError, match="say which of wide, zoom"):
        localize(open_map(tmp_path / "apart", model), texture(2))


def open_map(folder, model):
    return Localizer(model, PlaceMap(folder / "map"), CONFIG)


def test_a_map_of_another_model_is_refused(place_map, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=9)
    with pytest.raises(MapError, match="was built with model 'model'"):
        Localizer(other, place_map, CONFIG)


def test_a_device_that_is_not_there_is_refused(model, place_map):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ConfigError, match="sees 0 CUDA devices"):
        Localizer(model, place_map, replace(CONFIG, device="cuda"))


def test_an_unknown_domain_is_refused(model, place_map):
    with pytest.raises(DomainError, match="fog"):
        Localizer(model, place_map, replace(CONFIG, domain=DomainConfig(override="fog")))


def test_a_broken_image_is_refused_and_the_next_one_answered(localizer):
    with pytest.raises(ImageError):
        localize(localizer, np.zeros((0, 0, 3), np.uint8))
    assert localize(localizer, texture(1)).known


def test_an_activation_map_lies_between_zero_and_one(localizer):
    query = describe(localizer, texture(77))
    heat = localizer.activation_map(
        query, localizer.map.records[candidates_of(localizer, query).rows[0]]
    )
    assert heat.shape == (6, 8)
    assert heat.min() >= 0 and heat.max() == pytest.approx(1.0)


def test_images_described_as_a_whole_have_no_activation_map(dataset, model, tmp_path):
    whole = MapBuilderConfig(keypoints=0, descriptor=DescriptorConfig(coarse_grid=1, fine_grid=1))
    source = open_dataset(dataset.directory)
    place_map = build_map(source, model, tmp_path / "whole", whole, show_progress=False)
    localizer = Localizer(model, place_map, CONFIG)
    assert not localizer.has_activation_maps
    with pytest.raises(ModelError, match="one global descriptor per image"):
        localizer.activation_map(describe(localizer, texture(3)), localizer.map.records[0])


def test_the_same_image_gives_the_same_answer_at_any_size_it_is_read(localizer, dataset):
    read = image.read(dataset.path(dataset.records[2]))
    assert localize(localizer, read).best.record.id == 2


def test_an_imported_public_checkpoint_maps_and_localizes_with_the_papers_metric(tmp_path):
    encoders = [[Encoder(4, 1) for _ in range(2)] for _ in range(2)]
    for name, stage in zip(("coarse", "fine"), encoders, strict=True):
        for index, network in enumerate([*stage, Decoder(4, 1), Decoder(4, 1)]):
            torch.save(network.state_dict(), tmp_path / f"{name}_net_G{index}.pth")
    prefixes = [str(tmp_path / f"{name}_net_G") for name in ("coarse", "fine")]
    domains = [Domain("summer_day"), Domain("night")]
    save_model(import_checkpoint(prefixes[0], domains, prefixes[1], (32, 32)), tmp_path / "model")
    model = load_model(tmp_path / "model")
    exact = MapBuilderConfig(
        keypoints=0,
        keyframe_distance=0.0,
        domain="summer_day",
        descriptor=DescriptorConfig(coarse_grid=256, fine_grid=256),
    )
    source = open_dataset(write_dataset(tmp_path / "data", 4).directory)
    place_map = build_map(source, model, tmp_path / "map", exact, show_progress=False)
    localizer = Localizer(model, place_map, LocalizerConfig(device="cpu", candidates=4))
    own = localize(localizer, texture(2), domain="summer_day")
    assert own.best.record.id == 2 and own.best.fine_score == pytest.approx(1.0, abs=1e-3)
    tensors = [image.to_tensor(texture(k), (32, 32))[None] for k in (*range(4), 99)]
    with torch.inference_mode():
        coarse, fine = (
            [*(stage[0](x) for x in tensors[:4]), stage[1](tensors[4])] for stage in encoders
        )
        fine = torch.cat([z / z.norm() for z in fine])
        fine -= fine[:4].mean((0, 2, 3))[:, None, None]
        shifts = Shifts.of_grid(*fine.shape[-2:])
        scores = shifted_similarities(fine[4:], fine[:4], shifts)[0].amax(1)
        expected = {k: (coarse_similarity(coarse[4], coarse[k]), scores[k]) for k in range(4)}
    for candidate in localize(localizer, texture(99), domain="night").candidates:
        coarse_score, fine_score = (float(s) for s in expected[candidate.record.id])
        assert candidate.coarse_score >= coarse_score - 1e-2  # the best of the shifted views
        assert candidate.fine_score == pytest.approx(fine_score, abs=1e-2)


def test_a_view_from_another_lane_is_recognized_and_its_shift_given(localizer):
    image = texture(5)
    width = image.shape[1]
    moved = np.roll(image, width // 8, axis=1)  # the scene moves to the right
    best = localize(localizer, moved).best
    assert best.record.id == 5
    assert best.shift[0] == pytest.approx(1 / 8, abs=0.06) and abs(best.shift[1]) < 0.06
    assert localize(localizer, image).best.shift == pytest.approx((0.0, 0.0), abs=0.03)
