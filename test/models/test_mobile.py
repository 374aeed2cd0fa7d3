# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from support.training_data import write_drive
from torch import nn

from disam_ros.config import DescriptorConfig
from disam_ros.domains.domain import Domain
from disam_ros.errors import ModelError
from disam_ros.models.mobile import BATCH_NORM_EPSILON, STAGES, MobileEncoder, read_backbone
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import MOBILE_CHANNELS, PRESETS, NetworkConfig
from disam_ros.models.networks import Decoder, build_decoder
from disam_ros.models.similarity import coarse_descriptor, descriptor_shapes
from training.disam.networks import create_networks
from training.disam.run import Training
from training.recipes import parse_config

SMALL = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")


class Classifier(nn.Module):
    """EfficientNet-Lite0's trunk with batch normalization and the names of its weight files."""

    def __init__(self):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, channels = [], 32
        for expansion, out, count, kernel, stride in STAGES:
            for k in range(count):
                blocks.append(Block(channels, out, expansion, kernel, 1 if k else stride))
                channels = out
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x):
        x = nn.functional.pad(x, (0, 1, 0, 1))
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return x


class Block(nn.Module):
    def __init__(self, channels, out, expansion, kernel, stride):
        super().__init__()
        wide = expansion * channels
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = _norm(out)
        total = kernel - stride  # zeros along each axis, the odd one behind
        self._margins = (total // 2, total - total // 2) * 2

    def forward(self, x):
        y = x
        if hasattr(self, "_expand_conv"):
            y = nn.functional.relu6(self._bn0(self._expand_conv(x)))
        y = nn.functional.pad(y, self._margins)
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if x.shape == y.shape else y


def _norm(channels):
    norm = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)
    for values in (norm.weight.data, norm.running_var):
        values.uniform_(0.5, 1.5)
    norm.bias.data.normal_()
    norm.running_mean.normal_()
    return norm


@pytest.fixture
def weight_file(tmp_path):
    torch.manual_seed(0)
    network = Classifier().eval()
    torch.save(network.state_dict(), tmp_path / "lite0.pth")
    return network, tmp_path / "lite0.pth"


def test_a_pretrained_trunk_gives_the_features_it_had_with_batch_normalization(weight_file):
    network, path = weight_file
    network.requires_grad_(False)
    encoder = MobileEncoder().requires_grad_(False)
    encoder.load_state_dict(read_backbone(path))
    image = torch.rand(2, 3, 64, 96) * 2 - 1
    expected = network(image)
    assert expected.shape == (2, MOBILE_CHANNELS, 4, 6)
    assert torch.allclose(
        encoder(image), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
    )


@pytest.mark.parametrize("content", [{"a": torch.zeros(1)}, [1], b"no weights"])
def test_a_file_of_something_else_is_refused_as_backbone(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ModelError, match=r"other\.pth"):
        read_backbone(path)
    with pytest.raises(ModelError, match=r"missing\.pth"):
        read_backbone(tmp_path / "missing.pth")


def test_a_mobile_model_survives_saving_and_its_features_are_a_sixteenth(tmp_path):
    model = create_model(SMALL, [Domain("day"), Domain("night")])
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.network == SMALL
    image = torch.rand(1, 3, 32, 48)
    z = again.coarse["night"](image)
    assert z.shape == (1, MOBILE_CHANNELS, 2, 3)
    assert torch.equal(z, model.coarse["night"](image))


def test_descriptor_shapes_foretell_what_the_mobile_encoder_gives():
    config = DescriptorConfig()
    network = PRESETS["mobile"]
    z = torch.rand(1, network.channels, *network.feature_size)
    shapes = descriptor_shapes(network, config)
    assert coarse_descriptor(z, config).shape[1] == np.prod(shapes["coarse"])


@pytest.mark.parametrize(
    "changes", [{"width": 24}, {"image_size": (40, 48)}, {"encoder": "unheard-of"}]
)
def test_a_mobile_network_of_impossible_size_is_refused(changes):
    with pytest.raises(ModelError):
        NetworkConfig(**{"width": 28, "image_size": (32, 48), "encoder": "mobile", **changes})


def test_a_decoder_turns_features_of_either_encoder_back_into_an_image():
    for config in (SMALL, NetworkConfig(4, 1, 1, (32, 48))):
        z = torch.rand(1, config.channels, *config.feature_size)
        decoder = build_decoder(config)
        assert isinstance(decoder, Decoder) and decoder(z).shape == (1, 3, 32, 48)
        assert decoder(z).abs().max() < 1


def test_initial_weights_reach_the_encoders_of_all_domains(weight_file, tmp_path):
    _, path = weight_file
    networks = create_networks(SMALL, ["day", "night"], translating=True, seed=0)
    networks.start_from(path)
    for domain in ("day", "night"):
        assert torch.equal(
            networks.encoders[domain].stem.weight, read_backbone(path)["stem.weight"]
        )
    other = create_networks(NetworkConfig(4, 1, 1, (32, 48)), ["day", "night"], False, seed=0)
    with pytest.raises(ModelError, match="do not fit"):
        other.start_from(path)


@pytest.mark.slow
def test_a_mobile_model_trains_from_a_backbone_with_every_loss_and_resumes(weight_file, tmp_path):
    for domain in ("day", "night"):
        write_drive(tmp_path / "data" / domain, domain, 5)
    losses = {"gan": 1, "cycle": 10, "fcl": 0.1, "triplet_fcl": 1, "sam": 1, "contrastive": 1}
    values = {
        "initial": str(weight_file[1]),
        "output": str(tmp_path / "run"),
        "data": [str(tmp_path / "data")],
        "network": {"encoder": "mobile", "width": 28, "decoder_blocks": 1, "image_size": [32, 48]},
        "channels_last": True,
        "device": "cpu",
        "checkpoint_every": 1,
        "crops": {"photometric": 0.5},
        "stages": [{"name": "fine", "steps": 2, "aligned_batch": 2, "losses": losses}],
    }
    model = load_model(Training(parse_config(values)).run())
    assert model.label.endswith("from lite0.pth)")
    assert Training(parse_config(values), resume=True).progress.stage == 1
