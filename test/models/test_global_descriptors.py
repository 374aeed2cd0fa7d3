# SPDX-License-Identifier: Apache-2.0
"""Global descriptors: heads, depth, whitening, weight files."""

import math
from itertools import product

import faiss
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from disam_ros.errors import ModelError
from disam_ros.models.global_descriptors.backbone_weights import read_backbone_weights
from disam_ros.models.global_descriptors.backbones import build_backbone, latent_size
from disam_ros.models.global_descriptors.config import BACKBONES, HEADS, GlobalConfig
from disam_ros.models.global_descriptors.depth import jet
from disam_ros.models.global_descriptors.heads import CONTRAST, Gem, Mac, NetVlad, Safa
from disam_ros.models.global_descriptors.network import GlobalNetwork
from disam_ros.models.global_descriptors.whitening import Whitening
from disam_ros.models.mobile import MobileEncoder
from disam_ros.models.networks import Encoder

SIZE = (48, 64)
TINY = {"backbone": "disam", "width": 2, "encoder_blocks": 1, "clusters": 3, "heads": 2}
LIGHT = ("mobile", "disam")


def config(**changes):
    return GlobalConfig(**{**TINY, "image_size": SIZE, **changes})


def images(count=2, size=SIZE, seed=0):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norms(x):
    return x.flatten(1).norm(dim=1)


# --- The network ---


