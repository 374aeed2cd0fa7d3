# SPDX-License-Identifier: Apache-2.0
"""Whole runs of DISAM's method: recipes, stages, models, resuming, faults."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training_data import write_drive, write_folders
from support.training_stage import (
    PAPER,
    TINY,
    interrupt_after,
    leavings,
    recipe,
    stage,
)

from disam_ros import load_model
from disam_ros.errors import ConfigError, DomainError
from training.disam import losses
from training.disam.networks import create_networks
from training.disam.run import Training
from training.disam.stage import StageRun
from training.engine.checkpoints import find_checkpoint
from training.engine.reporting import LossLog
from training.errors import TrainingError
from training.recipes import load_config, parse_config
from training.train import Interrupted, main

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]
TRANSLATION = {"gan": 1, "cycle": 10}
PAIRS = {"losses": {"contrastive": 1}, "aligned_batch": 4}


@pytest.fixture
def drives(tmp_path):
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain, 5)
    return tmp_path


# Recipes


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config").glob("train_*.yaml")), ids=lambda p: p.stem
)
def test_shipped_recipes_are_valid(path):
    assert load_config(path).stages


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sead": 1}, "did you mean 'seed'"),
        ({"method": "magic"}, "'method' must be one of disam, global"),
        ({"stages": []}, "stages"),
        ({"stages": [{"name": "fine", "losses": {"gam": 1}}]}, "stages.0.losses.gam"),
        ({"stages": [{"name": "fine"}]}, "stages.0.losses"),
        ({"stages": [{"losses": {"gan": 1}}]}, "stages.0.name"),
        ({"stages": [stage(), stage()]}, "stages.1.name"),
        ({"stages": [stage(start_from="coarse")]}, "stages.0.start_from"),
        ({"stages": [stage()], "crops": {"zoom": [2.0, 1.0]}}, "crops.zoom"),
        ({"stages": [stage()], "network": {"image_size": [96]}}, "network.image_size"),
        ({"stages": [stage()], "domains": ["a", "b"], "frozen": ["c"]}, "'frozen' expects some of"),
        ({"stages": [stage()], "domains": ["a"], "frozen": ["a"]}, "not all but for a translation"),
        ({"stages": [stage(losses={"distillation": 1})]}, "needs a domain in 'frozen'"),
        ({"stages": [stage()], "validation": {"drive": "road"}}, "'validation.data' is empty"),
        ({"stages": [stage()], "initial": "x.pth", "average": [0.5]}, "held_out"),
    ],
)
def test_mistakes_in_a_recipe_are_named(changes, named):
    with pytest.raises(ConfigError, match=named):
        parse_config(changes)


# Whole runs


def test_six_steps_equal_three_and_a_resume_and_three_to_the_bit(drives, monkeypatch):
    """With all losses, pool, bank of negatives, scales and averages of the gradient's shares."""
    losses = {**PAPER, "contrastive": 1}

    def chosen(name):
        return recipe(
            drives,
            [stage(6, losses=losses, batch_size=2, aligned_batch=3)],
            output=str(drives / name),
            triplets={"form": "relative", "group": 4},
            validation={"data": [str(drives / "data")]},
            validate_every=3,
        )

    Training(chosen("through")).run()
    interrupt_after(monkeypatch, 3)
    with pytest.raises(Interrupted, match="step 3"):
        Training(chosen("halves")).run()
    monkeypatch.undo()
    torch.manual_seed(1234)  # whatever happened in between
    Training(chosen("halves"), resume=True).run()

    expected, resumed = (leavings(drives / name) for name in ("through", "halves"))
    assert expected.keys() == resumed.keys()
    for memory in ("pool/", "bank/z/", "scale/map"):
        assert any(k.startswith(f"memory-0:{memory}") for k in resumed)
    for key, value in expected.items():
        assert torch.equal(value, resumed[key]), key
    curves = [
        load_model(drives / n / "model").training["validation"] for n in ("through", "halves")
    ]
    assert curves[0] == curves[1]
    assert [entry["step"] for entry in curves[0]["history"]] == [0, 3, 6]


