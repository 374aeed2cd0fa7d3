# SPDX-License-Identifier: Apache-2.0
"""Start of every executable: a signal while its libraries load ends it in one line.

Loading takes seconds, in which Python would answer a signal with a traceback or not at all. Thus
this module imports only modules that load at once.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import FrameType

MODULES = {
    "disam": "disam_ros.cli.program",
    "localizer_node": "disam_ros.nodes.localizer.node",
    "map_builder_node": "disam_ros.nodes.map_builder.node",
}
WORDS: dict[int, str] = {  # signals that end a program
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "terminal closed",
}
MEMORY = 2 << 30  # bytes of address space that libraries, a model and their threads take (1.4 GiB)
CUDA_MEMORY = 5 << 30  # the same with torch's build for CUDA, which maps more (3.4 GiB at import)
M_ARENA_MAX, ARENAS = -8, 2  # of malloc.h
DESCRIPTORS = 256  # open files that a node with its middleware, maps and a page may need


def start(name: str) -> int:
    """Loads an executable of MODULES and runs it. Returns its exit status.

    A signal before it runs ends the process with 128 and its number as status, as a shell would
    report it. Ignored signals stay ignored. Too little memory or too few open files (ulimit), or a
    ConfigError while it loads, such as a missing middleware, is one line and status 1. Into a file
    or a pipe progress bars are written every ten seconds only, unless TQDM_MININTERVAL says
    otherwise.
    """
    if name not in MODULES:
        print(f"{name} is no executable; expected one of {', '.join(MODULES)}", file=sys.stderr)
        return 2
    _open_streams()
    if fault := _limits_fault():
        print(f"{name}: {fault}", file=sys.stderr)
        return 1
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # read when tqdm is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of OpenMP's threads, see device.py
    for signum in heeded():
        signal.signal(signum, partial(_end, name))
    _limit_arenas()
    try:
        if name.endswith("_node"):
            import_module("disam_ros.nodes").require_middleware()
        module = import_module(MODULES[name])
    except Exception as error:
        if type(error).__module__ != "disam_ros.errors":
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    try:
        status: int = module.main()
        return status
    finally:
        _flush()


def heeded() -> list[int]:
    """Returns the signals that end this program: not those that are ignored.

    A shell ignores SIGINT for its background jobs, nohup SIGHUP.
    """
    return [signum for signum in WORDS if signal.getsignal(signum) is not signal.SIG_IGN]


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handles a signal: raises KeyboardInterrupt with its number."""
    raise KeyboardInterrupt(signum)


def signal_of(end: KeyboardInterrupt) -> int:
    """Returns the number of the signal behind a KeyboardInterrupt: SIGINT unless it names another.

    The exit status is 128 more, as a shell would report it.
    """
    return int(end.args[0]) if end.args else int(signal.SIGINT)


def _open_streams() -> None:
    """Makes the standard streams usable, whatever the shell gave.

    One that is closed leads nowhere; else the next file would get its number, and what libraries
    print. Characters that an encoding lacks are escaped.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
        elif descriptor and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Writes what is in the buffers of the output streams, or drops it: nobody reads it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def least_memory() -> int:
    """Returns the bytes of address space that an executable needs with the installed torch."""
    return CUDA_MEMORY if find_spec("nvidia") else MEMORY


def _limits_fault() -> str:
    """Describes a limit of this process under which libraries fail or hang; empty: none."""
    memory, descriptors = (
        resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)
    )
    if resource.RLIM_INFINITY != memory < least_memory():
        return (
            f"the address space is limited to {memory >> 20} MiB, expected {least_memory() >> 20} "
            "MiB or more: raise it (ulimit -v unlimited, LimitAS= of a service)"
        )
    if resource.RLIM_INFINITY != descriptors < DESCRIPTORS:
        return (
            f"open files are limited to {descriptors}, expected {DESCRIPTORS} or more: raise it "
            f"(ulimit -n 1024, LimitNOFILE= of a service)"
        )
    return ""


def _limit_arenas() -> None:
    """Limits glibc's malloc to ARENAS for all threads, before there are any.

    Else it has eight times as many as there are cores, and each keeps what was freed: with every
    reload of a map another thread's arena grew by 10 MiB. Does nothing with another C library.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)


def _end(name: str, signum: int, frame: FrameType | None) -> None:
    """Ends the process at once: an exception could be lost in the code of a library."""
    os.write(2, f"{name}: {WORDS[signum]}\n".encode())
    os._exit(128 + signum)


def main() -> int:
    """Runs the executable that the command line names: `localizer_node --ros-args …`."""
    return start(os.path.basename(sys.argv[0]))  # noqa: PTH119 (pathlib is not loaded yet)


if __name__ == "__main__":
    del sys.argv[0]  # python -m disam_ros.entry NAME …
    raise SystemExit(main())
