# SPDX-License-Identifier: Apache-2.0
"""The command that shows a running localizer in the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from disam_ros.cli.arguments import add, add_shared
from disam_ros.nodes import require_middleware


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command that prints to the terminal."""
    text = "show what a running localizer says, until Ctrl-C"
    watching = command("watch", watch_command, text)
    add_shared(watching, "--node")
    add(watching, "--json", "print the answer to each image as a line of JSON", bool)


def watch_command(arguments: argparse.Namespace) -> None:
    """Prints until Ctrl-C, or until nobody reads it any more, as in `disam watch | head`."""
    require_middleware()
    from disam_ros.nodes.watch import watch

    try:
        watch(arguments.node, as_json=arguments.json)
    except BrokenPipeError:  # what is in the buffer shall not fail again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
