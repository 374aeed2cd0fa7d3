# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the companion systems trains what its table says."""

import pytest
import torch

from benchmark.accuracy import companions
from benchmark.accuracy.companions_data import CHOICES, TEST, TRAINED
from training.global_descriptors.config import GlobalTrainConfig
from training.global_descriptors.losses import Influence, soft_contrastive_paper


def _seed():
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def no_training(monkeypatch, tmp_path):
    monkeypatch.setattr(companions, "train", lambda name, seed, root: tmp_path / name)
    monkeypatch.setattr(companions, "_backbone", lambda: tmp_path / "backbone.pth")


@pytest.mark.parametrize("name", companions.ROWS)
def test_every_row_is_a_valid_recipe_of_the_same_budget(name, tmp_path):
    config = companions.row_config(name, 2, tmp_path)
    assert isinstance(config, GlobalTrainConfig) and config.seed == 2
    (stage,) = config.stages
    assert stage.steps == companions.STEPS
    assert config.network.head == ("safa" if "SAFA" in name else "netvlad")
    assert (config.network.clusters, config.network.size) == (16, 256)
    tuples, pairs = 1 + config.tuples.near + config.tuples.far, config.neighbourhoods.batch
    assert tuples == 13 and pairs in (13, 16)


def test_the_papers_form_pushes_far_images_apart_at_the_rows_nu_and_not_at_the_released_one(
    tmp_path,
):
    config = companions.row_config("soft contrastive, paper's form", 0, tmp_path).soft
    slopes = []
    for nu in (config.nu, 50.0):
        tuples = torch.nn.functional.normalize(torch.randn(1, 4, 8, generator=_seed()), dim=-1)
        tuples.requires_grad_()
        far = torch.full((1, 4, 4), 1000.0)
        found = soft_contrastive_paper(tuples, far, Influence(), config.eta, nu, config.mu)
        slopes.append(torch.autograd.grad(found, tuples)[0].norm().item())
    assert slopes[0] > 0.01 and slopes[1] < 1e-6


def test_losses_that_know_near_and_far_only_have_radii_of_their_own_and_the_same_anchor(tmp_path):
    radii = {}
    for name in companions.TUPLES:
        config = companions.row_config(name, 0, tmp_path)
        radii[name] = config.tuples.near_radius, config.tuples.far_radius
    assert {radii[n] for n in ("triplet", "lazy quadruplet", "multi-similarity")} == {(10.0, 25.0)}
    assert {r for n, r in radii.items() if n.startswith("soft")} == {(15.0, 15.0)}
    assert companions.row_config(companions.FIRST, 0, tmp_path).soft.anchors == "first"


@pytest.mark.parametrize("name", companions.ROWS)
def test_no_row_sees_the_town_it_is_judged_on(name, tmp_path):
    config = companions.row_config(name, 0, tmp_path)
    folders = {part for entry in config.data for part in entry.replace("+", "/").split("/")}
    assert {str(town) for town in TRAINED} <= {part.strip() for part in folders}
    assert not {str(TEST), str(CHOICES)} & {part.strip() for part in folders}


def test_depth_rows_are_trained_without_night_and_one_tunes_its_decoder_by_night(tmp_path):
    rows = [companions.row_config(name, 0, tmp_path) for name in companions.DEPTHS]
    assert [row.domains for row in rows[:2]] == [companions.BY_DAY] * 2
    assert rows[2].stages[0].name == "decoder" and rows[2].stages[0].domains == ["night"]


@pytest.mark.parametrize(
    ("better", "other", "outcome"),
    [([3, 4], [1, 2], "holds"), ([1, 2], [3, 4], "the opposite"), ([1, 3], [2, 4], "within")],
)
def test_a_claim_holds_only_where_every_seed_is_above_every_other(better, other, outcome):
    assert outcome in companions.claimed(better, other)[1]
