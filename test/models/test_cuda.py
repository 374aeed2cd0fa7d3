# SPDX-License-Identifier: Apache-2.0
"""What runs on a GPU, on tensors of the CPU; on a GPU where there is one (marked cuda)."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.data import save_tiny_model, texture, write_dataset
from support.localize import localize

from disam_ros.config import DomainConfig, LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.device import is_device_fault, select_device
from disam_ros.domains.domain import Domain
from disam_ros.errors import BlindError, ConfigError, ImageError, ModelError
from disam_ros.image import network_input
from disam_ros.localization import localizer as localizer_module
from disam_ros.localization.candidates import SPARE, Background
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import Frame
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.index import TorchIndex
from disam_ros.mapping.rows import FineRows, to_device
from disam_ros.models.arrays import are_biased, as_numpy, sample_images, unbiased
from disam_ros.models.backend import TorchBackend, select_backend
from disam_ros.models.cuda import (
    AGREEMENT,
    RECORDED_AT,
    CudaBackend,
    DeviceInputs,
    Graphs,
    leave_device,
)
from disam_ros.models.model import create_model, load_model
from disam_ros.models.network_config import NetworkConfig
from disam_ros.models.similarity import fine_similarity, least_similarity

TINY = NetworkConfig(width=4, encoder_blocks=1, image_size=(32, 48))
MOBILE = NetworkConfig(width=28, image_size=(32, 48), encoder="mobile")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
EVERY = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_GPU])]
every_device = pytest.mark.parametrize("device", EVERY)
ANSWERS = LocalizerConfig(device="cpu", domain=DomainConfig(override="day"))


def numbers(rows):
    """Descriptors of map images as numbers, on the CPU."""
    return unbiased(rows) if are_biased(rows) else as_numpy(rows)


def fault(kind):
    """What torch raises: out of memory, a GPU that is gone."""
    if kind == "memory":
        return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
    return RuntimeError("CUDA error: unspecified launch failure\nmore")


@pytest.fixture(params=["memory", "gone"])
def error(request):
    return fault(request.param)


@pytest.fixture
def model():
    return create_model(TINY, [Domain("day"), Domain("night")], seed=1)


# Inputs


@every_device
@pytest.mark.parametrize(
    "shape", [(480, 640), (300, 401), (192, 256), (97, 131), (192, 300), (100, 640)]
)
def test_pixels_resized_by_matrices_are_opencvs_to_one_level(device, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    result = DeviceInputs((192, 256), device)([image, image])
    expected = network_input(image, (192, 256))
    off = np.abs(result[0].cpu().numpy() - expected)
    assert result.shape == (2, *expected.shape) and bool((result[0] == result[1]).all())
    assert off.max() <= 1.01 / 127.5  # ties are rounded another way
    assert (off > 1e-6).mean() < 0.1


@every_device
def test_cameras_of_different_sizes_are_one_batch_in_their_order(device):
    images = [texture(k)[: 40 + k, :60] for k in (0, 5)]
    inputs = DeviceInputs((32, 48), device)
    result = inputs(images)
    assert torch.equal(result, torch.cat([inputs([image]) for image in images]))
    with pytest.raises(ImageError, match="expected uint8"):
        inputs([images[0].astype(np.float32)])


# Precision


@every_device
def test_half_precision_gives_float32s_features_for_any_batch(model, device):
    backend, exact = CudaBackend(model, device), TorchBackend(model, "cpu")
    for batch in (1, 4, 1, 1, 4, 4):  # the third of a shape is recorded where graphs can be
        given = np.random.default_rng(batch).uniform(-1, 1, (batch, 3, 32, 48)).astype(np.float32)
        for z, known in zip(
            backend.encode("night", given), exact.encode("night", given), strict=True
        ):
            assert z.dtype == torch.float32 and z.shape == known.shape
            assert fine_similarity(z.cpu().numpy(), known).min() > AGREEMENT
    assert backend.precision == "half"


def test_the_shipped_model_runs_in_half_precision():
    shipped = load_model("outdoor")
    backend = CudaBackend(shipped, "cpu")
    backend.encode(shipped.domain_names()[0], sample_images(shipped.network.image_size)[:1])
    assert backend.precision == "half"


def test_weights_that_half_precision_cannot_hold_run_in_float32(model, caplog):
    with torch.no_grad():
        model.coarse["day"].model[1].weight *= 1e9
    backend = CudaBackend(model, "cpu")
    given = sample_images(TINY.image_size)
    assert backend.encode("day", given)[0].isfinite().all()
    assert backend.precision == "float32" and "not in half precision" in caplog.text
    backend.encode("night", given)
    assert len(caplog.records) == 1


def test_features_that_are_subnormal_in_half_precision_are_made_in_float32():
    untrained = create_model(MOBILE, [Domain("day")], seed=1)  # its features are about 1e-6
    backend = CudaBackend(untrained, "cpu")
    backend.encode("day", sample_images(MOBILE.image_size))
    assert backend.precision == "float32"


def test_an_image_beyond_half_precision_is_answered_in_float32(model, caplog):
    backend, given = CudaBackend(model, "cpu"), sample_images(TINY.image_size)
    backend.encode("day", given)
    result = backend.encode("day", 1e6 * given)[0]
    assert result.isfinite().all() and backend.precision == "float32"
    assert "an image leaves its range" in caplog.text


def test_weights_that_are_not_numbers_are_an_error_in_any_precision(model):
    with torch.no_grad():
        model.coarse["day"].model[1].weight[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        CudaBackend(model, "cpu").encode("day", sample_images(TINY.image_size))
    with pytest.raises(BlindError):
        CudaBackend(model, "cpu").encode("night", np.zeros((1, 3, 32, 48), np.float32))


def test_networks_that_differ_or_are_not_finite_do_not_agree():
    images = torch.randn(2, 3, 4, 4)
    assert least_similarity((images, images), (images, images)) > 0.9999
    assert least_similarity((images, images), (images, -images)) < -0.9999
    assert least_similarity((images,), (images / 0,)) == -1.0


def test_a_backend_of_a_gpu_can_be_sent_to_another_process(model):
    backend, given = CudaBackend(model, "cpu"), sample_images(TINY.image_size)
    expected = backend.encode("day", given)[1]
    assert torch.equal(pickle.loads(pickle.dumps(backend)).encode("day", given)[1], expected)


def test_the_models_networks_stay_on_the_cpu_in_float32(model):
    CudaBackend(model, "cpu").encode("day", sample_images(TINY.image_size))
    assert {p.dtype for p in model.coarse["day"].parameters()} == {torch.float32}


# CUDA graphs


def test_a_network_that_cannot_be_recorded_runs_kernel_by_kernel(monkeypatch, caplog):
    def refuses(network, images):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr("disam_ros.models.cuda.record", refuses)
    graphs, images = Graphs(True), torch.ones(1, 3, 4, 4)
    for _ in range(RECORDED_AT + 2):
        assert torch.equal(graphs("day", lambda x: (2 * x,), images)[0], 2 * images)
    assert not graphs.enabled and len(caplog.records) == 1
    assert "no CUDA graphs, which is slower: operation not permitted" in caplog.text


def test_a_recurring_shape_is_recorded_once_and_others_are_not(monkeypatch):
    recorded = []

    def record(network, images):
        recorded.append(images.shape[0])
        return network

    monkeypatch.setattr("disam_ros.models.cuda.record", record)
    graphs = Graphs(True)
    for batch in (1, 4, 1, 1, 1, 1):
        graphs("day", lambda x: (x,), torch.ones(batch, 3, 4, 4))
    assert recorded == [1]


# Search and comparison


@every_device
def test_search_in_parts_finds_what_search_at_once_finds(device, monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (1000, 24)).astype(np.int8)
    steps = np.full(24, 0.01, np.float32)
    query = rng.standard_normal((5, 24)).astype(np.float32)
    exact = (codes.astype(np.float64) * steps @ query.T).max(1)
    for part in (1 << 18, 64):
        monkeypatch.setattr("disam_ros.mapping.index.PART", part)
        rows, scores = TorchIndex(codes, steps, device).search(query, 10)
        assert rows.tolist() == np.argsort(-exact)[:10].tolist()
        assert np.allclose(scores, exact[rows], rtol=2e-3)
    assert len(TorchIndex(codes[:3], steps, device).search(query, 10)[0]) == 3


@every_device
def test_fine_rows_are_the_same_kept_on_the_device_and_uploaded(device):
    stored = np.random.default_rng(0).integers(-127, 128, (50, 8)).astype(np.int8)
    rows, chosen = FineRows(stored, device), np.array([7, 3, 49])
    for resident in (None, to_device(stored, device)):
        rows.resident = resident
        assert np.array_equal(numbers(rows.of(chosen)), stored[chosen])


@every_device
def test_map_images_that_stay_in_memory_are_those_of_the_map(device):
    """Whatever the images of a drive ask for, and whether a map can be read or not."""
    rng = np.random.default_rng(0)
    stored = rng.integers(-127, 128, (60, 12)).astype(np.int8)
    fine, fixed = FineRows(stored, device), np.array([2, 5, 40])
    background = Background({"front": fixed}, fine, (3, 2, 2))
    for others in ([7], [], [5, 7], range(10, 40), [9, 1], range(12, 30), range(60), [3]):
        with pytest.raises(IndexError):
            background.with_others(np.array([4, 60]))
        rows, z, squares = background.with_others(np.array(others, np.int64))
        assert rows[:3].tolist() == fixed.tolist() and len(set(rows)) == len(rows)
        assert set(others) <= set(rows) and len(rows) <= SPARE * (3 + len(others))
        values = stored[rows].reshape(-1, 3, 2, 2).astype(np.float32)
        assert np.array_equal(numbers(z), values)
        assert np.array_equal(as_numpy(squares), np.square(values).sum(1))


def test_map_images_that_the_image_before_asked_for_are_not_read_again(monkeypatch):
    fine = FineRows(np.zeros((60, 12), np.int8), "cpu")
    background = Background({"front": np.array([2, 5])}, fine, (3, 2, 2))
    background.with_others(np.array([5, 7, 9]))
    rows, read = [], fine.of
    monkeypatch.setattr(fine, "of", lambda new: read(rows.append(new.tolist()) or new))
    background.with_others(np.array([9, 7, 11, 2]))
    assert rows == [[11]]


def test_fine_rows_that_do_not_fit_stay_in_the_cpus_memory(monkeypatch, caplog):
    def full(*shape, **rest):
        raise fault("memory")

    monkeypatch.setattr(torch, "empty", full)
    assert to_device(np.zeros((5, 4), np.int8), "cpu") is None
    assert "stay in the CPU's memory" in caplog.text


# Faults


def test_errors_of_a_device_are_distinguished_from_others(error):
    assert is_device_fault(error)
    assert is_device_fault(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"))
    assert not is_device_fault(RuntimeError("size mismatch"))
    assert not is_device_fault(FileNotFoundError("/usr/local/cuda"))
    assert not is_device_fault(ConfigError("device 'cuda' was asked for"))


def test_other_errors_and_errors_of_the_cpu_are_raised(error):
    for device, problem in (("cpu", error), ("cuda", ModelError("damaged"))):
        with pytest.raises(type(problem)), leave_device(device, problem, {}):
            pass


@pytest.fixture(scope="module")
def place_map(tmp_path_factory):
    """A tiny model and its map."""
    folder = tmp_path_factory.mktemp("cuda")
    model = save_tiny_model(folder / "model")
    source = open_dataset(write_dataset(folder / "data", 8).directory)
    config = MapBuilderConfig(keypoints=0)
    return model, build_map(source, model, folder / "map", config, "cpu", show_progress=False)


class FakeGpu:
    """Stages that believe to be on 'cuda' and compute on the CPU: no GPU is needed or used.

    `fails_at`: the stage that raises an error as long as the device is not the CPU.
    """

    def __init__(self, monkeypatch, error):
        self.error, self.fails_at = error, ""
        module = "disam_ros.localization.localizer."
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        monkeypatch.setattr(module + "select_device", lambda name: name)
        monkeypatch.setattr(module + "on_device", lambda array, device: array)
        for name, stage in (("CandidateSearch", "search"), ("Reranker", "rank")):
            original = getattr(localizer_module, name)
            monkeypatch.setattr(module + name, self.on_fake(original, stage))
        backend = self.on_fake(lambda *arguments: select_backend(*arguments), "encode")
        monkeypatch.setattr(
            module + "select_backend",
            lambda kind, model, device: backend(kind, model, device),
        )

    def on_fake(self, make, stage):
        """Makes what computes a stage: on the CPU, and failing as the device would."""

        def made(*arguments):
            device = "cuda" if "cuda" in [a for a in arguments if isinstance(a, str)] else "cpu"
            if device == "cuda" and self.fails_at == "load":
                raise self.error
            part = make(*("cpu" if a == "cuda" else a for a in arguments))
            method = getattr(part, stage)

            def call(*values):
                if device == "cuda" and self.fails_at == stage:
                    raise self.error
                return method(*values)

            setattr(part, stage, call)
            return part

        return made


@pytest.mark.parametrize("stage", ["load", "encode", "search", "rank"])
def test_an_image_is_answered_whatever_stage_a_fake_gpu_fails_in(
    place_map, monkeypatch, caplog, error, stage
):
    model, result = place_map
    expected = localize(Localizer(model, result, ANSWERS), texture(3))
    gpu = FakeGpu(monkeypatch, error)
    if stage == "load":
        gpu.fails_at = stage
    localizer = Localizer(model, result, replace(ANSWERS, device="cuda"))
    gpu.fails_at = stage
    answers = [localize(localizer, texture(3)) for _ in range(2)]
    assert localizer.device == "cpu"
    for answer in answers:
        assert answer.record.id == expected.record.id
        assert answer.probability == expected.probability
    assert caplog.text.count("the CPU goes on from here") == 1


def test_cameras_encoded_as_one_batch_give_the_queries_of_each_alone(place_map):
    localizer = Localizer(*place_map, ANSWERS)
    frames = [Frame(texture(k), localizer.map.main_camera()) for k in range(4)]
    domain = localizer.choose_domain(frames[0])
    for frame, query in zip(frames, localizer.encode(frames, domain), strict=True):
        (alone,) = localizer.encode([frame], domain)
        assert np.allclose(query.shifted, alone.shifted, atol=1e-5)
        assert np.allclose(query.fine, alone.fine, atol=1e-5)


@pytest.mark.parametrize("built", [None, "12.8"])
def test_a_driver_that_torch_cannot_use_is_logged_in_one_line(monkeypatch, caplog, built):
    monkeypatch.setattr("disam_ros.device.has_cuda_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    assert select_device("auto") == "cpu"
    assert len(caplog.records) == 1
    expected = "the driver is older than CUDA 12.8 wants" if built else "was built without CUDA"
    assert expected in caplog.text


@pytest.mark.cuda
@NO_GPU
def test_a_gpu_answers_as_the_cpu_does(place_map):
    model, result = place_map
    here, there = (Localizer(model, result, replace(ANSWERS, device=d)) for d in ("cpu", "cuda"))
    assert isinstance(there.backend, CudaBackend)
    for k in range(8):
        expected, answer = localize(here, texture(k)), localize(there, texture(k))
        assert answer.record.id == expected.record.id
        assert answer.probability == pytest.approx(expected.probability, abs=5e-3)
    assert there.device == "cuda"
