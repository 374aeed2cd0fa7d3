# SPDX-License-Identifier: Apache-2.0
"""Each loss of the paper trains what it is for, alone: no contrastive loss, no true pairs.

Held-out images are judged by numbers that are no part of the training code. A night is a picture
with its colours swapped and three quarters of its light gone.
"""

import numpy as np
import pytest
import torch
from support.data import texture

from disam_ros.models.similarity import activation_map, channel_normalize
from training.disam.networks import create_networks
from training.disam.sampling import Batch, Unpaired
from training.disam.stage import StageRun
from training.recipes import parse_config

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, IMAGES = 40, 80
RATE = 1e-3  # at twice this, rounding, which depends on the processor, decides the end
NETWORK = {"width": 4, "encoder_blocks": 1, "decoder_blocks": 1, "image_size": [32, 32]}
# Distance of an image and its translation in units of that to another image: of features, of maps
WITHIN = {
    "fcl": (0.3, 0.3),
    "triplet_fcl": (0.75, 0.5),
    "sam": (0.6, 0.3),
    "triplet_sam": (0.7, 0.5),
}


def days(first, count):
    """Images [count, 3, 32, 32] in [−1, 1]."""
    pixels = np.stack([texture(first + k, 32, 32) for k in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def nights(images):
    return (images.flip(1) + 1) / 4 - 1


def measure(networks, images):
    """Distances of features and of maps, as in WITHIN."""
    with torch.no_grad():
        z = networks.encoders["day"](images)
        again = networks.encoders["night"](networks.decoders["night"](z))
        a, b = channel_normalize(z).flatten(1), channel_normalize(again).flatten(1)
        other = z.roll(1, 0)
        features = (a - b).square().sum() / (a.roll(1, 0) - b).square().sum()
        near = activation_map(z, again) - activation_map(again, z)
        far = activation_map(other, again) - activation_map(again, other)
    maps = near.square().sum() / far.square().sum()
    return features.item(), maps.item()


def trained(losses):
    """The measure before and after training with these losses."""
    stage = {"name": "fine", "steps": STEPS, "losses": losses, "batch_size": 8}
    stage |= {"ramp": 0.0, "constant": 1.0, "hard_from": 0.5}
    settings = {"network": NETWORK, "learning_rate": RATE, "gradients_every": 0}
    triplets = {"form": "relative", "group": 4}
    config = parse_config({**settings, "triplets": triplets, "stages": [stage]})
    networks = create_networks(config.network.build(), ["day", "night"], True, 0)
    run = StageRun(config, 0, networks, torch.device("cpu"))
    day, night, held_out = days(0, IMAGES), nights(days(IMAGES, IMAGES)), days(1000, 24)
    before = measure(networks, held_out)
    random = np.random.default_rng(0)
    for step in range(STEPS):
        a, b = (images[random.choice(IMAGES, 8)] for images in (day, night))
        run.step(step, Batch(Unpaired(("day", "night"), a, b, day[:0], night[:0]), None))
    return before, measure(networks, held_out)


@pytest.mark.parametrize("loss", list(WITHIN))
def test_each_loss_alone_brings_translations_near_to_their_images(loss):
    before, after = trained({loss: 1})
    for start, end, within in zip(before, after, WITHIN[loss], strict=True):
        assert end < within < start
