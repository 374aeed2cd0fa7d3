# SPDX-License-Identifier: Apache-2.0
"""The packages of an export, without which its tests are skipped."""

import pytest

from disam_ros.models.export import PACKAGES


@pytest.fixture(scope="session")
def packages() -> None:
    for name in PACKAGES:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")
