# SPDX-License-Identifier: Apache-2.0
"""From files to batches: sources, decoding, places, sampling, validation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.data import texture
from support.training_data import write_drive, write_folders, write_image, write_webcams

from training.data.image_store import ImageStore, prefetched
from training.data.places import WHOLE, Box, fit_box, jittered, same_place
from training.data.sources import day_or_night, find_photos
from training.disam.config import AlignedConfig
from training.disam.sampling import Sampler
from training.engine.validate import load_validation, query_counts, recall
from training.errors import TrainingError
from training.settings import CropConfig, ValidationConfig

SIZE = (24, 32)


def open_store(*entries, crops=None):
    return ImageStore(find_photos([str(e) for e in entries]), SIZE, crops or CropConfig())


# Sources


def test_folders_named_like_domains_give_their_domain_and_no_place(tmp_path):
    photos = find_photos([str(write_folders(tmp_path))])
    assert [p.domain for p in photos] == ["day"] * 3 + ["night"] * 4
    assert {p.group for p in photos} == {""}


def test_drives_of_one_folder_or_joined_by_a_plus_share_their_map_frame(tmp_path):
    for town in ("a", "b"):
        for domain in ("day", "night"):
            write_drive(tmp_path / town / domain, domain, 2)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    apart, together = find_photos([a, b]), find_photos([f"{a} + {b}"])
    assert len({p.group for p in apart[:4]}) == 1 and len({p.group for p in apart}) == 2
    assert len({p.group for p in together}) == 1
    assert [p.path for p in apart] == [p.path for p in together]
    np.testing.assert_allclose(apart[1].position, (20, 0, 1.5))
    np.testing.assert_allclose(apart[1].axis, (1, 0, 0), atol=1e-9)


def test_webcam_nights_are_recognised_by_their_sky_not_by_mean_brightness(tmp_path):
    store = open_store(f"webcams:{write_webcams(tmp_path)}")
    for photo, image in zip(store.photos, store.images, strict=True):
        assert photo.domain == ("day" if int(photo.path.stem) % 2 else "night")
        assert image.mean() > 100


def test_a_webcams_folder_may_hold_a_folder_per_domain(tmp_path):
    for name in ("summer_day", "night"):
        write_image(tmp_path / "cam" / name / "0.png", texture(0))
    store = open_store(f"webcams:{tmp_path}")
    assert store.rows() == {"night": [0], "summer_day": [1]}
    assert {p.group for p in store.photos} == {str(tmp_path / "cam")}
    assert all(p.tiled for p in store.photos)


def test_a_webcam_that_never_saw_a_night_is_all_day():
    days = [np.full((30, 40, 3), 100 + 5 * k, np.uint8) for k in range(8)]
    assert set(day_or_night(days)) == {"day"}
    assert set(day_or_night([d // 10 for d in days])) == {"night"}


def test_a_webcams_images_belong_to_all_the_domains_of_their_light(tmp_path):
    light = {"day": ["summer_day", "winter_snow"], "night": ["night"]}
    photos = find_photos([f"webcams:{write_webcams(tmp_path)}"])
    plain = ImageStore(photos, SIZE, CropConfig()).rows()
    store = ImageStore(photos, SIZE, CropConfig(), light=light)
    rows = store.rows()
    assert len(rows["summer_day"]) == len(rows["winter_snow"]) == len(plain["day"]) > 0
    assert len(rows["night"]) == len(plain["night"])
    for one, other in zip(rows["summer_day"], rows["winter_snow"], strict=True):
        assert store.images[one] is store.images[other]


def test_missing_empty_and_test_only_data_are_refused_by_name(tmp_path):
    with pytest.raises(TrainingError, match="no data"):
        find_photos([])
    with pytest.raises(TrainingError, match="nowhere"):
        find_photos([str(tmp_path / "nowhere")])
    with pytest.raises(TrainingError, match="no images"):
        find_photos([str(tmp_path)])
    with pytest.raises(TrainingError, match="nowhere"):
        find_photos([f"{write_folders(tmp_path / 'here')} + {tmp_path / 'nowhere'}"])
    with pytest.raises(TrainingError, match="test data"):
        find_photos(["/data/Gardens_Point"])


# Decoding


def test_unreadable_images_are_skipped_and_counted_unless_there_are_no_others(tmp_path, caplog):
    write_folders(tmp_path)
    (tmp_path / "day" / "0.png").write_bytes(b"no image")
    store = open_store(tmp_path)
    assert store.skipped == 1
    assert len(store.images) == len(store.photos) == 6
    assert "skipped 1 of 7" in caplog.text
    (tmp_path / "bad" / "day").mkdir(parents=True)
    (tmp_path / "bad" / "day" / "a.jpg").write_bytes(b"")
    with pytest.raises(TrainingError, match="none of 1"):
        open_store(tmp_path / "bad")


def test_images_are_kept_a_little_larger_than_the_crop_and_small_ones_enlarged(tmp_path, caplog):
    write_image(tmp_path / "day" / "large.png", texture(0, 96, 128))
    write_image(tmp_path / "day" / "small.png", texture(0, 12, 16))
    store = open_store(tmp_path)
    assert store.images[0].shape[:2] == (round(24 * 1.3), round(32 * 1.3))
    assert "1 of 2 images are smaller than the crop" in caplog.text
    assert store.crop(1, WHOLE).shape == (3, *SIZE)


def test_more_images_than_memory_allows_are_refused_with_advice(tmp_path):
    with pytest.raises(TrainingError, match="cache_limit_mb"):
        open_store(write_folders(tmp_path, (("day", 400),)), crops=CropConfig(cache_limit_mb=1.0))


# Places


def test_a_box_has_the_crops_proportions_and_stays_inside_the_image():
    for across, down in ((0.0, 1.0), (0.5, 0.5)):
        box = fit_box((360, 640), SIZE, 1.5, across, down)
        width, height = (box.right - box.left) * 640, (box.bottom - box.top) * 360
        assert width / height == pytest.approx(32 / 24)
        assert height == pytest.approx(360 / 1.5)
        assert 0 <= box.left < box.right <= 1 + 1e-12
        assert 0 <= box.top < box.bottom <= 1 + 1e-12


def test_a_jittered_box_keeps_its_proportions_and_stays_near_and_inside():
    box = Box(0.0, 0.1, 0.5, 0.6)
    for seed in range(50):
        moved = jittered(box, 0.1, np.random.default_rng(seed))
        assert moved.right - moved.left == pytest.approx(moved.bottom - moved.top)
        assert abs(moved.left - box.left) < 0.11
        assert moved.left >= 0 and moved.bottom <= 1


def place(group=0, x=0.0, axis=(1, 0, 0), box=(0, 0, 1, 1)):
    return np.array([group, x, 0, 0, *axis, *box], dtype=float)


def test_same_place_needs_group_distance_angle_and_overlap():
    here = place()[None]
    others = np.stack(
        [
            place(x=1.9),
            place(group=1),
            place(x=2.1),
            place(axis=(0, 1, 0)),
            place(box=(0.9, 0, 1, 1)),
            place(box=(0.0, 0, 0.1, 1)),
        ]
    )
    tile = place(box=(0, 0, 0.5, 1))[None]
    assert same_place(here, others, 2, 30, 0.5).tolist() == [
        [True, False, False, False, True, True]
    ]
    assert same_place(tile, others, 2, 180, 0.5)[0, 4:].tolist() == [False, True]


# Sampling


def test_of_each_unpaired_couple_exactly_one_image_is_mirrored(tmp_path):
    """Images are ramps that rise to the right, so a mirrored one falls."""
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    for domain in ("day", "night"):
        write_image(tmp_path / domain / "0.png", ramp)
    sampler = Sampler(open_store(tmp_path), ["day", "night"])
    for step in range(5):
        batch = sampler.unpaired(0, step, 4)
        rising_a, rising_b = (
            x[..., -1].mean((1, 2)) > x[..., 0].mean((1, 2)) for x in (batch.a, batch.b)
        )
        assert (rising_a != rising_b).all()
        assert batch.a.shape == (4, 3, *SIZE)


def test_two_different_domains_are_drawn_and_all_come_up(tmp_path):
    write_folders(tmp_path, (("day", 1), ("night", 1), ("dusk", 1)))
    sampler = Sampler(open_store(tmp_path), ["day", "night", "dusk"])
    drawn = {sampler.unpaired(0, step, 1).domains for step in range(60)}
    assert all(a != b for a, b in drawn)
    assert len(drawn) == 6


def test_a_step_draws_the_same_again_and_another_step_or_process_does_not(tmp_path):
    store = open_store(write_folders(tmp_path))
    batch = Sampler(store, ["day", "night"], seed=3).unpaired(1, 7, 4)
    again = Sampler(store, ["day", "night"], seed=3).unpaired(1, 7, 4)
    assert torch.equal(batch.a, again.a) and torch.equal(batch.b, again.b)
    other = Sampler(store, ["day", "night"], seed=3, process=1).unpaired(1, 7, 4)
    assert other.domains == batch.domains
    assert not torch.equal(batch.a, other.a)
    assert not torch.equal(batch.a, Sampler(store, ["day", "night"], seed=3).unpaired(1, 8, 4).a)


def sampler_of(store, config):
    sampler = Sampler(store, ["day", "night"])
    sampler.prepare_pairs(config)
    return sampler


def test_true_pairs_are_the_nearest_images_of_the_other_drive(tmp_path):
    write_drive(tmp_path / "day", "day", 6)
    write_drive(tmp_path / "night", "night", 6, shift=1.0)
    config = AlignedConfig(radius=2.0, same_domain=0.0)
    sampler = sampler_of(open_store(tmp_path), config)
    pairs = sampler.pairs["day", "night"]
    assert {a: b.tolist() for a, b in pairs.items()} == {k: [6 + k] for k in range(6)}
    batch = sampler.aligned(0, 0, 5, config)
    assert batch.domains == ("day", "night")
    assert torch.equal(batch.different, ~torch.eye(5, dtype=torch.bool))


def test_true_pairs_of_webcams_show_one_view_and_tiles_apart_are_negatives(tmp_path):
    store = open_store(f"webcams:{write_webcams(tmp_path)}")
    config = AlignedConfig(same_domain=0.0)
    sampler = sampler_of(store, config)
    for row, partners in sampler.pairs["day", "night"].items():
        assert len(partners) == 4
        assert {store.photos[p].group for p in partners} == {store.photos[row].group}
    batch = sampler.aligned(0, 0, 8, config)
    assert not batch.different.diagonal().any() and batch.different.any()


def test_same_domain_pairs_never_pair_an_image_with_itself(tmp_path):
    config = AlignedConfig(same_domain=1.0)
    sampler = sampler_of(open_store(f"webcams:{write_webcams(tmp_path)}"), config)
    assert all(row not in p for row, p in sampler.pairs["day", "day"].items())
    domains = sampler.aligned(0, 0, 4, config).domains
    assert domains[0] == domains[1]


def test_half_of_a_batch_lies_in_one_neighbourhood_and_no_image_is_there_twice(tmp_path):
    for domain in ("day", "night"):  # an image every 20 m
        write_drive(tmp_path / domain, domain, 30, shift=float(domain == "night"))
    wide = AlignedConfig(same_domain=0.0, neighbourhood=80.0, negative_radius=2 * 80.0 + 1)
    near = replace(wide, negative_radius=1.5)
    sampler = sampler_of(open_store(tmp_path), wide)
    others = ~torch.eye(10, dtype=torch.bool)
    for step in range(5):
        assert not sampler.aligned(0, step, 10, wide).different[:5, :5].any()
        assert sampler.aligned(0, step, 10, near).different.equal(others)
    assert sampler.aligned(0, 1, 10, wide).a.equal(sampler.aligned(0, 1, 10, wide).a)
    assert len(sampler.aligned(0, 0, 40, wide).a) == 40  # larger than the route


def test_data_without_places_has_no_true_pairs(tmp_path):
    with pytest.raises(TrainingError, match="no true pairs"):
        sampler_of(open_store(write_folders(tmp_path)), AlignedConfig())


@pytest.mark.parametrize("ahead", [0, 1, 3, 20])
def test_prefetching_changes_nothing_but_time(ahead):
    assert list(prefetched(lambda k: k * k, range(2, 9), ahead)) == [k * k for k in range(2, 9)]


# Validation


class Pixels(torch.nn.Module):
    """Stands in for an encoder: features are the image itself, whatever its brightness."""

    def forward(self, x):
        return x - x.mean((-2, -1), keepdim=True)


def cosines(a, b):
    a, b = (torch.nn.functional.normalize(z.flatten(1), dim=1) for z in (a, b))
    return a @ b.T


def test_recall_of_recognizable_images_is_full_and_of_equal_descriptors_is_not(tmp_path):
    write_drive(tmp_path / "day", "day", 6)
    write_drive(tmp_path / "night", "night", 6)
    config = ValidationConfig(data=[str(tmp_path)])
    validation = load_validation(config, SIZE, CropConfig(), ["day", "night"])
    encoders = {"day": Pixels(), "night": Pixels()}
    cpu = torch.device("cpu")
    assert recall(encoders, cosines, validation, cpu) == {"night": 100.0, "mean": 100.0}
    blind = recall(encoders, lambda a, b: torch.ones(len(a), len(b)), validation, cpu)
    assert blind["mean"] == pytest.approx(100 / 6)


def test_webcams_are_validated_as_tiles(tmp_path):
    config = ValidationConfig(data=[f"webcams:{write_webcams(tmp_path)}"], webcam_images=1)
    validation = load_validation(config, SIZE, CropConfig(), ["day", "night"])
    assert validation.images["day"].shape == (2 * 16, 3, *SIZE)
    right = same_place(*(validation.places[d] for d in ("night", "day")), 5, 10, 0.55)
    assert np.array_equal(right, np.eye(32, dtype=bool))


def test_whole_views_and_tiles_are_maps_of_their_own(tmp_path):
    for condition in ("day", "night"):
        write_drive(tmp_path / "drives" / condition, condition, 6)
    webcams = write_webcams(tmp_path / "webcams")
    data = [str(tmp_path / "drives"), f"webcams:{webcams}"]
    validation = load_validation(ValidationConfig(data=data), SIZE, CropConfig(), ["day", "night"])
    encoders, sizes = {"day": Pixels(), "night": Pixels()}, set()

    def noticed(a, b):
        sizes.add(len(b))
        return cosines(a, b)

    result = recall(encoders, noticed, validation, torch.device("cpu"))
    assert set(result) == {"night", "night tiles", "mean"}
    assert len(sizes) == 2 and sum(sizes) == len(validation.images["day"])
    assert result["mean"] == pytest.approx((result["night"] + result["night tiles"]) / 2)


def test_encoders_of_all_domains_are_tried_on_the_images_halfway_along_a_drive(tmp_path):
    for condition in ("day", "night"):
        write_drive(tmp_path / "data" / condition, condition, 6)
    write_drive(tmp_path / "road", "day", 9)
    config = ValidationConfig(
        data=[str(tmp_path / "data")], drive=str(tmp_path / "road"), drive_step=4
    )
    validation = load_validation(config, SIZE, CropConfig(), ["day", "night"])
    drive = validation.drive
    assert (len(drive.mapped), len(drive.queries)) == (3, 2)
    assert np.array_equal(drive.right, [[True, True, False], [False, True, True]])
    encoders, cpu = {"day": Pixels(), "night": Pixels()}, torch.device("cpu")
    result = recall(encoders, cosines, validation, cpu)
    assert set(result) == {"night", "day drive", "night drive", "mean"}

    def the_last(a, b):
        return torch.arange(len(b)).float().expand(len(a), -1)

    always_last = recall(encoders, the_last, validation, cpu)
    assert always_last["night drive"] == 50.0


def test_a_drive_too_short_to_be_tried_on_is_refused(tmp_path):
    for condition in ("day", "night"):
        write_drive(tmp_path / "data" / condition, condition, 3)
    config = ValidationConfig(
        data=[str(tmp_path / "data")], drive=str(tmp_path / "data" / "day"), drive_step=8
    )
    with pytest.raises(TrainingError, match="more than 8 images"):
        load_validation(config, SIZE, CropConfig(), ["day", "night"])


def test_validation_without_a_map_is_refused(tmp_path):
    write_drive(tmp_path / "night", "night", 3)
    config = ValidationConfig(data=[str(tmp_path)])
    with pytest.raises(TrainingError, match=r"'night' \(the map\) and of another .* found 3 night"):
        load_validation(config, SIZE, CropConfig(), ["day", "night"])
    with pytest.raises(TrainingError, match=r"'day' \(the map\)"):
        load_validation(replace(config, reference="day"), SIZE, CropConfig(), ["day", "night"])


def test_the_map_of_validation_is_of_the_domain_by_day_with_most_images(tmp_path):
    for domain, count in (("night", 6), ("autumn_rain", 3), ("summer_day", 4), ("dusk", 5)):
        write_drive(tmp_path / domain, domain, count)
    config, domains = ValidationConfig(data=[str(tmp_path)]), ["night", "autumn_rain", "summer_day"]
    by_day = {"autumn_rain", "summer_day"}
    chosen = load_validation(config, SIZE, CropConfig(), domains, by_day=by_day)
    assert chosen.reference == "summer_day"
    assert query_counts(chosen) == {"night": 6, "autumn_rain": 3}
    assert load_validation(config, SIZE, CropConfig(), domains).reference == "night"
