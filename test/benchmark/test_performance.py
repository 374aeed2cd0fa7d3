# SPDX-License-Identifier: Apache-2.0
"""Laws of what the performance page measures."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.performance import map_merging, rig, scale, speed
from benchmark.performance.synthetic_map import (
    imitation,
    large_noise_map,
    retrieval_statistics,
    routes,
    seen_again,
    walk,
    world,
)


@pytest.fixture(scope="module")
def real():
    """A route of 400 unit rows [400, 24] that change slowly, and 100 queries of its rows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(401, 24)) * np.geomspace(1.0, 0.1, 24)
    rows = rows[1:] + rows[:-1] + 0.5
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    shown = rng.integers(0, 400, 100)
    queries = 0.7 * rows[shown] + 0.1 * rng.normal(size=(100, 24)).astype(np.float32) + 0.1
    return rows, queries, shown


@pytest.fixture(scope="module")
def kind(real):
    rows, queries, shown = real
    return world(rows, [(queries, shown)])


def test_synthetic_routes_have_the_mean_the_covariance_and_the_steps_of_the_real_one(real, kind):
    def similarity(rows):
        return np.einsum("nd,nd->n", rows[1:], rows[:-1]).mean()

    made = walk(kind, 40, 400, np.random.default_rng(1))
    assert similarity(made[:400]) == pytest.approx(similarity(real[0]), abs=0.05)
    assert np.allclose(made.mean(0), real[0].mean(0), atol=0.05)
    assert np.allclose(np.cov(made.T), np.cov(real[0].T), atol=0.02)
    assert np.allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-4)


def test_synthetic_queries_are_as_hard_as_the_real_ones(real, kind):
    measured = retrieval_statistics(*real)
    made = imitation(kind, kind.conditions[0], 400, 400)
    assert measured["R@1 ±1"] < 0.99
    assert made["R@1 ±1"] == pytest.approx(measured["R@1 ±1"], abs=0.1)
    assert made["score"] == pytest.approx(measured["score"], abs=0.05)


def test_a_query_without_noise_follows_from_its_image(kind):
    rows = walk(kind, 1, 50, np.random.default_rng(1))
    plain = SimpleNamespace(**vars(kind.conditions[0]) | {"stretch": 0.0})
    queries = seen_again(kind, plain, rows, np.random.default_rng(2))
    assert np.corrcoef((queries @ rows.T).argmax(1), np.arange(50))[0, 1] > 0.9


@pytest.mark.parametrize("count", [1, 1500, 4001])
def test_as_many_synthetic_images_are_made_as_are_asked_for(kind, count):
    assert sum(len(part) for part in routes([kind, kind], count)) == count


def test_the_exact_best_are_those_of_one_comparison_of_all(kind, tmp_path):
    projection, queries = scale.synthesize(tmp_path, [kind], 900)
    rows = projection.decode(np.load(tmp_path / "codes.npy"))
    best = np.argsort(-(queries @ rows.T), axis=1)[:, : scale.BEST]
    assert len(queries) == scale.QUERIES
    assert scale.exact(tmp_path, projection, queries).tolist() == best.tolist()


def test_a_flat_index_finds_the_exact_best(kind, monkeypatch):
    monkeypatch.setattr(scale, "worlds_of_real_maps", lambda: ([kind], {}))
    monkeypatch.setattr(scale, "fresh", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(scale, "opening", dict)
    monkeypatch.setattr(scale, "QUERIES", 10)
    assert scale.measure((600,))["rows"][0]["found"] == 1.0


def test_a_noise_map_opens(tmp_path):
    large_noise_map(tmp_path / "map", 30)
    assert set(scale.open_map(tmp_path / "map")) == {"model", "map", "localizer", "MiB"}


def test_a_moment_of_four_cameras_goes_through_a_map():
    rows = rig.measure(images=40, moments=2)["rows"]
    assert set(rows) == {"1", "4"}
    for row in rows.values():
        assert 0 < row["rest"] < row["whole"] <= row["p99"]


def test_two_maps_are_merged():
    (row,) = map_merging.measure((30,))["rows"].values()
    assert row["merge"] > 0 and row["mib"] > 0


def test_a_query_of_the_speed_section_goes_through_a_map(monkeypatch):
    monkeypatch.setattr(speed, "LOOP_IMAGES", 2)
    rows = [
        {"preset": "lite", "backend": backend}
        | speed.query_times("lite", backend, 2, images=5, threads=1)
        for backend in ("torch", "onnx")
    ]
    assert all(row["loop"] > 0 and row["queries"] == 2 for row in rows)
    ratios = speed.ratios(speed.reference_times(1, images=5, preset="lite"), rows)
    assert ratios["best"]["lite"] == max(row["ratio"] for row in rows) > 0
    assert ratios["bound"]["lite"] > ratios["best"]["lite"]  # encoders are a part of the whole
