# SPDX-License-Identifier: Apache-2.0
"""Faults of YAML files: what is injected, where, what must be seen."""

from __future__ import annotations

import math
import os

import pytest

from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.bags.reader import BagReader
from disam_ros.domains.domain import load_rules
from disam_ros.errors import BagError, ConfigError, DomainError
from disam_ros.files.yaml_files import MAX_BYTES, parse_yaml, read_yaml
from disam_ros.settings import from_yaml
from training.recipes import load_config

BOMB = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FAULTS = {
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3: 'a' stands twice, first in line 1"),
    "a key twice below": ("x: {a: 1,\n a: 2}\n", "line 2: 'a' stands twice, first in line 1"),
    "a billion values": (BOMB, "line 5: expected at most 65536 values, with aliases"),
    "a billion merges": (MERGES, "expected at most 65536 values, with aliases"),
    "an alias in its anchor": ("a: &a [*a]", "line 1: '[*]a' stands inside of its own anchor"),
    "an alias of nothing": ("a: *b", "undefined alias 'b' in line 1"),
    "deep lists": ("[" * 5000, "line 1: expected at most 32 levels"),
    "an object": ("a: !!python/object/apply:exec.of.a.system []", "got the tag '.*em'"),
    "an own tag": ("a:\n  - !robot {}", "line 2: expected numbers, words.*got the tag '!robot'"),
    "a set": ("!!set {a}", "got the tag '!!set', put texts in quotes"),
    "a date": ("a: 2025-07-14", "got the tag '!!timestamp', put texts in quotes"),
    "no number": ("a: !!int x", "line 1: expected a value of '!!int', got 'x'"),
    "digits without end": ("a: " + "9" * 5000, "expected a value of '!!int', got '9999"),
    "a list as a key": ("? [a]\n: 1", "unhashable key in line 1"),
    "two documents": ("--- 1\n--- 2\n", "another document in line 2"),
    "an open list": ("a: [", "is not valid YAML: .* in line 1; expected numbers, words"),
    "tabs": ("a: b\n\t- c", r"is not valid YAML: .* in line 2"),
    "control characters": ("a: \0", "is not valid YAML.*save it as UTF-8 text"),
    "too much": ("#" * (MAX_BYTES + 1), "has more than 0.25 MiB"),
}
READERS = {
    "settings": (lambda path: from_yaml(LocalizerConfig, path), ConfigError),
    "recipe": (load_config, ConfigError),
    "rules": (load_rules, DomainError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_one_line_with_file_and_line_or_key(tmp_path, fault):
    text, words = FAULTS[fault]
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"^\S*file\.yaml.*{words}") as caught:
        read_yaml(path, ConfigError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_cannot_be_read_is_named(tmp_path, reader):
    read, error = READERS[reader]
    (tmp_path / "twice.yaml").write_text("a: 1\na: 2\n")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4\xff")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, words in (
        ("twice.yaml", "'a' stands twice"),
        ("latin.yaml", "save it as UTF-8"),
        ("pipe.yaml", "no regular file"),
        ("none.yaml", "cannot be read: No such file"),
        ("", "no regular file"),
    ):
        with pytest.raises(error, match=rf"{name}.*{words}"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"keyframe_distance: {10**400}", "'keyframe_distance' expects a finite number, .*; got 1"),
        ("7: 1", "unknown name '7'"),
        ("false", r"expected an object \(key: value pairs\); got False"),
        (f"domain: {[0] * 9999}", r"'domain' expects a text .*; got \[0, 0, 0, 0, 0, 0, \.\.\.\]"),
    ],
)
def test_settings_that_cannot_be_are_named_in_few_words(tmp_path, text, words):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"file\.yaml: .*{words}"):
        from_yaml(MapBuilderConfig, path)


def test_a_number_that_may_be_unset_may_be_nan(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("domain: {latitude: .nan}\n")
    assert math.isnan(from_yaml(LocalizerConfig, path).domain.latitude)


def test_anchors_and_merges_of_a_sound_file_are_read():
    text = b"base: &base {a: 1, b: [x, 2.5, null, true]}\nmore: {<<: *base, a: 2}\nsame: *base\n"
    base = {"a": 1, "b": ["x", 2.5, None, True]}
    assert parse_yaml(text, "here", ConfigError) == {
        "base": base,
        "more": {**base, "a": 2},
        "same": base,
    }
    assert parse_yaml(b"", "here", ConfigError) is None


@pytest.mark.parametrize("fault", ["a billion merges", "a key twice"])
def test_the_metadata_of_a_bag_have_the_same_limits(tmp_path, fault):
    text, words = FAULTS[fault]
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(BagError, match=words.replace("65536", "2097152")):
        BagReader(tmp_path)
