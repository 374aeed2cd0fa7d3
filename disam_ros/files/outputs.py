# SPDX-License-Identifier: Apache-2.0
"""Outputs of commands, which overwrite only what a command wrote.

An output directory holds a manifest of the files that were written into it. Only these are ever
removed, when it is overwritten; everything else in it stays. The name of an output that is
overwritten always leads to the old one or to the new one, each whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import IO, Any

from disam_ros.errors import DisamError, OutputError
from disam_ros.files import paths
from disam_ros.files.reading import read_json
from disam_ros.files.writing import (
    PART,
    atomic_file,
    describe_fault,
    exchange,
    part_of,
    sync_directory,
    write_json,
)

MANIFEST = ".disam_manifest.json"  # of an output directory
MANIFEST_VERSION = 1
FILE = "file"  # kind of an output that is a file; the others are directories
MAP, MODEL, DATASET, BAG, TILES = "map", "model", "dataset", "bag", "tile set"
EVALUATION, EXPORT = "evaluation", "export"
YOUNG = 60.0  # time in which a folder may not be locked yet [s]
OLD = ".old"  # suffix of what is replaced, where names cannot be exchanged at one stroke
REMEDY = "choose another output, or replace it with --overwrite"


@contextmanager
def writing(*targets: Path) -> Iterator[None]:
    """Report a fault of the disk as OutputError, which names the first of the targets.

    Faults of files that lie elsewhere pass: they were read.
    """
    try:
        yield
    except OSError as error:
        named = error.filename2 or error.filename  # the second is the target of a copy
        if named is not None and not any(Path(named).is_relative_to(path) for path in targets):
            raise
        raise OutputError(f"{targets[0]} cannot be written: {describe_fault(error)}") from error


def require_output(
    path: Path | str, kind: str, overwrite: bool = False, remedy: str = REMEDY
) -> None:
    """Raise OutputError unless an output may be written.

    kind: MAP, FILE, … overwrite: whether a file, or a directory with a manifest of this kind, may
    be replaced. remedy: what to do about an output that exists.
    """
    path = Path(path)
    try:
        _refuse_taken(path, kind, overwrite, remedy)
        _refuse_foreign_part(part_of(path), kind)
        folder = path.absolute().parent
        while kind != FILE and not folder.exists():  # folders of a directory are made
            folder = folder.parent
        if not folder.is_dir():
            state = "is no directory" if folder.exists() else "does not exist: make it first"
            raise OutputError(f"{path} cannot be written: {folder} {state}")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {describe_fault(error)}") from error


def require_outside(output: Path | str, source: Path | str) -> None:
    """Raise OutputError for an output in the directory that it is made of."""
    source, target = paths.real(source), paths.real(output)
    if source.is_dir() and target.is_relative_to(source):
        place = "" if target == source else f" lies in {source}, which"
        raise OutputError(f"{output}{place} is read: choose an output outside of it")


def is_output(directory: Path) -> bool:
    """Returns whether a directory holds what a command wrote."""
    return (directory / MANIFEST).is_file()


def is_replaced(directory: Path) -> bool:
    """Returns whether a directory has lost its name to a new one, and can go."""
    return bool(_manifest(directory)["replaced"])


def _refuse_taken(path: Path, kind: str, overwrite: bool, remedy: str) -> None:
    """Raise OutputError where the name is taken by something that must stay."""
    if path.is_symlink():
        raise OutputError(
            f"{path} is a symbolic link, which would be replaced: name its target, "
            f"{path.readlink()}"
        )
    if not path.name or (path.exists() and path.is_dir() == (kind == FILE)):
        raise OutputError(f"{path} is no {kind}: choose another output")
    if not path.exists() or (kind != FILE and not _content(path)):
        return
    if not overwrite:
        kept = f", which keeps it as {_free(path).name}" if kind == FILE else ""
        raise OutputError(f"{path} exists: {remedy}{kept}")
    if kind == FILE:
        if not path.is_file():
            raise OutputError(f"{path} is no regular file: choose another output")
    elif (stored := _manifest(path)["kind"]) != kind:
        raise OutputError(
            f"{path} holds {stored or 'files'} that this command did not write, expected a "
            f"manifest of a{'n' * (kind[0] in 'aeiou')} {kind}: choose another output or move it "
            "away"
        )


def _refuse_foreign_part(part: Path, kind: str) -> None:
    """Raise OutputError where the place of an unfinished directory holds something else."""
    if kind == FILE or not os.path.lexists(part):
        return
    mine = not part.is_symlink() and part.is_dir()
    if not (mine and (not _content(part) or _manifest(part)["kind"] == kind)):
        raise OutputError(
            f"{part} is in the way, and no unfinished {kind}: move it away or choose another output"
        )


def _content(directory: Path) -> list[str]:
    """Names in a directory, without an unfinished manifest."""
    return [path.name for path in directory.iterdir() if path.name != MANIFEST + PART]


def _manifest(directory: Path) -> dict[str, Any]:
    """Read a directory's manifest; kind "" and no files where it has none, or a malformed one.

    replaced: whether a new directory takes its name, so that it can go once it has lost that.
    """
    with suppress(DisamError, KeyError, TypeError):
        values = read_json(directory / MANIFEST, MANIFEST_VERSION, OutputError)
        files = [str(name) for name in values["files"]]
        return {"kind": str(values["kind"]), "files": files, "replaced": "replaced" in values}
    return {"kind": "", "files": [], "replaced": False}


def _write_manifest(directory: Path, kind: str, files: list[str], **more: bool) -> None:
    """Write a directory's manifest."""
    values = {"format_version": MANIFEST_VERSION, "kind": kind, "files": files, **more}
    write_json(directory / MANIFEST, values, indent=0)


