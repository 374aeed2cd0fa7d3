# SPDX-License-Identifier: Apache-2.0
"""The command that shows a running localizer on a web page."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from disam_ros.cli.arguments import add, add_shared, whole
from disam_ros.nodes import require_middleware


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command that serves a web page."""
    text = "show a running localizer on a web page, until Ctrl-C"
    viewing = command("view", view_command, text)
    add_shared(viewing, "--node")
    add_page(viewing)


def add_page(command: argparse.ArgumentParser) -> None:
    """Adds the options of a command that serves a page."""
    text = "address to serve on; 0.0.0.0: to the whole network"
    add(command, "--host", text, default="127.0.0.1")
    add(command, "--port", "port to serve on; 0: a free one", whole(0, 65535), default=8087)


def view_command(arguments: argparse.Namespace) -> None:
    require_middleware()
    from disam_ros.nodes.view.view import view

    view(arguments.node, arguments.host, arguments.port)
