# SPDX-License-Identifier: Apache-2.0
"""Maps built on a Ray cluster of two workers on this machine."""

import os
import signal
import sys

import pytest
from support.data import DESCRIPTOR, save_tiny_model, write_dataset

from disam_ros.config import DescriptorConfig, MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.encoding import row_makers
from disam_ros.mapping.place_map import DATA_FILES
from disam_ros.mapping.thumbnails import FILE

CONFIG = MapBuilderConfig(
    keypoints=0, keyframe_distance=0.0, batch_size=4, checkpoint_every=8, descriptor=DESCRIPTOR
)


def same_files(a, b):
    names = (*DATA_FILES, FILE)
    return all((a.directory / n).read_bytes() == (b.directory / n).read_bytes() for n in names)


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of two workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def build(root, data, model, **how):
    return build_map(open_dataset(data.directory), model, root, CONFIG, show_progress=False, **how)


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


def test_without_ray_the_error_names_what_to_install(monkeypatch, tmp_path):
    from disam_ros.mapping.ray_encoder import RayEncoder

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"disam_ros\[ray\]"):
        RayEncoder(save_tiny_model(tmp_path / "model"), DescriptorConfig(), "auto")


def test_a_missing_cluster_is_reported(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from disam_ros.mapping.ray_encoder import RayEncoder

    with pytest.raises(ConfigError, match="no Ray cluster at 'auto'"):
        RayEncoder(save_tiny_model(tmp_path / "model"), DescriptorConfig(), "auto")