def test_three_stages_make_a_model_that_loads_and_tells_how_it_was_made(drives, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stages = [
        stage(2, "translation", losses=TRANSLATION),
        stage(2, "coarse", losses={**TRANSLATION, "fcl": 0.1, "triplet_fcl": 1}),
        stage(2, "fine"),
    ]
    changes = {
        "grid_every": 2,
        "gradients_every": 1,
        "validation": {"data": [str(drives / "data")]},
    }
    model = load_model(Training(recipe(drives, stages, name="three", **changes)).run())
    assert model.name == "three" and model.domain_names() == ["day", "night"]
    training = model.training
    assert training["losses"]["coarse"] == {**TRANSLATION, "fcl": 0.1, "triplet_fcl": 1}
    assert training["steps"] == {"translation": 2, "coarse": 2, "fine": 2}
    assert training["images"] == {"day": 5, "night": 5}
    assert training["stages_used"] == {"coarse": "coarse", "fine": "fine"}
    assert training["seconds"] > 0
    assert set(training["best_recall"]) == {"translation", "coarse", "fine"}
    best = load_file(drives / "run" / "stages" / "coarse.best.safetensors")
    for key, value in model.coarse["day"].state_dict().items():
        assert torch.equal(value, best[f"encoders/day/{key}"])
    assert "% of the gradient)" in capsys.readouterr().err
    terms = training["terms"]["translation"]
    assert set(terms) == {"gan", "cycle", "discriminator"}
    for name in ("gan", "cycle"):
        assert terms[name]["value"] > 0 and 0 < terms[name]["gradient_share"] < 1
        assert terms[name]["measured"] == 2
    curves = EventAccumulator(str(drives / "run" / "tensorboard"))
    curves.Reload()
    assert {"fine/gan", "fine/gradient_share/cycle"} <= set(curves.Tags()["scalars"])
    assert "fine/translations" in curves.Tags()["images"]


def test_without_a_fine_stage_the_coarse_encoders_stand_in(drives):
    stages = [stage(2, "coarse", **PAIRS)]
    model = load_model(Training(recipe(drives, stages)).run())
    assert model.training["stages_used"] == {"coarse": "coarse", "fine": "coarse"}
    for a, b in zip(*(m["night"].parameters() for m in (model.coarse, model.fine)), strict=True):
        assert torch.equal(a, b)


def test_true_pairs_alone_teach_the_metric_and_need_no_decoders(drives):
    stages = [stage(20, "coarse", losses={"contrastive": 1}, aligned_batch=5)]
    pairs = {"neighbourhood": 50.0}
    run = Training(recipe(drives, stages, learning_rate=4e-3, aligned=pairs)).stage_run(0)
    assert not run.networks.decoders
    values = [run.step(k, run.batch(k))["contrastive"].item() for k in range(20)]
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


@pytest.mark.parametrize(
    ("frozen", "losses", "learned"),
    [
        (["day"], {"contrastive": 1}, {"encoders/night"}),
        (
            ["day", "night"],
            TRANSLATION,
            {f"{kind}/{d}" for kind in ("decoders", "discriminators") for d in ("day", "night")},
        ),
    ],
)
def test_frozen_encoders_keep_their_weights_and_the_other_networks_learn(
    drives, frozen, losses, learned
):
    stages = [stage(2, "translation", losses=losses, aligned_batch=4)]
    config = recipe(drives, stages, domains=["day", "night"], frozen=frozen)
    Training(config).run()
    start = create_networks(config.network.build(), config.domains, True, config.seed).state()
    after = load_file(drives / "run" / "stages" / "translation.safetensors")
    changed = {"/".join(k.split("/")[:2]) for k, v in after.items() if not v.equal(start[k])}
    assert changed == learned


# Resuming


def test_a_run_directory_in_use_needs_resume(drives):
    config = recipe(drives, [stage(2, **PAIRS)])
    Training(config).run()
    with pytest.raises(TrainingError, match="--resume"):
        Training(config)
    Training(config, resume=True).run()  # finished already: writes the model again


def test_resuming_with_other_settings_or_images_names_them(drives):
    config = recipe(drives, [stage(2, **PAIRS)])
    Training(config).run()
    (drives / "data/day/images/day/front/1000000000.jpg").unlink()
    config.learning_rate, config.stages[0].losses.sam = 1e-3, 1.0
    config.log_every = 1  # may differ
    with pytest.raises(TrainingError) as error:
        Training(config, resume=True)
    message = str(error.value)
    assert "learning_rate: 0.0002 → 0.001" in message and "images.day: 5 → 4" in message
    assert "stages.0.losses.sam: 0.0 → 1.0" in message and "log_every" not in message


def test_a_run_of_an_earlier_version_is_resumed_with_defaults_for_settings_it_did_not_know(drives):
    config = recipe(drives, [stage(2, **PAIRS)])
    Training(config).run()
    path = find_checkpoint(drives / "run") / "state.json"
    state = json.loads(path.read_text())
    del state["config"]["network"]["shared_blocks"], state["config"]["gradients_every"]
    del state["config"]["stages"][0]["losses"]["distillation"], state["progress"]["terms"]
    path.write_text(json.dumps(state))
    Training(config, resume=True)
    config.network.shared_blocks = 1
    with pytest.raises(TrainingError, match=r"network\.shared_blocks: 0 → 1"):
        Training(config, resume=True)


def test_a_damaged_checkpoint_and_one_of_another_format_are_named(drives, monkeypatch):
    config = recipe(drives, [stage(4, **PAIRS)])
    interrupt_after(monkeypatch, 2)
    with pytest.raises(Interrupted):
        Training(config).run()
    monkeypatch.undo()
    checkpoint = find_checkpoint(drives / "run")
    (checkpoint / "networks.safetensors").write_bytes(b"short")
    with pytest.raises(TrainingError, match="is damaged"):
        Training(config, resume=True).run()
    state = checkpoint / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "format_version": 0}))
    with pytest.raises(TrainingError, match="format version 0, expected 1"):
        Training(config, resume=True)


