# SPDX-License-Identifier: Apache-2.0
"""Imported networks: descriptors by an ONNX file of another project, run by ONNX Runtime.

A model directory holds the file, with its side files of external weights, under its own name.
import_model.py checks a file and writes the directory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from disam_ros.device import CPU
from disam_ros.errors import ConfigError, ModelError
from disam_ros.files.writing import file_sha256
from disam_ros.models.arrays import Array, as_numpy, like
from disam_ros.models.onnx_runtime import create_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

ENCODER = "onnx"  # kind of network in model.json
LARGEST_SIDE = 4096  # of its images [px]
MOST = 1 << 20  # numbers of a feature
PERMISSIVE = """0BSD AFL-3.0 AGPL-3.0 Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0
    CC-BY-4.0 CC-BY-SA-4.0 CC0-1.0 ECL-2.0 EPL-2.0 EUPL-1.2 GPL-2.0 GPL-3.0 ISC LGPL-2.1 LGPL-3.0
    MIT MIT-0 MPL-2.0 PDDL-1.0 Unlicense WTFPL Zlib"""  # SPDX identifiers that allow commercial use
RESTRICTED = re.compile(
    r"\bnc\b|non[\s-]*commercial|\b(no|not for|without) commercial"
    r"|\b(research|academic|educational|personal|private|evaluation)\b(?![^.;]*commercial)"
    r"[\w\s,/-]*\b(only|use|purposes?)\b"
    r"|\bonly for [\w\s,/-]*(research|academic|education|personal|evaluation)"
    r"|\bpolyform[\s-]strict",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ImportedConfig:
    """Interface of an imported network: images [B, 3, H, W] → z [B, channels, *feature_size].

    A global descriptor has one cell. Raises ModelError for values out of range.
    """

    image_size: tuple[int, int]  # height, width in pixels
    mean: tuple[float, float, float]  # of R, G, B in [0, 1], subtracted from the input
    std: tuple[float, float, float]  # divides it then
    files: tuple[str, ...]  # the ONNX file and its side files, names in the model directory
    output: str  # the graph's output that is used
    channels: int  # C of a feature map, or the descriptor's dimension
    feature_size: tuple[int, int] = (1, 1)  # rows and columns of z
    any_batch: bool = True  # False: the network takes one image at a time

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or not all(1 <= n <= LARGEST_SIDE for n in self.image_size):
            raise ModelError(
                f"image size must be height and width in pixels, 1 to {LARGEST_SIDE}, got "
                f"{self.image_size}"
            )
        if len(self.mean) != 3 or not all(0.0 <= value <= 1.0 for value in self.mean):
            raise ModelError(
                f"mean must be of red, green and blue in images scaled to [0, 1], got "
                f"{list(self.mean)}; divide a mean of grey levels 0 to 255 by 255"
            )
        if len(self.std) != 3 or not all(0.0 < v < math.inf for v in self.std):
            raise ModelError(
                f"std must be of red, green and blue and > 0, got {list(self.std)}; use 1 1 1 "
                f"where the network divides by nothing"
            )
        if not self.files or min(self.channels, *self.feature_size) < 1:
            raise ModelError(f"files, channels and feature size must not be empty, got {self}")
        if math.prod((self.channels, *self.feature_size)) > MOST:
            raise ModelError(f"a feature has at most {MOST} numbers, got {self}")
        if strange := [name for name in self.files if Path(name).name != name]:
            raise ModelError(f"files must be in the model directory, got '{strange[0]}'")

    def interface_sha256(self) -> str:
        """SHA-256 of preprocessing and output, which change the descriptors of a file."""
        interface = [self.image_size, self.mean, self.std, self.output]
        return hashlib.sha256(json.dumps(interface).encode()).hexdigest()

    @property
    def encoder(self) -> str:
        """Kind of network in model.json, as NetworkConfig.encoder."""
        return ENCODER

    @property
    def depthwise(self) -> bool:
        """Whether torch runs depthwise convolutions: ONNX Runtime runs this network."""
        return False


class OnnxNetwork:
    """Images [B, 3, H, W] in [−1, 1] → z [B, C, h, w], by the ONNX file in a folder.

    The session opens with `.to(device)` or at the first image. Raises ConfigError without
    onnxruntime, ModelError for a file that cannot be run.
    """

    def __init__(self, config: ImportedConfig, folder: Path) -> None:
        self.config, self.folder, self._device = config, folder, CPU
        self._session: InferenceSession | None = None

    @property
    def kind(self) -> str:
        """Human-readable kind of network and shape of z."""
        config = self.config
        if config.feature_size == (1, 1):
            return f"imported global descriptor, {config.channels}-D"
        rows, columns = config.feature_size
        return f"imported feature map, {config.channels}×{rows}×{columns}"

    def __call__(self, images: Array) -> Array:
        """images: arrays of numpy or tensors of torch; z is of the same kind."""
        batch = normalized(as_numpy(images), self.config.mean, self.config.std)
        parts = [batch] if self.config.any_batch else one_by_one(batch)
        z = np.concatenate([run(self.session(), self.config.output, part) for part in parts])
        expected = (len(images), self.config.channels, *self.config.feature_size)
        if z.size != math.prod(expected):
            raise ModelError(
                f"{self.file} gave {list(z.shape)}, model.json says "
                f"{list(expected)}: import it again"
            )
        return like(z.reshape(expected), images)

    @property
    def file(self) -> Path:
        """The ONNX file."""
        return self.folder / self.config.files[0]

    def features(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Features that serve both stages."""
        return [self(images)]

    def session(self) -> InferenceSession:
        """The open session; it is opened if there is none."""
        if self._session is None:
            self._session = open_session(self.file, self._device)
        return self._session

    def to(self, device: str) -> OnnxNetwork:
        """Open the session for a device: a file that cannot run fails here."""
        if device != self._device:
            self._device, self._session = device, None
        self.session()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}  # sessions cannot be pickled


