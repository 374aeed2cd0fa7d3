# SPDX-License-Identifier: Apache-2.0
import sys

import faiss
import numpy as np
import pytest

from disam_ros.errors import MapError
from disam_ros.mapping.compression import learn_projection, to_int8
from disam_ros.mapping.index import (
    CellIndex,
    FlatIndex,
    PlaceIndex,
    TorchIndex,
    open_index,
    write_cells,
)

CPU = "cpu"


@pytest.fixture
def descriptors():
    """Unit rows [300, 64] about ten centres, in a subspace of 40 dimensions."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(10, 40))
    rows = centres[np.arange(300) % 10] + rng.normal(size=(300, 40))
    rows = rows @ np.linalg.qr(rng.normal(size=(64, 40)))[0].T
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def projection(descriptors):
    return learn_projection(descriptors, 48)


@pytest.fixture
def codes(descriptors, projection):
    return projection.encode(descriptors)


def cells(codes, steps, path):
    write_cells(path, codes, steps)
    index = CellIndex(path, codes, steps)
    index._cells.nprobe = index._cells.nlist  # all cells: then it must be exact
    return index


KINDS = {
    "flat": lambda codes, steps, path: FlatIndex(codes, steps),
    "torch": lambda codes, steps, path: TorchIndex(codes, steps, CPU),
    "cells": cells,
}


def test_directions_beyond_the_subspace_are_not_kept(projection):
    assert projection.directions.shape == (40, 64)
    gram = projection.directions.astype(np.float64) @ projection.directions.T
    assert np.allclose(gram, np.eye(40), atol=2e-3)


def test_codes_keep_inner_products(descriptors, projection, codes):
    query = projection.project(descriptors[7] + descriptors[8])
    both = descriptors[7] + descriptors[8]
    products = descriptors.astype(np.float64) @ both / np.linalg.norm(both)
    assert np.abs(projection.decode(codes) @ query - products).max() < 0.01


def test_a_descriptor_unlike_most_of_the_map_is_found_by_its_own_image(descriptors):
    rare = np.zeros((2, 80), np.float32)
    rare[0, 70:], rare[1, 64:70] = 1.0, 1.0  # beside the subspace that all others share
    rows = np.concatenate([np.pad(descriptors, ((0, 0), (0, 16))) + 0.02 * rare[0], rare])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    projection = learn_projection(rows, 12)
    stored = projection.decode(projection.encode(rows))
    scores = stored @ projection.project(rows[-2])
    assert scores.argmax() == len(rows) - 2 and scores.max() > 0.95


def test_fewer_bytes_keep_the_directions_of_most_variance(descriptors):
    errors = []
    for size in (4, 16, 40):
        projection = learn_projection(descriptors, size)
        assert projection.size == size
        codes = projection.decode(projection.encode(descriptors))
        errors.append(np.abs(codes @ codes.T - descriptors @ descriptors.T).mean())
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("count", [1, 2])
def test_one_image_or_equal_images_still_make_a_map(descriptors, count):
    same = np.repeat(descriptors[:1], count, axis=0)
    projection = learn_projection(same, 48)
    assert projection.size == 1
    assert np.allclose(projection.decode(projection.encode(same)) ** 2, 1.0, atol=0.03)


def test_descriptors_of_zeros_are_no_reason_to_fail():
    projection = learn_projection(np.zeros((3, 8), np.float16), 4)
    assert np.isfinite(projection.decode(projection.encode(np.zeros((3, 8))))).all()


def test_int8_keeps_directions_and_zeros(descriptors):
    rows = to_int8(descriptors).astype(np.float64)
    cosines = (rows * descriptors).sum(1) / np.linalg.norm(rows, axis=1)
    assert (cosines > 0.9995).all()
    assert not to_int8(np.zeros(5)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_search_finds_the_largest_inner_products_with_any_descriptor_of_a_query(
    codes, projection, tmp_path, kind
):
    index = KINDS[kind](codes, projection.steps, tmp_path / "cells")
    stored = projection.decode(codes).astype(np.float64)
    for numbers in (*([k] for k in range(20)), [3, 50, 77]):
        queries = stored[numbers].astype(np.float32) + 0.05
        products = (stored @ queries.T).max(1)
        rows, scores = index.search(queries, 5)
        assert len(set(rows.tolist())) == 5
        assert np.allclose(products[rows], np.sort(products)[::-1][:5], atol=2e-3)
        assert np.allclose(scores, products[rows], atol=2e-3)


@pytest.mark.parametrize("runtime", [True, False])
def test_a_map_too_large_for_all_coordinates_gives_the_same_best_images(
    codes, projection, monkeypatch, runtime
):
    exact = FlatIndex(codes, projection.steps)
    monkeypatch.setattr("disam_ros.models.arrays.has_runtime", lambda: runtime)
    monkeypatch.setattr("disam_ros.mapping.index.EXACT", 100)
    monkeypatch.setattr("disam_ros.mapping.index.LEADING", 12)
    index = FlatIndex(codes, projection.steps)
    queries = projection.decode(codes[[3, 50, 77]])
    (rows, scores), (expected, known) = (i.search(queries, 10) for i in (index, exact))
    assert rows.tolist() == expected.tolist() and scores == pytest.approx(known, abs=1e-5)


def test_a_search_leaves_the_number_of_threads_as_it_was(codes, projection):
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    FlatIndex(codes, projection.steps).search(projection.decode(codes[:1]), 3)
    assert faiss.omp_get_max_threads() == 2
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_images_than_asked_for_are_all_returned(codes, projection, tmp_path, kind):
    index = KINDS[kind](codes[:2], projection.steps, tmp_path / "cells")
    rows, scores = index.search(projection.decode(codes[1:2]), 3)
    assert rows.tolist() == [1, 0]
    assert len(scores) == 2


def test_few_cells_find_nearly_all_that_all_cells_find(codes, projection, tmp_path):
    write_cells(tmp_path / "cells", codes, projection.steps)
    index = CellIndex(tmp_path / "cells", codes, projection.steps)
    index._cells.nprobe = index._cells.nlist // 4
    exact = FlatIndex(codes, projection.steps)
    queries = projection.decode(codes)
    same = [set(index.search(q, 3)[0]) & set(exact.search(q, 3)[0]) for q in queries[:, None]]
    assert np.mean([len(s) for s in same]) > 2.5


def test_cells_of_leading_coordinates_and_a_full_comparison_find_what_all_coordinates_find(
    codes, projection, tmp_path, monkeypatch
):
    monkeypatch.setattr("disam_ros.mapping.index.IN_CELLS", 12)
    monkeypatch.setattr("disam_ros.mapping.index.SHORTLIST", 60)
    index, exact = (
        cells(codes, projection.steps, tmp_path / "cells"),
        FlatIndex(codes, projection.steps),
    )
    for query in projection.decode(codes[:20])[:, None]:
        (rows, scores), (expected, _) = index.search(query, 3), exact.search(query, 3)
        assert rows.tolist() == expected.tolist()
        assert np.allclose(scores, projection.decode(codes[rows]) @ query[0], atol=1e-5)
    assert len(index.search(query, 70)[0]) == 70


@pytest.mark.parametrize(("coordinates", "size"), [(12, 6), (13, 7), (192, 20)])
def test_an_index_takes_half_a_byte_of_each_of_its_leading_coordinates(
    codes, projection, tmp_path, monkeypatch, coordinates, size
):
    monkeypatch.setattr("disam_ros.mapping.index.IN_CELLS", coordinates)
    index = cells(codes, projection.steps, tmp_path / "cells")
    assert index._cells.code_size == size
    query = projection.decode(codes[[3]])
    assert index.search(query, 3)[0].tolist()[0] == 3


def test_directions_are_the_same_for_few_and_for_many_descriptors(descriptors):
    many, few = (
        learn_projection(descriptors, 10),
        learn_projection(np.pad(descriptors, ((0, 0), (0, 300))), 10),
    )
    assert np.allclose(np.abs(many.directions @ few.directions[:, :64].T), np.eye(10), atol=5e-3)


def test_a_disc_holds_the_best_of_its_images_and_no_others(codes, projection):
    positions = np.random.default_rng(1).uniform(-100, 100, (len(codes), 3))
    index = PlaceIndex(codes, projection.steps, positions)
    stored = projection.decode(codes)
    for row in range(20):
        x, y, _ = positions[row]
        inside = np.flatnonzero(np.hypot(positions[:, 0] - x, positions[:, 1] - y) <= 30.0)
        rows, scores = index.best(stored[[row]], 3, index.near(x, y, 30.0))
        expected = inside[np.argsort(-(stored[inside] @ stored[row]))[:3]]
        assert rows.tolist() == expected.tolist()
        assert np.allclose(scores, stored[rows] @ stored[row], atol=1e-5)
    assert len(index.near(1e6, 0.0, 30.0)) == 0


@pytest.mark.parametrize("content", [None, b"", b"no index", b"IwSQ" + bytes(50)])
def test_a_missing_or_foreign_index_is_reported_and_all_codes_are_compared(
    codes, projection, tmp_path, caplog, monkeypatch, content
):
    monkeypatch.setattr("disam_ros.mapping.index.FLAT", 10)
    path = tmp_path / "cells"
    if content is not None:
        path.write_bytes(content)
    index = open_index(codes, projection.steps, CPU, path)
    assert isinstance(index, FlatIndex) and "disam map check" in caplog.text


def test_the_index_of_another_map_is_not_used(codes, projection, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("disam_ros.mapping.index.FLAT", 10)
    write_cells(tmp_path / "cells", codes[:200], projection.steps)
    assert isinstance(open_index(codes, projection.steps, CPU, tmp_path / "cells"), FlatIndex)
    assert "has 200 images by 40 coordinates, the map 300 by 40" in caplog.text
    write_cells(tmp_path / "cells", codes, projection.steps)
    assert isinstance(open_index(codes, projection.steps, CPU, tmp_path / "cells"), CellIndex)


def test_without_faiss_all_codes_are_compared_and_the_remedy_is_named(
    codes, projection, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("disam_ros.mapping.index.FLAT", 10)
    write_cells(tmp_path / "cells", codes, projection.steps)
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = open_index(codes, projection.steps, CPU, tmp_path / "cells")
    assert isinstance(index, FlatIndex) and "pip install faiss-cpu" in caplog.text
    with pytest.raises(MapError, match="the map is complete without it"):
        write_cells(tmp_path / "other", codes, projection.steps)
