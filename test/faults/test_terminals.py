# SPDX-License-Identifier: Apache-2.0
"""What commands print: to closed streams and ASCII terminals, with names of any bytes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import COMMANDS

from disam_ros.cli import main, report
from disam_ros.files.printable import PrintableFormatter, printable

START = [sys.executable, "-m", "disam_ros.entry", "disam"]
STEERING = "town\x1b[2J\x07\x9b31m\u202e"  # clears the terminal, rings, colours, turns text round


def run(line: list[str | bytes], redirect: str = "", **environment: str) -> tuple[int, bytes]:
    """Status of a command and all that it prints."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", *START, *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, done.stdout


@given(st.text())
def test_printable_text_has_no_control_characters_and_other_text_stays(text):
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()
    assert printable(printable(text)) == printable(text)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["--help", "map info {w}/map", "parameters"])
def test_an_ascii_terminal_is_no_fault(inputs, line):
    words = line.format(w=inputs).split()
    status, text = run(words, LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert status == 0 and b"Traceback" not in text and text.isascii()


@pytest.mark.slow
@pytest.mark.parametrize("redirect", ["2>&-", ">&- 2>&- <&-"])
def test_a_stream_that_is_closed_is_no_fault_and_gets_into_no_file(inputs, tmp_path, redirect):
    status, text = run(COMMANDS["localize"].line(inputs, tmp_path / "out.csv"), redirect)
    assert status == 0 and b"Traceback" not in text and b"ignored" not in text
    header, *rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 12 and {row.count(",") for row in rows} == {header.count(",")}


@pytest.mark.slow
def test_an_image_whose_name_is_no_text_is_answered(inputs, tmp_path):
    image = next((inputs / "data").rglob("*.jpg"))
    name = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    shutil.copy(image, name)
    shutil.copy(inputs / "data" / "dataset.json", tmp_path)
    line = f"localize --map {inputs}/map --model {inputs}/model --output {tmp_path}/out.csv"
    status, text = run([*line.split(), name])
    assert b"Traceback" not in text, text
    if status == 0:
        assert "\\udcff\\udcfe.jpg" in (tmp_path / "out.csv").read_text()
    else:
        assert b"\\udcff" in text


@pytest.mark.slow
@pytest.mark.parametrize("command", ["build-map", "to-bag"])
def test_an_output_whose_name_is_no_text_is_written(inputs, tmp_path, command):
    target = tmp_path / os.fsdecode(b"out\xff")
    status, text = run(list(map(os.fsencode, COMMANDS[command].line(inputs, target))))
    assert status == 0 and b"Traceback" not in text, text
    assert target.exists()


def test_the_last_line_of_a_command_does_not_steer_the_terminal(capsys):
    assert report(1, f"{STEERING} is no map") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable() and "\\x1b[2J" in line


def test_wrong_options_do_not_steer_the_terminal(capsys):
    with pytest.raises(SystemExit):
        main([STEERING])
    assert capsys.readouterr().err.rstrip("\n").isprintable()


def test_a_line_of_the_log_does_not_steer_the_terminal():
    record = logging.LogRecord("disam_ros", 30, "", 0, "frame %s", (STEERING,), None)
    assert PrintableFormatter("%(levelname)s %(message)s").format(record).isprintable()


@pytest.mark.parametrize("kind", ["info", "info --json", "export --format kml"])
def test_what_a_map_says_does_not_steer_the_terminal_nor_break_a_format(
    inputs, tmp_path, capsys, kind
):
    from xml.etree import ElementTree

    shutil.copytree(inputs / "map", tmp_path / "map")
    path = tmp_path / "map" / "map.json"
    values = json.loads(path.read_text())
    values["model_name"] = values["map_frame"] = STEERING
    values |= {"latitude": 49.0, "longitude": 8.4}
    values["history"] = [{"operation": STEERING, "maps": [{"name": STEERING}], "settings": {}}]
    path.write_text(json.dumps(values))
    words = f"map {kind} {tmp_path}/map".split()
    if "kml" in kind:
        words += ["--output", str(tmp_path / "out.kml")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in (printed.out + printed.err).splitlines())
    if (tmp_path / "out.kml").exists():
        ElementTree.parse(tmp_path / "out.kml")


@pytest.mark.slow
def test_names_of_drives_do_not_steer_the_terminal_nor_the_tables(inputs, tmp_path, capsys):
    drive = tmp_path / f"[:car:] {STEERING}"
    shutil.copytree(inputs / "data", drive)
    options = f"--map {inputs}/map --model {inputs}/model --output".split()
    capsys.readouterr()
    assert main(["evaluate", str(drive), *options, str(tmp_path / "a")]) == 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in (printed.out + printed.err).splitlines())
    assert "[:car:] town\\x1b[2J" in printed.out


def test_of_a_line_of_a_megabyte_the_middle_is_left_out():
    shown = printable("a" * 600_000 + "b" * 400_000)
    assert shown.startswith("aaa") and shown.endswith("bbb") and " 990000 characters " in shown
    assert len(shown) < 11_000 and printable("a" * 9_000) == "a" * 9_000
