# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional

from disam_ros.errors import ModelError
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.networks import Decoder, Discriminator, Encoder


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_full_networks_have_the_papers_parameter_counts():
    assert parameters(Encoder(64, 4)) == 5_099_143
    assert round(parameters(Decoder(64, 5)) / 1e6, 2) == 6.57
    assert round(parameters(Discriminator(64)) / 1e6, 1) == 13.9


def test_encoder_maps_an_image_to_a_quarter_of_its_size():
    z = Encoder(4, 1)(torch.zeros(2, 3, 48, 64))
    assert z.shape == (2, 16, 12, 16)


def test_discriminator_has_four_heads_a_branch_of_the_papers_sizes():
    sizes = [p.shape[-1] for p in Discriminator(2)(torch.zeros(1, 3, 256, 256))]
    assert sizes == [65, 33, 17, 19] * 2


def test_encoder_equals_the_architecture_written_out(seed=3):
    """The same weights through functional calls, without the module's own layers."""
    torch.manual_seed(seed)
    encoder = Encoder(3, 2).double().eval()
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    w = list(encoder.state_dict().values())

    def norm(x):
        mean = x.mean((2, 3), keepdim=True)
        variance = x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    def prelu(x, a):
        return torch.where(x > 0, x, a * x)

    x = functional.conv2d(functional.pad(image, (3,) * 4, "reflect"), w[0], w[1])
    x = prelu(norm(x), w[2])
    x = prelu(norm(functional.conv2d(x, w[3], w[4], 2, 1)), w[5])
    x = prelu(norm(functional.conv2d(x, w[6], w[7], 2, 1)), w[8])
    for b in (9, 14):
        y = functional.conv2d(functional.pad(x, (1,) * 4, "reflect"), w[b], w[b + 1])
        y = prelu(norm(y), w[b + 2])
        y = functional.conv2d(functional.pad(y, (1,) * 4, "reflect"), w[b + 3], w[b + 4])
        x = x + norm(y)
    assert torch.allclose(encoder(image), x, atol=1e-12)


def test_an_image_size_that_is_no_multiple_of_four_is_refused():
    with pytest.raises(ModelError, match="multiples of 4"):
        NetworkConfig(image_size=(50, 64))
