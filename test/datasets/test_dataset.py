# SPDX-License-Identifier: Apache-2.0

import numpy as np
from support.data import CAMERA, camera_pose, write_dataset

from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
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


def test_an_image_may_lack_a_pose(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetInfo("n", {"front": CAMERA})) as writer:
        writer.add(b"x", 1, "front", "day", None)
    assert Dataset(tmp_path / "set").records[0].map_from_camera is None


def test_poses_of_utm_or_of_the_whole_earth_keep_millimetres(tmp_path):
    places = [(458074.604, 5429380.172, 312.001), (-2694044.411, -4297222.33, 3854607.873)]
    with DatasetWriter(tmp_path / "data", DatasetInfo("test", {"front": CAMERA})) as writer:
        for number, place in enumerate(places):
            pose = Transform(np.array(place), np.array([0.0, 0.0, 0.6, 0.8]))
            writer.add(b"", number, "front", "day", pose)
    records = Dataset(tmp_path / "data").records
    assert [tuple(r.map_from_camera.translation) for r in records] == places