@pytest.mark.parametrize(
    ("backbone", "head", "depth"),
    [
        *product(LIGHT, HEADS, (False, True)),
        *product([b for b in BACKBONES if b not in LIGHT], ("netvlad", "safa"), (True,)),
    ],
)
def test_every_network_gives_one_vector_of_norm_one(backbone, head, depth):
    settings = config(backbone=backbone, head=head, depth=depth, size=5)
    network = GlobalNetwork(settings).eval()
    with torch.no_grad():
        parts, z = network.parts(images()), network(images())
        latent = network.backbone(images())[-1]
    assert latent.shape == (2, settings.latent, *latent_size(settings))
    assert parts.fused.shape == (2, settings.plain) and z.shape == (2, settings.channels, 1, 1)
    for x in (parts.image, parts.fused, z, *([parts.depth] if depth else [])):
        assert torch.allclose(norms(x), torch.ones(2), atol=1e-5)
    if depth:
        assert parts.depth_map.shape == (2, 1, SIZE[0] // 2, SIZE[1] // 2)
        assert parts.depth_map.min() > 0 and parts.depth_map.max() < 1
    else:
        assert parts.depth is None and parts.depth_map is None
        assert torch.equal(parts.image, parts.fused)


def test_image_and_depth_count_the_same_in_the_fused_descriptor():
    parts = GlobalNetwork(config(depth=True)).parts(images())
    both = torch.cat((parts.image, parts.depth), 1) / math.sqrt(2)
    assert torch.allclose(parts.fused, both, atol=1e-6)


@pytest.mark.parametrize("backbone", LIGHT)
def test_descriptors_teach_all_but_the_decoder_and_depth_the_decoder_alone(backbone):
    network = GlobalNetwork(config(backbone=backbone, depth=True))
    decoder, rest = network.depth_parameters(), network.descriptor_parameters()
    assert {id(p) for p in decoder}.isdisjoint({id(p) for p in rest})
    assert len(decoder) + len(rest) == len(list(network.parameters()))
    target = torch.ones(network.config.plain)

    (network.describe(images()) @ target).sum().backward()
    assert all(p.grad is None for p in decoder)
    assert all(p.grad is not None for p in rest)

    network.zero_grad(set_to_none=True)
    network.parts(images()).depth_map.mean().backward()
    assert all(p.grad is not None for p in decoder)
    assert all(p.grad is None for p in rest)


def test_a_hallucinated_descriptor_is_of_the_image_alone_and_has_the_shape_of_the_depths():
    network = GlobalNetwork(config(depth=True, hallucinated=True)).eval()
    depth = torch.full((2, 1, SIZE[0] // 2, SIZE[1] // 2), torch.nan)
    depth[..., 4:] = 0.3
    with torch.no_grad():
        alone, taught = network.parts(images()), network.parts(images(), depth)
        unknown_is_far = network.parts(images(), depth.nan_to_num(torch.inf))
    assert torch.equal(alone.fused, taught.fused) and alone.taught is None
    assert taught.taught.shape == taught.imitated.shape
    assert taught.true_depth.shape == alone.depth.shape == (2, network.config.depth_latent * 3)
    assert torch.equal(taught.true_depth, unknown_is_far.true_depth)
    assert network.depth_parameters() == [] and "hallucinated depth" in network.kind
    with pytest.raises(ModelError, match="needs depth: true"):
        config(hallucinated=True)


def test_a_network_without_depth_has_no_depth_parameters():
    network = GlobalNetwork(config())
    assert network.depth_parameters() == []
    assert len(network.descriptor_parameters()) == len(list(network.parameters()))


def test_descriptors_do_not_depend_on_the_rest_of_the_batch():
    network = GlobalNetwork(config(backbone="resnet18", depth=True)).train()
    with torch.no_grad():
        whole, alone = network(images(3)), network(images(3)[1:2])
    assert torch.allclose(whole[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "vgg19"}, "backbone must be one of vgg16, .* got 'vgg19'"),
        ({"head": "max"}, "head must be one of netvlad, .* got 'max'"),
        ({"clusters": 0}, "clusters must be 1 to 1024, got 0"),
        ({"image_size": (48, 66)}, "multiples of 4, 32 to 4096, with backbone disam, got 48x66"),
        ({"backbone": "mobile", "image_size": (40, 64)}, "multiples of 16"),
        ({"image_size": (16, 64)}, "32 to 4096"),
        ({"size": 25}, r"size must be 0 \(no whitening\) to 24"),
        ({"size": -1}, "got -1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        config(**changes)


# --- Heads ---


def test_netvlad_is_the_sum_of_softly_assigned_residuals():
    z, head = features(2, 5, 3, 4), NetVlad(5, 3).double()
    for number, feature_map in enumerate(z):
        points = [feature_map[:, i, j] for i in range(3) for j in range(4)]
        points = [point / point.norm() for point in points]
        rows = []
        for k in range(3):
            total = torch.zeros(5, dtype=torch.float64)
            for point in points:
                scores = [head.assign.weight[c, :, 0, 0] @ point + head.assign.bias[c]
                          for c in range(3)]  # fmt: skip
                share = scores[k].exp() / sum(score.exp() for score in scores)
                total = total + share * (point - head.centres[k])
            rows.append(total / total.norm())
        expected = torch.cat(rows) / torch.cat(rows).norm()
        assert torch.allclose(head(z)[number], expected, atol=1e-12)


def test_netvlad_begins_with_the_centres_of_a_sample():
    centres = functional.normalize(features(4, 6, seed=3), dim=1)
    labels = torch.randint(4, (200,), generator=torch.Generator().manual_seed(0))
    points = functional.normalize(centres[labels] + 0.01 * features(200, 6), dim=1)
    head = NetVlad(6, 4)
    head.prepare(points.float().reshape(2, 10, 10, 6).permute(0, 3, 1, 2))
    cosines = centres.float() @ functional.normalize(head.centres, dim=1).T
    assert (cosines.amax(1) > 0.999).all() and len(set(cosines.argmax(1).tolist())) == 4
    with torch.no_grad():
        shares = head.assign(points.float()[..., None, None]).flatten(1).softmax(1)
    two = shares.topk(2, dim=1).values.log()
    assert (two[:, 0] - two[:, 1]).mean() == pytest.approx(math.log(CONTRAST), rel=1e-3)


def test_both_netvlad_heads_of_a_network_are_prepared_and_others_need_nothing():
    network = GlobalNetwork(config(depth=True))
    before = [network.head.centres.clone(), network.depth_head.centres.clone()]
    network.prepare(images(3))
    after = [network.head.centres, network.depth_head.centres]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    GlobalNetwork(config(head="safa")).prepare(images(1))


def test_fewer_features_than_clusters_are_refused():
    with pytest.raises(ModelError, match="9 cluster centres need as many features, got 4"):
        NetVlad(5, 9).prepare(torch.rand(1, 5, 2, 2))


def test_the_generalized_mean_goes_from_the_mean_to_the_largest():
    z, gem = features(2, 5, 3, 4).abs(), Gem().double()
    means = functional.normalize(z.mean((-2, -1)), dim=1)
    gem.power.data.fill_(1.0)
    assert torch.allclose(gem(z), means, atol=1e-12)
    gem.power.data.fill_(300.0)
    assert torch.allclose(gem(z), Mac()(z), atol=1e-2)


def test_safa_weighs_features_by_maps_of_their_positions():
    z, head = features(2, 5, 3, 4), Safa((3, 4), 2).double()
    nn.init.normal_(head.first_bias)
    nn.init.normal_(head.second_bias)
    for number, feature_map in enumerate(z):
        looks = torch.stack([feature_map[:, i, j].max() for i in range(3) for j in range(4)])
        columns = []
        for k in range(2):
            middle = looks @ head.first[k] + head.first_bias[k, 0]
            weights = middle @ head.second[k] + head.second_bias[k, 0]
            columns.append(sum(weights[n] * feature_map.flatten(1)[:, n] for n in range(12)))
        expected = torch.stack(columns, 1).flatten()
        assert torch.allclose(head(z)[number], expected / expected.norm(), atol=1e-12)


def test_safa_begins_near_the_sum_of_the_features_and_then_knows_the_layout():
    z, head = features(1, 5, 3, 4).abs(), Safa((3, 4), 1).double()
    sums = functional.normalize(z.sum((-2, -1)), dim=1)
    assert functional.cosine_similarity(head(z), sums) > 0.99
    nn.init.normal_(head.second_bias)
    assert not torch.allclose(head(z), head(z.flip(-1)), atol=0.01)


# --- Depth ---


def test_jet_goes_from_blue_over_green_to_red():
    values = torch.tensor([0.0, 0.125, 0.375, 0.5, 0.625, 0.875, 1.0]).view(1, 1, 1, -1)
    blue, green, red = ([0, 0, 1], [0.5, 1, 0.5], [1, 0, 0])
    expected = [[0, 0, 0.5], blue, [0, 1, 1], green, [1, 1, 0], red, [0.5, 0, 0]]
    assert torch.allclose(jet(values)[0, :, 0].T, torch.tensor(expected).float())


@pytest.mark.slow
def test_a_decoder_learns_a_depth_map():
    torch.manual_seed(0)
    network = GlobalNetwork(config(depth=True))
    target = torch.linspace(0.1, 0.9, 24).view(1, 1, 24, 1).expand(2, 1, 24, 32)
    optimizer = torch.optim.Adam(network.depth_parameters(), 5e-3)
    errors = []
    for _ in range(60):
        error = (network.parts(images()).depth_map - target).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]


# --- Whitening ---


@pytest.mark.parametrize("count", [20, 400])
def test_whitened_descriptors_vary_the_same_in_all_directions(count):
    x = features(count, 30) @ torch.diag(torch.linspace(0.2, 2.0, 30).double()) + 3
    whitening = Whitening(30, 10).double()
    whitening.learn(x)
    covariance = torch.cov(whitening(x).T)
    assert torch.allclose(covariance / covariance[0, 0], torch.eye(10).double(), atol=1e-6)
    assert whitening(x).mean(0).abs().max() < 1e-9


def test_whitening_is_that_of_faiss():
    x = functional.normalize(features(500, 12) + 0.5, dim=1).float()
    whitening = Whitening(12, 6)
    whitening.learn(x)
    known = faiss.PCAMatrix(12, 6, -0.5)
    known.train(x.numpy())
    ours = functional.normalize(whitening(x), dim=1)
    theirs = functional.normalize(torch.from_numpy(known.apply(x.numpy())), dim=1)
    assert torch.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3)


def test_a_network_whitens_what_it_describes():
    network = GlobalNetwork(config(size=4)).eval()
    assert "NOT whitened" in network.kind
    with torch.no_grad():
        x = network.describe(images(40))
        network.learn_whitening(x)
        expected = functional.normalize(network.whitening(x), dim=1)
        assert torch.allclose(network(images(40))[..., 0, 0], expected, atol=1e-6)
    assert "4-D by PCA whitening" in network.kind


@pytest.mark.parametrize("count", [0, 1, 4])
def test_whitening_needs_more_descriptors_than_numbers(count):
    with pytest.raises(ModelError, match=f"vary in as many directions, got {count} that vary"):
        Whitening(30, 4).learn(features(count, 30))


def test_whitening_refuses_descriptors_of_another_size_and_such_that_are_no_numbers():
    with pytest.raises(ModelError, match=r"expects descriptors \[N, 30\], got \[9, 20\]"):
        Whitening(30, 4).learn(features(9, 20))
    with pytest.raises(ModelError, match="not finite"):
        Whitening(30, 4).learn(features(9, 30) * math.nan)


# --- Backbones and their weight files ---


def test_own_encoders_give_their_own_features_as_backbones():
    for backbone, encoder in (("mobile", MobileEncoder()), ("disam", Encoder(2, 1))):
        network = build_backbone(config(backbone=backbone))
        network.load_state_dict(encoder.state_dict())
        assert torch.equal(network(images())[-1], encoder(images()))


class ResNet18(nn.Module):
    """torchvision's, to layer3, with its names of layers; random, its last ReLU left out."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64), Block(64, 64))
        self.layer2 = nn.Sequential(Block(64, 128), Block(128, 128))
        self.layer3 = nn.Sequential(Block(128, 256), Block(256, 256, last=True))
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.running_var, 0.5, 2.0)
                for values in (norm.bias, norm.running_mean):
                    nn.init.uniform_(values, -0.5, 0.5)

    def forward(self, x):
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        return self.layer3(self.layer2(self.layer1(x)))


class Block(nn.Module):
    def __init__(self, channels, out, last=False):
        super().__init__()
        stride, self.last = out // channels, last
        self.conv1, self.bn1 = (
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        if channels != out:
            down = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(down, nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        y = y + (self.downsample(x) if hasattr(self, "downsample") else x)
        return y if self.last else y.relu()


def test_batch_normalization_folded_into_a_resnet_changes_nothing(tmp_path):
    torch.manual_seed(0)
    resnet = ResNet18().eval().double()
    torch.save(resnet.state_dict() | {"fc.weight": torch.zeros(10, 512)}, tmp_path / "resnet18.pth")
    settings = config(backbone="resnet18")
    network = build_backbone(settings)
    network.load_state_dict(read_backbone_weights(tmp_path / "resnet18.pth", settings))
    mean = torch.tensor([0.485, 0.456, 0.406]).double().view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).double().view(3, 1, 1)
    expected = resnet(((images().double() + 1) / 2 - mean) / deviation)
    assert torch.allclose(network.double()(images().double())[-1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "convolutions"),
    [
        ("vgg16", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        ("alexnet", (0, 3, 6, 8, 10)),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_layers_are_named_as_in_torchvisions_files(tmp_path, backbone, convolutions, suffix):
    settings = config(backbone=backbone)
    state = build_backbone(settings).state_dict()
    names = [f"features.{k}.{part}" for k in convolutions for part in ("weight", "bias")]
    assert list(state) == names
    path, whole = tmp_path / f"weights.{suffix}", state | {"classifier.6.bias": torch.zeros(9)}
    torch.save(whole, path) if suffix == "pth" else save_file(whole, path)
    read = read_backbone_weights(path, settings)
    assert list(read) == names and all(torch.equal(read[k], state[k]) for k in names)


def test_a_stage_of_a_model_directory_starts_a_backbone_by_its_domain(tmp_path):
    encoders = {name: Encoder(2, 1).state_dict() for name in ("day", "night")}
    flat = {f"{name}/{key}": value for name, e in encoders.items() for key, value in e.items()}
    save_file(flat, tmp_path / "coarse.safetensors")
    read = read_backbone_weights(tmp_path / "coarse.safetensors", config(), "night")
    assert all(torch.equal(read[key], value) for key, value in encoders["night"].items())
    with pytest.raises(ModelError, match=r"one of its domains \(day, night\), got 'ground'"):
        read_backbone_weights(tmp_path / "coarse.safetensors", config(), "ground")
    only = {key: value for key, value in flat.items() if key.startswith("day/")}
    save_file(only, tmp_path / "coarse.safetensors")
    read = read_backbone_weights(tmp_path / "coarse.safetensors", config(), "ground")
    assert all(torch.equal(read[key], value) for key, value in encoders["day"].items())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_weight_file_that_is_no_good_is_refused(tmp_path, backbone, suffix):
    settings, path = config(backbone=backbone), tmp_path / f"weights.{suffix}"
    with pytest.raises(ModelError, match=rf"weights.{suffix}\b"):
        read_backbone_weights(path, settings)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match=rf"weights.{suffix}\b"):
        read_backbone_weights(path, settings)
    other = {"day/some.weight": torch.zeros(3)}
    torch.save(other, path) if suffix == "pth" else save_file(other, path)
    with pytest.raises(ModelError, match=rf"weights.{suffix}\b"):
        read_backbone_weights(path, settings)


def test_a_file_of_batch_norms_without_convolutions_is_refused(tmp_path):
    weights = ResNet18().state_dict()
    del weights["conv1.weight"]
    torch.save(weights, tmp_path / "resnet18.pth")
    with pytest.raises(ModelError, match=r"is not of resnet18: 'conv1\.weight' is missing"):
        read_backbone_weights(tmp_path / "resnet18.pth", config(backbone="resnet18"))
