# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from support.data import DESCRIPTOR, camera_pose, save_tiny_model, texture, write_dataset
from support.localize import localize

from disam_ros.cli import main
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.formats import colmap
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import MapError, ModelError
from disam_ros.geodesy import to_utm, utm_band
from disam_ros.geometry import Transform
from disam_ros.image import network_input
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.compression import learn_projection
from disam_ros.mapping.life.assembly import Part, assemble, recentred
from disam_ros.mapping.life.regions import inside, polygon
from disam_ros.mapping.life.summary import require_sound, summary
from disam_ros.mapping.place_map import DIRECTIONS, PlaceMap
from disam_ros.models.added_files import add_projection
from disam_ros.models.backend import describe, select_backend
from disam_ros.models.model import load_model
from disam_ros.models.projection import FILE, read_projection, write_projection
from disam_ros.models.similarity import Projection

SIZE = 64  # directions of the model
CONFIG = MapBuilderConfig(
    keyframe_distance=0.0,
    descriptor=DESCRIPTOR,
    domain="day",
    keypoints=16,
    local_features="orb",
)
SPLIT = 5.5  # x between images 5 and 6 of twelve [m]
LEFT = ["-9", "-9", str(SPLIT), "-9", str(SPLIT), "9", "-9", "9"]
RIGHT = [str(SPLIT), "-9", "99", "-9", "99", "9", str(SPLIT), "9"]


def directions_of(size, dimensions, seed=0):
    rows = np.random.default_rng(seed).standard_normal((4 * size, dimensions))
    return learn_projection(rows.astype(np.float32), size)


