# SPDX-License-Identifier: Apache-2.0
"""The inputs of all commands, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import write_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the commands read; no test changes it."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))
