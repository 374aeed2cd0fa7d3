# SPDX-License-Identifier: Apache-2.0
"""Companion systems that learn from depth."""

import pytest
import torch
from support.global_training import depth_recipe, recipe, stage, weights, write_drive

from disam_ros import load_model
from training.global_descriptors.branches import describe_parts
from training.global_descriptors.library_losses import triplet
from training.global_descriptors.losses import hardest_triplets
from training.global_descriptors.run import GlobalTraining

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def with_depth(tmp_path):
    write_drive(tmp_path / "data" / "day", "day", depth=True)
    write_drive(tmp_path / "data" / "night", "night", depth=True, posed=False)
    return tmp_path


def test_fine_tuning_on_unlocalised_pairs_touches_the_decoder_alone(with_depth):
    """Night has depth but no poses: the second stage shows it to the decoder."""
    config = depth_recipe(
        with_depth,
        stage(3, losses={"triplet": 1, "depth": 1}, domains=["day"]),
        {
            "name": "decoder",
            "steps": 15,
            "losses": {"depth": 1},
            "depth_batch": 6,
            "domains": ["night"],
        },
        depth_learning_rate=2e-2,
        weight_decay=1e-3,
    )
    training = GlobalTraining(config)
    training.run()
    before, after = (weights(with_depth, name) for name in ("descriptors", "decoder"))
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed and all(key.startswith("encoders/ground/decoder.") for key in changed)

    def error(state):
        run = training.stage_run(1)
        run.networks.load(state)
        return run.terms(run.batch(10_000))["depth"].item()

    assert error(after) < 0.8 * error(before)


def test_descriptor_terms_act_on_image_depth_and_both(with_depth):
    config = depth_recipe(with_depth, stage(1, losses={"triplet": 1}, domains=["day"]))
    run = GlobalTraining(config).stage_run(0)
    batch = run.batch(0)
    domains = run.data.domains_of(batch.rows)
    parts = describe_parts(run.networks, run.branches, batch.views.images, domains)
    tuples = [p.view(1, 5, -1) for p in (parts.fused, parts.image, parts.depth)]
    chosen = hardest_triplets(tuples[0], 2, 1, 2)
    expected = sum(triplet(t, chosen, 0.1).item() for t in tuples)
    assert run.terms(batch)["triplet"].item() == pytest.approx(expected, rel=1e-5)


def test_a_hallucination_network_learns_the_depths_features_and_needs_no_depth_afterwards(
    with_depth,
):
    losses = {"triplet": 1, "hallucination": 1}
    config = recipe(
        with_depth,
        stage(25, losses=losses, domains=["day"]),
        network={"depth": True, "hallucinated": True},
        learning_rate=2e-3,
    )
    training = GlobalTraining(config)

    def distance(run):
        return run.terms(run.batch(10_000))["hallucination"].item()

    before = distance(training.stage_run(0))
    model = load_model(training.run())
    run = training.stage_run(0)
    run.networks.load(weights(with_depth))
    assert distance(run) < 0.7 * before
    assert model.network.hallucinated
    assert all(len(z) == 1 for z in model.encode("day", torch.zeros(1, 3, 36, 48)))


def test_the_imitation_teaches_neither_the_depths_encoder_nor_the_images(with_depth):
    config = recipe(
        with_depth,
        stage(1, losses={"triplet": 1, "hallucination": 1}, domains=["day"]),
        network={"depth": True, "hallucinated": True},
    )
    run = GlobalTraining(config).stage_run(0)
    network = run.networks.encoders["ground"]
    run.terms(run.batch(0))["hallucination"].backward()
    taught = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert taught == {"hallucination"}
    network.zero_grad(set_to_none=True)
    run.terms(run.batch(0))["triplet"].backward()
    assert all(p.grad is not None for p in network.parameters())
