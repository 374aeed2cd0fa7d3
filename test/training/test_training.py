# SPDX-License-Identifier: Apache-2.0
import json
import signal
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training_data import write_drive, write_folders
from support.training_stage import (
    PAPER,
    TINY,
    couple,
    gradients_of,
    one_of_two_processes,
    recipe,
    stage,
    stage_run,
)

from disam_ros import load_model
from disam_ros.errors import ConfigError, DomainError
from training.disam.losses import distillation
from training.disam.networks import create_networks
from training.disam.pairs import aligned_terms
from training.disam.run import Training
from training.disam.sampling import Aligned, Batch, Unpaired
from training.disam.scales import Scales
from training.disam.stage import StageRun
from training.engine.checkpoints import differences, find_checkpoint
from training.engine.parallel import Processes
from training.engine.reporting import LossLog
from training.errors import TrainingError
from training.recipes import load_config, parse_config
from training.train import Interrupted, main

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]


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
    ],
)
def test_mistakes_in_a_recipe_are_named(changes, named):
    with pytest.raises(ConfigError, match=named):
        parse_config(changes)


def test_a_step_changes_the_networks_of_its_two_domains_only(tmp_path):
    config = recipe(tmp_path, [stage()])
    networks = create_networks(config.network.build(), ["day", "night", "dusk"], True, 0)
    run = StageRun(config, 0, networks, torch.device("cpu"))
    before = {k: v.clone() for k, v in networks.state().items()}
    run.step(5, Batch(couple(0), None))
    changed = {
        k.split("/")[1] for k, v in networks.state().items() if not torch.equal(v, before[k])
    }
    assert changed == {"day", "night"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_stage_learns_in_either_precision_and_memory_format(tmp_path, precision):
    config = recipe(
        tmp_path,
        [stage(steps=40, losses={"cycle": 10})],
        precision=precision,
        channels_last=True,
        learning_rate=2e-3,
    )
    run = stage_run(config)
    values = [run.step(0, Batch(couple(0), None))["cycle"].item() for _ in range(40)]
    assert values[-1] < 0.9 * values[0]


# Whole runs


def result(directory):
    """Everything a run leaves: weights at the end of the stage and what the checkpoint holds."""
    kept = dict(load_file(directory / "stages" / "fine.safetensors"))
    for path in sorted(find_checkpoint(directory).glob("*.safetensors")):
        kept |= {f"{path.stem}:{k}": v for k, v in load_file(path).items()}
    return kept


def test_ten_steps_equal_five_and_a_resume_and_five_to_the_bit(drives, monkeypatch):
    losses = {**PAPER, "contrastive": 1}
    stages = [stage(10, losses=losses, batch_size=2, aligned_batch=3)]
    validation = {"data": [str(drives / "data")]}
    through = recipe(drives, stages, output=str(drives / "through"), validation=validation)
    Training(through).run()

    halves = recipe(drives, stages, output=str(drives / "halves"), validation=validation)
    interrupt_after(monkeypatch, 5)
    with pytest.raises(Interrupted, match="step 5"):
        Training(halves).run()
    monkeypatch.undo()
    torch.manual_seed(1234)  # whatever happened in between
    Training(halves, resume=True).run()

    expected, answer = (result(drives / name) for name in ("through", "halves"))
    assert expected.keys() == answer.keys()
    assert any(k.startswith("memory-0:pool/") for k in answer)
    assert any(k.startswith("memory-0:bank/z/") for k in answer)
    for key, value in expected.items():
        assert torch.equal(value, answer[key]), key
    curves = [
        load_model(drives / n / "model").training["validation"] for n in ("through", "halves")
    ]
    assert curves[0] == curves[1]
    assert [entry["step"] for entry in curves[0]["history"]] == [0, 5, 10]


def interrupt_after(monkeypatch, steps):
    """Press Ctrl-C during the `steps`-th step from now on."""
    original, left = StageRun.step, [steps]

    def step(self, *arguments):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(StageRun, "step", step)


def test_three_stages_make_a_model_that_loads(drives):
    stages = [
        stage(2, "translation", losses={"gan": 1, "cycle": 10}),
        stage(2, "coarse", losses={"gan": 1, "cycle": 10, "fcl": 0.1, "triplet_fcl": 1}),
        stage(2, "fine"),
    ]
    validation = {"data": [str(drives / "data")]}
    config = recipe(drives, stages, name="three", grid_every=2, validation=validation)
    model = load_model(Training(config).run())
    assert model.name == "three"
    assert model.domain_names() == ["day", "night"]
    training = model.training
    assert training["losses"]["coarse"] == {"gan": 1, "cycle": 10, "fcl": 0.1, "triplet_fcl": 1}
    assert training["steps"] == {"translation": 2, "coarse": 2, "fine": 2}
    assert training["images"] == {"day": 5, "night": 5}
    assert training["stages_used"] == {"coarse": "coarse", "fine": "fine"}
    assert training["seconds"] > 0
    assert set(training["best_recall"]) == {"translation", "coarse", "fine"}
    best = load_file(drives / "run" / "stages" / "coarse.best.safetensors")
    for key, value in model.coarse["day"].state_dict().items():
        assert torch.equal(value, best[f"encoders/day/{key}"])
    assert list((drives / "run" / "tensorboard").iterdir())


def test_without_a_fine_stage_the_coarse_encoders_stand_in(drives):
    stages = [stage(2, "coarse", losses={"contrastive": 1}, aligned_batch=4)]
    model = load_model(Training(recipe(drives, stages)).run())
    assert model.training["stages_used"] == {"coarse": "coarse", "fine": "coarse"}
    for a, b in zip(*(m["night"].parameters() for m in (model.coarse, model.fine)), strict=True):
        assert torch.equal(a, b)


def test_true_pairs_alone_teach_the_metric(drives, monkeypatch):
    stages = [stage(40, "coarse", losses={"contrastive": 1}, aligned_batch=5)]
    run = Training(recipe(drives, stages, learning_rate=2e-3))
    assert not run._networks(0).decoders
    values = []
    original = StageRun.step

    def step(self, *arguments):
        terms = original(self, *arguments)
        values.append(terms["contrastive"].item())
        return terms

    monkeypatch.setattr(StageRun, "step", step)
    run.run()
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_a_frozen_encoder_keeps_its_weights_and_the_others_learn(drives):
    stages = [stage(3, "coarse", losses={"contrastive": 1}, aligned_batch=4)]
    run = Training(recipe(drives, stages, domains=["day", "night"], frozen=["day"]))
    start = {domain: net.state_dict() for domain, net in run._networks(0).encoders.items()}
    model = load_model(run.run())
    unchanged = {
        domain: all(torch.equal(a, b) for a, b in zip(weights.values(), trained, strict=True))
        for domain, weights in start.items()
        for trained in [model.coarse[domain].state_dict().values()]
    }
    assert unchanged == {"day": True, "night": False}


def test_distillation_compares_both_encoders_on_images_of_the_frozen_domain():
    stages = [stage(1, losses={"contrastive": 1, "distillation": 2})]
    domains = {"domains": ["day", "night"], "frozen": ["day"]}
    config = parse_config({**TINY, "stages": stages, **domains})
    networks = create_networks(config.network.build(), ("day", "night"), False, seed=0)
    day, night = torch.rand(2, 2, 3, 32, 32)
    different = ~torch.eye(2, dtype=torch.bool)

    def terms(domains, a, b):
        batch = Aligned(domains, a, b, different)
        given = config.stages[0], config.aligned, config.descriptor, False, "released", Scales()
        return aligned_terms(networks, batch, *given)

    assert "distillation" not in terms(("day", "night"), day, night)  # nothing is frozen
    networks.encoders["day"].requires_grad_(False)
    expected = distillation(networks.encoders["night"](day), networks.encoders["day"](day))
    for batch in ((("day", "night"), day, night), (("night", "day"), night, day)):
        assert terms(*batch)["distillation"].item() == pytest.approx(expected.item())
    assert "distillation" not in terms(("night", "night"), night, night)


# Bad input


def test_a_run_directory_in_use_needs_resume(drives):
    config = recipe(drives, [stage(2)])
    Training(config).run()
    with pytest.raises(TrainingError, match="--resume"):
        Training(config)
    Training(config, resume=True).run()  # finished already: writes the model again


def test_resuming_with_other_settings_names_them(drives):
    config = recipe(drives, [stage(2)])
    Training(config).run()
    config.learning_rate, config.stages[0].losses.sam = 1e-3, 1.0
    config.log_every = 1  # may differ
    with pytest.raises(TrainingError) as error:
        Training(config, resume=True)
    assert "learning_rate: 0.0002 → 0.001" in str(error.value)
    assert "stages.0.losses.sam: 1000.0 → 1.0" in str(error.value)
    assert "log_every" not in str(error.value)


def test_resuming_with_other_images_is_refused(drives):
    config = recipe(drives, [stage(2)])
    Training(config).run()
    (drives / "data/day/images/day/front/1000000000.jpg").unlink()
    with pytest.raises(TrainingError, match=r"images\.day: 5 → 4"):
        Training(config, resume=True)


def test_a_damaged_checkpoint_is_named(drives, monkeypatch):
    config = recipe(drives, [stage(10)])
    interrupt_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        Training(config).run()
    monkeypatch.undo()
    (find_checkpoint(drives / "run") / "networks.safetensors").write_bytes(b"short")
    with pytest.raises(TrainingError, match="is damaged"):
        Training(config, resume=True).run()


def test_a_checkpoint_of_another_format_is_refused(drives):
    config = recipe(drives, [stage(2)])
    Training(config).run()
    state = find_checkpoint(drives / "run") / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "format_version": 0}))
    with pytest.raises(TrainingError, match="format version 0, expected 1"):
        Training(config, resume=True)


