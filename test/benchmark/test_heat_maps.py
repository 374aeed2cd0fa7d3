# SPDX-License-Identifier: Apache-2.0
"""Local heat maps: an image is most like itself, and only what lies near is shown."""

import numpy as np
import torch
from support.training_data import write_drive

from benchmark.accuracy import heat_maps
from disam_ros.datasets.dataset import Dataset
from disam_ros.domains.domain import Domain
from disam_ros.models.global_descriptors import GlobalConfig, GlobalNetwork
from disam_ros.models.model import global_model


def test_of_a_drive_against_itself_every_image_is_most_like_itself(tmp_path):
    torch.manual_seed(0)
    drive = Dataset(write_drive(tmp_path / "drive", "day", 5))
    config = GlobalConfig("disam", "mac", width=4, encoder_blocks=1, image_size=(32, 32))
    domains = [Domain("night")]
    model = global_model(config, domains, {"night": "ground"}, {"ground": GlobalNetwork(config)})
    for k, record in enumerate(drive.records):
        found = heat_maps.similarities(model, record, drive, drive)
        assert found.argmax() == k and found.max() <= 1 + 1e-5
        np.testing.assert_allclose(found[k], 1.0, atol=1e-5)


def test_map_images_beyond_the_radius_are_left_out():
    positions = np.array([[0.0, 0.0], [30.0, 40.0], [30.1, 40.0]])
    assert heat_maps.near(positions, np.zeros(2), 50.0).tolist() == [True, True, False]
