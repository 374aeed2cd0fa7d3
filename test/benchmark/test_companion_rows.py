# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the companion systems trains what its table says."""

import pytest

from benchmark.pages import stored
from benchmark.research import companions, companions_rows
from benchmark.research.companions_data import CHOICES, TEST, TRAINED
from benchmark.research.companions_rows import ROWS, row_recipe
from benchmark.research.gains import MISSING
from benchmark.research.page import PAGE
from benchmark.research.paper_claims import PUBLISHED, answers
from disam_ros.files.writing import write_json
from training.global_descriptors.config import GlobalTrainConfig


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_valid_recipe_of_the_same_budget_unless_its_name_says_otherwise(
    name, tmp_path
):
    config = row_recipe(name, 2, tmp_path)
    assert isinstance(config, GlobalTrainConfig)
    (stage,) = config.stages
    if name == companions_rows.VGG16:
        assert config.network.backbone == "vgg16" and stage.steps < companions_rows.STEPS
        return
    assert stage.steps == companions_rows.STEPS
    assert config.network.head == next(
        (head.lower() for head in ("SAFA", "MAC") if head in name), "netvlad"
    )
    assert config.network.backbone == ("alexnet" if "AlexNet" in name else "mobile")
    assert config.network.size == (0 if config.network.head == "mac" else 256)
    tuples, pairs = 1 + config.tuples.near + config.tuples.far, config.neighbourhoods.batch
    assert tuples == 13 and pairs in (13, 16)


def test_other_seeds_are_trained_with_the_better_rate_alone(tmp_path):
    slow = dict(zip(companions_rows.TUPLES, companions_rows.RATED, strict=True))
    for name, best in (("triplet", 41.0), ("multi-similarity", 43.0)):
        stored_row(name, 0, tmp_path, 0.4)
        stored_row(slow[name], 0, tmp_path, 0.6, best)
    missing = companions.measure((0, 1), finished=True, root=tmp_path)["missing"]
    assert "triplet, seed 1" in missing and f"{slow['multi-similarity']}, seed 1" in missing
    assert f"{slow['triplet']}, seed 1" not in missing
    assert "multi-similarity, seed 1" not in missing


def test_what_the_claims_compare_is_trained_with_every_seed():
    runs = list(companions.experiment().runs((5, 6)))
    often = {name for name, row in ROWS.items() if not row.once}
    assert {name for name, seed in runs if seed == 6} == often >= {"triplet", companions_rows.FORM}
    assert {name for name, seed in runs if seed == 5} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_no_row_sees_the_town_it_is_judged_on(name, tmp_path):
    config = row_recipe(name, 0, tmp_path)
    folders = {part for entry in config.data for part in entry.replace("+", "/").split("/")}
    assert str(TEST) not in str(config.validation.data).replace("'", "/").split("/")
    assert {str(town) for town in TRAINED} <= {part.strip() for part in folders}
    assert not {str(TEST), str(CHOICES)} & {part.strip() for part in folders}


def stored_row(name, seed, root, share, best=42.0):
    """Figures of a trained row whose recall is `share` everywhere; best: in the validation town."""
    accuracy = {f"{d:g} m": share for d in companions.DISTANCES}
    trials = [{"local_recall_at_1": share, "median_error_m": 1.0}] * 4
    condition = {
        "accuracy": accuracy,
        "bound": accuracy,
        "priors": trials if name in companions_rows.PRIORS else [],
    }
    run = companions.experiment(root).folder(name, seed)
    run.mkdir(parents=True)
    write_json(
        run / companions.FIGURES,
        {
            "conditions": dict.fromkeys(companions.CONDITIONS, condition),
            "history": [[0, 10.0], [90, 40.0], [120, best]],
            "commit": "0" * 40,
            "seconds": 60.0,
        },
    )


def test_the_section_can_be_written_with_what_is_trained_so_far(tmp_path):
    near, everywhere = "camera, negatives within 50 m", "camera, negatives from all towns"
    for seed in (0, 1):
        stored_row("triplet", seed, tmp_path, 0.4 + 0.1 * seed)
        stored_row(companions_rows.FORM, seed, tmp_path, 0.6 + 0.1 * seed)
        for name, share in ((near, 0.9), (everywhere, 0.8), ("RGB", 0.5)):
            stored_row(name, seed, tmp_path, share)
    results = stored(companions.measure((0, 1), finished=True, root=tmp_path))
    assert set(results["rows"]) == {"triplet", companions_rows.FORM, near, everywhere, "RGB"}
    assert "multi-similarity, seed 1" in results["missing"]
    summary = results["summary"]
    claims = {
        line["question"].text: line["here"] for line in answers({"companions": results}, PUBLISHED)
    }
    assert claims["paper's form over triplet"].points == pytest.approx((20.0, 20.0))
    assert claims["decoder tuned by night over not"].outcome == MISSING
    assert summary["gain"]["triplet"] == [2.0, 2.0] and summary["minutes"] == 10
    companions.draw(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0
    text = PAGE.render(
        {"companions": {"measured_under": "x", "stale": False, "results": results}}, "companions"
    )
    assert "| triplet | 45.0 (40.0–50.0) |" in text and "Not trained: " in text
    assert f"| {near} | 90.0 |" in text and "| 10.0 | 42.0 | 42.0 |" in text


def test_a_loss_is_judged_with_the_rate_that_was_better_in_the_validation_town(tmp_path):
    slow = dict(zip(companions_rows.TUPLES, companions_rows.RATED, strict=True))
    for name, best in (("triplet", 41.0), ("multi-similarity", 43.0)):
        stored_row(name, 0, tmp_path, 0.4)
        stored_row(slow[name], 0, tmp_path, 0.6, best)
    results = stored(companions.measure((0,), finished=True, root=tmp_path))
    assert results["rates"] == {"triplet": 1e-4, "multi-similarity": companions_rows.SLOW}
    accuracy = results["summary"]["accuracy"]
    assert accuracy["triplet"]["5 m"] == pytest.approx([0.4])
    assert accuracy["multi-similarity"]["5 m"] == pytest.approx([0.6])
    text = PAGE.render(
        {"companions": {"measured_under": "x", "stale": False, "results": results}}, "companions"
    )
    assert "| triplet | 0.0001 | 40.0 |" in text and "| multi-similarity | 1e-05 | 60.0 |" in text
