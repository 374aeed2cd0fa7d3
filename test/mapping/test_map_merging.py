# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.data import CAMERA, DESCRIPTOR, camera_pose, save_tiny_model, texture
from support.localize import localize

from disam_ros.cli import main
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.geodesy import Origin
from disam_ros.geometry import Transform
from disam_ros.image import network_input
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.compression import learn_projection
from disam_ros.mapping.life.alignment import register
from disam_ros.mapping.life.frames import estimate
from disam_ros.mapping.life.merging import extend, plane_from_plane
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.added_files import add_projection
from disam_ros.models.backend import describe, select_backend
from disam_ros.models.model import load_model

SIZE = 64
CONFIG = MapBuilderConfig(keyframe_distance=0.0, descriptor=DESCRIPTOR, keypoints=0)
OFF = Transform.from_xyz_rpy([40.0, -7.0, 2.0, 0.0, 0.0, 0.7])


def write_drive(directory, seeds, domain="day", moved=None, scale=1.0, **info):
    """A drive past textures: image i shows seeds[i], at the pose of that seed."""
    moved = moved or Transform.identity()
    with DatasetWriter(directory, DatasetInfo("drive", {"front": CAMERA}, **info)) as writer:
        for number, seed in enumerate(seeds):
            data = cv2.imencode(".png", texture(seed)[..., ::-1])[1].tobytes()
            pose = moved @ place_of(seed)
            pose = Transform(scale * pose.translation, pose.quaternion)
            writer.add(data, (number + 1) * 10**9, "front", domain, pose, f"image {seed}")
    return directory


