# SPDX-License-Identifier: Apache-2.0
"""The command that demonstrates the package on drives that come with it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from disam_ros.cli.arguments import add, number
from disam_ros.cli.view import HOST, PORT, add_page
from disam_ros.errors import ConfigError
from disam_ros.nodes import require_middleware


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the demonstration."""
    text = "map a rendered summer drive and localize a winter and a night drive with the node"
    demo = command("demo", demo_command, text)
    text = "images per second sent to the node [Hz]"
    add(demo, "--rate", text, number(0.1, 1000.0), default=5.0)
    text = "directory to write; what an earlier run wrote there is replaced"
    add(demo, "--output", text, default="demo_output")
    text = "show the night drive on a web page instead, again and again, until Ctrl-C"
    add(demo, "--live", text, bool)
    add_page(demo.add_argument_group("with --live"))


def demo_command(arguments: argparse.Namespace) -> None:
    if not arguments.live and (arguments.host, arguments.port) != (HOST, PORT):
        raise ConfigError("--host and --port are of the page that --live shows: add it")
    require_middleware()
    output = Path(arguments.output)
    if arguments.live:
        from disam_ros.demo.live import show

        show(output, arguments.rate, arguments.host, arguments.port)
    else:
        from disam_ros.demo.run import run

        log = logging.getLogger("disam_ros")
        level = log.level
        log.setLevel(logging.WARNING)  # its tables alone
        try:
            run(output, arguments.rate)
        finally:
            log.setLevel(level)
