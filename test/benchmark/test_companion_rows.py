# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the companion systems trains what its table says."""

import pytest

from benchmark.accuracy import companions
from benchmark.accuracy.companions_data import CHOICES, TEST, TRAINED
from training.global_descriptors.config import GlobalTrainConfig


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
    assert (config.network.head, config.network.clusters) == ("netvlad", 16)
    tuples, pairs = 1 + config.tuples.near + config.tuples.far, config.neighbourhoods.batch
    assert tuples == 13 and pairs in (13, 16)


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
