# SPDX-License-Identifier: Apache-2.0
"""Domain rules: tags by domain name, from the packaged domains.yaml and a user's own file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from disam_ros.domains.domain import Domain
from disam_ros.errors import DomainError
from disam_ros.files.checking import unknown_name
from disam_ros.files.yaml_files import parse_yaml, read_yaml


def load_rules(path: Path | str | None = None) -> dict[str, Domain]:
    """Load the packaged rules by name; a user's YAML file adds to them or replaces entries.

    Raises DomainError naming the file, the entry and what was expected.
    """
    packaged = resources.files("disam_ros.domains").joinpath("domains.yaml").read_bytes()
    rules = _rules_of(parse_yaml(packaged, "domains.yaml", DomainError), "domains.yaml")
    if path is not None:
        rules |= _rules_of(read_yaml(path, DomainError), str(path))
    return rules


def _rules_of(entries: Any, where: str) -> dict[str, Domain]:
    """Build rules. Raises DomainError, naming `where` and the entry."""
    if not isinstance(entries, dict):
        raise DomainError(f"{where}: expected 'name: {{tags}}' entries; got {brief(entries)}")
    rules = {}
    for name, tags in entries.items():
        if not isinstance(tags, dict) or "name" in tags:
            raise DomainError(f"{where}: '{name}' expects tags ({{}}: none); got {brief(tags)}")
        try:
            rules[name] = Domain.from_json({**tags, "name": name})
        except DomainError as error:
            raise DomainError(f"{where}: {error}") from error
    return rules


def domains_named(names: Iterable[str], rules: Mapping[str, Domain]) -> list[Domain]:
    """Pick rules by name, in order. Raises DomainError for a name without a rule."""
    names = list(names)
    for name in names:
        if name not in rules:
            raise DomainError(
                f"domains: {unknown_name(name, rules)} To add one, write into a rules file "
                f"'{name}: {{sun_elevation: [6, 90], months: [6, 7, 8], weather: [clear, cloudy]}}'"
                ", or with {} as tags to fit everything"
            )
        if names.count(name) > 1:
            raise DomainError(
                f"domains: '{name}' is named {names.count(name)} times, expected once"
            )
    return [rules[name] for name in names]
