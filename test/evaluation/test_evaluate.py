# SPDX-License-Identifier: Apache-2.0
"""Laws of evaluating whole drives, good and bad ones, offline."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.data import (
    CAMERA,
    DESCRIPTOR,
    camera_pose,
    of_single_images,
    save_tiny_model,
    texture,
    write_dataset,
)

from disam_ros.cli import main
from disam_ros.config import DomainConfig, MapBuilderConfig, PriorConfig
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.bags.writer import BagWriter
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.errors import ConfigError, DatasetError, MapError
from disam_ros.evaluation import collect, evaluate_drive, judge, read_results, write_results
from disam_ros.evaluation.answers import QueryResult
from disam_ros.evaluation.results import to_json
from disam_ros.evaluation.write import write_trajectories
from disam_ros.geometry import Transform
from disam_ros.image import encode_jpeg
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.query import MISSING
from disam_ros.mapping.builder import build_map

SECOND = 10**9
COUNT = 40
DAY = of_single_images(domain=DomainConfig(override="day"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", COUNT)


@pytest.fixture(scope="module")
def localizer(dataset, tmp_path_factory):
    root, source = tmp_path_factory.mktemp("map"), open_dataset(dataset.directory)
    model = save_tiny_model(root / "model")
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=DESCRIPTOR)
    return Localizer(
        model, build_map(source, model, root / "map", config, show_progress=False), DAY
    )


@pytest.fixture(scope="module")
def evaluate(localizer):
    """Evaluate drives against the map of the route of textures."""

    def run(*paths):
        drives = [
            evaluate_drive(localizer, open_images(path, "map"), path.name, show_progress=False)
            for path in paths
        ]
        return judge(localizer.map, drives, {"model": "tiny"})

    return run


def write_bag(path, *, late_ns=0, frame="map", poses=True, count=COUNT, broken=()):
    """The route of textures at 1 m/s; images are stamped `late_ns` after they were taken."""
    base_from_camera = camera_pose(0)
    with BagWriter(path, map_frame=frame) as bag:
        bag.tf_static(SECOND, {"front": base_from_camera})
        for i in range(count):
            stamp = (i + 1) * SECOND + late_ns
            jpeg = b"\xff\xd8" if i in broken else encode_jpeg(texture(i))
            bag.camera_info("front", stamp, CAMERA)
            bag.compressed_image("front", stamp, jpeg)
        if poses:
            for tenth in range(0, 10 * (COUNT + 3)):
                base = Transform.from_xyz_rpy([tenth / 10 - 1, 0, 0, 0, 0, 0])
                bag.ground_truth(tenth * SECOND // 10, base)
    return path


def test_the_drive_a_map_was_made_of_is_right_everywhere(evaluate, dataset):
    overall = evaluate(dataset.directory).overall
    assert overall.metrics.queries == overall.metrics.judged == COUNT
    assert overall.metrics.within == {"0.25 m 2°": 1.0, "0.5 m 5°": 1.0, "5 m 10°": 1.0}
    assert overall.metrics.recall == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0}
    assert overall.bound.within == overall.metrics.within and overall.off_map.images == 0
    assert overall.curve.recall_at_full_precision == 1.0
    assert overall.domains == {"day": COUNT}
    assert set(overall.latency_ms["total"]) == {"p50", "p90", "p99"}


def test_a_bag_and_the_dataset_it_was_made_of_get_the_same_answers(evaluate, dataset, tmp_path):
    dataset_to_bag(dataset, tmp_path / "bag", show_progress=False)
    a, b = (evaluate(p).overall for p in (dataset.directory, tmp_path / "bag"))
    assert a.metrics == b.metrics
    for one, two in zip(a.frames, b.frames, strict=True):
        assert one.answer.best == two.answer.best
        assert one.answer.probability == pytest.approx(two.answer.probability, abs=1e-6)


def test_conditions_are_those_of_the_dataset_or_the_name_of_the_bag(evaluate, dataset, tmp_path):
    evaluation = evaluate(dataset.directory, write_bag(tmp_path / "evening", count=4))
    assert list(evaluation.conditions) == ["day", "evening"]
    assert evaluation.overall.metrics.queries == COUNT + 4


def test_conditions_of_one_name_in_two_drives_are_kept_apart(evaluate, dataset, tmp_path):
    other = write_dataset(tmp_path / "again", 3)
    evaluation = evaluate(dataset.directory, other.directory)
    assert list(evaluation.conditions) == ["dataset, day", "again, day"]


def test_weather_and_place_recorded_in_a_bag_choose_the_domain(localizer, tmp_path):
    config = of_single_images()
    free = Localizer(localizer.model, localizer.map, config)
    noon = 1_720_000_000 * SECOND  # 9:46 UTC on a day in July
    with BagWriter(tmp_path / "bag") as bag:
        bag.fix(noon, 48.0, 9.0)
        bag.compressed_image("front", noon + 1, encode_jpeg(texture(1)))
        bag.fix(noon + 2, 48.0, -170.0)  # there it is night
        bag.weather(noon + 2, "no such word")
        bag.weather(noon + 2, "snow")
        bag.compressed_image("front", noon + 3, encode_jpeg(texture(2)))
    source = open_images(tmp_path / "bag", "map")
    first, second = evaluate_drive(free, source, "bag", show_progress=False).answers
    assert (first.domain, second.domain) == ("day", "night")
    assert "snow" in second.domain_reason and "snow" not in first.domain_reason


def test_without_true_poses_there_are_all_figures_but_errors(evaluate, tmp_path):
    evaluation = evaluate(write_bag(tmp_path / "bag", poses=False))
    assert evaluation.overall.metrics.answered == 1.0 and evaluation.overall.metrics.judged == 0
    assert evaluation.overall.curve is None and evaluation.overall.consistency is None
    assert evaluation.overall.latency_ms["total"]["p50"] > 0
    assert math.isnan(evaluation.overall.metrics.recall_at_1)
    (note,) = (n for n in evaluation.notes if "no ground truth" in n)
    assert "holds no poses" in note
    json.dumps(to_json(evaluation), allow_nan=False)


def test_poses_in_another_frame_are_not_compared(evaluate, tmp_path):
    evaluation = evaluate(write_bag(tmp_path / "bag", frame="utm"))
    assert evaluation.overall.metrics.judged == 0
    assert any("'utm', expected 'map'" in note for note in evaluation.notes)


def test_a_dataset_in_another_frame_is_not_compared(localizer, dataset):
    source = open_images(dataset.directory, "town")
    drive = evaluate_drive(localizer, source, "drive", show_progress=False)
    assert judge(localizer.map, [drive], {}).overall.metrics.judged == 0
    assert any("frame 'map', expected 'town'" in note for note in drive.notes)


def test_clocks_that_never_meet_are_noted_with_their_times(evaluate, tmp_path):
    evaluation = evaluate(write_bag(tmp_path / "bag", late_ns=1000 * SECOND))
    assert evaluation.overall.metrics.judged == 0
    notes = evaluation.notes
    assert any("do their clocks differ?" in note and "1001.000" in note for note in notes)


def test_images_off_the_map_are_counted_and_cannot_be_right(evaluate, tmp_path):
    camera, world = camera_pose(0), DatasetInfo("far", {"front": CAMERA})
    with DatasetWriter(tmp_path / "far", world) as writer:
        for i, x in enumerate((0.0, 1000.0, 2000.0)):
            place = Transform(camera.translation + [x, 0, 0], camera.quaternion)
            writer.add(encode_jpeg(texture(i)), (i + 1) * SECOND, "front", "day", place)
    evaluation = evaluate(tmp_path / "far")
    overall = evaluation.overall
    assert overall.on_map.images / overall.judged.images == pytest.approx(1 / 3)
    assert overall.bound.recall_at_1 == pytest.approx(1 / 3)
    assert any("2 of 3 images were taken more than 5 m" in note for note in evaluation.notes)


def test_a_drive_of_another_place_is_called_that(evaluate, tmp_path):
    place = Transform(np.array([5000.0, 0, 0]), camera_pose(0).quaternion)
    with DatasetWriter(tmp_path / "far", DatasetInfo("far", {"front": CAMERA})) as writer:
        writer.add(encode_jpeg(texture(0)), SECOND, "front", "", place)
    evaluation = evaluate(tmp_path / "far")
    assert any("another place or frame" in note for note in evaluation.notes)
    assert list(evaluation.conditions) == ["far"]  # the dataset names none


def test_repeated_stamps_are_left_out_and_counted(localizer, tmp_path):
    source = open_images(write_bag(tmp_path / "bag", count=5), "map")
    again = [replace(i, record=replace(i.record, id=5 + i.record.id)) for i in source.images]
    twice = replace(source, images=[*source.images, *again])
    drive = evaluate_drive(localizer, twice, "drive", show_progress=False)
    assert len(drive.answers) == 5
    assert any("5 images repeat the stamp" in note for note in drive.notes)


def test_images_without_a_stamp_are_all_kept(localizer, dataset):
    source = open_dataset(dataset.directory)
    images = [replace(i, record=replace(i.record, stamp_ns=0)) for i in source.images]
    drive = evaluate_drive(localizer, replace(source, images=images), "d", show_progress=False)
    assert len(drive.answers) == COUNT


def test_damaged_images_count_as_unanswered(evaluate, tmp_path):
    evaluation = evaluate(write_bag(tmp_path / "bag", broken=(3, 7)))
    assert evaluation.overall.metrics.answered == pytest.approx(1 - 2 / COUNT)
    assert evaluation.overall.metrics.recall_at_1 == pytest.approx(1 - 2 / COUNT)
    assert any("2 images could not be decoded" in note for note in evaluation.notes)


def test_lost_images_count_as_unanswered(localizer, dataset):
    source = open_dataset(dataset.directory)
    drive = collect(
        localizer.map,
        source,
        "lossy",
        lambda prepared: [QueryResult(item.record, MISSING) for item in prepared.images],
    )
    overall = judge(localizer.map, [drive], {}).overall
    assert overall.metrics.answered == 0.0 and overall.metrics.recall_at_1 == 0.0
    assert any(f"{COUNT} images were lost or dropped" in note for note in drive.notes)


def test_a_prior_from_topics_is_for_the_node_alone(localizer, dataset):
    settings = replace(localizer.config, prior=PriorConfig(source="fix"))
    node = Localizer(localizer.model, localizer.map, settings)
    with pytest.raises(ConfigError, match="only the running node subscribes to topics"):
        evaluate_drive(node, open_dataset(dataset.directory), "drive", show_progress=False)


def test_a_drive_without_images_is_refused(localizer, dataset):
    source = replace(open_dataset(dataset.directory), images=[])
    with pytest.raises(DatasetError, match="no images"):
        evaluate_drive(localizer, source, "nothing", show_progress=False)


def test_a_camera_of_another_name_is_compared_with_the_only_one_of_the_map(localizer, tmp_path):
    other = write_dataset(tmp_path / "other", 3, cameras=("cam0",))
    source = open_images(other.directory, "map")
    drive = evaluate_drive(localizer, source, "other", show_progress=False)
    assert judge(localizer.map, [drive], {}).overall.metrics.recall_at_1 == 1.0
    assert any("'cam0' is compared with 'front'" in note for note in drive.notes)


def test_cameras_that_the_map_lacks_are_refused(localizer, tmp_path):
    other = write_dataset(tmp_path / "other", 3, cameras=("left", "right"))
    with pytest.raises(MapError, match=r"left.*right.*front"):
        evaluate_drive(localizer, open_images(other.directory, "map"), "o", show_progress=False)


def test_an_interrupted_evaluation_has_figures_of_the_answers_so_far(localizer, dataset):
    def images():
        for item in open_dataset(dataset.directory).images:
            if item.record.id == 5:
                raise KeyboardInterrupt
            yield item

    source = replace(open_dataset(dataset.directory), images=images())
    drive = evaluate_drive(localizer, source, "drive", show_progress=False)
    assert drive.interrupted and len(drive.answers) == 5
    assert any(f"5 of {COUNT}" in note for note in drive.notes)


def test_results_are_read_back_as_they_were_written(evaluate, dataset, tmp_path):
    evaluation = evaluate(dataset.directory)
    write_results(tmp_path / "results.json", evaluation)
    values = read_results(tmp_path / "results.json")
    assert values["conditions"]["day"]["metrics"]["within"] == evaluation.overall.metrics.within
    assert values["frames"]["matched_id"] == list(range(COUNT))
    assert values["setup"] == {"model": "tiny"}


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 99}', "[]"])
def test_what_is_no_evaluation_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DatasetError, match="disam evaluate"):
        read_results(tmp_path)
    with pytest.raises(DatasetError, match="not found"):
        read_results(tmp_path / "nowhere")


def test_evo_reads_the_trajectories_and_measures_the_same_error(localizer, tmp_path):
    core = pytest.importorskip("evo.core", reason="evo is not installed: pip install -e '.[dev]'")
    assert core
    from evo.core import metrics, sync
    from evo.tools import file_interface

    bag = write_bag(tmp_path / "bag", late_ns=SECOND // 4)
    drive = evaluate_drive(localizer, open_images(bag, "map"), "bag", show_progress=False)
    evaluation = judge(localizer.map, [drive], {})
    write_trajectories(tmp_path / "out", evaluation)
    answers, truth = (
        file_interface.read_tum_trajectory_file(str(tmp_path / "out" / name))
        for name in ("bag.txt", "bag_truth.txt")
    )
    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data(sync.associate_trajectories(truth, answers))
    mine = [frame.error_m for frame in evaluation.overall.frames if frame.pose is not None]
    assert ape.get_statistic(metrics.StatisticsType.mean) == pytest.approx(np.mean(mine), abs=1e-6)
    assert np.mean(mine) > 0.1


def test_a_sequence_is_followed_unless_single_images_are_asked_for(localizer, dataset, tmp_path):
    directory = localizer.map.directory
    places = ["--map", str(directory), "--model", str(directory.with_name("model"))]
    probable = []
    for option in ([], ["--single"]):
        output = tmp_path / f"evaluation{len(option)}"
        command = ["evaluate", str(dataset.directory), *places, "--dataset-domains", *option]
        assert main([*command, "--output", str(output), "--device", "cpu"]) == 0
        probable.append(json.loads((output / "results.json").read_text())["frames"]["probability"])
    assert probable[0] != probable[1] and all(0 <= p <= 1 for column in probable for p in column)
