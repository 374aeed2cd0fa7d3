# SPDX-License-Identifier: Apache-2.0
"""Help and error texts of the commands."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to an option's help unless it is empty or named there already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, "", []) or action.default is False
        if silent or "default:" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)
