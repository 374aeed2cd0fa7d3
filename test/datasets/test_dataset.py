# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from support.data import CAMERA, camera_pose, write_dataset

from disam_ros.camera import Camera
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.errors import DatasetError, OutputError
from disam_ros.geometry import Transform


def test_a_written_dataset_is_read_back_whole(tmp_path):
    written = write_dataset(tmp_path / "set", 3, cameras=("left", "right"))
    dataset = Dataset(tmp_path / "set")
    assert dataset.records == written.records and len(dataset) == 6
    record = dataset.records[4]
    assert (record.camera, record.domain, record.stamp_ns) == ("left", "day", 3_000_000_000)
    assert np.allclose(record.map_from_camera.translation, camera_pose(2).translation)
    assert dataset.path(record).is_file()
    assert dataset.info.cameras["left"].fx == CAMERA.fx


def test_extrinsics_survive_json():
    camera = Camera(
        1, 2, 3, 4, 5, 6, (0.1, 0.2, 0.0, 0.0), Transform.from_xyz_rpy([1, 2, 3, 0.1, 0.2, 0.3])
    )
    again = Camera.from_json(json.loads(json.dumps(camera.to_json())))
    assert np.allclose(again.base_from_camera.quaternion, camera.base_from_camera.quaternion)
    assert again.distortion == camera.distortion


def test_an_image_may_lack_a_pose(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetInfo("n", {"front": CAMERA})) as writer:
        writer.add(b"x", 1, "front", "day", None)
    assert Dataset(tmp_path / "set").records[0].map_from_camera is None


def test_a_writer_that_fails_leaves_nothing_loadable(tmp_path):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "s", DatasetInfo("n", {})) as writer:
        writer.add(b"x", 1, "front", "day", None)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_never_overwritten(tmp_path):
    write_dataset(tmp_path / "set", 1)
    with pytest.raises(OutputError, match="exists"):
        write_dataset(tmp_path / "set", 1)


def test_a_malformed_line_is_named(tmp_path):
    write_dataset(tmp_path / "set", 2)
    path = tmp_path / "set" / "images.csv"
    path.write_text(path.read_text().replace("2000000000,", "noon,"))
    with pytest.raises(DatasetError, match=r"images\.csv line 3"):
        Dataset(tmp_path / "set")


@pytest.mark.parametrize("change", [{"format_version": 9}, {"cameras": {"front": {}}}, {"odd": 1}])
def test_a_header_that_does_not_fit_is_refused(tmp_path, change):
    write_dataset(tmp_path / "set", 1)
    path = tmp_path / "set" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        Dataset(tmp_path / "set")
