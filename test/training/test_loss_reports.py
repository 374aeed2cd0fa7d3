# SPDX-License-Identifier: Apache-2.0
"""Values and gradient shares of the losses, losses without gradient, losses that are not finite."""

import json

import pytest
import torch
from support.training_data import write_drive
from support.training_stage import PAPER, couple, recipe, stage, stage_run

from disam_ros import load_model
from training.disam.config import TripletConfig
from training.disam.losses import adaptive_triplet
from training.disam.run import Training
from training.disam.sampling import Batch
from training.disam.scales import Scales
from training.disam.stage import StageRun
from training.engine.checkpoints import completed, defaults_of, find_checkpoint
from training.engine.shares import PATIENCE, GradientWatch, gradient_norms, gradient_shares
from training.errors import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def drives(tmp_path):
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain, 5)
    return tmp_path


def poison(monkeypatch, at, times, name="cycle"):
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


# Shares of the gradient


def test_shares_of_the_gradient_are_those_of_the_weighted_terms():
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    terms = {"a": x.square().sum(), "b": x.sum(), "c": torch.tensor(1.0)}
    norms = gradient_norms(terms, [x])
    assert norms == pytest.approx({"a": 10.0, "b": 2**0.5, "c": 0.0})
    assert x.grad is None
    shares = gradient_shares(norms, {"a": 1.0, "b": 10.0, "c": 5.0})
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["b"] / shares["a"] == pytest.approx(2**0.5)
    assert gradient_shares({"a": 0.0}, {"a": 1.0}) == {"a": 0.0}


def test_measuring_shares_changes_no_weight(tmp_path):
    weights = []
    for every in (0, 1):
        run = stage_run(recipe(tmp_path, [stage()], gradients_every=every))
        for step in range(3):
            run.step(step, Batch(couple(step), None))
        weights.append(run.networks.state())
        assert set(run.shares) == (set(PAPER) | {"discriminator"} if every else set())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    generators = [share for name, share in run.shares.items() if name != "discriminator"]
    assert sum(generators) == pytest.approx(1.0) and run.shares["discriminator"] == 1.0