def test_a_half_written_checkpoint_is_not_found(tmp_path):
    (tmp_path / "checkpoints" / "000000010.part").mkdir(parents=True)
    assert find_checkpoint(tmp_path) is None


def test_nan_stops_names_step_and_term_and_keeps_the_last_good_checkpoint(drives, monkeypatch):
    original = StageRun.step

    def step(self, number, batch):
        terms = original(self, number, batch)
        return {**terms, "cycle": terms["cycle"] * float("nan")} if number == 6 else terms

    monkeypatch.setattr(StageRun, "step", step)
    with pytest.raises(TrainingError, match=r"'cycle' is nan in step 7 of stage 'fine'"):
        Training(recipe(drives, [stage(10)])).run()
    assert find_checkpoint(drives / "run").name == "000000005"


def test_weights_that_are_not_finite_are_never_saved(drives, monkeypatch):
    original = StageRun.step

    def step(self, number, batch):
        terms = original(self, number, batch)
        if number == 9:
            self.networks.generators()[0].data.fill_(float("inf"))
        return terms

    monkeypatch.setattr(StageRun, "step", step)
    with pytest.raises(TrainingError, match=r"encoders/day.* not finite"):
        Training(recipe(drives, [stage(12, name="coarse")], checkpoint_every=5)).run()
    assert find_checkpoint(drives / "run").name == "000000005"


