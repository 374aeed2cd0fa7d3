# SPDX-License-Identifier: Apache-2.0
"""What version 0.1 wrote still opens, or the error says what to do."""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.data import of_single_images
from support.faults import edit_json
from support.maps import BASE_FROM_CAMERA, START_S

from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.bags import BagReader
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset, open_images
from disam_ros.errors import ConfigError, MapError
from disam_ros.evaluation import judge, localize_drive, read_results
from disam_ros.evaluation.compare import comparison_table
from disam_ros.evaluation.results import to_json
from disam_ros.geometry import Transform, distance
from disam_ros.localization.calibration import DEFAULT, Calibration, load_calibration
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.node_config import LocalizerNodeConfig, MapBuilderNodeConfig
from disam_ros.settings import from_dict, from_yaml

DATA = Path(__file__).parent / "data" / "version_0_1"
STAMPS = [(START_S + second) * 10**9 for second in range(4)]
SINGLE = of_single_images()  # as all images were judged
NODES = {"localizer": LocalizerNodeConfig, "map_builder": MapBuilderNodeConfig}


def base_pose(index):
    return Transform.from_xyz_rpy([2.0 * index, 1.0, 0.0, 0.0, 0.0, 0.1 * index])


def parameters_of(node):
    return yaml.safe_load((DATA / "parameters.yaml").read_text())[node]["ros__parameters"]


def test_a_model_and_its_calibration_open():
    model = load_model(DATA / "model")
    assert model.domain_names() == ["day", "night"]
    assert model.identity.startswith("84259bc7c104608c")
    ratio = (DEFAULT.intercept, DEFAULT.slope, DEFAULT.low, DEFAULT.high)  # of fine scores now
    assert load_calibration(DATA / "model") == Calibration(
        *ratio, 0.4, 0.12, 0.9, 2.25, ["a drive"], DEFAULT.coarse
    )


@pytest.fixture
def place_map(tmp_path):
    """A map of the dataset and model of 0.1, built today."""
    model, source = load_model(DATA / "model"), open_dataset(DATA / "dataset")
    config = MapBuilderConfig(keyframe_distance=0.0, batch_size=4)
    return build_map(source, model, tmp_path / "map", config, show_progress=False)


@pytest.mark.parametrize("name", ["map", "map_keypoints"])
def test_a_map_opens_and_says_that_a_new_one_is_better(name, caplog):
    place_map = PlaceMap(DATA / name, verify=True)
    assert len(place_map) == {"map": 4, "map_keypoints": 3}[name]
    assert "version 0.1" in caplog.text and "'disam build-map'" in caplog.text


def test_a_centered_map_names_the_command_that_builds_it_again(tmp_path):
    shutil.copytree(DATA / "map", tmp_path / "map")
    edit_json(tmp_path / "map/map.json", lambda v: v["descriptor"].update(centered=True))
    with pytest.raises(MapError, match=r"'centered' .*build the map again, .*: disam build-map"):
        PlaceMap(tmp_path / "map")


def test_a_map_gives_the_places_that_0_1_gave():
    assert_places_of_0_1(PlaceMap(DATA / "map"))


def test_a_map_built_again_gives_the_places_that_0_1_gave(place_map):
    assert_places_of_0_1(place_map)


