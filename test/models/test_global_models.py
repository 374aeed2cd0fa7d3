# SPDX-License-Identifier: Apache-2.0
"""Global models through the same directory, map, localizer and export as DISAM's."""

import json
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from support.data import CAMERA, DESCRIPTOR, camera_pose, texture
from support.global_models import create_global_model
from support.localize import localize

from disam_ros.config import DescriptorConfig, DomainConfig, LocalizerConfig
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.domain import Domain
from disam_ros.errors import ModelError
from disam_ros.files.outputs import MANIFEST
from disam_ros.geometry import distance
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.backend import OnnxBackend, TorchBackend, describe
from disam_ros.models.export import TOLERANCE, export_onnx, relative_error
from disam_ros.models.global_descriptors.config import GlobalConfig
from disam_ros.models.global_descriptors.network import GlobalNetwork
from disam_ros.models.model import global_model, load_model, save_model
from disam_ros.models.similarity import coarse_descriptor, fine_descriptor

TINY = GlobalConfig("disam", width=4, encoder_blocks=1, clusters=4, image_size=(48, 64))
WITH_ALL = GlobalConfig("mobile", clusters=3, depth=True, size=16, image_size=(48, 64))
DAY, NIGHT, AERIAL = Domain("day"), Domain("night"), Domain("aerial", view="aerial")
CPU = "cpu"


def images(count=2):
    return torch.rand(count, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def saved(directory, config=TINY, domains=(DAY, NIGHT), **options):
    model = create_global_model(config, list(domains), seed=3, **options)
    save_model(model, directory)
    return model


def edited(directory, change):
    """Apply a change to model.json."""
    path = directory / "model.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))


# --- Model directory ---


@pytest.mark.parametrize("config", [TINY, WITH_ALL, replace(TINY, head="safa", heads=2)])
def test_a_saved_model_gives_the_same_descriptors_when_loaded(tmp_path, config):
    model = saved(tmp_path / "model", config)
    loaded = load_model(tmp_path / "model")
    assert loaded.network == config and loaded.branches == {"day": "ground", "night": "ground"}
    assert loaded.identity == model.identity != ""
    with torch.no_grad():
        for domain in ("day", "night"):
            expected = model.coarse[domain](images())
            assert torch.equal(loaded.coarse[domain](images()), expected)
            assert torch.equal(loaded.fine[domain](images()), expected)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "model.json",
        "descriptor.safetensors",
        MANIFEST,
    }


def test_domains_of_a_branch_share_one_network_and_both_stages_do(tmp_path):
    saved(tmp_path / "model", domains=(DAY, NIGHT, AERIAL))
    model = pickle.loads(pickle.dumps(load_model(tmp_path / "model")))  # as Ray sends it
    assert model.branches == {"day": "ground", "night": "ground", "aerial": "aerial"}
    assert model.coarse["day"] is model.coarse["night"] is model.fine["day"]
    assert model.coarse["aerial"] is not model.coarse["day"]
    branches = {"day": "day", "night": "night"}
    model = create_global_model(TINY, [DAY, NIGHT], branches)
    assert model.coarse["day"] is not model.coarse["night"]


def test_branches_keep_their_own_weights(tmp_path):
    networks = {"ground": GlobalNetwork(TINY), "above": GlobalNetwork(TINY)}
    branches = {"day": "ground", "aerial": "above"}
    save_model(global_model(TINY, [DAY, AERIAL], branches, networks), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    with torch.no_grad():
        for domain, branch in branches.items():
            expected = networks[branch](images())
            assert torch.equal(loaded.coarse[domain](images()), expected)
        assert not torch.allclose(loaded.coarse["day"](images()), loaded.coarse["aerial"](images()))


def test_half_precision_gives_nearly_the_same_descriptors(tmp_path):
    model = create_global_model(WITH_ALL, [DAY])
    network = model.coarse["day"]
    with torch.no_grad():
        network.learn_whitening(network.describe(torch.rand(40, 3, 48, 64) * 2 - 1))
    save_model(model, tmp_path / "half", half=True)
    with torch.no_grad():
        cosines = (load_model(tmp_path / "half").coarse["day"](images()) * network(images())).sum(1)
    assert cosines.min() > 0.99


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("branches"),
        lambda header: header["branches"].pop("night"),
        lambda header: header["branches"].update(fog="ground"),
        lambda header: header["branches"].update(day="../ground"),
        lambda header: header["branches"].update(day=3),
        lambda header: header["network"].update(backbone="vgg19"),
        lambda header: header["network"].update(colour=1),
        lambda header: header["network"].pop("encoder"),
        lambda header: header.update(sha256={}),
        lambda header: header.update(branches=["day", "night"]),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, change):
    saved(tmp_path / "model")
    edited(tmp_path / "model", change)
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(tmp_path / "model")


