# SPDX-License-Identifier: Apache-2.0
"""Every command on every kind of path that is no input or output of it: one line, no traceback."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from disam_ros.cli import main

PATIENCE = 300  # until a command counts as hanging [s]
IN = {
    "build-map": "build-map --dataset @ --model @ --config @ --output !",
    "build-map of a bag": "build-map --bag @ --trajectory @ --model @ --output !",
    "localize": "localize --dataset @ --map @ --model @ --output !",
    "localize images": "localize @ --map @ --model @",
    "map info": "map info @",
    "map check": "map check @",
    "map prune": "map prune @ --output !",
    "map merge": "map merge @ @ --model @ --output !",
    "map extend": "map extend @ --dataset @ --model @ --output !",
    "map inspect": "map inspect @ --output !",
    "evaluate": "evaluate @ --map @ --model @ --map-images @ --output !",
    "compare": "compare @ @",
    "calibrate": "calibrate @ --map @ --model @",
    "export": "export --model @",
    "extract": "extract --bag @ --domain day --output !",
    "to-bag": "to-bag --dataset @ --output !",
    "import-checkpoint": "import-checkpoint --coarse @ --domains summer_day --output !",
    "aerial": "aerial --tiles @ --poses @ --metres 8 --output !",
    "submission": "submission --benchmark cmu-seasons --answers @ --dataset @ --output !",
    "train": "train --config @ --data @ --output !",
    "doctor": "doctor @",
    "convert tum": "convert tum --input @ --domain day --output !",
    "convert photos": "convert photos --input @ --domain day --output !",
    "convert video": "convert video --input @ --trajectory @ --domain day --output !",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> dict[str, str]:
    """Paths of which none is an input."""
    root = tmp_path_factory.mktemp("odd")
    for name in ("empty", "text", "bytes"):
        (root / name).touch()
    (root / "text").write_text("hello\n" * 9)
    (root / "bytes").write_bytes(bytes(range(256)) * 9)
    (root / "wide").write_bytes('{"format_version": 1}'.encode("utf-16"))
    (root / "folder").mkdir()
    for name, target in (("loop", "loop"), ("dangling", "nowhere"), ("self", ".")):
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
    (root / "esc\x1b[31m\nnew line").mkdir()
    names = {path.name: str(path) for path in root.iterdir()}
    names |= {"below a file": f"{root}/text/x", "no UTF-8": os.fsdecode(b"\xff\xfe")}
    names |= {"here": ".", "above": "..", "home": "~nobody_there/x"}
    return names | {"long": "/tmp/" + "x" * 5000, "null": "/dev/null", "zeros": "/dev/zero"}


@pytest.fixture(autouse=True)
def bounded(tmp_path, monkeypatch):
    """An empty working directory, and an end of waiting."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("path", [".", "..", "/", ""])
def test_a_directory_without_a_name_of_its_own_is_no_map(path, capfd):
    status, error = run(["map", "info", path], capfd)
    assert status == 1 and "map.json not found" in error


def run(words: list[str], capfd) -> tuple[int, str]:
    capfd.readouterr()
    try:
        status = main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    output = capfd.readouterr()
    clean = "Traceback" not in output.err and "\x1b" not in output.err + output.out
    assert clean, ascii(output)  # a report with bytes that are no UTF-8 ends pytest-xdist
    return status, output.err


@pytest.mark.parametrize("name", IN)
def test_no_odd_path_is_an_input(name, odd, tmp_path, capfd):
    for kind, path in odd.items():
        line = IN[name].replace("!", str(tmp_path / "output"))
        words = [path if word == "@" else word for word in line.split()]
        status, _ = run(words, capfd)
        assert status in (1, 2), (kind, status)
        assert not (tmp_path / "output").exists() and not list(Path().iterdir()), kind


@pytest.mark.parametrize(
    ("words", "state"),
    [([], "neither"), (["--dataset", ""], "neither"), (["a.jpg", "--dataset", "d"], "both")],
)
def test_images_or_a_dataset_are_localized_and_nothing_is_left_out_in_silence(words, state, capfd):
    status, error = run(["localize", *words, "--map", "m", "--model", "m"], capfd)
    assert status == 1 and f"expected image files or --dataset DIRECTORY, got {state}" in error
