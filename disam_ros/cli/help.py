# SPDX-License-Identifier: Apache-2.0
"""Help texts of the commands: defaults are shown where they say something."""

from __future__ import annotations

import argparse


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to an option's help unless it is empty or named there already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, "", []) or action.default is False
        if silent or "default:" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)
