# SPDX-License-Identifier: Apache-2.0
"""Losses of true pairs, and residual blocks that domains share."""

import numpy as np
import pytest
import torch
from support import paper
from support.training_stage import TINY, couple, recipe, stage

from disam_ros.config import DescriptorConfig
from disam_ros.errors import ConfigError
from disam_ros.models.network_config import NetworkConfig
from training.disam.config import AlignedConfig
from training.disam.matching import similarity_of
from training.disam.networks import create_networks
from training.disam.pairs import aligned_terms, best_overlap, negatives_of
from training.disam.sampling import Aligned, Batch
from training.disam.scales import Scales
from training.disam.stage import StageRun
from training.engine.networks import Networks
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
ALIGNED = ("aligned_fcl", "aligned_triplet", "aligned_sam", "aligned_triplet_sam")


def features(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 8, generator=generator, dtype=torch.float64)


def terms_of(z_a, z_b, different, form="relative", hard=True, name="fine"):
    """Terms where the encoders give these features."""
    networks = Networks({"a": lambda _: z_a, "b": lambda _: z_b})
    config = parse_config({"stages": [stage(name=name, losses=dict.fromkeys(ALIGNED, 1))]})
    batch = Aligned(("a", "b"), z_a, z_b, different)
    given = AlignedConfig(), DescriptorConfig(), hard, form, Scales()
    return aligned_terms(networks, batch, config.stages[0], *given)


