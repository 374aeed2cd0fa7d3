# SPDX-License-Identifier: Apache-2.0
"""Maps, models, drives and bags of disam_ros: build, localize, evaluate, convert."""

from __future__ import annotations

import errno
import gc
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from disam_ros.entry import WORDS, signal_of
from disam_ros.errors import DisamError
from disam_ros.files.printable import log_to_stderr, printable
from disam_ros.files.writing import FULL, describe_fault

if TYPE_CHECKING:
    from disam_ros.cli.help import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status.

    It is 0, or 1 after an error, 130 when interrupted, 143 when terminated; wrong options end the
    process with 2. The last line on stderr names the fault.
    """
    log_to_stderr()
    logging.getLogger("disam_ros").setLevel(logging.INFO)  # of others, warnings
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it keeps no fonts
    try:
        return _run(argv)
    except KeyboardInterrupt as end:
        status, fault = of_signal(end)
    except DisamError as error:
        status, fault = 1, str(error)
    except OSError as error:
        status, fault = 1, _fault_of_system(error)
    except ModuleNotFoundError as error:
        status, fault = 1, _missing_package(error)
    except ImportError as error:
        status, fault = 1, _broken_package(error)
    except MemoryError as error:
        status, fault = 1, f"out of memory: {error}; free some, or raise its limit (ulimit -v)"
    return report(status, fault)


def of_signal(end: KeyboardInterrupt) -> tuple[int, str]:
    """Returns exit status and word of the signal that ended a command."""
    number = signal_of(end)
    return 128 + number, WORDS[number]


def report(status: int, fault: str) -> int:
    """Writes the last line on stderr. Returns the status."""
    gc.collect()  # the progress bars of what the exception ended, which would share the line
    with suppress(OSError):  # nobody reads it any more
        print(f"disam: {printable(' '.join(fault.split()))}", file=sys.stderr)
    return status


def _run(argv: Sequence[str] | None) -> int:
    from disam_ros.cli.outputs import require_outputs

    parser = command_line()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks how a line goes on
        import argcomplete

        parser.declare(os.environ["COMP_LINE"].split())
        argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    require_outputs(arguments)
    if "max_megapixels" in arguments:
        from disam_ros.image import limit_megapixels

        limit_megapixels(arguments.max_megapixels)
    status: int | None = arguments.run(arguments)
    sys.stdout.flush()
    return status or 0


def _missing_package(error: ModuleNotFoundError) -> str:
    """Names the package to install. Raises the error again for a module of this package."""
    from disam_ros.cli.doctor import PACKAGES

    module = (error.name or "").split(".")[0]
    if module in ("", "disam_ros"):
        raise error
    names = {package.module: package.requirement for package in PACKAGES}
    install = f"{sys.executable} -m pip install '{names.get(module, module)}'"
    return f"this needs the package {module}, which is not installed: {install}; see disam doctor"


def _broken_package(error: ImportError) -> str:
    """Names what cannot be loaded. Raises the error again for a module of this package."""
    if (error.name or "").split(".")[0] == "disam_ros":
        raise error
    reason = str(error).splitlines()[0]
    return f"a package is installed but cannot be loaded: {reason}; disam doctor names it"


def _fault_of_system(error: OSError) -> str:
    """Describes a fault of a file or of the standard output."""
    if error.filename is not None:
        return f"{error.filename} cannot be used: {describe_fault(error)}"
    if error.errno not in FULL | {errno.EPIPE, errno.EIO}:
        return f"the system refused: {error}"
    with suppress(OSError):  # what is still in its buffer shall not fail again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return f"the standard output cannot be written: {error.strerror}; write it elsewhere"


def command_line() -> Parser:
    """Returns the parser of all commands."""
    from disam_ros.cli import (
        bags,
        data,
        demo,
        doctor,
        evaluation,
        map_life,
        maps,
        models,
        parameters,
        view,
        watch,
    )
    from disam_ros.cli.help import Parser, Version, add_command

    parser = Parser(prog="disam", description=__doc__)
    parser.add_argument("--version", action=Version, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = partial(add_command, commands)
    # In the order of the help.
    running = (watch, view, parameters)
    for group in (maps, map_life, evaluation, models, bags, *running, demo, data, doctor):
        group.add_commands(command)
    return parser
