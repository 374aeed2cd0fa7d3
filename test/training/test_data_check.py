# SPDX-License-Identifier: Apache-2.0
"""What is wrong with training data is said before training begins, with a remedy."""

import cv2
import numpy as np
import pytest
from support.data import CAMERA, camera_pose, detailed, texture
from support.training_data import write_webcams
from support.training_stage import recipe, stage

from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from training.data.check import check_crops, check_images, check_pairs, crop_scale
from training.data.image_store import ImageStore
from training.data.sources import find_photos
from training.disam.config import AlignedConfig
from training.disam.frames import rank_of_pairs
from training.disam.run import Training
from training.disam.sampling import Sampler
from training.errors import TrainingError
from training.settings import CropConfig

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 24
SECOND = 10**9


def drive(directory, domain, count=COUNT, seed=0, shift=0.0, at=None, stamps=None, picture=texture):
    """A dataset of one drive, an image every 20 m and second unless told otherwise."""
    with DatasetWriter(directory / domain, DatasetInfo(domain, {"front": CAMERA})) as writer:
        for k in range(count):
            image = picture(seed + k)
            image = image if domain == "day" else image // 3
            data = cv2.imencode(".png", image)[1].tobytes()
            stamp = stamps[k] if stamps else (k + 1) * SECOND
            place = at[k] if at else 20.0 * k + shift
            writer.add(data, stamp, "front", domain, camera_pose(place))
    return directory


def store_of(directory, size=(48, 64)):
    return ImageStore(find_photos([str(directory)]), size, CropConfig())


def pairs_of(store, **changes):
    sampler = Sampler(store, ["day", "night"])
    sampler.prepare_pairs(AlignedConfig(**changes))
    return sampler


def test_sound_drives_have_nothing_to_be_said_of(tmp_path, caplog):
    for domain in ("day", "night"):
        drive(tmp_path / "data", domain, shift=0.5 * (domain == "night"))
    config = recipe(tmp_path, [stage(1, "coarse", losses={"contrastive": 1}, aligned_batch=4)])
    assert Training(config).check_data() == []


def test_fixed_cameras_serve_several_domains_without_being_duplicates(tmp_path):
    photos = find_photos([f"webcams:{write_webcams(tmp_path)}"])
    light = {"day": ["summer_day", "winter_snow"], "night": ["night"]}
    assert check_images(ImageStore(photos, (24, 32), CropConfig(), light=light)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stamps": [(k + 10**6 * (k > 9)) * SECOND for k in range(COUNT)]}, "clock was set"),
        ({"at": [20 * k + 5000 * (k > 9) for k in range(COUNT)]}, "jumps 1 times, at up to 5020"),
        ({"at": [20 * min(k, 9) for k in range(COUNT)]}, "stand within 5 cm"),
    ],
    ids=["clock that was set", "poses that jump", "standing vehicle"],
)
def test_clocks_and_poses_of_a_drive_that_cannot_be_are_told(tmp_path, changes, said):
    result = check_images(store_of(drive(tmp_path, "day", **changes)))
    assert any(said in sentence and "(front)" in sentence for sentence in result), result


def test_the_same_images_under_two_names_or_twice_under_one_are_told(tmp_path):
    drive(tmp_path, "night", seed=100)
    drive(tmp_path, "dusk", seed=100)
    (sentence,) = check_images(store_of(tmp_path))
    assert sentence.startswith("24 images are the same in 'dusk' and 'night'")
    drive(tmp_path / "frozen", "day", picture=lambda k: texture(0))
    assert "23 images of 'day' repeat another" in " ".join(
        check_images(store_of(tmp_path / "frozen"))
    )


def test_one_condition_only_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(
        TrainingError, match=r"two or more domains, of day found day \(24\).*--domain"
    ):
        Sampler(store_of(drive(tmp_path, "day")), ["day"])
    with pytest.raises(TrainingError, match="'domains' as the data do"):
        Sampler(store_of(tmp_path), ["day", "night"])


def test_little_overlap_names_the_distance_and_the_remedy(tmp_path):
    drive(tmp_path, "day")
    drive(tmp_path, "night", at=[20.0 * k + (5.0 if k > 1 else 3.0) for k in range(COUNT)])
    store = store_of(tmp_path)
    sampler = pairs_of(store, radius=4.0)
    (sentence,) = check_pairs(store, sampler.rows, sampler.pairs)
    assert "only 2 of 24 images of 'day' have one of 'night'" in sentence
    assert "5.0 m off in the median. Raise aligned.radius" in sentence
    sampler = pairs_of(store, radius=6.0)
    assert check_pairs(store, sampler.rows, sampler.pairs) == []


def test_images_that_are_anothers_crops_are_told(tmp_path):
    def middle(k):
        whole = detailed(k)
        return cv2.resize(whole[36:204, 48:272], (320, 240), interpolation=cv2.INTER_AREA)

    drive(tmp_path, "day", count=8, picture=detailed)
    drive(tmp_path, "night", count=8, picture=middle)
    store = store_of(tmp_path, (96, 128))
    (sentence,) = check_crops(store, pairs_of(store).pairs)
    assert sentence.startswith("images of 'night' show about 70 % of the width of those of 'day'")


def test_another_image_is_no_crop():
    assert crop_scale(detailed(0), detailed(1)) == 1.0
    assert crop_scale(detailed(0), detailed(0)) == 1.0


def test_poses_in_different_frames_are_recognised(tmp_path):
    """The night's poses are those of the opposite direction: pairs by pose show other places."""
    drive(tmp_path / "data", "day")
    drive(tmp_path / "data", "night", at=[20.0 * (COUNT - 1 - k) for k in range(COUNT)])
    config = recipe(tmp_path, [stage(1, "coarse", losses={"contrastive": 1}, aligned_batch=4)])
    (sentence,) = Training(config).check_data()
    assert "'day' and 'night'" in sentence and "different map frames" in sentence


def test_a_true_pair_that_is_always_ahead_has_rank_one_and_random_ones_a_half():
    different = ~np.eye(40, dtype=bool)
    assert rank_of_pairs(np.eye(40), different) == (1.0, 40)
    random = np.random.default_rng(0).random((40, 40))
    assert rank_of_pairs(random, different)[0] == pytest.approx(0.5, abs=0.15)
    assert rank_of_pairs(random, ~np.ones((40, 40), dtype=bool)) == (1.0, 0)


def test_a_run_says_what_it_found_in_log_and_report_and_a_resumed_one_no_more(tmp_path, caplog):
    drive(tmp_path / "data", "day", stamps=[SECOND * 10**k for k in range(0, 10, 2)], count=5)
    drive(tmp_path / "data", "night", count=5)
    config = recipe(tmp_path, [stage(1, "coarse", losses={"contrastive": 1}, aligned_batch=4)])
    Training(config).run()
    assert caplog.text.count("data: ") == caplog.text.count("the clock was set") == 1
    assert "the clock was set" in (tmp_path / "run" / "report.html").read_text()
    Training(config, resume=True).run()
    assert caplog.text.count("data: ") == 1
