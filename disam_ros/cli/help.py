# SPDX-License-Identifier: Apache-2.0
"""Help and error texts of the commands."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from disam_ros.files.paths import expand
from disam_ros.files.printable import printable


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, with the nearest right one, and exit status 2.

    `~` is expanded in every value, also in `--map=~/map`, which shells leave as it is. `-1e-3` is
    a value, not an option, as in Python 3.14.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, expand)  # the default type of arguments
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
        self.fill: Callable[[Parser], None] | None = None  # adds the arguments when first needed

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Declares arguments that wait for it (`fill`), and parses."""
        self.declare(())
        words = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown(words)
        return super().parse_known_args(words, namespace)

    def declare(self, words: Collection[str]) -> None:
        """Declares the arguments that wait for it, also those of the commands among `words`."""
        fill, self.fill = self.fill, None
        if fill:
            fill(self)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word in words:
                    if word in action.choices:
                        action.choices[word].declare(words)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Reports the first unknown option or command, before anything else that it makes wrong."""
        actions = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        for word in words:
            name = word.partition("=")[0]
            if word == "--":
                return
            if not word.startswith("-") and actions:  # what follows is the command's own
                commands = actions[0].choices
                if word not in commands:
                    self.error(f"unknown command '{word}'{_nearest(word, commands)}")
                return
            options = self._option_string_actions
            if name.startswith("--") and not any(option.startswith(name) for option in options):
                self.error(f"unknown option '{name}'{_nearest(name, options)}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def _nearest(word: str, names: Collection[str]) -> str:
    """Asks whether the nearest of the names was meant; empty where none is near."""
    near = get_close_matches(word, names, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


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
