# SPDX-License-Identifier: Apache-2.0
import gc
import json
import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.data import DESCRIPTOR, camera_pose, save_tiny_model, texture, write_dataset
from support.localize import localize

from disam_ros.config import DescriptorConfig, DomainConfig, LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.sources import open_dataset
from disam_ros.domains.domain import Domain
from disam_ros.errors import MapError, ModelError
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import MapBuilder, build_map, write_indices
from disam_ros.mapping.index import CellIndex
from disam_ros.mapping.place_map import DATA_FILES, PlaceMap
from disam_ros.mapping.thumbnails import BYTES, FILE
from disam_ros.mapping.writer import MapWriter
from disam_ros.models.model import create_model, load_model, save_model
from disam_ros.models.network_config import PRESETS, NetworkConfig
from disam_ros.models.similarity import descriptor_shapes


def build(dataset, model, output, config):
    source = open_dataset(dataset.directory)
    return build_map(source, model, output, config, show_progress=False)


def same_map(a: PlaceMap, b: PlaceMap) -> bool:
    names = a.header.data_files
    assert FILE in names and names == b.header.data_files
    return all((a.directory / n).read_bytes() == (b.directory / n).read_bytes() for n in names)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A data set and its map, which no test changes."""
    root = tmp_path_factory.mktemp("built")
    dataset = write_dataset(root / "dataset", 12)
    config = MapBuilderConfig(keypoints=0, batch_size=2, descriptor=DESCRIPTOR)
    return dataset, build(dataset, save_tiny_model(root / "model"), root / "map", config)


@pytest.fixture
def directory(built, tmp_path):
    """A copy of the map, to be damaged."""
    return shutil.copytree(built[1].directory, tmp_path / "map")


def test_a_map_holds_every_image_with_its_pose(built):
    dataset, place_map = built
    assert len(place_map) == 12
    assert place_map.coarse.shape == (12, len(place_map.steps))
    assert place_map.projection(None).directions.shape[1] == 16 * 3 * 4
    assert place_map.fine.shape == (12, 16 * 6 * 8)
    assert place_map.coarse.dtype == place_map.fine.dtype == np.int8
    for index, record in enumerate(place_map.records):
        assert np.allclose(record.map_from_camera.translation, camera_pose(index).translation)
        assert record.source == dataset.records[index].path
    assert place_map.spacing() == pytest.approx(1.0)


@pytest.mark.parametrize("grid", [16, 8])
def test_features_that_are_averaged_are_warned_of(
    dataset, model, tmp_path, builder_config, caplog, grid
):
    config = replace(builder_config, descriptor=DescriptorConfig(coarse_grid=4, fine_grid=grid))
    build(dataset, model, tmp_path / "map", config)
    coarse = "coarse features of 12x16 cells are averaged to 3x4 (descriptor.coarse_grid 4)"
    fine = "fine features of 12x16 cells are averaged to 6x8 (descriptor.fine_grid 8)"
    assert (f"{coarse}; {fine}, which loses detail: grids of 16" in caplog.text) == (grid == 8)


def test_grids_whose_shifts_take_too_much_memory_are_refused(tmp_path):
    network = NetworkConfig(width=24, encoder_blocks=0, image_size=(256, 256))
    save_model(create_model(network, [Domain("day")]), tmp_path / "model")
    model, info = load_model(tmp_path / "model"), DatasetInfo("none", {})
    config = MapBuilderConfig(descriptor=DescriptorConfig(coarse_grid=64, fine_grid=64))
    with pytest.raises(MapError, match=r"fine_grid 64: .* 1138 MiB.*--retrieval paper"):
        MapBuilder(info, model, tmp_path / "map", config)


def test_a_map_that_nobody_holds_is_freed_at_once(directory):
    place_map = PlaceMap(directory)
    assert place_map.records[3].id == 3
    records = weakref.ref(place_map.records)
    gc.collect()
    gc.disable()
    try:
        del place_map
        assert records() is None
    finally:
        gc.enable()


def test_keyframes_are_never_closer_than_the_distance(dataset, model, tmp_path, builder_config):
    config = replace(builder_config, keyframe_distance=2.5)
    place_map = build(dataset, model, tmp_path / "map", config)
    positions = [record.map_from_camera.translation[0] for record in place_map.records]
    assert positions == [0, 3, 6, 9]


def test_a_resumed_build_equals_one_that_was_never_stopped(
    dataset, model, tmp_path, builder_config
):
    whole = build(dataset, model, tmp_path / "whole", builder_config)
    source = open_dataset(dataset.directory)
    output = tmp_path / "map"
    with MapBuilder(source.info, model, output, builder_config, "cpu", source.identity) as builder:
        for item in list(source.images)[:7]:
            builder.add(item)
    with pytest.raises(MapError, match="half-built"):
        PlaceMap(tmp_path / "map")
    resumed = build(dataset, model, tmp_path / "map", builder_config)
    assert same_map(whole, resumed)


def test_a_half_built_map_of_other_settings_is_not_continued(
    dataset, model, tmp_path, builder_config
):
    source = open_dataset(dataset.directory)
    output = tmp_path / "map"
    with MapBuilder(source.info, model, output, builder_config, "cpu", source.identity) as builder:
        builder.add(next(iter(source.images)))
        builder.commit()
    with pytest.raises(MapError, match="another model, source or settings"):
        build(dataset, model, tmp_path / "map", replace(builder_config, keyframe_distance=3.0))
    with pytest.raises(MapError, match="another model, source or settings"):
        build(write_dataset(tmp_path / "other", 3), model, tmp_path / "map", builder_config)


@pytest.mark.parametrize("name", DATA_FILES)
def test_a_damaged_file_is_refused(directory, name):
    path = directory / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(MapError, match="SHA-256"):
        PlaceMap(directory)


@pytest.mark.parametrize("name", [*DATA_FILES, "map.json"])
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(MapError, match=name):
        PlaceMap(directory)


def test_a_truncated_array_is_refused_even_without_checksums(directory):
    path = directory / "fine.npy"
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(MapError, match="damaged"):
        PlaceMap(directory, verify=False)


def test_unreadable_images_are_left_out_and_counted(dataset, model, tmp_path, builder_config):
    dataset.path(dataset.records[4]).write_bytes(b"\xff\xd8 broken")
    place_map = build(dataset, model, tmp_path / "map", builder_config)
    assert len(place_map) == 11
    assert json.loads((tmp_path / "map" / "map.json").read_text())["skipped"] == 1


def test_a_map_of_nothing_is_refused(dataset, model, tmp_path, builder_config):
    for record in dataset.records:
        dataset.path(record).write_bytes(b"")
    with pytest.raises(MapError, match="none of 12 images"):
        build(dataset, model, tmp_path / "map", builder_config)


def test_a_domain_without_encoder_is_named(dataset, model, tmp_path, builder_config):
    with pytest.raises(MapError, match="no encoder for domain 'fog', only for day, night"):
        build(dataset, model, tmp_path / "map", replace(builder_config, domain="fog"))


def test_a_missing_map_says_how_to_build_one(tmp_path):
    with pytest.raises(MapError, match="disam build-map"):
        PlaceMap(tmp_path / "nowhere")


def test_rows_belong_to_their_camera(model, tmp_path, builder_config):
    data = write_dataset(tmp_path / "data", 4, cameras=("left", "front"))
    place_map = build(data, model, tmp_path / "map", builder_config)
    assert place_map.cameras() == ["front", "left"]
    for camera in place_map.cameras():
        rows = place_map.rows_of(camera)
        assert len(rows) == 4 and {place_map.records[r].camera for r in rows} == {camera}


def test_descriptors_that_are_not_finite_are_refused(dataset, model, tmp_path, builder_config):
    with torch.no_grad():
        next(iter(model.coarse["day"].parameters())).fill_(float("nan"))
    with pytest.raises(ModelError, match=r"coarse\.safetensors.* not finite"):
        build(dataset, model, tmp_path / "map", builder_config)


def test_a_large_map_gets_an_index_that_finds_its_images(
    dataset, model, tmp_path, builder_config, monkeypatch
):
    for module in ("builder", "index"):
        monkeypatch.setattr(f"disam_ros.mapping.{module}.FLAT", 5)
    place_map = build(dataset, model, tmp_path / "map", builder_config)
    assert place_map.index_path("front").exists()
    config = LocalizerConfig(device="cpu", domain=DomainConfig(override="day"))
    localizer = Localizer(model, place_map, config)
    assert isinstance(localizer._search._index["front"], CellIndex)
    localizer._search._index["front"]._cells.nprobe = 100
    assert [localize(localizer, texture(i)).best.record.id for i in range(12)] == list(range(12))


@pytest.mark.parametrize(("preset", "kib"), [("mobile", 32), ("lite", 32), ("full", 71)])
def test_an_image_takes_few_kibibytes_in_a_map(preset, kib):
    config = DescriptorConfig()
    shapes = descriptor_shapes(PRESETS[preset], config)
    assert config.coarse_size + np.prod(shapes["fine"]) + BYTES <= kib * 1024


def test_a_disk_that_takes_no_index_costs_the_index_but_not_the_map(
    dataset, model, tmp_path, builder_config, monkeypatch, caplog
):
    for module in ("builder", "index"):
        monkeypatch.setattr(f"disam_ros.mapping.{module}.FLAT", 5)
    finish = MapWriter.finish

    def finished(*arguments):
        path = finish(*arguments)
        (path / "index_0.faiss.part").mkdir()  # no file can be put there
        return path

    monkeypatch.setattr(MapWriter, "finish", finished)
    place_map = build(dataset, model, tmp_path / "map", builder_config)
    assert "cannot be written" in caplog.text and "disam map check" in caplog.text
    assert len(PlaceMap(tmp_path / "map")) == len(place_map) == 12
    with pytest.raises(MapError, match="the map is complete without it"):
        write_indices(place_map)


def test_a_map_is_opened_and_searched_without_reading_its_fine_descriptors(
    dataset, model, tmp_path, builder_config, monkeypatch
):
    monkeypatch.setattr(Localizer, "_check_shapes", lambda *_: None)
    settings = replace(builder_config, descriptor=replace(builder_config.descriptor, fine_grid=1))
    build(dataset, model, tmp_path / "map", settings)
    fine = np.lib.format.open_memmap(  # a file of holes, far larger than what is read of it
        tmp_path / "map" / "fine.npy", "w+", np.int8, (12, 2**28)
    )
    del fine
    before = resident()
    place_map = PlaceMap(tmp_path / "map")
    Localizer(model, place_map, LocalizerConfig(device="cpu"))
    assert place_map.fine.nbytes == 3 * 2**30
    assert resident() - before < 2**28


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