@pytest.fixture
def in_double(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("form", ["paper", "relative"])
def test_pair_losses_have_the_values_of_the_papers_equations(in_double, form, hard):
    a, b = features(0), features(1)
    b = 0.6 * a + 0.4 * b
    different = ~torch.eye(4, dtype=torch.bool)
    different[0, 1] = different[1, 0] = False
    result = terms_of(a, b, different, form, hard)
    scores = similarity_of("fine", DescriptorConfig())(a, b).numpy()
    gaps = np.sqrt(2 - 2 * scores)
    unit = gaps[different.numpy()].mean() if form == "relative" else 1.0
    gaps = gaps / unit
    assert result["aligned_fcl"].item() == pytest.approx(np.mean(np.diag(gaps) ** 2))
    sides = []
    for rows, allowed in ((gaps, different.numpy()), (gaps.T, different.numpy().T)):
        values = []
        for k in range(4):
            others = [rows[k, j] for j in range(4) if allowed[k, j]]
            others = [min(others)] if hard else others
            values += [paper.triplet(rows[k, k], other, 0.5, 2.0) for other in others]
        sides.append(np.mean(values))
    assert result["aligned_triplet"].item() == pytest.approx(np.mean(sides))
    positive = [map_gap(a[k], b[k], form) for k in range(4)]
    near, far = [], []
    for x, y, allowed in ((a, b, different), (b, a, different.T)):
        chosen = negatives_of(x, y, allowed, hard)
        near += positive
        far += [map_gap(x[k], y[int(chosen[k])], form) for k in range(4)]
    unit = np.mean(far) if form == "relative" else 1.0
    assert result["aligned_sam"].item() == pytest.approx(np.mean(positive) / unit, rel=1e-5)
    hinges = [paper.triplet(p / unit, n / unit, 0.5, 2.0) for p, n in zip(near, far, strict=True)]
    assert result["aligned_triplet_sam"].item() == pytest.approx(np.mean(hinges), rel=1e-5)


def map_gap(a, b, form):
    """Distance of the maps of a pair, shifted onto each other."""
    x, y = best_overlap(a[None], b[None])
    return paper.map_distance(x[0].numpy(), y[0].numpy(), form)


def test_hard_negatives_of_maps_are_the_most_similar_of_another_place():
    a = features(0)
    b = torch.stack([a[2], a[0], a[1], a[3]])
    different = torch.ones(4, 4, dtype=torch.bool)
    assert negatives_of(a, b, different, True).tolist() == [1, 2, 0, 3]
    different[0, 1] = False
    assert negatives_of(a, b, different, True)[0] != 1
    assert negatives_of(a, b, ~torch.eye(4, dtype=torch.bool), False).tolist() == [1, 2, 3, 0]


def test_pairs_from_another_lane_are_shifted_onto_each_other():
    wide = torch.randn(1, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    a, b = wide[..., :8], wide[..., 2:]  # two cells to the right
    x, y = best_overlap(a, b)
    torch.testing.assert_close(x, y)
    assert (x[..., -2:] == 0).all() and (x[..., :-2] == a[..., 2:]).all()


def test_equal_pairs_have_no_loss_and_random_ones_have_gradients():
    a = features(0).float()
    different = ~torch.eye(4, dtype=torch.bool)
    same = terms_of(a, a, different)
    assert same["aligned_fcl"].item() == pytest.approx(0.0, abs=1e-4)
    assert same["aligned_sam"].item() == pytest.approx(0.0, abs=1e-6)
    b = features(1).float().requires_grad_()
    for name, term in terms_of(a, b, different).items():
        (slope,) = torch.autograd.grad(term, b, retain_graph=True)
        assert slope.isfinite().all() and slope.norm() > 0, name


@pytest.mark.parametrize("form", ["released", "relative"])
def test_pair_losses_are_finite_where_a_batch_has_no_sure_negative(form):
    a, b = features(0).float(), features(1).float().requires_grad_()
    result = terms_of(a, b, torch.zeros(4, 4, dtype=torch.bool), form)
    sum(result.values()).backward()
    assert b.grad.isfinite().all()


def test_a_stage_of_pair_losses_saves_its_scales_and_goes_on_with_them():
    stages = [stage(4, losses=dict.fromkeys(ALIGNED, 1))]
    config = parse_config({**TINY, "triplets": {"form": "relative"}, "stages": stages})
    networks = create_networks(config.network.build(), ("day", "night"), False, seed=0)
    run = StageRun(config, 0, networks, torch.device("cpu"))
    a, b = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(None, Aligned(("day", "night"), a, b, ~torch.eye(3, dtype=torch.bool)))
    for step in range(2):
        run.step(step, batch)
    state = run.memory_state()
    assert {"scale/pair_z", "scale/pair_map"} <= set(state)
    other = StageRun(config, 0, networks, torch.device("cpu"))
    other.load_memory_state(state)
    ours, theirs = (r.losses(2, batch)[0] for r in (run, other))
    assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in theirs.items()}
    assert other.memory_state().keys() == state.keys()


# Shared residual blocks


def test_shared_blocks_are_one_and_stay_equal_and_the_rest_is_each_domains_own(tmp_path):
    network = {**TINY["network"], "encoder_blocks": 2, "shared_blocks": 1}
    config = recipe(tmp_path, [stage()], network=network)
    build = config.network.build()
    networks = create_networks(build, ["day", "night"], True, 0, config.network.shared_blocks)
    alone = create_networks(build, ["day", "night"], True, 0)
    assert len(networks.generators()) < len(alone.generators())
    run = StageRun(config, 0, networks, torch.device("cpu"))
    for step in range(2):
        run.step(step, Batch(couple(step), None))
    day, night = (networks.encoders[d].state_dict() for d in ("day", "night"))
    same = {key.split(".")[1] for key in day if torch.equal(day[key], night[key])}
    assert "11" in same and "10" not in same  # the second of two residual blocks
    state = networks.state()
    assert len({value.data_ptr() for value in state.values()}) == len(state)  # can be saved
    alone.load(state)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(alone.encoders["night"](image), networks.encoders["night"](image))


@pytest.mark.parametrize("encoder", ["disam", "mobile"])
@pytest.mark.parametrize("sharing", ["trunk", "all"])
def test_shared_weights_are_one_and_of_a_trunk_the_rest_is_each_domains_own(encoder, sharing):
    network = {**TINY["network"], "encoder": encoder, "width": 28 if encoder == "mobile" else 2}
    network |= {"sharing": sharing}
    config = parse_config({**TINY, "network": network, "stages": [stage()]})
    networks = create_networks(config.network.build(), ["a", "b"], False, 0, 0, sharing)
    optimizer = torch.optim.SGD(networks.generators(), 0.1)
    a, b = networks.encoders.values()
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(a(image), b(image))
    b(image).square().mean().backward()
    optimizer.step()
    changed = {k for k, v in a.named_parameters() if not torch.equal(v, b.get_parameter(k))}
    sizes = {k: v.numel() for k, v in a.named_parameters()}
    own = sum(sizes[k] for k in changed)
    assert (own == 0) if sharing == "all" else (0 < own < 0.2 * sum(sizes.values()))
    total = sum(sizes.values()) + (own if sharing == "trunk" else 0)
    assert sum(p.numel() for p in networks.generators()) >= total


def test_a_domain_code_would_change_nothing_ahead_of_instance_normalization():
    """Why the shared blocks get none: its constant channels end as a constant of each channel."""
    torch.manual_seed(0)
    network = create_networks(NetworkConfig(2, 1, 1, (32, 32)), ["day"], False, 0).encoders["day"]
    pad, conv, norm = network.model[10].conv_block[:3]
    x = torch.rand(1, 8, 8, 8)
    code = torch.nn.Conv2d(3, 8, 3, bias=False)(pad(torch.ones(1, 3, 8, 8)))
    torch.testing.assert_close(norm(conv(pad(x)) + code), norm(conv(pad(x))), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": {"shared_blocks": 5}}, "at most 4"),
        ({"network": {"encoder": "mobile", "width": 28, "shared_blocks": 1}}, "'mobile'"),
        ({"network": {"shared_blocks": 1}, "domains": ["a", "b"], "frozen": ["a"]}, "exclude"),
        ({"network": {"sharing": "all"}, "domains": ["a", "b"], "frozen": ["a"]}, "exclude"),
    ],
)
def test_blocks_that_cannot_be_shared_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        parse_config({"stages": [stage()], **changes})
