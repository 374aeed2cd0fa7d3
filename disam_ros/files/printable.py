# SPDX-License-Identifier: Apache-2.0
"""Text for a terminal: what a file or a message says shall not steer it."""

from __future__ import annotations

import logging

LONGEST = 10_000  # characters of a line that are shown


def printable(text: str) -> str:
    r"""Escapes control characters and bytes that are no text, as in `\x1b`; line breaks, too.

    The middle of what is longer than LONGEST, such as a name of a megabyte, is left out.
    """
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Prints lines."""
    print("\n".join(map(printable, text.split("\n"))))


class PrintableFormatter(logging.Formatter):
    """Formats log records in one printable line each, but for tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Shows log records of a level and above on stderr, unless a handler is there."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
