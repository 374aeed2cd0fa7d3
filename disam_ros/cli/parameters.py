# SPDX-License-Identifier: Apache-2.0
"""Parameters of the nodes: the page docs/parameters.md, from the settings themselves."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from disam_ros.node_config import (
    LocalizerNodeConfig,
    MapBuilderNodeConfig,
)
from disam_ros.settings import parameter_rows

NODES = {
    "localizer": LocalizerNodeConfig,
    "map_builder": MapBuilderNodeConfig,
}

INTRODUCTION = """\
# Parameters

`disam parameters > docs/parameters.md` writes this page from
[config.py](../disam_ros/config.py) and [node_config.py](../disam_ros/node_config.py).

An unknown parameter, a wrong type and a value out of range are errors that name the parameter.
Some [may change while the localizer runs](ros.md#parameters). Without their prefixes, the keys
under `localizer.` are those of the file for `disam evaluate --config`, the keys under `builder.`
those for `disam build-map --config`. Units are in brackets.
"""


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command that prints parameters."""
    text = "print the parameters of a node, or of all nodes as docs/parameters.md"
    parameters = command("parameters", parameters_command, text)
    parameters.add_argument("node", nargs="?", choices=tuple(NODES), help="node; default: all")


def parameters_command(arguments: argparse.Namespace) -> None:
    print(parameter_table(arguments.node) if arguments.node else parameter_page(), end="")


def parameter_table(node: str) -> str:
    """Formats the parameters of a node as a Markdown table."""
    head = ["| name | default | range | description |", "|---|---|---|---|"]
    return "\n".join([*head, *parameter_rows(NODES[node]), ""])


def parameter_page() -> str:
    """Formats the page of all parameters."""
    return "\n".join([INTRODUCTION, *(f"## {node}\n\n{parameter_table(node)}" for node in NODES)])
