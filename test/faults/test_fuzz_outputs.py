# SPDX-License-Identifier: Apache-2.0
"""Damaged recipes, half-built maps, videos and indices: used, or refused by name."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import texture
from support.faults import BUILD, write_half_built
from support.fuzz import damaged, edited, few, read_or_refuse

from disam_ros.datasets.formats.video import Video
from disam_ros.datasets.sources import open_dataset
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.index import CellIndex, write_cells
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from training.recipes import load_config

FRAMES, CODES = 12, 200
RECIPES = sorted((Path(__file__).parents[2] / "config").glob("train_*.yaml"))
HALF_BUILT = (".disam_progress.json", ".disam_manifest.json", "images.csv", "coarse_whole.npy")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@given(data=st.data())
@few(8)
def test_an_edited_recipe_is_read_or_refused_by_name(recipe, tmp_path, data):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data.draw(edited(recipe.read_text())))
    read_or_refuse(lambda: load_config(path), path)


@pytest.mark.parametrize("method", ["[]", "{}", "null", "1", "x", "{a: []}"])
def test_a_recipe_of_no_method_names_the_methods(method, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"method: {method}\n")
    with pytest.raises(Exception, match="'method' must be one of disam, global"):
        load_config(path)


@pytest.fixture(scope="module")
def half_built(tmp_path_factory):
    """A half-built map, its source and its model."""
    root = write_half_built(tmp_path_factory.mktemp("half"))
    return root / "map.part", open_dataset(root / "dataset"), load_model(root / "model")


@pytest.mark.parametrize("name", HALF_BUILT)
@given(data=st.data())
@few(8)
def test_a_damaged_half_built_map_is_completed_or_refused(name, half_built, tmp_path, data):
    part, source, model = half_built
    shutil.rmtree(tmp_path / "map.part", ignore_errors=True)
    shutil.rmtree(tmp_path / "map", ignore_errors=True)
    shutil.copytree(part, tmp_path / "map.part")
    file = tmp_path / "map.part" / name
    file.write_bytes(data.draw(damaged(file.read_bytes())))

    def build() -> None:
        build_map(source, model, tmp_path / "map", BUILD, show_progress=False)
        PlaceMap(tmp_path / "map", verify=True)

    read_or_refuse(build, tmp_path)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A folder with a video and its trajectory."""
    av = pytest.importorskip("av")
    root = tmp_path_factory.mktemp("video")
    with av.open(str(root / "drive.mp4"), "w") as container:
        container.metadata["creation_time"] = "2024-05-01T12:00:00Z"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, 10)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(texture(number, 48, 64), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    lines = [f"{n}.0 {n} 0 0 0 0 0 1" for n in range(FRAMES)]
    (root / "poses.txt").write_text("\n".join(lines) + "\n")
    return root


@given(data=st.data())
@few(40)
def test_a_damaged_video_is_read_or_refused_by_name(video, tmp_path, data):
    path = tmp_path / "drive.mp4"
    path.write_bytes(data.draw(damaged((video / "drive.mp4").read_bytes())))
    settings = {"trajectory": str(video / "poses.txt"), "start": "0", "max_gap": 2.0}

    def read() -> None:
        drive = Video("day", **settings).read(path)
        for image in drive.images:
            read_or_refuse(lambda image=image: drive.pixels(image))

    read_or_refuse(read, tmp_path)


@given(data=st.data())
@few(60)
def test_a_damaged_index_is_not_used(tmp_path, data):
    pytest.importorskip("faiss")
    whole, path = tmp_path / "whole", tmp_path / "index_0.faiss"
    random = np.random.default_rng(0)
    codes = random.integers(-127, 128, (CODES, 32)).astype(np.int8)
    steps = np.ones(32, np.float32)
    if not whole.exists():
        write_cells(whole, codes, steps)
        CellIndex(whole, codes, steps)
    changed = data.draw(damaged(whole.read_bytes()))
    path.write_bytes(changed)
    try:
        CellIndex(path, codes, steps)
    except ValueError as error:
        assert str(path) in str(error) and "disam map check" in str(error)
    else:
        assert changed == whole.read_bytes()