def test_loss_log_averages():
    log = LossLog("fine")
    for k in range(3):
        log.add(k, {"gan": torch.tensor(float(k))})
    assert log.flush() == {"gan": 1.0}
    assert log.flush() == {}


def test_out_of_memory_names_the_settings_to_lower(tmp_path, monkeypatch):
    def losses(self, step, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StageRun, "losses", losses)
    with pytest.raises(TrainingError, match=r"'fine' at image_size \[32, 32\]: lower batch_size"):
        stage_run(recipe(tmp_path, [stage()])).step(0, Batch(couple(0), None))


def test_other_runtime_errors_pass_unchanged(tmp_path):
    run = stage_run(recipe(tmp_path, [stage()]))
    wrong = Unpaired(("day", "night"), *torch.zeros(4, 1, 4, 32, 32))
    with pytest.raises(RuntimeError, match="channels"):
        run.step(0, Batch(wrong, None))


def test_one_domain_and_unknown_domains_are_refused(tmp_path):
    write_folders(tmp_path / "data", (("day", 2),))
    with pytest.raises(TrainingError, match="two or more domains"):
        Training(recipe(tmp_path, [stage()]))
    write_folders(tmp_path / "data", (("moonlight", 2),))
    with pytest.raises(DomainError, match="moonlight"):
        Training(recipe(tmp_path, [stage()]))


def test_differences_name_the_leaves():
    was, now = {"a": [1, {"b": 2}], "c": 3}, {"a": [1, {"b": 5}], "d": 4}
    assert differences(was, now) == ["a.1.b: 2 → 5", "c: 3 → None", "d: None → 4"]


def test_command_line_ends_with_a_message_or_a_checkpoint(drives, monkeypatch, caplog):
    path = drives / "recipe.yaml"
    path.write_text(json.dumps({**TINY, "stages": [stage(10)]}))  # JSON is YAML
    options = ["--config", str(path), "--output", str(drives / "run")]
    assert main([*options, "--data", str(drives / "nowhere")]) == 1
    assert "nowhere" in caplog.text
    interrupt_after(monkeypatch, 3)
    options += ["--data", str(drives / "data"), "--device", "cpu", "--seed", "4"]
    assert main(options) == 130
    monkeypatch.undo()
    assert main([*options, "--resume"]) == 0
    assert load_model(drives / "run" / "model").training["seed"] == 4


# Several processes


def test_two_processes_have_the_gradient_of_one_with_both_samples(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = tmp_path / "gradients.pt"
    arguments = (port, str(output), str(tmp_path))
    torch.multiprocessing.spawn(one_of_two_processes, arguments, nprocs=2)
    averaged = torch.load(output, weights_only=True)
    alone = gradients_of(stage_run(recipe(tmp_path, [stage()])), Batch(couple(0, 1), None))
    assert len(averaged) == len(alone) > 0
    rounding = 1e-4 * max(g.abs().max() for g in alone).item()
    for mean, both in zip(averaged, alone, strict=True):
        torch.testing.assert_close(mean, both, rtol=1e-3, atol=rounding)


def test_one_process_averages_nothing():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    Processes().average_gradients([parameter])
    assert parameter.grad.tolist() == [1, 1]
