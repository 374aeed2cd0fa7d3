# SPDX-License-Identifier: Apache-2.0
"""Checks the words of the code: docstrings begin with a subject, locals are nouns.

Usage: check_words.py [FILE ...]; without files, all of the repository's Python but tests. Prints
each finding as `file:line: message` and ends with status 1 where there is one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NO_SUBJECT = re.compile(r"(Of|Those|That|The same|The one|The ones|As of|Its|Whence|Whose)\b")
NO_NOUN = {"found", "given", "some", "each", "own", "there", "here", "known", "wanted"}
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def findings(path: Path) -> Iterator[str]:
    """Findings in a file, as `file:line: message`."""
    tree = ast.parse(path.read_text())
    fields = set[ast.AST]()  # of classes: theirs is the name of the class's subject
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields |= {
                name
                for entry in node.body
                for name in ast.walk(entry)
                if isinstance(entry, ast.AnnAssign | ast.Assign)
            }
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED):
            first = (ast.get_docstring(node) or "").split("\n", 1)[0]
            if NO_SUBJECT.match(first):
                line = getattr(node, "lineno", 1)
                yield f"{path}:{line}: docstring without a subject: {first!r}"
        match node:
            case ast.Name(id=name, ctx=ast.Store()) if name in NO_NOUN and node not in fields:
                yield f"{path}:{node.lineno}: the local '{name}' is no noun: say what it holds"
            case ast.arg(arg=name) if name in NO_NOUN - {"known"}:
                yield f"{path}:{node.lineno}: the parameter '{name}' is no noun: say what it holds"


def main(arguments: list[str]) -> int:
    """Check files. Returns the exit status."""
    if not arguments:
        listing = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, check=True)
        arguments = listing.stdout.decode().split()
    paths = [Path(name) for name in arguments if "test" not in Path(name).parts]
    rows = [row for path in paths if path.exists() for row in findings(path)]
    print("\n".join(rows), end="\n" if rows else "")
    return int(bool(rows))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