def normalized(
    images: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Images [B, 3, H, W] in [−1, 1] as the network wants them: scaled to [0, 1], less the mean of
    each colour, divided by its deviation."""
    means, deviations = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
    half = np.float32(0.5)
    return np.asarray(images * (half / deviations) + (half - means) / deviations)


def open_session(path: Path, device: str) -> InferenceSession:
    """Load an ONNX file. Raises ConfigError without onnxruntime, ModelError."""
    try:
        return create_session(path, device)
    except ImportError as error:
        raise ConfigError(
            "an imported model needs the package onnxruntime: pip install onnxruntime"
        ) from error
    except Exception as error:  # onnxruntime's errors have no root of their own
        raise ModelError(f"{path} cannot be loaded by ONNX Runtime: {one_line(error)}") from error


def run(session: InferenceSession, output: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """One output of a network for normalized images [B, 3, H, W], float32."""
    name = session.get_inputs()[0].name
    (values,) = session.run([output], {name: np.ascontiguousarray(images)})
    return np.asarray(values, np.float32)


def one_by_one(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Batches of one image each."""
    return [images[k : k + 1] for k in range(len(images))]


def one_line(error: Exception) -> str:
    """Message of an error; onnxruntime's have several lines."""
    return " ".join(str(error).split())


def copy_files(network: OnnxNetwork, directory: Path) -> dict[str, str]:
    """Copy the network's files into a model directory. Returns their SHA-256 by name."""
    for name in network.config.files:
        shutil.copyfile(network.folder / name, directory / name)
    return {name: file_sha256(directory / name) for name in network.config.files}


def allows_commercial_use(licence: str) -> bool | None:
    """Whether a licence allows commercial use; None: not recognized, so read it.

    licence: SPDX expression or free text. Any mention of a restriction counts; of alternatives
    (`A OR B`) the freest does.
    """
    if " OR " in licence:
        verdicts = [allows_commercial_use(part) for part in licence.split(" OR ")]
        return True if True in verdicts else None if None in verdicts else False
    if RESTRICTED.search(licence.replace("_", "-")):
        return False
    identifiers = {identifier.lower() for identifier in PERMISSIVE.split()}
    parts = [part.strip(" ()") for part in licence.split(" AND ")]
    plain = [re.sub(r"(-only|-or-later|\+)$", "", part.lower()) for part in parts]
    return True if all(part in identifiers for part in plain) else None