def with_directions(directory, seed=0):
    """A tiny model that ships directions."""
    save_tiny_model(directory)
    add_projection(directory, directions_of(SIZE, 16 * 3 * 4, seed), {"seed": 0})
    return load_model(directory)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A model with directions, a dataset of twelve images and the map of it."""
    root = tmp_path_factory.mktemp("life")
    model = with_directions(root / "model")
    write_dataset(root / "data", 12)
    build(root / "data", model, root / "map")
    return root


def build(dataset, model, output, config=CONFIG, **info):
    source = open_dataset(dataset)
    source = replace(source, info=replace(source.info, **info))
    return build_map(source, model, output, config, show_progress=False)


def answers(root, name, images=range(12)):
    """Positions that a map answers for textures, and their scores."""
    localizer = Localizer.open(root / name, root / "model", LocalizerConfig(device="cpu"))
    found = [localize(localizer, texture(i), domain="day") for i in images]
    return [a.record.map_from_camera.translation.tolist() for a in found], [
        a.probability for a in found
    ]


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_map_refers_to_the_directions_of_its_model_and_stores_none(root):
    place_map = PlaceMap(root / "map")
    header = json.loads((root / "model" / "model.json").read_text())
    assert place_map.header.directions == header["sha256"]["directions"]
    assert not (root / "map" / DIRECTIONS).exists()
    assert answers(root, "map")[0] == [camera_pose(i).translation.tolist() for i in range(12)]


def test_directions_survive_a_round_trip_through_the_model_directory(tmp_path):
    projection = directions_of(8, 40)
    read = read_projection(tmp_path, write_projection(tmp_path, projection))
    assert np.array_equal(read.steps, projection.steps)
    error = np.abs(read.matrix.astype(float) - projection.directions).max()
    assert error <= np.abs(projection.directions).max() / 127
    assert write_projection(tmp_path, read) == read.sha256
    (tmp_path / FILE).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="is damaged"):
        read_projection(tmp_path, "0" * 64)


def test_directions_are_no_part_of_the_identity_and_other_ones_are_refused(root, tmp_path):
    before = save_tiny_model(tmp_path / "model").identity
    model = with_directions(tmp_path / "model2", seed=1)
    assert model.identity == before == load_model(root / "model").identity
    with pytest.raises(MapError, match="built with directions"):
        Localizer(model, PlaceMap(root / "map"), LocalizerConfig(device="cpu"))


def test_a_map_that_the_directions_do_not_fit_learns_its_own(root, tmp_path):
    config = replace(CONFIG, descriptor=replace(DESCRIPTOR, coarse_grid=2))
    place_map = build(root / "data", load_model(root / "model"), tmp_path / "map", config)
    assert not place_map.header.directions and (tmp_path / "map" / DIRECTIONS).exists()


def test_crop_then_merge_of_the_parts_is_the_whole(root, tmp_path):
    for name, corners in (("left", LEFT), ("right", RIGHT)):
        words = ["map", "crop", str(root / "map"), "--polygon", *corners]
        assert main([*words, "--output", str(root / name)]) == 0
    parts = [Part.whole(PlaceMap(root / name)) for name in ("left", "right")]
    assert [len(part.rows) for part in parts] == [6, 6]
    whole = assemble(parts, root / "joined", {"operation": "merge"})
    ours, expected = files_of(whole.directory), files_of(root / "map")
    for name in whole.header.data_files:
        assert ours[name] == expected[name], name
    assert whole.revision == 3 and answers(root, "joined") == answers(root, "map")
    assert [entry["operation"] for entry in whole.history] == ["build", "crop", "merge"]


def test_a_point_on_a_shared_edge_is_in_one_of_two_polygons():
    points = np.array([[SPLIT, 0.0], [5.0, 0.0], [6.0, 0.0]])
    left, right = (inside(points, polygon([float(v) for v in c])) for c in (LEFT, RIGHT))
    assert (left ^ right).all() and left[1] and right[2]


def test_a_polygon_without_images_says_where_the_map_is(root, tmp_path, capsys):
    words = ["map", "crop", str(root / "map"), "--output", str(tmp_path / "new"), "--polygon"]
    assert main([*words, "50", "50", "60", "50", "60", "60"]) == 1
    assert "reaches from (0.0, 0.0) to (11.0, 0.0) m" in capsys.readouterr().err
    assert main([*words, "1", "2", "3"]) == 1
    assert "three or more corners" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_map_is_never_changed_in_place(root, capsys):
    before = files_of(root / "map")
    words = ["map", "crop", str(root / "map"), "--polygon", *LEFT, "--overwrite"]
    assert main([*words, "--output", str(root / "map")]) == 1
    assert "is read: choose an output outside" in capsys.readouterr().err
    assert files_of(root / "map") == before


def test_a_half_built_map_is_not_cleared_away(root, tmp_path):
    (tmp_path / "new.part").mkdir()
    (tmp_path / "new.part" / ".disam_progress.json").write_text("{}")
    with pytest.raises(MapError, match="half-built"):
        assemble([Part.whole(PlaceMap(root / "map"))], tmp_path / "new", {"operation": "crop"})
    assert (tmp_path / "new.part" / ".disam_progress.json").exists()


def test_an_operation_that_ends_early_leaves_nothing_and_the_old_map(root, tmp_path, monkeypatch):
    before = files_of(root / "map")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("disam_ros.mapping.life.assembly.write_map", interrupted)
    with pytest.raises(KeyboardInterrupt):
        assemble([Part.whole(PlaceMap(root / "map"))], tmp_path / "new", {"operation": "crop"})
    assert files_of(root / "map") == before and not list(tmp_path.iterdir())


def test_a_moved_part_is_moved_as_a_rigid_body(root, tmp_path):
    place_map = PlaceMap(root / "map")
    turn = Transform.from_xyz_rpy([5.0, -3.0, 1.0, 0.0, 0.0, 1.2])
    moved = assemble([Part(place_map, np.arange(12), turn)], tmp_path / "new", {"operation": "x"})
    for old, new, row in zip(place_map.records, moved.records, moved.poses, strict=True):
        expected = turn @ old.map_from_camera
        assert np.allclose(new.map_from_camera.translation, expected.translation, atol=1e-6)
        assert np.allclose(row[:3], expected.translation)
        assert abs(np.dot(row[3:], expected.quaternion)) == pytest.approx(1.0)


def test_fine_codes_of_another_mean_are_those_of_the_descriptors():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20, 6 * 12)).astype(np.float64) + 0.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = [rows[part].reshape(-1, 6, 12).mean((0, 2)) for part in (slice(10), slice(20))]
    old, new = (m.astype(np.float32) for m in means)

    def codes(mean):
        left = rows - np.repeat(mean, 12)
        return np.rint(left / np.abs(left).max(1, keepdims=True) * 127).astype(np.int8)

    assert np.abs(recentred(codes(old), old, new).astype(int) - codes(new)).max() <= 2


def test_maps_with_directions_of_their_own_are_refused_together(root, tmp_path):
    other = build(root / "data", save_tiny_model(tmp_path / "model"), tmp_path / "map")
    maps = [Part.whole(PlaceMap(root / "map")), Part.whole(other)]
    with pytest.raises(MapError, match="directions of its own"):
        assemble(maps, tmp_path / "new", {"operation": "merge"})
    alone = assemble(maps[1:], tmp_path / "alone", {"operation": "crop"})
    assert (alone.directory / DIRECTIONS).exists()


def test_a_map_of_other_keypoints_or_lens_is_refused(root, tmp_path):
    model, first = load_model(root / "model"), Part.whole(PlaceMap(root / "map"))
    other = build(root / "data", model, tmp_path / "none", replace(CONFIG, keypoints=0))
    with pytest.raises(MapError, match="other keypoints"):
        assemble([first, Part.whole(other)], tmp_path / "new", {"operation": "merge"})
    camera = open_dataset(root / "data").info.cameras["front"]
    wide = {"front": replace(camera, fx=camera.fx * 0.8)}
    other = build(root / "data", model, tmp_path / "wide", cameras=wide)
    with pytest.raises(MapError, match="another lens or mount"):
        assemble([first, Part.whole(other)], tmp_path / "new", {"operation": "merge"})


def test_the_summary_counts_what_is_there(root, capsys):
    found = summary(PlaceMap(root / "map"))
    assert found["images"] == 12 and found["domains"] == {"day": 12}
    assert found["driven_m"] == pytest.approx(12.0, abs=1.0) and found["revision"] == 1
    assert found["bytes_per_image"] * 12 == pytest.approx(found["bytes"], abs=12)
    assert main(["map", "info", str(root / "map")]) == 0
    assert "1. build" in capsys.readouterr().out
    assert main(["map", "info", str(root / "map"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 12


def test_a_map_whose_tables_differ_is_not_sound(root, tmp_path):
    require_sound(PlaceMap(root / "map"))
    place_map = assemble([Part.whole(PlaceMap(root / "map"))], tmp_path / "m", {"operation": "x"})
    require_sound(place_map)
    place_map.poses[3, 0] += 1.0
    with pytest.raises(MapError, match=r"images\.csv and poses\.npy differ at row 3"):
        require_sound(place_map)


@pytest.fixture(scope="module")
def placed(root):
    """A map that knows where it lies."""
    place = {"latitude": 49.0, "longitude": 8.4}
    build(root / "data", load_model(root / "model"), root / "placed", **place)
    return root / "placed"


def export(source, form, output, *words):
    return main(["map", "export", str(source), "--format", form, "--output", str(output), *words])


def test_geojson_and_kml_hold_longitude_and_latitude(placed, tmp_path):
    assert export(placed, "geojson", tmp_path / "map.json") == 0
    features = json.loads((tmp_path / "map.json").read_text())["features"]
    longitude, latitude, _ = features[11]["geometry"]["coordinates"]
    assert latitude == pytest.approx(49.0, abs=1e-6)
    assert (longitude - 8.4) * 73_172 == pytest.approx(11.0, rel=0.01)  # metres of a degree there
    assert features[0]["properties"]["heading"] == pytest.approx(90.0)  # eastwards
    assert export(placed, "kml", tmp_path / "map.kml") == 0
    root = ElementTree.parse(tmp_path / "map.kml").getroot()
    marks = [node.text for node in root.iter("{http://www.opengis.net/kml/2.2}coordinates")]
    assert len(marks) == 12 and marks[11] == f"{longitude},{latitude}"


def test_a_map_crops_to_its_own_geojson(placed, tmp_path, capsys):
    ring = [[8.3999, 48.9999], [8.40007, 48.9999], [8.40007, 49.0001], [8.3999, 49.0001]]
    geometry = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "area.json").write_text(json.dumps(geometry))
    words = ["map", "crop", str(placed), "--geojson", str(tmp_path / "area.json")]
    assert main([*words, "--output", str(tmp_path / "new")]) == 0
    assert len(PlaceMap(tmp_path / "new")) == 6  # up to 5.1 m east
    (tmp_path / "area.json").write_text("{}")
    assert main([*words, "--output", str(tmp_path / "other")]) == 1
    assert "no Polygon" in capsys.readouterr().err


def test_tum_poses_are_those_of_the_map(root, tmp_path):
    assert export(root / "map", "tum", tmp_path / "map.txt") == 0
    rows = np.loadtxt(tmp_path / "map.txt")
    assert rows[:, 0].tolist() == list(range(1, 13))
    assert np.allclose(rows[:, 1:], PlaceMap(root / "map").poses, atol=1e-8)


def test_colmap_poses_are_camera_from_world(root, tmp_path):
    assert export(root / "map", "colmap", tmp_path / "model") == 0
    cameras, images = colmap.read_model(tmp_path / "model")
    (camera,) = cameras.values()
    known = PlaceMap(root / "map").header.cameras["front"]
    assert camera == replace(known, base_from_camera=camera.base_from_camera)
    w, x, y, z, *translation = images[3].camera_from_world
    camera_from_world = Transform(np.array(translation), np.array([x, y, z, w]))
    assert np.allclose(camera_from_world.inverse().translation, camera_pose(3).translation)


def test_utm_names_have_the_fields_that_vpr_methods_evaluation_splits(placed, root, tmp_path):
    assert export(placed, "utm", tmp_path / "a") == 0  # thumbnails
    assert export(placed, "utm", tmp_path / "b", "--images", str(root / "data")) == 0
    for folder in (tmp_path / "a", tmp_path / "b"):
        names = sorted(p.name for p in folder.iterdir() if p.suffix == ".jpg")
        cells = [name.split("@") for name in names]
        assert len(names) == 12 and {len(c) for c in cells} == {16} and cells[0][15] == ".jpg"
        easts = sorted(float(c[1]) for c in cells)
        assert easts[11] - easts[0] == pytest.approx(11.0, abs=0.03)
        assert {c[3] + c[4] for c in cells} == {"32U"} and {c[14] for c in cells} == {"day"}


def test_a_map_without_place_is_not_exported_to_degrees(root, tmp_path, capsys):
    for form in ("geojson", "kml", "utm"):
        assert export(root / "map", form, tmp_path / "out") == 1
        assert "align it to fixes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (0.0, 3.0, (500_000.0, 0.0, 31)),  # on the meridian of the zone
        (43.642567, -79.38714, (630_084.3, 4_833_438.6, 17)),  # CN Tower
        (-33.8568, 151.2153, (334_901.0, 6_252_292.0, 56)),  # Sydney Opera House
    ],
)
def test_utm_of_known_places(latitude, longitude, expected):
    east, north, zone = to_utm(latitude, longitude)
    assert zone == expected[2]
    assert (east, north) == pytest.approx(expected[:2], abs=60.0)


def test_utm_keeps_distances_up_to_its_scale():
    east, north, zone = to_utm(49.0, 8.4)
    there = to_utm(49.001, 8.4, zone)
    assert np.hypot(there[0] - east, there[1] - north) == pytest.approx(111.21 * 0.9996, abs=0.05)
    assert [utm_band(v) for v in (-79, 0, 49, 83)] == ["C", "N", "U", "X"]


def test_descriptors_of_the_model_are_encoded_by_its_directions(root):
    model, place_map = load_model(root / "model"), PlaceMap(root / "map")
    source = open_dataset(root / "data")
    images = network_input(next(iter(source.images)).load(), model.network.image_size)[None]
    backend = select_backend("auto", model, "cpu")
    coarse = describe(backend, "day", images, DESCRIPTOR)[0].astype(np.float16)
    projection = place_map.projection(model.projection)
    assert isinstance(projection, Projection)
    assert np.abs(projection.encode(coarse)[0].astype(int) - place_map.coarse[0]).max() <= 1
