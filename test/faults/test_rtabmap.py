# SPDX-License-Identifier: Apache-2.0
"""Databases that are programs: views without end, columns that compute, rows and values without
number."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from support.rtabmap import MODEL, save_rtabmap

from disam_ros.datasets.formats.rtabmap import Rtabmap
from disam_ros.errors import DatasetError, ImageError

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS {} FROM n"


def changed(path: Path, *statements: str) -> Path:
    with sqlite3.connect(save_rtabmap(path)) as made:
        for statement in statements:
            made.execute(statement)
    made.close()
    return path


def view(table: str, select: str) -> tuple[str, ...]:
    return f"ALTER TABLE {table} RENAME TO old", f"CREATE VIEW {table} AS {select}"


MANY = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000) SELECT"
HOSTILE = {
    "an endless view of nodes": view("Node", f"{ENDLESS.format('id')}"),
    "an endless view of the version": view("Admin", ENDLESS.format("version")),
    "a view that sorts without end": view("Node", f"{ENDLESS.format('id')} ORDER BY 1"),
    "a virtual table": ("DROP TABLE Node", "CREATE VIRTUAL TABLE Node USING fts5(id, stamp)"),
    "a computed column": (
        "DROP TABLE Node",
        "CREATE TABLE Node (id INTEGER, stamp AS (zeroblob(1000000000)))",
        "INSERT INTO Node VALUES (1)",
    ),
    "many nodes of one id": (f"INSERT INTO Node {MANY} 1, 1.7e9 FROM n",),
    "a calibration of a gigabyte": ("UPDATE Data SET calibration = zeroblob(100000000)",),
    "a calibration that is a text": ("UPDATE Data SET calibration = 'text'",),
    "a thousand cameras": (
        f"UPDATE Data SET calibration = CAST(replace(hex(zeroblob(1000)), '00', x'{MODEL.hex()}')"
        " AS BLOB)",
    ),
    "poses that are a text": ("UPDATE Admin SET opt_ids = 'text of sixteen and more letters'",),
    "an id that is a text": ("UPDATE Node SET id = 'x'",),
    "a version that is no UTF-8": ("UPDATE Admin SET version = CAST(x'ff' AS TEXT)",),
    "no row": ("DELETE FROM Admin",),
    "no rowid": (
        "DROP TABLE Data",
        "CREATE TABLE Data (id INTEGER PRIMARY KEY, image BLOB, calibration BLOB) WITHOUT ROWID",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_database_is_refused(name, tmp_path):
    path = changed(tmp_path / "rtabmap.db", *HOSTILE[name])
    with pytest.raises(DatasetError, match=r"rtabmap\.db"):
        Rtabmap("day").read(path)


@pytest.mark.parametrize("value", ["7", "'text'", "NULL"])
def test_an_image_that_is_replaced_while_it_is_read_is_left_out(value, tmp_path):
    path = save_rtabmap(tmp_path / "rtabmap.db")
    drive = Rtabmap("day").read(path)
    assert drive.pixels(drive.images[0]).shape == (48, 64, 3)
    with sqlite3.connect(path) as made:
        made.execute(f"UPDATE Data SET image = {value}")
    made.close()
    with pytest.raises(ImageError, match="expected bytes"):
        drive.pixels(drive.images[0])