def test_weights_of_another_network_missing_or_damaged_are_refused(tmp_path):
    saved(tmp_path / "model")
    path = tmp_path / "model" / "descriptor.safetensors"
    edited(tmp_path / "model", lambda header: header["network"].update(clusters=5))
    with pytest.raises(ModelError, match="ground: weights do not fit the network"):
        load_model(tmp_path / "model")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(tmp_path / "model")
    path.unlink()
    with pytest.raises(ModelError, match=r"descriptor\.safetensors not found"):
        load_model(tmp_path / "model")


def test_branches_that_leave_a_domain_out_are_refused():
    with pytest.raises(ModelError, match="expected branches for the domains day, night"):
        create_global_model(TINY, [DAY, NIGHT], {"day": "ground"})


def test_a_model_says_what_it_is_and_how_it_was_trained():
    model = create_global_model(WITH_ALL, [DAY], name="town")
    kind = "global descriptor: mobile, netvlad of 3 clusters, depth, 16-D by"
    assert model.label == f"town ({kind} random projection, NOT whitened; UNTRAINED)"
    network = model.coarse["day"]
    with torch.no_grad():
        network.learn_whitening(network.describe(torch.rand(40, 3, 48, 64)))
    model.training = {"steps": {"descriptor": 300}, "losses": {"descriptor": ["triplet"]}}
    assert model.label == f"town ({kind} PCA whitening; descriptor 300 steps of triplet)"


# --- Features of one cell ---


def test_both_similarities_of_a_global_descriptor_are_its_cosine():
    a, b = torch.randn(2, 50, 1, 1), torch.randn(2, 50, 1, 1)
    cosine = torch.cosine_similarity(a[..., 0, 0], b[..., 0, 0])
    for config in (DescriptorConfig(), DescriptorConfig(coarse_grid=1)):
        for descriptor in (coarse_descriptor, fine_descriptor):
            products = (descriptor(a, config) * descriptor(b, config)).sum(1)
            assert torch.allclose(products, cosine, atol=1e-5)


def test_an_image_is_encoded_once(tmp_path):
    model = create_global_model(TINY, [DAY])
    calls = []
    model.coarse["day"].register_forward_hook(lambda *_: calls.append(1))
    backend = TorchBackend(model, CPU)
    coarse, fine = describe(backend, "day", images().numpy(), DESCRIPTOR)
    assert len(calls) == 1 and np.array_equal(coarse, fine)


# --- Map and localizer ---


@pytest.fixture
def localizer(tmp_path, dataset, builder_config):
    """With a model whose whitening was learned on the map's images."""
    model = create_global_model(replace(TINY, size=8), [DAY, NIGHT], seed=3)
    network = model.coarse["day"]
    views = np.stack([texture(k) for k in range(12)]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        network.learn_whitening(network.describe(torch.from_numpy(views).float() / 127.5 - 1))
    save_model(model, tmp_path / "global")
    source = open_dataset(dataset.directory)
    build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    config = LocalizerConfig(device="cpu", candidates=3, domain=DomainConfig(override="day"))
    return Localizer.open(tmp_path / "map", tmp_path / "global", config)


def test_a_map_image_is_found_beside_its_own_pose(localizer):
    for index in range(12):
        answer = localize(localizer, texture(index))
        metres, degrees = distance(answer.map_from_camera, camera_pose(index))
        assert answer.record.id == index
        assert metres < 0.1 and degrees < 0.1  # of steps of 1 m along a straight line
        assert answer.best.fine_score == pytest.approx(1.0, abs=0.01)  # int8


def test_a_map_from_above_is_searched_with_a_camera_image(tmp_path, builder_config):
    pixels = [cv2.imencode(".png", texture(k))[1].tobytes() for k in range(6)]
    info = DatasetInfo("above", {"front": CAMERA})
    with DatasetWriter(tmp_path / "above", info) as writer:
        for index, data in enumerate(pixels):
            writer.add(data, index + 1, "front", "aerial", camera_pose(index))
    model = saved(tmp_path / "model", domains=(DAY, NIGHT, AERIAL))
    source = open_dataset(Dataset(tmp_path / "above").directory)
    place_map = build_map(source, model, tmp_path / "map", builder_config, show_progress=False)
    assert {record.domain for record in place_map.records} == {"aerial"}
    answer = localize(Localizer(model, place_map, LocalizerConfig(device="cpu")), texture(0))
    assert answer.domain.name in ("day", "night")


# --- Export ---


@pytest.mark.slow
def test_exported_networks_give_torchs_descriptors(packages, tmp_path):
    model = saved(tmp_path / "model", WITH_ALL, domains=[DAY])
    assert export_onnx(tmp_path / "model")["day"] < TOLERANCE
    backend = OnnxBackend(load_model(tmp_path / "model"))
    with torch.inference_mode():
        expected = model.coarse["day"](images(3))
    for z in backend.encode("day", images(3).numpy()):
        assert z.shape == (3, 16, 1, 1) and relative_error(z, expected) < TOLERANCE
