# SPDX-License-Identifier: Apache-2.0
"""Arrays of a map in use: what is read is what was opened, or an error."""

import os

import numpy as np
import pytest

from disam_ros.errors import MapError
from disam_ros.files.reading import HeldFile
from disam_ros.mapping.rows import Rows

ARRAY = np.arange(60, dtype=np.int16).reshape(10, 3, 2)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "array.npy", ARRAY)
    return tmp_path / "array.npy"


@pytest.fixture
def rows(path):
    return Rows(HeldFile(path, MapError))


@pytest.mark.parametrize(
    "index", [0, -1, slice(None), slice(2, 5), slice(8, 99), slice(0, 9, 2), [7, 1, 1], []]
)
def test_rows_are_those_of_the_array(rows, index):
    index = np.array(index, np.int64) if isinstance(index, list) else index
    found = rows[index]
    assert found.dtype == ARRAY.dtype and np.array_equal(found, ARRAY[index])
    assert (len(rows), rows.shape, rows.nbytes) == (10, (10, 3, 2), 120)


def test_a_row_beyond_the_last_is_an_index_error(rows):
    for index in (10, np.array([3, 10])):
        with pytest.raises(IndexError):
            rows[index]


@pytest.mark.parametrize("index", [0, slice(None), np.array([9])])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, 140),
        lambda path: path.write_bytes(b"x" * path.stat().st_size),
        lambda path: path.open("ab").write(b"more"),
    ],
    ids=["emptied", "cut off", "overwritten", "grown"],
)
def test_a_file_that_is_changed_in_place_is_an_error_that_names_it(rows, path, index, change):
    os.utime(path, ns=(0, 0))
    rows = Rows(HeldFile(path, MapError))
    change(path)
    with pytest.raises(MapError, match=r"array\.npy was changed while in use"):
        rows[index]


def test_a_file_that_is_replaced_or_removed_stays_what_it_was(rows, path, tmp_path):
    np.save(tmp_path / "new.npy", ARRAY + 1)
    (tmp_path / "new.npy").replace(path)
    assert np.array_equal(rows[:], ARRAY)
    path.unlink()
    assert np.array_equal(rows[3], ARRAY[3])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no array",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': 1}    \n",
        b"\x93NUMPY\x09\x09",
    ],
)
def test_a_file_that_is_no_array_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(MapError, match=r"a\.npy is damaged"):
        Rows(HeldFile(tmp_path / "a.npy", MapError))


@pytest.mark.parametrize(
    "array", [np.array([{"a": 1}], object), np.array(1.0), np.asfortranarray(np.eye(3)[:2])]
)
def test_objects_scalars_and_other_orders_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(MapError, match="expected rows of numbers"):
        Rows(HeldFile(tmp_path / "a.npy", MapError))