def add_to_output(directory: Path, kind: str, name: str) -> Path:
    """Add a file to the manifest of a directory that grows, before it is written. Returns its path.

    Raises OutputError where the directory is of another kind.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        manifest = _manifest(directory)
        if manifest["kind"] not in ("", kind):
            raise OutputError(
                f"{directory} is a {manifest['kind']}, no {kind}: choose another output"
            )
        if name not in manifest["files"]:
            _write_manifest(directory, kind, [*manifest["files"], name])
    return directory / name


def remove_output(path: Path, kind: str) -> None:
    """Remove the files that the manifest of a directory lists, and the directory if it is empty.

    Nothing is done where there is none. Raises OutputError where it is of another kind.
    """
    if not os.path.lexists(path):
        return
    with writing(path):
        _refuse_taken(path, kind, True, REMEDY)
        _remove(path, _manifest(path)["files"])
        if _content(path) in ([], [MANIFEST]):
            shutil.rmtree(path)
        else:
            _write_manifest(path, kind, [])


class OutputDirectory:
    """A directory that is written as `<path>.part` and gets its name when it is complete.

    kind, overwrite: see `require_output`. Files of a killed process are still in `part`, to be
    resumed or cleared. Raises OutputError.
    """

    def __init__(self, path: Path | str, kind: str, overwrite: bool = False) -> None:
        self.path, self.kind, self.overwrite = Path(path), kind, overwrite
        self.part = part_of(self.path)
        require_output(self.path, kind, overwrite)
        self._lock = -1
        self._old = self.path.with_name(self.path.name + OLD)
        with writing(self.path, self.part, self._old):
            self._make()
            if self._finish_replacing():
                self.close()
                self._make()
            try:
                _write_manifest(self.part, self.kind, [])
            except OSError:
                self.close()
                with suppress(OSError):  # something is in it
                    self.part.rmdir()
                raise

    def clear(self) -> None:
        """Remove the files of a killed process."""
        with writing(self.path, self.part):
            for name in _content(self.part):
                path = self.part / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif name != MANIFEST:
                    path.unlink()

    def publish(self, expected: Iterable[str] = ()) -> None:
        """Give the complete directory its name; files of an old one's manifest are removed.

        expected: names of files that will be added later and belong to it.
        """
        with writing(self.path, self.part):
            files = _files_in(self.part)
            listed = [*files, *expected]
            _write_manifest(self.part, self.kind, listed)
            if self.overwrite and self.path.exists():
                self._replace(files)
            else:
                self.part.rename(self.path)
            sync_directory(self.path.absolute().parent)
        self.close()

    def discard(self) -> None:
        """Remove the unfinished directory."""
        shutil.rmtree(self.part, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the directory to other processes; its files stay."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _make(self) -> None:
        """Make `part` and lock it until `close` or the end of the process."""
        self.part.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.part)

    def _finish_replacing(self) -> bool:
        """Complete what a killed process began in `_replace`; returns whether `part` is gone."""
        if self._old.is_dir() and is_replaced(self._old):
            self._old.rename(self.part if self.path.exists() else self.path)
        if not (is_replaced(self.part) and self.path.is_dir()):
            return False
        _settle(self.part, self.path)
        return True

    def _replace(self, files: list[str]) -> None:
        """Give the new directory the name of the old one, whose other files it takes over."""
        old = _manifest(self.path)["files"]
        folders = {str(folder) for name in files for folder in Path(name).parents}
        for name in {*files, *folders} - {*old}:
            path = self.path / name
            if os.path.lexists(path) and not (name in folders and path.is_dir()):
                raise OutputError(f"{path} is in the way: move it away or rename it")
        with _alone(self.path):
            shutil.copymode(self.path, self.part)
            _write_manifest(self.path, self.kind, old, replaced=True)
            if not exchange(self.part, self.path):
                self.path.rename(self._old)
                self.part.rename(self.path)
                self._old.rename(self.part)
            sync_directory(self.path.absolute().parent)
            _settle(self.part, self.path)


def _locked(directory: Path) -> int:
    """Lock a directory until the returned descriptor is closed. Raises OutputError."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OutputError(
            f"{directory} is being written by another process: let it end or choose another output"
        ) from None
    except OSError:
        pass  # a file system without locks
    return handle