def test_a_half_written_checkpoint_is_not_found(tmp_path):
    (tmp_path / "checkpoints" / "000000010.part").mkdir(parents=True)
    assert find_checkpoint(tmp_path) is None


def test_the_command_line_ends_with_a_message_or_a_checkpoint(drives, monkeypatch, caplog):
    path = drives / "recipe.yaml"
    path.write_text(json.dumps({**TINY, "stages": [stage(4, **PAIRS)]}))  # JSON is YAML
    options = ["--config", str(path), "--output", str(drives / "run")]
    assert main([*options, "--data", str(drives / "nowhere")]) == 1
    assert "nowhere" in caplog.text
    interrupt_after(monkeypatch, 3)
    options += ["--data", str(drives / "data"), "--device", "cpu", "--seed", "4"]
    assert main(options) == 130
    monkeypatch.undo()
    assert main([*options, "--resume"]) == 0
    assert load_model(drives / "run" / "model").training["seed"] == 4


# Losses without a gradient, losses and weights that are not finite


@pytest.mark.parametrize("smoke", [True, False])
def test_a_dead_loss_is_an_error_of_a_smoke_run(drives, monkeypatch, smoke):
    monkeypatch.setattr(losses, "contrastive", lambda scores, *_: 0.0 * scores.sum())
    plan = [stage(2, losses={"contrastive": 1}, aligned_batch=4)]
    run = Training(recipe(drives, plan, smoke=smoke, gradients_every=1))
    if not smoke:
        run.run()
        return
    with pytest.raises(TrainingError, match="contrastive of stage 'fine' had no gradient in 2"):
        run.run()


def poison(monkeypatch, at, times, name):
    """The loss is NaN in this step, so many times."""
    original, left = StageRun.step, [times]

    def step(self, number, batch):
        terms = original(self, number, batch)
        if number == at and left[0]:
            left[0] -= 1
            for parameter in self.networks.generators():
                parameter.data.fill_(float("nan"))
            return {**terms, name: terms[name] * float("nan")}
        return terms

    monkeypatch.setattr(StageRun, "step", step)


def test_a_loss_that_is_nan_is_named_and_training_goes_on_from_the_last_good_step(
    drives, monkeypatch, caplog
):
    poison(monkeypatch, at=4, times=1, name="triplet_sam")
    rates = {}
    original = StageRun.share_of_rate
    monkeypatch.setattr(
        StageRun,
        "share_of_rate",
        lambda run, step: rates.setdefault(step, []).append(original(run, step)) or rates[step][-1],
    )
    model = load_model(Training(recipe(drives, [stage(6)], gradients_every=0)).run())
    assert "loss 'triplet_sam' is nan in step 5 of stage 'fine': back to step 4" in caplog.text
    assert caplog.text.count("learning rate halved") == 1
    assert all(value.isfinite().all() for value in model.fine["day"].state_dict().values())
    assert max(rates[4]) == pytest.approx(2 * min(rates[4]))  # done again at half the rate


def test_a_second_time_is_an_error_that_keeps_the_last_good_checkpoint(drives, monkeypatch):
    poison(monkeypatch, at=6, times=2, name="contrastive")
    with pytest.raises(TrainingError, match=r"'contrastive' is nan in step 7.*again at half the"):
        Training(recipe(drives, [stage(8, **PAIRS)])).run()
    assert find_checkpoint(drives / "run").name == "000000005"


def test_the_halved_rate_outlives_an_interruption(drives, monkeypatch):
    interrupt_after(monkeypatch, 6)
    poison(monkeypatch, at=1, times=1, name="contrastive")
    config = recipe(drives, [stage(6, **PAIRS)])
    with pytest.raises(Interrupted):
        Training(config).run()
    assert Training(config, resume=True).progress.rate == 0.5


def test_weights_that_are_not_finite_are_never_saved(drives, monkeypatch):
    original = StageRun.step

    def step(self, number, batch):
        terms = original(self, number, batch)
        if number == 3:
            self.networks.generators()[0].data.fill_(float("inf"))
        return terms

    monkeypatch.setattr(StageRun, "step", step)
    with pytest.raises(TrainingError, match=r"encoders/day.* not finite"):
        Training(recipe(drives, [stage(6, "coarse", **PAIRS)], checkpoint_every=2)).run()
    assert find_checkpoint(drives / "run").name == "000000002"


def test_loss_log_averages():
    log = LossLog("fine")
    for k in range(3):
        log.add(k, {"gan": torch.tensor(float(k))})
    assert log.flush() == {"gan": 1.0}
    assert log.flush() == {}


def test_an_unknown_domain_is_refused(tmp_path):
    write_folders(tmp_path / "data", (("day", 2), ("moonlight", 2)))
    with pytest.raises(DomainError, match="moonlight"):
        Training(recipe(tmp_path, [stage()]))
