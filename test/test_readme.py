# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import pytest

from disam_ros.cli import main
from disam_ros.config import LocalizerNodeConfig
from disam_ros.settings import markdown_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PARAMETERS = (ROOT / "docs/parameters.md").read_text()


def test_the_parameter_table_is_the_one_the_command_prints():
    assert markdown_table(LocalizerNodeConfig) in PARAMETERS


def test_the_parameters_that_the_readme_names_first_exist_with_these_defaults():
    section = README[README.index("### Parameters") : README.index("**Raw images")]
    told = re.findall(r"^\| (`[a-z].*?) \| (.*?) \|", section, re.MULTILINE)
    assert len(told) > 4
    for names, defaults in told:
        for name, default in zip(names.split(", "), defaults.split(", "), strict=True):
            assert f"| {name} | {default.strip()} |" in PARAMETERS


def test_every_command_in_the_readme_exists(capsys):
    for name in set(re.findall(r"`?(?:\.venv/bin/)?disam ([a-z-]+)", README)):
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0, name


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