def place_of(seed):
    """Along a bend."""
    turn = Transform.from_xyz_rpy([0, 0, 0, 0, 0, 0.05 * seed])
    pose = turn @ camera_pose(seed)
    return Transform(2.0 * pose.translation, pose.quaternion)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A model with directions; map a of seeds 0…19 by day; drive b, 10…29, by night."""
    root = tmp_path_factory.mktemp("merging")
    model = save_tiny_model(root / "model")
    images = [network_input(texture(seed), model.network.image_size) for seed in range(80)]
    backend = select_backend("auto", model, "cpu")
    coarse, _ = describe(backend, "day", np.stack(images), CONFIG.descriptor)
    add_projection(root / "model", learn_projection(coarse, SIZE), {})
    build(root, "a", write_drive(root / "data_a", range(20)))
    build(root, "b", write_drive(root / "data_b", range(10, 30), "day"))
    return root


def build(root, name, dataset, model="model"):
    source = open_dataset(dataset)
    return build_map(source, load_model(root / model), root / name, CONFIG, show_progress=False)


def disam(root, *words):
    return main(["map", *words[:1], *(str(w) for w in words[1:])])


def answers(root, name, seeds):
    localizer = Localizer.open(root / name, root / "model", LocalizerConfig(device="cpu"))
    found = [localize(localizer, texture(seed), domain="day") for seed in seeds]
    return [a.record.map_from_camera.translation for a in found]


def test_a_merged_map_answers_as_well_as_the_better_of_both(root):
    words = ["merge", root / "a", root / "b", "--model", root / "model"]
    assert disam(root, *words, "--output", root / "ab") == 0
    truth = [place_of(seed).translation for seed in range(30)]
    assert np.allclose(answers(root, "ab", range(30)), truth, atol=1e-6)
    for name, seeds in (("a", range(20)), ("b", range(10, 30))):
        assert np.allclose(answers(root, name, seeds), truth[seeds[0] : seeds[-1] + 1], atol=1e-6)
    merged = PlaceMap(root / "ab")
    assert len(merged) == 40 and merged.revision == 2
    history = merged.history[1]
    assert history["operation"] == "merge" and history["maps"][0]["name"] == "b"
    assert "matches agree" in history["maps"][0]["frame"]


def test_extending_by_a_drive_equals_building_of_both_at_once(root):
    words = ["extend", root / "a", "--dataset", root / "data_b", "--model", root / "model"]
    assert disam(root, *words, "--device", "cpu", "--output", root / "extended") == 0
    drive = [*range(20), *range(10, 30)]
    whole = build(root, "at_once", write_drive(root / "data_both", drive))
    found = PlaceMap(root / "extended")
    assert np.array_equal(found.coarse, whole.coarse) and np.allclose(found.poses, whole.poses)
    assert np.allclose(found.mean, whole.mean, atol=1e-3)
    assert np.abs(found.fine[:].astype(int) - whole.fine[:]).max() <= 3  # quantized twice
    ours, theirs = (answers(root, name, range(30)) for name in ("extended", "at_once"))
    assert np.array_equal(ours, theirs)
    assert [path.name for path in root.glob("extended*")] == ["extended"]
    assert found.history[1]["operation"] == "extend"


def test_frames_that_disagree_are_refused_with_the_residuals_and_moved_on_request(
    root, tmp_path, capsys
):
    build(root, "off", write_drive(root / "data_off", range(5, 25), moved=OFF))
    words = ["merge", root / "a", root / "off", "--model", root / "model", "--output"]
    assert disam(root, *words, tmp_path / "new") == 1
    error = capsys.readouterr().err
    assert "15 of 1" in error and "differ" in error and "--align" in error
    assert not list(tmp_path.iterdir())
    assert disam(root, *words, tmp_path / "new", "--align") == 0
    found = PlaceMap(tmp_path / "new")
    truth = [place_of(seed).translation for seed in (*range(20), *range(5, 25))]
    assert np.allclose(found.poses[:, :3], truth, atol=1e-3)


def test_maps_without_a_place_in_common_are_merged_as_they_are_but_not_aligned(
    root, tmp_path, capsys, caplog
):
    build(root, "far", write_drive(root / "data_far", range(60, 80)))
    words = ["merge", root / "a", root / "far", "--model", root / "model", "--output"]
    assert disam(root, *words, tmp_path / "new", "--align") == 1
    assert not list(tmp_path.iterdir())
    assert disam(root, *words, tmp_path / "new") == 0
    assert (
        "not compared, taken as it is" in PlaceMap(tmp_path / "new").history[1]["maps"][0]["frame"]
    )


def test_a_map_of_unknown_scale_is_aligned_to_one_in_metres(root, tmp_path):
    scaled = write_drive(root / "data_scaled", range(20), moved=OFF, scale=0.3)
    build(root, "scaled", scaled)
    words = ["align", root / "scaled", "--to", root / "a", "--model", root / "model", "--scale"]
    assert disam(root, *words, "--output", tmp_path / "new") == 0
    truth = [place_of(seed).translation for seed in range(20)]
    assert np.allclose(PlaceMap(tmp_path / "new").poses[:, :3], truth, atol=1e-3)


def test_a_model_of_another_map_is_refused(root, tmp_path, capsys):
    save_tiny_model(tmp_path / "other", seed=1)
    words = ["merge", root / "a", root / "b", "--model", tmp_path / "other"]
    assert disam(root, *words, "--output", tmp_path / "new") == 1
    assert "was built with model" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def poses_of(count, seed=0):
    rng = np.random.default_rng(seed)
    turns = Rotation.from_euler("z", rng.uniform(-3, 3, (count, 1))).as_quat()
    return np.hstack([rng.uniform(-50, 50, (count, 3)), turns])


def moved(poses, transform, scale):
    turn = Rotation.from_quat(transform.quaternion)
    positions = turn.apply(scale * poses[:, :3]) + transform.translation
    return np.hstack([positions, (turn * Rotation.from_quat(poses[:, 3:])).as_quat()])


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_the_estimate_of_a_frame_is_not_moved_by_wrong_matches(scale):
    b = poses_of(60)
    a = moved(b, OFF, scale)
    a[40:] = poses_of(20, seed=1)  # a third of them is wrong
    rng = np.random.default_rng(2)
    a[:, :3] += 0.2 * rng.standard_normal((60, 3))
    found = estimate(a, b, scaled=scale != 1.0)
    assert 38 <= found.agreeing <= 42 and found.believable and not found.same_frame
    assert found.scale == pytest.approx(scale, abs=0.01)
    assert np.allclose(found.a_from_b.translation, OFF.translation, atol=0.2)
    turn = (found.a_from_b.inverse() @ OFF).quaternion
    assert Rotation.from_quat(turn).magnitude() < np.radians(0.5)
    assert found.residual_m == pytest.approx(0.32, abs=0.12)  # √3 · 0.2 m


def test_a_straight_drive_is_aligned_by_its_headings():
    b = np.tile([0.0, 0, 0, 0, 0, 0, 1], (30, 1))
    b[:, 0] = np.arange(30)
    found = estimate(moved(b, OFF, 1.0), b)
    assert np.allclose(found.a_from_b.translation, OFF.translation, atol=1e-6)
    assert abs(np.dot(found.a_from_b.quaternion, OFF.quaternion)) == pytest.approx(1.0)


def test_the_same_frame_is_one_up_to_the_distance_of_the_cameras():
    b = poses_of(40)
    a = b.copy()
    a[:, :3] += np.random.default_rng(0).uniform(-1, 1, (40, 3))
    assert estimate(a, b).same_frame
    a[:, 0] += 2.5
    assert not estimate(a, b).same_frame


def test_fixes_place_a_map_on_earth_whatever_a_few_of_them_say(root, tmp_path, capsys):
    origin = Origin(49.0, 8.4, 0.6)
    records = open_dataset(root / "data_a").images
    lines = ["stamp_ns,latitude,longitude"]
    for number, item in enumerate(records):
        x, y, _ = item.record.map_from_camera.translation
        latitude, longitude = origin.to_geodetic(np.array([x + 100 * (number == 7), y]))
        lines.append(f"{item.record.stamp_ns},{latitude:.9f},{longitude:.9f}")
    (tmp_path / "fix.csv").write_text("\n".join(lines))
    words = ["align", root / "a", "--fixes", tmp_path / "fix.csv", "--output"]
    assert disam(root, *words, tmp_path / "new") == 0
    found = PlaceMap(tmp_path / "new")
    place = Origin(found.header.latitude, found.header.longitude)
    for number in (0, 5, 19):
        expected = origin.to_geodetic(place_of(number).translation)
        assert np.allclose(place.to_geodetic(found.poses[number]), expected, atol=2e-7)
    (tmp_path / "fix.csv").write_text("\n".join(lines[:3]))
    assert disam(root, *words, tmp_path / "none") == 1
    assert "2 images" in capsys.readouterr().err
    (tmp_path / "fix.csv").write_text("time,lat\n1,2\n")
    assert disam(root, *words, tmp_path / "none") == 1
    assert "stamp_ns, latitude, longitude" in capsys.readouterr().err


def test_another_origin_leaves_every_image_where_it_is_on_earth(root, tmp_path, capsys):
    placed = write_drive(root / "data_placed", range(8), latitude=49.0, longitude=8.4)
    old = build(root, "placed", placed)
    words = ["align", root / "placed", "--output", tmp_path / "new", "--origin"]
    assert disam(root, *words, 49.02, 8.37) == 0
    new = PlaceMap(tmp_path / "new")
    for a, b in zip(old.poses, new.poses, strict=True):
        there = Origin(49.0, 8.4).to_geodetic(a)
        assert np.allclose(Origin(49.02, 8.37).to_geodetic(b), there, atol=1e-7)
    words[3] = tmp_path / "far"
    assert disam(root, *words, 8.37, 49.02) == 1
    assert "in this order?" in capsys.readouterr().err


def test_maps_of_two_origins_are_merged_on_earth(root, tmp_path):
    motion = plane_from_plane(Origin(49.0, 8.4), Origin(49.01, 8.41))
    one = {"latitude": 49.0, "longitude": 8.4}
    other = {"latitude": 49.01, "longitude": 8.41}
    build(root, "one", write_drive(root / "data_one", range(20), **one))
    moved_ = motion.inverse()
    build(root, "other", write_drive(root / "data_other", range(20), moved=moved_, **other))
    words = ["merge", root / "one", root / "other", "--model", root / "model"]
    assert disam(root, *words, "--output", tmp_path / "new") == 0
    poses = PlaceMap(tmp_path / "new").poses
    assert np.allclose(poses[:20, :3], poses[20:, :3], atol=0.01)


def test_registration_is_that_of_the_points():
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (30, 2))
    c, s = np.cos(2.0), np.sin(2.0)
    targets = points @ np.array([[c, s], [-s, c]]) + [3.0, -4.0]
    yaw, shift, residuals = register(points, targets)
    assert yaw == pytest.approx(2.0) and np.allclose(shift, [3.0, -4.0])
    assert residuals.max() < 1e-9


def test_an_interrupted_extension_leaves_the_map_and_goes_on_later(root, tmp_path, monkeypatch):
    before = json.loads((root / "a" / "map.json").read_text())
    model, drive = load_model(root / "model"), open_dataset(root / "data_b")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("disam_ros.mapping.life.merging.merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extend(root / "a", [drive], model, tmp_path / "new", CONFIG, show_progress=False)
    assert not (tmp_path / "new").exists()
    assert json.loads((root / "a" / "map.json").read_text()) == before
    found = extend(root / "a", [drive], model, tmp_path / "new", CONFIG, show_progress=False)
    assert len(found) == 40 and [p.name for p in tmp_path.iterdir()] == ["new"]
