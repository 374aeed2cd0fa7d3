# SPDX-License-Identifier: Apache-2.0
"""Maps, models, drives and bags of disam_ros: build, localize, evaluate, train, convert."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from disam_ros.cli import bags, data, evaluation, maps, models, parameters
from disam_ros.cli.help import HelpFormatter, Parser
from disam_ros.errors import DisamError

GROUPS = (maps, evaluation, models, bags, parameters, data)  # in the order of the help


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 after an error, 130 when interrupted.

    Wrong arguments end the process with exit status 2.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except DisamError as error:
        print(f"disam: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("disam: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="disam", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=HelpFormatter)
        sub.set_defaults(run=run)
        return sub

    for group in GROUPS:
        group.add_commands(command)
    return parser
