# SPDX-License-Identifier: Apache-2.0
"""Faults of data sets and bags that are converted into each other."""

from __future__ import annotations

import re

import pytest
from support.data import write_dataset

from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.errors import BagError

IMAGES = "/camera/front/image_raw"
BROKEN = {
    "empty": (lambda data: b"", "is empty \\(0 bytes\\)"),
    "cut off": (lambda data: data[:-100], "is a truncated PNG"),
    "no image": (lambda data: b"hello", "is neither JPEG, PNG nor WebP"),
}


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data", 4)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_image_does_not_get_into_a_bag_and_is_counted(data, tmp_path, caplog, fault, raw):
    change, words = BROKEN[fault]
    path = data.path(data.records[2])
    path.write_bytes(change(path.read_bytes()))
    assert dataset_to_bag(data, tmp_path / "bag", raw=raw, show_progress=False) == 3
    with BagReader(tmp_path / "bag") as bag:
        topics = bag.topics()
    assert topics[IMAGES if raw else f"{IMAGES}/compressed"].count == 3
    assert topics["/camera/front/camera_info"].count == 3
    assert str(path) in caplog.text and "1 of 4 images are left out" in caplog.text
    assert re.search(words, caplog.text)


def test_a_data_set_without_a_sound_image_makes_no_bag(data, tmp_path):
    for record in data.records:
        data.path(record).write_bytes(b"")
    with pytest.raises(BagError, match="data: none of 4 images can be read"):
        dataset_to_bag(data, tmp_path / "bag", show_progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