def assert_places_of_0_1(place_map):
    localizer = Localizer(load_model(DATA / "model"), place_map, SINGLE)
    answers = localize_drive(
        localizer, open_dataset(DATA / "dataset"), "drive", show_progress=False
    ).answers
    with (DATA / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(answers) == 4
    for row, answer in zip(rows, answers, strict=True):
        assert (row["path"], row["domain"]) == (answer.record.path, answer.domain)
        assert int(row["matched_id"]) == answer.best.id
        position = [float(row[f"map_from_camera_t{axis}"]) for axis in "xyz"]
        gap = np.linalg.norm(answer.map_from_camera.translation - position)
        assert gap < place_map.spacing() / 10  # today's poses lie between map images


def test_a_dataset_opens_with_its_odometry():
    dataset, source = Dataset(DATA / "dataset"), open_dataset(DATA / "dataset")
    assert [record.stamp_ns for record in dataset.records] == STAMPS
    assert (dataset.info.latitude, dataset.info.longitude) == (47.0, 8.5)
    assert dataset.info.cameras["front"].base_from_camera == BASE_FROM_CAMERA
    stamps, poses = source.odometry
    assert stamps.tolist() == STAMPS
    assert distance(poses[3], base_pose(3)) < (1e-6, 1e-4)
    assert all(item.load().shape == (48, 64, 3) for item in source.images)


def test_results_open_and_compare_with_those_of_today(place_map):
    before = read_results(DATA / "results.json")
    assert before["frames"]["outcome"] == ["known"] * 4
    assert before["overall"]["metrics"]["recall"] == {"R@1": 1.0}
    localizer = Localizer(load_model(DATA / "model"), place_map, SINGLE)
    drive = localize_drive(localizer, open_dataset(DATA / "dataset"), "d", show_progress=False)
    today = to_json(judge(localizer.map, [drive], {}))
    assert today["frames"]["matched_id"] == before["frames"]["matched_id"]
    metrics = [results["overall"]["metrics"] for results in (today, before)]
    for name, value in metrics[1].items():
        if name.startswith(("median", "p90")):  # today's poses lie between map images
            assert metrics[0][name] < value + 0.1
        else:
            assert metrics[0][name] == value
    assert comparison_table(before, today, ("before", "today")).row_count


def test_a_bag_of_answers_opens_with_images_and_true_poses():
    with BagReader(DATA / "recording") as reader:
        assert reader.topics()["/localizer/answer"].count == 4
        messages = [message for _, message in reader.messages(["/localizer/answer"])]
    values = {pair.key: pair.value for pair in messages[3].status[0].values}
    assert (values["outcome"], values["map image"]) == ("known", "3")
    items = list(open_images(DATA / "recording", "map").images)
    assert [item.record.stamp_ns for item in items] == STAMPS
    assert all(item.load().shape == (48, 64, 3) for item in items)


def test_a_bag_of_answers_is_read_by_todays_evaluation():
    pytest.importorskip("rclpy")
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.serialization import deserialize_message

    from disam_ros.nodes.localizer.publishers import answer_status

    with BagReader(DATA / "recording") as reader:
        raw = list(reader.raw(["/localizer/answer"]))
    values = answer_status.values_of(deserialize_message(bytes(raw[1].data), DiagnosticArray))
    assert answer_status.ranked_ids(values)[0] == 1
    assert answer_status.timings_ms(values)["total"] > 0


# Settings whose default has changed since 0.1: maps have keypoints now.
CHANGED = (
    "cameras",  # the only one of a map needs no name
    "builder.keypoints",
    "builder.local_features",
    "builder.descriptor.coarse_grid",
    "localizer.candidates",
    "localizer.sequence.enabled",
)


def gone(cls, values, prefix=""):
    """Dotted names of the settings that today's dataclass does not have."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    names = []
    for key, value in values.items():
        if key not in fields:
            names.append(prefix + key)
        elif isinstance(value, dict):
            names += gone(type(getattr(cls(), key)), value, f"{prefix}{key}.")
    return names


def without(names, values, prefix=""):
    return {
        key: without(names, value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if prefix + key not in names
    }


@pytest.mark.parametrize("node", NODES)
def test_parameters_that_are_gone_are_all_named_with_their_replacement(node):
    cls, values = NODES[node], parameters_of(node)
    names = gone(cls, values)
    with pytest.raises(ConfigError) as caught:
        from_dict(cls, values)
    lines = str(caught.value).splitlines()
    assert names and len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        sentence = f"setting '{name}' is gone since 0.2: "
        assert line.startswith(sentence) and len(line) > len(sentence) + 10


@pytest.mark.parametrize("node", NODES)
def test_the_other_parameters_keep_their_names_and_defaults(node):
    cls, values = NODES[node], parameters_of(node)
    config = from_dict(cls, without([*gone(cls, values), *CHANGED], values))
    given = {key: values[key] for key in ("map", "model", "output") if key in values}
    assert repr(config) == repr(cls(**given))  # nan is not equal to nan


def test_settings_of_an_evaluation_are_checked_alike(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(parameters_of("localizer")["localizer"]))
    with pytest.raises(ConfigError, match=r"'sequence.least_probability' is gone") as error:
        from_yaml(LocalizerConfig, file)
    assert "'prior.outlier_share' is gone" in str(error.value)


def test_a_node_that_gets_a_parameter_file_of_0_1_ends_with_all_their_names(tmp_path):
    pytest.importorskip("rclpy")
    from support.node_process import NodeProcess

    extra = ("--params-file", str(DATA / "parameters.yaml"))
    process = NodeProcess("localizer.node", tmp_path / "log", {}, *extra)
    assert process.wait() == 1
    for name in gone(LocalizerNodeConfig, parameters_of("localizer")):
        assert f"setting '{name}' is gone since 0.2" in process.log
    assert "Traceback" not in process.log
