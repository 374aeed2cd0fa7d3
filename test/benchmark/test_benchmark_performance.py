# SPDX-License-Identifier: Apache-2.0
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")
pytest.importorskip("matplotlib", reason="not installed: pip install matplotlib")

from benchmark.peers.table import verdict
from benchmark.performance import __main__ as run
from benchmark.performance import map_building, opening, ranking, scale, speed
from benchmark.performance.synthetic_map import imitation, likeness, routes, seen_again, walk, world

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An empty docs folder; every section measures {"x": 1}."""
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    fake = SimpleNamespace(measure=lambda: {"x": 1}, render=lambda results: f"x = {results['x']}\n")
    monkeypatch.setattr(run, "section", lambda name: fake)
    return fake


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


@pytest.fixture
def place():
    """Sixty map images and as many queries that show them in order."""
    rng = np.random.default_rng(0)
    tables = [
        tuple(rng.normal(size=(60, d)).astype(np.float32) for d in (256, 40)) for _ in ranking.GRIDS
    ]
    references = [tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in t) for t in tables]
    return ranking.Place("p", references, {"snow": references}, {"snow": np.arange(60)}, judge)


def judge(condition, found):
    return {f"{condition} right": float((found == np.arange(60)).mean())}


def test_synthetic_routes_have_the_mean_and_covariance_of_the_real_one(real, kind):
    made = walk(kind, 40, 400, np.random.default_rng(1))
    assert np.allclose(made.mean(0), real[0].mean(0), atol=0.05)
    assert np.allclose(np.cov(made.T), np.cov(real[0].T), atol=0.02)
    assert np.allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-4)


def test_neighbours_on_a_synthetic_route_are_as_alike_as_on_the_real_one(real, kind):
    def alike(rows):
        return np.einsum("nd,nd->n", rows[1:], rows[:-1]).mean()

    assert alike(walk(kind, 1, 4000, np.random.default_rng(1))) == pytest.approx(
        alike(real[0]), abs=0.05
    )


def test_synthetic_queries_are_as_hard_as_the_real_ones(real, kind):
    known = likeness(*real)
    made = imitation(kind, kind.conditions[0], 400, 400)
    assert known["R@1 ±1"] < 0.99
    assert made["R@1 ±1"] == pytest.approx(known["R@1 ±1"], abs=0.1)
    assert made["score"] == pytest.approx(known["score"], abs=0.05)


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


def test_every_figure_of_large_maps_stands_in_the_section(kind, monkeypatch):
    numbers = {"real": {"R@1 ±1": 0.123}, "synthetic": {"R@1 ±1": 0.456}}
    monkeypatch.setattr(scale, "worlds_of_real_maps", lambda: ([kind], {"snow": numbers}))
    monkeypatch.setattr(scale, "fresh", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(scale, "QUERIES", 10)
    results = scale.measure((600,))
    assert results["rows"][0]["found"] == 1.0  # all are compared
    text = scale.render(json.loads(json.dumps(results)))
    assert all(word in text for word in ("| 600 | flat |", "0.123", "0.456", "Targets"))


@pytest.mark.parametrize("name", ranking.MEANS)
def test_every_means_answers_a_map_image_with_itself(place, name, monkeypatch):
    means = ranking.MEANS[name]
    if "product" in name:  # as many centres as it asks for are too many here
        monkeypatch.setattr("faiss.ProductQuantizer", _four_bits)
        means = ranking.Means(partial(ranking._product, 8), lambda _: 8)
    found = ranking.answers(means, place.queries["snow"], place.references)
    assert (found == np.arange(60)).mean() > (0.2 if "learned" in name else 0.9)


def _four_bits(width, size, _, original=faiss.ProductQuantizer):
    return original(width, size, 4)


def test_exact_rows_and_their_shares_stand_in_the_ranking_section(place, monkeypatch):
    monkeypatch.setattr(ranking, "all_places", lambda: [place])
    kept = {name: ranking.MEANS[name] for name in (ranking.EXACT_ROW, ranking.SHIPPED)}
    monkeypatch.setattr(ranking, "MEANS", kept)
    results = ranking.measure()
    row = results["rows"][ranking.EXACT_ROW]
    assert row["coarse_bytes"] == 4 * 256 and row["fine_bytes"] == 4 * 40
    assert row["shares"] == {"snow right": 1.0} and row["same"] == 1.0
    text = ranking.render(json.loads(json.dumps(results)))
    assert "| exact features, float32 | 1,024 | 1.2 | 100.0 | 100.0 |" in text
    assert "town" in text and "met (largest loss 0.0)" in text


def test_a_map_for_the_opening_is_a_map(tmp_path):
    opening.write_map(tmp_path / "map", 30)
    steps = opening._open(tmp_path / "map")
    assert set(steps) == {"model", "map", "localizer", "MiB"}
    text = opening.render({"images": 30, "map_mib": 1.0, "load": 0.5, "steps": steps})
    assert "| localizer |" in text and "≤ 3: met" in text


def test_a_query_of_the_speed_section_goes_through_a_map(monkeypatch):
    monkeypatch.setattr(speed, "LOOP_IMAGES", 2)
    rows = [
        {"preset": preset, "backend": backend, "load": 0.0}
        | speed.query_times("lite", backend, 2, images=5, threads=1)
        for preset, backend in (("lite", "torch"), ("mobile", "onnx"))
    ]
    assert all(row["loop"] > 0 and row["queries"] == 2 for row in rows)
    reference = speed.reference_times(1, images=5, preset="lite")
    text = speed.render({"images": 5, "threads": 1, "reference": reference, "rows": rows})
    assert "| lite | torch |" in text and "both encoders of `mobile`" in text


def test_the_map_building_section_contains_its_figures():
    results = {"images": 12, "threads": 1, "load": 0.0, "images_per_s": 8.5, "limit_per_s": 10.0}
    results |= {
        "ratio": 0.85,
        "cpu_ratio": 0.87,
        "parts_ms": {"read and decode": 3.25},
        "memory_mib": {"12": 7.0},
    }
    text = map_building.render(results)
    assert all(
        t in text for t in ("0.87", "8.5", "10.0", "missed by 0.05", "3.25", "7 MiB for 12 images")
    )


def test_a_verdict_tells_by_how_much_a_target_is_missed():
    assert verdict("p50", 4.0, 5.0, "ms") == "p50 4 ms ≤ 5: met"
    assert verdict("p50", 7.0, 5.0, "ms") == "p50 7 ms ≤ 5: missed by 2 ms"
    assert verdict("found", 98.5, 99.0, "%", True) == "found 98.5 % ≥ 99: missed by 0.5 %"


def test_the_performance_page_is_made_of_the_stored_figures_alone(files):
    run.main(["scale"])
    written = run.PAGE.read_text()
    assert written.count("x = 1") == 1
    run.PAGE.unlink()
    files.measure = None
    run.main(["--page-only"])
    assert run.PAGE.read_text() == written


def test_a_section_measured_alone_leaves_the_others_as_they_are(files):
    run.main([])
    files.measure = lambda: {"x": 2}
    run.main(["ranking"])
    figures = json.loads(run.FIGURES.read_text())
    assert {n: f["results"]["x"] for n, f in figures.items()} == {
        name: 2 if name == "ranking" else 1 for name in run.SECTIONS
    }


def test_an_unknown_performance_section_is_refused_with_the_names_of_all(files, capsys):
    with pytest.raises(SystemExit):
        run.main(["scales"])
    assert "scales" in (told := capsys.readouterr().err) and "opening" in told


def test_the_shipped_performance_page_is_made_of_the_shipped_figures():
    figures = json.loads((ROOT / run.FIGURES).read_text())
    assert run.page(figures) == (ROOT / run.PAGE).read_text()