def test_a_run_reports_values_and_shares_and_its_model_keeps_them(drives, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = recipe(drives, [stage(4, losses={"gan": 1, "cycle": 10})], gradients_every=2)
    model = load_model(Training(config).run())
    assert "% of the gradient)" in capsys.readouterr().err
    terms = model.training["terms"]["fine"]
    assert set(terms) == {"gan", "cycle", "discriminator"}
    for name in ("gan", "cycle"):
        assert terms[name]["value"] > 0 and 0 < terms[name]["gradient_share"] < 1
        assert terms[name]["measured"] == 2
    curves = EventAccumulator(str(drives / "run" / "tensorboard"))
    curves.Reload()
    assert {"fine/gan", "fine/gradient_share/cycle"} <= set(curves.Tags()["scalars"])


def test_a_loss_without_gradient_is_warned_of_once(caplog):
    watch = GradientWatch("fine")
    for step in range(0, 3 * PATIENCE, 20):
        watch.check(step, {"triplet_fcl": 0.0, "gan": 1.0, "sam": float(step == PATIENCE - 20)})
    said = [record.getMessage() for record in caplog.records]
    assert [text.split("'")[1] for text in said] == ["triplet_fcl", "sam"]
    assert "no gradient for 100 steps" in said[0] and "triplets.form" in said[0]


def test_where_negatives_are_far_the_absolute_margin_is_out_of_reach_and_the_relative_is_not():
    """Distances of untrained features of variance 4.5, as the paper's encoder has them."""
    positive, negative = torch.tensor([8.3]), torch.tensor([8.9])
    released = TripletConfig()
    absolute = adaptive_triplet(positive, negative, released.margin_fcl, released.alpha_fcl)
    assert absolute.item() == 0.0
    unit = Scales().update("z", negative)
    relative = adaptive_triplet(positive / unit, negative / unit, released.margin, released.alpha)
    assert relative.item() > 0.05


# Losses that are not finite


@pytest.mark.parametrize("name", ["cycle", "triplet_sam"])
def test_a_loss_that_is_nan_is_named_and_training_goes_on_from_the_last_good_step(
    drives, monkeypatch, caplog, name
):
    poison(monkeypatch, at=6, times=1, name=name)
    config = recipe(drives, [stage(10)], gradients_every=0)
    rates = []
    original = StageRun.share_of_rate
    monkeypatch.setattr(
        StageRun, "share_of_rate", lambda s, k: rates.append((k, original(s, k))) or rates[-1][1]
    )
    model = load_model(Training(config).run())
    assert f"loss '{name}' is nan in step 7 of stage 'fine': back to step 6" in caplog.text
    assert caplog.text.count("learning rate halved") == 1
    for value in model.fine["day"].state_dict().values():
        assert value.isfinite().all()
    of = {}
    for step, share in rates:
        of.setdefault(step, []).append(share)
    assert max(of[6]) == pytest.approx(2 * min(of[6]))  # that step was done again at half the rate
    assert json.loads((find_checkpoint(drives / "run") / "state.json").read_text())


def test_a_second_time_is_an_error_that_keeps_the_last_good_checkpoint(drives, monkeypatch):
    poison(monkeypatch, at=6, times=2)
    with pytest.raises(
        TrainingError, match=r"'cycle' is nan in step 7.*again at half the learning"
    ):
        Training(recipe(drives, [stage(10)])).run()
    assert find_checkpoint(drives / "run").name == "000000005"


def test_the_halved_rate_outlives_an_interruption(drives, monkeypatch):
    poison(monkeypatch, at=3, times=1)
    original, seen = StageRun.step, []

    def step(self, number, batch):
        if number == 8 and not seen:
            seen.append(number)
            raise KeyboardInterrupt
        return original(self, number, batch)

    monkeypatch.setattr(StageRun, "step", step)
    with pytest.raises(KeyboardInterrupt):
        Training(recipe(drives, [stage(10)])).run()
    run = Training(recipe(drives, [stage(10)]), resume=True)
    assert run.progress.rate == 0.5 and run.progress.step == 5
    run.run()


# Runs of earlier versions


def test_a_run_of_an_earlier_version_is_resumed_with_defaults_for_settings_it_did_not_know(drives):
    config = recipe(drives, [stage(2)])
    Training(config).run()
    path = find_checkpoint(drives / "run") / "state.json"
    state = json.loads(path.read_text())
    for section, names in {
        "network": ("shared_blocks",),
        "triplets": ("margin", "alpha"),
    }.items():
        for name in names:
            del state["config"][section][name]
    del state["config"]["gradients_every"], state["config"]["stages"][0]["ramp_from"]
    del state["config"]["stages"][0]["losses"]["aligned_sam"]
    del state["progress"]["rate"], state["progress"]["terms"]
    path.write_text(json.dumps(state))
    Training(config, resume=True)
    config.network.shared_blocks = 1
    with pytest.raises(TrainingError, match=r"network\.shared_blocks: 0 → 1"):
        Training(config, resume=True)


def test_defaults_fill_what_is_missing_and_nothing_else(tmp_path):
    defaults = defaults_of(recipe(tmp_path, [stage(), stage(name="coarse")]))
    assert len(defaults["stages"]) == 2 and defaults["stages"][0]["steps"] == 1000
    was = {"seed": 7, "stages": [{"steps": 3}, {"steps": 4}], "gone": 1}
    filled = completed(was, defaults)
    assert filled["seed"] == 7 and filled["gone"] == 1
    assert [s["steps"] for s in filled["stages"]] == [3, 4]
    assert filled["stages"][0]["losses"]["gan"] == 0.0
