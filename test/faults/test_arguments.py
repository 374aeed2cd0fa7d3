# SPDX-License-Identifier: Apache-2.0
"""Arguments of commands that cannot be: refused by range, before any work."""

from __future__ import annotations

import pytest

from disam_ros.cli import main

ARGUMENTS = [
    ("localize a.jpg --map m --model m --candidates 0", "from 1 to 1000, got '0'"),
    ("localize a.jpg --map m --model m --candidates -3", "from 1 to 1000, got '-3'"),
    ("localize a.jpg --map m --model m --candidates 2.5", "a whole number from 1 to 1000"),
    ("localize a.jpg --map m --model m --weather raspberry", "raspberry"),
    ("localize a.jpg --map m --model m --max-megapixels nan", "a number from 0.001 to 1000"),
    ("build-map --dataset d --model m --output o --keyframe-distance nan", "a number from 0 to"),
    ("build-map --dataset d --model m --output o --keyframe-distance -1", "a number from 0 to"),
    ("build-map --dataset d --model m --output o --keypoints -5", "from 0 to 4096, got '-5'"),
    ("build-map --dataset d --model m --output o --keypoints 999999", "from 0 to 4096"),
    ("evaluate d --map m --model m --weather raspberry", "raspberry"),
    ("evaluate d --map m --model m --threshold inf 2", "got 'inf'"),
    ("evaluate d --map m --model m --threshold -1 2", "got '-1'"),
    ("evaluate d --map m --model m --recall-distance nan", "got 'nan'"),
    ("evaluate d --map m --model m --distances 5 .nan", "got '.nan'"),
    ("evaluate d --map m --model m --rate -1", "got '-1'"),
    ("extract --bag b --output o --domain d --keyframe-angle 1e9", "from 0 to 360, got '1e9'"),
    ("extract --bag b --output o --domain d --depth-gap nan", "got 'nan'"),
    ("to-bag --dataset d --output o --weather raspberry", "raspberry"),
    ("replay b --rate inf", "got 'inf'"),
    ("replay b --start-delay 1e300", "from 0 to 3600, got '1e300'"),
    ("synth --output o --seed -1", "from 0 to 4294967295, got '-1'"),
    ("synth --output o --width 0", "from 16 to 8192, got '0'"),
    ("synth --output o --spacing 0", "from 0.01 to"),
    ("synth --output o --resolution nan", "got 'nan'"),
    ("aerial --tiles t --poses p --output o --metres -80", "got '-80'"),
    ("aerial --tiles t --poses p --output o --fov 361", "from 0 to 360, got '361'"),
    ("convert tum --input i --output o --domain d --max-gap nan", "got 'nan'"),
    ("convert cmu-seasons --input i --output o --slice -2", "got '-2'"),
    ("create-model --domains day --output o --seed 1e3", "a whole number from 0 to"),
    (
        "import-model f --name n --licence MIT --input 0x9 --mean 0 0 0 --std 1 1 1 --output o",
        "'0'",
    ),
    (
        "import-model f --name n --licence MIT --input 9x9 --mean nan 0 0 --std 1 1 1 --output o",
        "nan",
    ),
    ("import-checkpoint --coarse c --domains day --output o --image-size -1 256", "got '-1'"),
    ("calibrate d --map m --model m --accuracy nan 1", "got 'nan'"),
]


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_an_argument_that_cannot_be_is_refused_in_one_line_with_status_2(
    number, capsys, tmp_path, monkeypatch
):
    line, words = ARGUMENTS[number]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and words in error
    assert error.startswith(f"disam {line.split()[0]}") and not list(tmp_path.iterdir())
