# SPDX-License-Identifier: Apache-2.0
"""Batches with near places, answers that count by their distance, decoders of frozen encoders."""

import math

import numpy as np
import pytest
import torch
from support.training_data import write_drive, write_webcams
from support.training_stage import TINY, recipe, stage

from disam_ros.errors import ConfigError
from training.data.image_store import ImageStore
from training.data.places import metres_apart
from training.data.sources import find_photos
from training.disam import losses
from training.disam.config import AlignedConfig
from training.disam.run import Training
from training.disam.sampling import Sampler
from training.recipes import parse_config
from training.settings import CropConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def sampler_of(entry, config):
    sampler = Sampler(
        ImageStore(find_photos([str(entry)]), (24, 32), CropConfig()), ["day", "night"]
    )
    sampler.prepare_pairs(config)
    return sampler


@pytest.fixture
def route(tmp_path):
    """Two drives of 30 images, one every 20 m."""
    for domain in ("day", "night"):
        write_drive(tmp_path / domain, domain, 30, shift=float(domain == "night"))
    return tmp_path


def test_half_of_a_batch_lies_in_one_neighbourhood_and_no_image_is_there_twice(route):
    config = AlignedConfig(same_domain=0.0, neighbourhood=80.0, soft=1.0)
    sampler = sampler_of(route, config)
    for step in range(5):
        metres = sampler.aligned(0, step, 10, config).metres.numpy()
        assert metres[:5, :5].max() <= 2 * 80 + 1
        assert (metres + 1e3 * np.eye(10)).min() > 1.5  # other images are 20 m off
    assert sampler.aligned(0, 1, 10, config).metres.equal(sampler.aligned(0, 1, 10, config).metres)


def test_without_a_neighbourhood_batches_are_those_of_before(route):
    config = AlignedConfig(same_domain=0.0)
    sampler = sampler_of(route, config)
    rows = list(sampler.pairs["day", "night"])
    random = np.random.default_rng(0)
    drawn = sampler._rows_of_batch(rows, 6, 0.0, random)
    assert drawn == np.random.default_rng(0).choice(rows, 6, replace=False).tolist()


def test_a_batch_larger_than_the_neighbourhood_and_than_the_route_is_filled(route):
    config = AlignedConfig(same_domain=0.0, neighbourhood=1.0)
    assert len(sampler_of(route, config).aligned(0, 0, 40, config).a) == 40


def test_distances_are_infinite_between_frames_and_directions():
    place = np.array([0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1], dtype=float)
    on, elsewhere, turned = place.copy(), place.copy(), place.copy()
    on[1], elsewhere[0], turned[4:7] = 3.0, 1, (0, 0, -1)
    result = metres_apart(place[None], np.stack([place, on, elsewhere, turned]), 15.0)
    assert result.tolist() == [[0.0, 3.0, np.inf, np.inf]]


def test_tiles_of_fixed_cameras_have_no_distance_but_their_own(tmp_path):
    config = AlignedConfig(same_domain=0.0, soft=1.0)
    batch = sampler_of(f"webcams:{write_webcams(tmp_path)}", config).aligned(0, 0, 8, config)
    assert torch.isinf(batch.metres).all()


def test_soft_targets_fall_from_one_through_a_half_at_tau_to_nothing():
    near = losses.soft_targets(torch.tensor([0.0, 1.0, 2.0, torch.inf], dtype=torch.float64), 1.0)
    assert near.tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=1e-5)
    assert (near.diff() < 0).all()


def test_soft_contrastive_loss_equals_a_loop():
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 4, generator=random, dtype=torch.float64)
    metres = torch.tensor([[0.2, 1.0, 9.0, np.inf]] * 4, dtype=torch.float64)
    targets = losses.soft_targets(metres, 1.0)
    different = metres >= 0.9
    terms = []
    for rows, near, apart in ((scores, targets, different), (scores.T, targets.T, different.T)):
        for i in range(4):
            weights = [1.0 if j == i else near[i, j].item() for j in range(4)]
            kept = [j for j in range(4) if apart[i, j] or weights[j] > 0]
            whole = sum(math.exp(rows[i, j].item() / 0.1) for j in kept)
            logs = [rows[i, j].item() / 0.1 - math.log(whole) for j in kept]
            share = sum(weights)
            terms.append(-sum(weights[j] / share * g for j, g in zip(kept, logs, strict=True)))
    result = losses.contrastive(scores, different, 0.1, targets)
    assert result.item() == pytest.approx(np.mean(terms), abs=1e-12)


def test_targets_of_zero_are_the_plain_contrastive_loss_with_its_gradient():
    values = []
    for targets in (None, torch.zeros(4, 4, dtype=torch.float64)):
        scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        scores.requires_grad_()
        different = ~torch.eye(4, dtype=torch.bool)
        different[0, 1] = False
        losses.contrastive(scores, different, 0.1, targets).backward()
        values.append(scores.grad)
    assert torch.equal(*values)
    assert values[0].isfinite().all() and values[0][0, 1] == 0


def test_a_recipe_with_soft_targets_trains(route):
    stages = [stage(2, "coarse", losses={"contrastive": 1}, aligned_batch=4)]
    write = {"data": [str(route)], "aligned": {"soft": 1.0, "neighbourhood": 50.0}}
    Training(recipe(route, stages, **write)).run()


def test_with_all_encoders_frozen_decoders_learn_a_translation_and_encoders_do_not(tmp_path):
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain, 3)
    stages = [stage(2, "translation", losses={"gan": 1, "cycle": 10})]
    both = {"domains": ["day", "night"], "frozen": ["day", "night"]}
    run = Training(recipe(tmp_path, stages, **both))
    before = run._networks(0).state()
    run.run()
    after = Training(recipe(tmp_path, stages, **both), resume=True)
    result = after._networks(0)
    result.start_from(tmp_path / "run" / "stages" / "translation.safetensors")
    changed = {
        name.split("/")[0] for name, v in result.state().items() if not v.equal(before[name])
    }
    assert changed == {"decoders", "discriminators"}


def test_all_encoders_frozen_and_losses_of_encoders_are_refused():
    stages = [stage(losses={"contrastive": 1})]
    values = {**TINY, "domains": ["a", "b"], "frozen": ["a", "b"], "stages": stages}
    with pytest.raises(ConfigError, match="not all but for a translation"):
        parse_config(values)
