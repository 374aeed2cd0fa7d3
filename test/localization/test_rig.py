# SPDX-License-Identifier: Apache-2.0
"""Laws of a vehicle with several cameras: one belief, whichever camera an image is of."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.data import save_tiny_model, texture
from support.localize import outcomes

from disam_ros.camera import Camera
from disam_ros.config import DescriptorConfig, LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import BlindError, ImageError
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform, distance
from disam_ros.localization.drive import localize_drive
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.pipeline import Pipeline, Shot
from disam_ros.localization.query import Frame
from disam_ros.localization.sequence.bayes_filter import FilterModel
from disam_ros.localization.sequence.odometry import Reading
from disam_ros.localization.sequence.tracker import CLOCK, NO_MOUNT
from disam_ros.mapping.builder import MapBuilder

SECOND = 1_000_000_000
COUNT = 8
STEP = 2.0  # between places [m]
SMALL = FilterModel(radius=0.5)  # so that each place of the map is one
YAWS = {"front": 0.0, "left": 90.0, "rear": 180.0, "right": -90.0}


def camera_at(yaw: float) -> Camera:
    turn = Rotation.from_euler("z", yaw, degrees=True).as_matrix()
    mount = Transform.from_rotation(np.array([0.0, 0.0, 1.5]), turn @ BODY_FROM_OPTICAL)
    return Camera(64, 48, 60.0, 60.0, 31.5, 23.5, (), mount)


RIG = {name: camera_at(yaw) for name, yaw in YAWS.items()}


def place(index: float, turned: float = 0.0) -> Transform:
    """On a straight road, the vehicle turned by degrees."""
    return Transform.from_xyz_rpy([STEP * index, 0.0, 0.0, 0.0, 0.0, np.radians(turned)])


def view(index: int, yaw: float) -> np.ndarray:
    """What is seen at a place in a direction of the map [deg]."""
    return texture(int(1000 * (yaw % 360) / 90) + index)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("rig") / "model")


def localizer_of(model, directory, cameras):
    """On the map of the road, of some cameras."""
    info = DatasetInfo("road", {name: RIG[name] for name in cameras}, "map")
    config = MapBuilderConfig(
        keypoints=0,
        keyframe_distance=0.0,
        descriptor=DescriptorConfig(coarse_grid=4, fine_grid=8),
        domain="day",
    )
    with MapBuilder(info, model, directory, config) as builder:
        for index in range(COUNT):
            for name in cameras:
                pose = place(index) @ RIG[name].base_from_camera
                record = ImageRecord(0, (index + 1) * SECOND, name, "day", "", pose)
                image = view(index, YAWS[name])
                builder.add(PosedImage(record, lambda image=image: image))
        place_map = builder.finish()
    return Localizer(model, place_map, LocalizerConfig(device="cpu", min_probability=0.5))


@pytest.fixture(scope="module")
def every(model, tmp_path_factory):
    """Localizer on the map of all cameras."""
    return localizer_of(model, tmp_path_factory.mktemp("rig") / "map", tuple(YAWS))


@pytest.fixture(scope="module")
def ahead(model, tmp_path_factory):
    """Localizer on the map of the front camera."""
    return localizer_of(model, tmp_path_factory.mktemp("rig") / "map", ("front",))


def shot(name, index, turned=0.0, at=None, image=None, lens=None, odometry=True):
    """The image of a camera at a place, taken at second `at`."""
    stamp_ns = round(SECOND * (100 + (index if at is None else at)))
    image = view(index, YAWS[name] + turned) if image is None else image
    frame = Frame(image, name, stamp_ns, lens or RIG[name], domain="day")
    return Shot(frame, Reading(place(index, turned), 0.0, 0) if odometry else None)


def right(answer, index, turned=0.0):
    metres, degrees = distance(answer.map_from_base, place(index, turned))
    return metres < 0.6 and degrees < 10.0


def drive(pipeline, turned=0.0, cameras=tuple(YAWS), **changes):
    """Sets of images along the road in the direction of travel; changes: makers of shots."""
    order = range(COUNT) if turned == 0.0 else range(COUNT - 1, -1, -1)
    result = []
    for at, index in enumerate(order):
        make = {name: changes.get(name, shot) for name in cameras}
        shots = [make[name](name, index, turned, at=at) for name in cameras]
        result.append((index, outcomes(pipeline, shots)))
    return result


def test_images_of_one_moment_are_joint_evidence_with_odometry_or_without(every):
    shots = [shot(name, 3, odometry=False) for name in YAWS]
    answers = outcomes(Pipeline(every, filter_model=SMALL), shots)
    (alone,) = outcomes(Pipeline(every, filter_model=SMALL), shots[:1])
    assert all(right(answer, 3) for answer in answers)
    assert min(a.probability for a in answers) > alone.probability
    assert len({round(a.probability, 9) for a in answers}) == 1  # each knows of all
    with_odometry = outcomes(Pipeline(every, filter_model=SMALL), [shot(name, 3) for name in YAWS])
    assert with_odometry[0].probability == answers[0].probability


def recorded(cameras, apart=0.0, unreadable=()):
    """A drive of images that were taken `apart` [s] in a moment, with odometry."""
    images, poses = [], []
    for index in range(COUNT):
        for number, name in enumerate(cameras):
            stamp_ns = round(SECOND * (100 + index + number * apart))
            record = ImageRecord(len(images), stamp_ns, name, "day", f"{len(images)}.png", None)

            def load(name=name, index=index, number=len(images)):
                if number in unreadable:
                    raise ImageError("broken")
                return view(index, YAWS[name])

            images.append(PosedImage(record, load))
        poses.append((SECOND * (100 + index), place(index)))
    info = DatasetInfo("drive", {name: RIG[name] for name in cameras}, "map")
    stamps, odometry = zip(*poses, strict=True)
    track = np.array(stamps), list(odometry)
    return ImageSource(images, info, "drive", len(images), odometry=track)


def test_a_recorded_rig_is_localized_moment_by_moment(every):
    drive = localize_drive(Pipeline(every, filter_model=SMALL), recorded(tuple(YAWS)), None, True)
    results = [localized for _, localized in drive]
    pipeline, expected = Pipeline(every, filter_model=SMALL), []
    for index in range(COUNT):
        expected += outcomes(pipeline, [shot(name, index) for name in YAWS])
    for localized, single in zip(results, expected, strict=True):
        answer = localized.answer
        assert localized.query.camera == answer.camera == single.camera
        assert answer.probability == single.probability
        assert answer.map_from_base == single.map_from_base


def test_images_that_are_not_of_one_moment_are_localized_one_by_one(every):
    source = recorded(("front", "rear"), apart=0.3)
    pipeline, sets = Pipeline(every, filter_model=SMALL), []
    process = pipeline.process
    pipeline.process = lambda shots: sets.append(len(shots)) or process(shots)
    for _, localized in localize_drive(pipeline, source, None, True):
        assert localized.query.camera == localized.answer.camera
    assert set(sets) == {1}


def test_an_unreadable_image_does_not_cost_the_others_of_its_moment(every):
    source = recorded(tuple(YAWS), unreadable=(5, 6))
    pipeline = Pipeline(every, filter_model=SMALL)
    results = [localized for _, localized in localize_drive(pipeline, source, None, True)]
    assert [number for number, localized in enumerate(results) if localized is None] == [5, 6]
    assert len(results) == len(YAWS) * COUNT and right(results[7].answer, 1)


@pytest.mark.parametrize("turned", [0.0, 180.0])
@pytest.mark.parametrize("cameras", [("front", "rear"), tuple(YAWS)])
def test_a_map_of_the_front_camera_serves_there_and_back(ahead, turned, cameras):
    pipeline = Pipeline(ahead, filter_model=SMALL)
    for index, answers in drive(pipeline, turned, cameras)[2:]:
        assert all(right(answer, index, turned) and answer.known for answer in answers)


def test_a_camera_that_the_map_lacks_is_found_by_where_it_looks(ahead):
    pipeline = Pipeline(ahead, filter_model=SMALL)
    for index in range(COUNT - 1, 2, -1):
        (answer,) = outcomes(pipeline, [shot("rear", index, 180.0, at=COUNT - index)])
    assert right(answer, 3, 180.0) and answer.record.camera == "front"


def test_a_camera_that_contradicts_the_others_loses_its_weight(every):
    def frozen(name, index, turned, at):
        noise = np.random.default_rng(at).integers(0, 3, view(0, 0.0).shape)
        return shot(name, index, turned, at, image=(view(1, 0.0) // 2 + noise).astype(np.uint8))

    pipeline = Pipeline(every, filter_model=SMALL)
    sets = drive(pipeline, front=frozen)
    for index, answers in sets[2:]:
        assert all(right(answer, index) and answer.known for answer in answers[1:])
    assert right(sets[-1][1][0], COUNT - 1)
    doubts = {answer.camera: answer.doubt for answer in sets[-1][1]}
    assert doubts.pop("front") > 0.9 and max(doubts.values()) < 0.5


def test_a_covered_camera_is_answered_with_an_error_and_the_others_go_on(every):
    def covered(name, index, turned, at):
        return shot(name, index, turned, at, image=np.zeros_like(view(0, 0.0)))

    for index, answers in drive(Pipeline(every, filter_model=SMALL), left=covered)[1:]:
        assert isinstance(answers[1], BlindError)
        assert all(right(answers[k], index) for k in (0, 2, 3))


def test_an_image_that_comes_late_is_evidence_of_where_the_vehicle_was(every):
    pipeline = Pipeline(every, filter_model=SMALL)
    for index in range(1, 6):
        outcomes(pipeline, [shot("front", index, at=0.4 * index)])
        (late,) = outcomes(pipeline, [shot("rear", index - 1, at=0.4 * (index - 1))])
        assert not late.alone
        if index > 2:
            assert right(late, index - 1)
    (answer,) = outcomes(pipeline, [shot("front", 6, at=2.4)])
    assert right(answer, 6) and answer.known


def test_a_camera_of_another_clock_keeps_to_itself(every):
    def hours_off(name, index, turned, at):
        return shot(name, index, turned, at + 7200)

    for index, answers in drive(Pipeline(every, filter_model=SMALL), rear=hours_off)[2:]:
        assert answers[2].alone == CLOCK
        assert all(right(answers[k], index) and not answers[k].alone for k in (0, 1, 3))


def test_a_camera_without_a_mount_keeps_to_itself(every):
    def unmounted(name, index, turned, at):
        lens = replace(RIG[name], base_from_camera=Transform.identity())
        return shot(name, index, turned, at, lens=lens)

    for index, answers in drive(Pipeline(every, filter_model=SMALL), left=unmounted)[2:]:
        assert answers[1].alone == NO_MOUNT
        assert all(right(answers[k], index) and not answers[k].alone for k in (0, 2, 3))


def test_a_camera_without_intrinsics_is_joined_all_the_same(every):
    def unknown(name, index, turned, at):
        mount = RIG[name].base_from_camera
        return shot(name, index, turned, at, lens=Camera(0, 0, 0.0, 0.0, 0.0, 0.0, (), mount))

    for index, answers in drive(Pipeline(every, filter_model=SMALL), left=unknown)[2:]:
        assert all(right(answer, index) and not answer.alone for answer in answers)


def test_how_images_of_a_moment_come_together_does_not_change_the_belief(every):
    """A node answers what waits: the last answer of a moment knows all of it in any case."""
    together, single = (Pipeline(every, filter_model=SMALL) for _ in range(2))
    for index in range(COUNT):
        shots = [shot(name, index) for name in YAWS]
        (*_, joint), (*_, last) = (
            outcomes(together, shots),
            [outcomes(single, [each])[0] for each in shots],
        )
        assert joint.probability == pytest.approx(last.probability, abs=1e-5)
        assert distance(joint.map_from_base, last.map_from_base)[0] < 1e-3


def test_a_camera_that_begins_later_does_not_cost_the_belief(ahead):
    pipeline = Pipeline(ahead, filter_model=SMALL)
    for index in range(4):
        (before,) = outcomes(pipeline, [shot("front", index)])
    answers = outcomes(pipeline, [shot("front", 4), shot("rear", 4)])
    assert before.known and all(right(answer, 4) and answer.known for answer in answers)
