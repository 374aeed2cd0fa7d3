# SPDX-License-Identifier: Apache-2.0
"""Training of global descriptors: whole runs on a street of textures, and their parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.global_training import COUNT, recipe, stage, weights, write_drive
from support.training_stage import interrupt_after, leavings

from disam_ros import load_model
from disam_ros.errors import ConfigError, ModelError
from disam_ros.models.global_descriptors.depth import DEPTH_LIMIT
from training.data.places import Box
from training.data.sources import Photo
from training.engine.loop import Interrupted
from training.engine.parallel import Processes
from training.engine.validate import ValidationSet, recall
from training.errors import TrainingError
from training.global_descriptors.branches import describe_parts, describe_rows
from training.global_descriptors.run import GlobalTraining
from training.global_descriptors.views import DepthStore, Views
from training.recipes import parse_config
from training.train import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def drives(tmp_path):
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain)
    return tmp_path


# Recipes


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"stages": [{"losses": {"softcontrastive": 1}}]}, "stages.0.losses.softcontrastive"),
        ({"stages": [{}]}, "stages.0.losses"),
        ({"stages": [stage(name="coarse")]}, "stages.0.name"),
        ({"stages": [stage(losses={"triplet": 1, "depth": 1})]}, "network.depth: true"),
        ({"stages": [stage(losses={"triplet": 1, "hallucination": 1})]}, "need each other"),
        (
            {"stages": [stage()], "network": {"depth": True, "hallucinated": True}},
            "need each other",
        ),
        ({"stages": [stage()], "network": {"hallucinated": True}}, "depth: true"),
        ({"stages": [stage(depth_batch=2)]}, "depth_batch"),
        ({"stages": [stage(name="decoder")], "network": {"depth": True}}, "decoder alone"),
        ({"stages": [stage()], "network": {"image_size": [33, 48]}}, "network"),
        ({"stages": [stage()], "network": {"backbone": "vgg"}}, "network.backbone"),
        ({"stages": [stage()], "branches": ["day"]}, "branches"),
    ],
)
def test_mistakes_in_a_global_recipe_are_named(changes, named):
    with pytest.raises(ConfigError, match=named):
        parse_config({"method": "global", **changes})


def test_a_stage_starts_from_the_one_before_unless_it_names_another():
    config = parse_config(
        {
            "method": "global",
            "network": {"depth": True},
            "stages": [
                stage(losses={"triplet": 1, "depth": 1}),
                {"name": "decoder", "losses": {"depth": 1}, "depth_batch": 2},
            ],
        }
    )
    assert [config.start_of(s) for s in config.stages] == ["", "descriptors"]


# Whole runs


def test_six_steps_equal_three_and_a_resume_and_three_to_the_bit(tmp_path, monkeypatch):
    """With mined negatives, neighbourhoods, depth and photometry, between two renewals."""
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain, depth=True)
    on = {"soft_contrastive": 1, "triplet": 1, "local_triplet": 1, "depth": 1}

    def chosen(name):
        return recipe(
            tmp_path,
            stage(6, losses=on),
            output=str(tmp_path / name),
            network={"depth": True, "head": "netvlad", "clusters": 3, "size": 4},
            tuples={"refresh": 2},
            neighbourhoods={"batch": 3},
            crops={"zoom": [1.0, 1.2], "photometric": 0.3},
            validation={"data": [str(tmp_path / "data")]},
        )

    GlobalTraining(chosen("through")).run()
    interrupt_after(monkeypatch, 3)
    with pytest.raises(Interrupted, match="step 3"):
        GlobalTraining(chosen("halves")).run()
    monkeypatch.undo()
    torch.manual_seed(1234)  # whatever happened in between
    GlobalTraining(chosen("halves"), resume=True).run()

    expected, resumed = (leavings(tmp_path / name) for name in ("through", "halves"))
    assert expected.keys() == resumed.keys()
    assert any(k.startswith("memory-0:memory/descriptors") for k in resumed)
    for key, value in expected.items():
        assert torch.equal(value, resumed[key]), key
    models = [load_model(tmp_path / name / "model") for name in ("through", "halves")]
    assert models[0].training["validation"] == models[1].training["validation"]
    assert models[0].identity == models[1].identity
    assert set(models[0].training["whitened_recall"]) == {"night", "mean"}


def test_a_trained_model_loads_tells_how_it_was_made_and_keeps_the_best_weights(drives):
    validation = {"data": [str(drives / "data")]}
    config = recipe(drives, stage(4), name="soft", validation=validation, validate_every=2)
    model = load_model(open_run(config).run())
    assert model.name == "soft" and model.domain_names() == ["day", "night"]
    assert model.branches == {"day": "ground", "night": "ground"}
    assert model.coarse["day"] is model.coarse["night"] is model.fine["day"]
    training = model.training
    assert training["losses"] == {"descriptors": {"soft_contrastive": 1}}
    assert training["images"] == {"day": COUNT, "night": COUNT}
    assert [entry["step"] for entry in training["validation"]["history"]] == [0, 2, 4]
    assert training["config"]["method"] == "global"
    best = weights(drives, "descriptors.best")
    for key, value in model.coarse["day"].state_dict().items():
        assert torch.equal(value, best[f"encoders/ground/{key}"])


@pytest.mark.parametrize(
    ("loss", "soft"),
    [
        ("soft_contrastive", {}),
        ("soft_contrastive", {"form": "paper", "nu": 3.0}),
        ("multi_similarity", {}),
        ("triplet", {}),
        ("soft_contrastive", {"form": "sum"}),
        ("soft_contrastive", {"mined": True}),
        ("quadruplet", {}),
        ("lazy_quadruplet", {}),
        ("log_ratio", {}),
        ("lazy_triplet", {}),
        ("local_triplet", {}),
    ],
)
def test_every_loss_teaches_which_images_show_one_place(drives, loss, soft):
    """Images of one place become more similar to each other than to others, by day and night."""
    config = recipe(
        drives,
        stage(25, losses={loss: 1}, constant=1.0),
        learning_rate=2e-2,
        neighbourhoods={"batch": 6},
        baselines={"margin": 0.5},
        soft={"tau": 10.0, **soft},
    )
    run = GlobalTraining(config).stage_run(0)
    rows = np.arange(2 * COUNT)
    metres = torch.from_numpy(run.data.routes.metres(rows, rows))

    def contrast():
        z = describe_rows(run.networks, run.branches, run.data.viewer, rows, run.move)
        similar = z @ z.T
        return (similar[metres < 9].mean() - similar[metres > 15].mean()).item()

    before = contrast()
    for k in range(25):
        run.step(k, run.batch(k))
    assert contrast() > 2 * before > 0


def test_pictures_from_above_get_a_branch_of_their_own_and_both_learn_one_space(drives):
    write_drive(drives / "above", "aerial")
    config = recipe(
        drives,
        stage(40, losses={"local_triplet": 1}, constant=1.0),
        data=[f"{drives / 'data'} + {drives / 'above'}"],
        neighbourhoods={"batch": 8},
        network={"size": 3},
        validation={
            "data": [f"{drives / 'data'} + {drives / 'above'}"],
            "reference": "aerial",
            "radius": 1.0,
            "disc": 50.0,
        },
        validate_every=40,
        learning_rate=6e-3,
    )
    training = GlobalTraining(config)
    data = training.data[0]
    queries, partners = data.pairs.draw(0)
    assert set(data.domains_of(queries)) <= {"day", "night"}
    assert set(data.domains_of(partners)) == {"aerial"}
    model = load_model(training.run())
    assert model.branches == {"day": "ground", "night": "ground", "aerial": "aerial"}
    ground, aerial = model.coarse["day"], model.coarse["aerial"]
    last = weights(drives, "descriptors")
    key = "backbone.model.1.weight"
    assert not torch.equal(last[f"encoders/ground/{key}"], last[f"encoders/aerial/{key}"])
    assert torch.equal(ground.whitening.directions, aerial.whitening.directions)
    assert ground.whitening.learned and ground(torch.zeros(1, 3, 36, 48)).shape == (1, 3, 1, 1)
    assert training.progress.history[-1]["mean"] > 3 * 100 / COUNT  # three times chance


def test_depth_follows_the_crop_of_its_image():
    metres = np.arange(48 * 64, dtype=np.float32).reshape(48, 64) / 100
    metres[0, 0], metres[-1, -1] = np.nan, np.inf
    store = DepthStore([Photo(Path("a"), "day", depth=lambda: metres)], (24, 32), 2.0)
    whole = store.crop(0, Box(0, 0, 1, 1))
    assert whole.shape == (1, 24, 32)
    expected = torch.from_numpy(metres[1::2, 1::2]) / DEPTH_LIMIT
    torch.testing.assert_close(whole[0], expected, rtol=1e-3, atol=1e-4)
    assert whole[0, -1, -1].isposinf()
    mirrored = store.crop(0, Box(0, 0, 1, 1), flip=True)
    torch.testing.assert_close(mirrored.flip(2), whole, rtol=0, atol=1 / DEPTH_LIMIT)
    half = store.crop(0, Box(0.5, 0.5, 1, 1))
    corner = (slice(-1), slice(-1))  # the endless pixel and its neighbours
    torch.testing.assert_close(
        half[0, ::2, ::2][corner], whole[0, 12:, 16:][corner], rtol=0, atol=0.01
    )
    none = DepthStore([Photo(Path("a"), "day")], (2, 3), 1)
    assert not len(none.known()) and none.crop(0, Box(0, 0, 1, 1)).isnan().all()


# Parts


def test_images_of_two_branches_keep_their_order(drives):
    config = recipe(drives, stage(1), branches={"night": "night"})
    run = GlobalTraining(config).stage_run(0)
    with torch.no_grad():
        run.networks.encoders["night"].backbone.model[1].weight.mul_(-1)
    images = torch.rand(5, 3, 36, 48)
    domains = ["night", "day", "day", "night", "day"]
    result = describe_parts(run.networks, run.branches, images, domains).fused
    for k, domain in enumerate(domains):
        network = run.networks.encoders[run.branches[domain]]
        torch.testing.assert_close(result[k], network.describe(images[k : k + 1])[0])


def test_processes_average_the_same_gradients_although_one_lacks_a_branch(drives):
    """A branch without images in this process has a gradient of zero, not none."""
    averaged = []

    class Two(Processes):
        def average_gradients(self, parameters):
            averaged.extend(p.grad is not None for p in parameters)

    config = recipe(drives, stage(1), branches={"day": "day"}, tuples={"cache": 0})
    run = GlobalTraining(config).stage_run(0)
    run.processes = Two(0, 2)
    batch = run.batch(0)
    day = run.data.viewer.store.rows()["day"]
    rows = np.array(day[: batch.tuples.size])
    images = run.data.viewer.plain(rows)
    batch = replace(batch, rows=rows, views=Views(images, None), tuples=rows[None])
    run.step(0, batch)
    assert averaged and all(averaged)


def test_mined_negatives_are_seen_in_place_of_the_random_ones(drives):
    config = recipe(drives, stage(4), crops={"zoom": [1.0, 1.0]})
    run = GlobalTraining(config).stage_run(0)
    changed = 0
    for step in range(4):
        before = run.batch(step)
        after = run.mined(step, before)
        assert np.array_equal(after.tuples.flatten(), after.rows)
        whole = run.data.viewer.plain(after.rows)
        torch.testing.assert_close(
            after.views.images, whole.flip(3) if after.flip else whole, atol=0.01, rtol=0
        )
        changed += not np.array_equal(before.rows, after.rows)
    assert changed


def test_a_run_starts_from_another_runs_stage_or_a_backbone_and_no_other_network(drives):
    GlobalTraining(recipe(drives, stage(2))).run()
    first = weights(drives)
    stages = drives / "run" / "stages" / "descriptors.safetensors"
    again = recipe(drives, stage(2), initial=str(stages), output=str(drives / "again"))
    state = GlobalTraining(again).stage_run(0).networks.state()
    assert all(torch.equal(state[key], value) for key, value in first.items())

    head = "encoders/ground/backbone."
    backbone = {f"day/{k.removeprefix(head)}": v for k, v in first.items() if k.startswith(head)}
    save_file(backbone, drives / "coarse.safetensors")
    again.initial, again.seed = str(drives / "coarse.safetensors"), 5
    state = GlobalTraining(again).stage_run(0).networks.state()
    assert all(torch.equal(state[k], v) for k, v in first.items() if k.startswith(head))

    save_file({"day/model.1.weight": torch.zeros(2)}, drives / "other.safetensors")
    again.initial = str(drives / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors"):
        GlobalTraining(again).stage_run(0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": {"size": 16}, "sample": 10}, "network.size 16"),
        ({"branches": {"dusk": "a"}}, "dusk"),
        ({"neighbourhoods": {"references": ["aerial"]}}, "aerial"),
        ({"stage": {"domains": ["winter_snow"]}}, "winter_snow"),
        ({"stage": {"depth_batch": 2}, "network": {"depth": True}}, "none of 28 .* a depth map"),
    ],
)
def test_what_could_only_fail_at_the_end_is_refused_at_the_start(drives, changes, named):
    losses = {"soft_contrastive": 1, "local_triplet": 1}
    losses |= {"depth": 1} if "network" in changes and "depth" in changes["network"] else {}
    planned = stage(losses=losses, **changes.pop("stage", {}))
    with pytest.raises(TrainingError, match=named):
        GlobalTraining(recipe(drives, planned, **changes))


# Validation


def test_a_prior_limits_validation_to_its_disc():
    """Of two equal views the one within the disc is the answer."""
    place = np.zeros((3, 11))
    place[:, 6] = 1.0  # one heading
    place[:, 9:] = 1.0  # whole images
    place[1:, 1] = 0.0, 80.0
    places = {"map": place[[2, 1]], "query": place[:1]}
    images = {"map": torch.ones(2, 3, 1, 1), "query": torch.ones(1, 3, 1, 1)}
    encoders = dict.fromkeys(images, lambda x: x[:, :, 0, 0])
    for disc, expected in ((0.0, 0.0), (50.0, 100.0)):
        views = ValidationSet(images, places, "map", 5.0, 10.0, disc)
        result = recall(encoders, lambda a, b: a @ b.T, views, torch.device("cpu"))
        assert result == {"query": expected, "mean": expected}
