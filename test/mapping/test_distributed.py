# SPDX-License-Identifier: Apache-2.0
"""Maps built on a Ray cluster of two workers on this machine."""

import os
import signal
import sys

import numpy as np
import pytest
from support.data import DESCRIPTOR, save_tiny_model, write_dataset

from disam_ros.cli import main
from disam_ros.config import DescriptorConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.compression import learn_projection
from disam_ros.mapping.encoding import row_makers
from disam_ros.mapping.place_map import DATA_FILES, PlaceMap
from disam_ros.mapping.thumbnails import FILE
from disam_ros.models.added_files import add_projection
from disam_ros.models.model import load_model

CONFIG = MapBuilderConfig(
    keypoints=0, keyframe_distance=0.0, batch_size=4, checkpoint_every=8, descriptor=DESCRIPTOR
)


def same_files(a, b):
    names = (*DATA_FILES, FILE)
    return all((a.directory / n).read_bytes() == (b.directory / n).read_bytes() for n in names)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers, whose libraries load once."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


def build(root, data, model, **how):
    return build_map(open_dataset(data.directory), model, root, CONFIG, show_progress=False, **how)


def test_without_ray_the_error_names_what_to_install(monkeypatch, tmp_path):
    from disam_ros.mapping.ray_encoder import RayEncoder

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"disam_ros\[ray\]"):
        RayEncoder(save_tiny_model(tmp_path / "model"), DescriptorConfig(), "auto")


def test_a_missing_cluster_is_reported(monkeypatch, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # in whatever order the tests run
    from disam_ros.mapping.ray_encoder import RayEncoder

    with pytest.raises(ConfigError, match="no Ray cluster at 'auto'"):
        RayEncoder(save_tiny_model(tmp_path / "model"), DescriptorConfig(), "auto")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_drives_that_a_cluster_adds_to_a_map_are_those_of_one_process(tmp_path, cluster):
    model = save_tiny_model(tmp_path / "model")
    directions = np.random.default_rng(0).standard_normal((200, 16 * 3 * 4)).astype(np.float32)
    add_projection(tmp_path / "model", learn_projection(directions, 64), {})
    model = load_model(tmp_path / "model")
    for name, count in (("first", 20), ("second", 25), ("third", 30)):
        write_dataset(tmp_path / name, count)
    build_map(open_dataset(tmp_path / "first"), model, tmp_path / "map", CONFIG)
    words = ["map", "extend", str(tmp_path / "map"), "--model", str(tmp_path / "model")]
    words += ["--dataset", str(tmp_path / "second"), str(tmp_path / "third"), "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "alone")]) == 0
    assert main([*words, "--output", str(tmp_path / "together"), "--ray", "local"]) == 0
    alone, together = (PlaceMap(tmp_path / name) for name in ("alone", "together"))
    assert len(alone) == 75
    for name in alone.header.data_files:
        assert (alone.directory / name).read_bytes() == (together.directory / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_builds_the_map_of_one_process_even_if_workers_die(tmp_path, cluster):
    from disam_ros.mapping.ray_encoder import RayEncoder

    data, model = write_dataset(tmp_path / "data", 60), save_tiny_model(tmp_path / "model")
    data.path(data.records[17]).write_bytes(b"\xff\xd8 broken")
    alone = build(tmp_path / "alone", data, model)
    encoder = RayEncoder(model, CONFIG.descriptor, "local", row_makers(CONFIG, {}))
    assert encoder.ahead == 4
    assert same_files(alone, build(tmp_path / "together", data, model, encoder=encoder))

    encoder = RayEncoder(model, CONFIG.descriptor, "local", row_makers(CONFIG, {}))
    pids, killed, submit = set(), [], encoder.submit

    @cluster.remote
    def who():
        return os.getpid()

    def submit_and_kill(domain, items):
        if not killed:
            pids.update(cluster.get([who.remote() for _ in range(4)]))
            killed.extend(pids)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        return submit(domain, items)

    encoder.submit = submit_and_kill
    assert same_files(alone, build(tmp_path / "killed", data, model, encoder=encoder))
    assert killed