def _settle(old: Path, new: Path) -> None:
    """Remove a directory that was replaced; what is not of its manifest moves to the new one."""
    _remove(old, _manifest(old)["files"])
    _move_content(old, new)
    shutil.rmtree(old)


def _move_content(source: Path, target: Path) -> None:
    """Move all but manifests into a directory. Raises OutputError where a name is taken."""
    for name in _content(source):
        path = target / name
        if not os.path.lexists(path):
            (source / name).rename(path)
        elif path.is_dir() and (source / name).is_dir():
            _move_content(source / name, path)
        elif name != MANIFEST:
            raise OutputError(f"{path} is in the way of {source / name}: move one of them away")


def _files_in(directory: Path) -> list[str]:
    """List the paths of all files but the manifest, relative, sorted."""
    files = (Path(folder) / name for folder, _, names in os.walk(directory) for name in names)
    return sorted(str(p.relative_to(directory)) for p in files if p != directory / MANIFEST)


def _remove(directory: Path, files: Iterable[str]) -> None:
    """Remove files of a directory and the folders that this empties; nothing outside of it."""
    folders = set()
    inside = paths.real(directory)
    for name in files:
        path = directory / name
        if paths.real(path.parent).is_relative_to(inside) and path.name != MANIFEST:
            path.unlink(missing_ok=True)
            folders |= {path.parents[k] for k in range(len(Path(name).parts) - 1)}
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        with suppress(OSError):  # something else is in it
            folder.rmdir()


@contextmanager
def atomic_directory(
    path: Path | str, kind: str, overwrite: bool = False, expected: Iterable[str] = ()
) -> Iterator[Path]:
    """Write a directory that gets the name `path` at the end of the block.

    kind, overwrite, expected: see `OutputDirectory`. After an error nothing is left of it. Raises
    OutputError.
    """
    output = OutputDirectory(path, kind, overwrite)
    try:
        output.clear()
        with writing(output.path, output.part):
            yield output.part
        output.publish(expected)
    except BaseException:
        output.discard()
        raise


@contextmanager
def output_file(path: Path | str, overwrite: bool = False, **options: Any) -> Iterator[IO[str]]:
    """Write a text file that gets its name at the end of the block.

    overwrite: a file of that name is kept beside it, as `<name>.1` or the next free number; else it
    is refused. options: as `Path.open` takes them. After an error nothing has changed. Raises
    OutputError.
    """
    path = Path(path)
    require_output(path, FILE, overwrite)
    _sweep(path)
    with tempfile.TemporaryDirectory(PART, f".{path.name}.", path.absolute().parent) as folder:
        part = Path(folder) / path.name
        with writing(path, Path(folder)), _alone(Path(folder)):
            with atomic_file(part, **options) as file:
                yield file
            if path.exists():
                _keep(path)
            part.rename(path)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Lock a directory during the block, which shows others that its process lives."""
    lock = _locked(directory)
    try:
        yield
    finally:
        os.close(lock)


def _sweep(path: Path) -> None:
    """Remove what killed processes left that wrote this file."""
    for folder in path.absolute().parent.glob(f".{escape(path.name)}.*{PART}"):
        with suppress(OSError, OutputError):
            if time.time() - folder.stat().st_mtime > YOUNG:
                with _alone(folder):
                    shutil.rmtree(folder)


def _keep(path: Path) -> None:
    """Give a file another name, beside the one that it has until it is replaced."""
    free = _free(path)
    try:
        free.hardlink_to(path)
    except OSError:  # a file system without links
        path.rename(free)


def _free(path: Path) -> Path:
    """The first of `<name>.1`, `<name>.2`, … that does not exist."""
    names = (path.with_name(f"{path.name}.{number}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))
