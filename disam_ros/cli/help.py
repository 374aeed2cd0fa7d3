# SPDX-License-Identifier: Apache-2.0
"""Help and error texts of the commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, NoReturn

from disam_ros.files.paths import expand


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, with exit status 2.

    `~` is expanded in every value, also in `--map=~/map`, which shells leave as it is. `-1e-3` is
    a value, not an option, as in Python 3.14.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, expand)  # the default type of arguments
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
        self.fill: Callable[[Parser], None] | None = None  # adds the arguments when first needed

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Declares arguments that wait for it (`fill`), and parses."""
        fill, self.fill = self.fill, None
        if fill:
            fill(self)
        return super().parse_known_args(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    run: Callable[[argparse.Namespace], int | None] | None,
    text: str,
) -> Parser:
    """Adds a command. run: None for one that has commands of its own."""
    command = commands.add_parser(name, help=text, description=text, formatter_class=HelpFormatter)
    command.set_defaults(run=run)
    return command


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to an option's help unless it is empty or named there already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, "", [], ()) or action.default is False
        if silent or "default:" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class Version(argparse.Action):
    """Prints the version. Finding it takes as long as everything else that --help needs."""

    def __init__(self, option_strings: list[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import disam_ros

        print(f"disam_ros {disam_ros.__version__}")
        parser.exit()
