# SPDX-License-Identifier: Apache-2.0
"""The command that shows a running localizer on a web page."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from disam_ros.cli.arguments import add, add_shared, whole
from disam_ros.cli.outputs import add_overwrite
from disam_ros.files.outputs import FILE
from disam_ros.nodes import require_middleware

HOST, PORT = "127.0.0.1", 8087  # of the page


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command that serves a web page."""
    text = "show a running localizer on a web page, until Ctrl-C"
    viewing = command("view", view_command, text)
    add_shared(viewing, "--node")
    add_page(viewing)
    text = "GIF to write at the end: camera image, map image and the map from above"
    add(viewing, "--record", text, metavar="FILE.gif")
    add_overwrite(viewing, lambda a: {Path(a.record): FILE} if a.record else {})


def add_page(command: argparse._ActionsContainer) -> None:
    """Adds the options of a command or a group that serves a page."""
    text = "address to serve on; 0.0.0.0: to the whole network"
    add(command, "--host", text, default=HOST)
    add(command, "--port", "port to serve on; 0: a free one", whole(0, 65535), default=PORT)


def view_command(arguments: argparse.Namespace) -> None:
    require_middleware()
    from disam_ros.nodes.view.view import view

    view(arguments.node, arguments.host, arguments.port, arguments.record)
