# SPDX-License-Identifier: Apache-2.0
"""Every command that writes, with the smallest inputs that it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

from disam_ros.cli import main
from disam_ros.datasets.aerial.tiles import TileInfo, TileWriter
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.models.networks import Encoder
from support.data import CAMERA, camera_pose, save_tiny_model, texture, write_dataset
from support.onnx_files import write_onnx

IMAGES = 12
SETTINGS = """\
batch_size: 2
checkpoint_every: 4
keypoints: 0
descriptor: {coarse_grid: 4, fine_grid: 8}
"""


@dataclass(frozen=True)
class Command:
    """A command line without its output. `{w}` stands for the folder of the inputs.

    file: it writes one file, not a directory. folder: below --output, of what it writes. packages:
    which it needs.
    """

    arguments: str
    file: bool = False
    folder: str = ""
    packages: tuple[str, ...] = ()

    def line(self, inputs: Path, target: Path, *more: str) -> list[str]:
        """The command line that writes `target`."""
        output = target.parents[len(Path(self.folder).parts) - 1] if self.folder else target
        return [*self.arguments.format(w=inputs).split(), "--output", str(output), *more]


ONNX = ("onnx", "onnxruntime", "onnxscript")
COMMANDS = {
    "build-map": Command("build-map --dataset {w}/data --model {w}/model --config {w}/build.yaml"),
    "extract": Command("extract --bag {w}/bag --domain day"),
    "to-bag": Command("to-bag --dataset {w}/data"),
    "to-bag-sqlite": Command("to-bag --dataset {w}/data --storage sqlite3"),
    "aerial": Command("aerial --tiles {w}/tiles --poses {w}/data --metres 8"),
    "convert": Command("convert tum --input {w}/tum --domain day"),
    "create-model": Command("create-model --preset mobile --domains summer_day"),
    "import-checkpoint": Command(
        "import-checkpoint --coarse {w}/300_net_G --domains summer_day --image-size 48 64"
    ),
    "import-model": Command(
        "import-model {w}/network.onnx --name n --licence MIT --input 48x64 --mean 0.5 0.5 0.5 "
        "--std 1 1 1",
        packages=ONNX,
    ),
    "evaluate": Command("evaluate {w}/data --map {w}/map --model {w}/model --map-images {w}/data"),
    "localize": Command("localize --dataset {w}/data --map {w}/map --model {w}/model", file=True),
    "submission": Command(
        "submission --benchmark cmu-seasons --answers {w}/answers.csv --dataset {w}/data",
        file=True,
    ),
}
RENDERED = {
    "synth": Command(
        "synth --conditions summer_day --spacing 200 --width 32 --height 24",
        folder="summer_day",
        packages=("moderngl",),
    ),
    "synth-aerial": Command(
        "synth --aerial --conditions summer_day --resolution 4", packages=("moderngl",)
    ),
}  # take longer


def write_inputs(root: Path) -> Path:
    """Everything that the commands read."""
    write_dataset(root / "data", IMAGES)
    dataset_to_bag(root / "data", root / "bag", show_progress=False)
    save_tiny_model(root / "model")
    (root / "build.yaml").write_text(SETTINGS)
    with TileWriter(root / "tiles", TileInfo(0.5, 32, (-32.0, -32.0))) as tiles:
        for index in range(16):
            tiles.add(index % 4, index // 4, texture(index, 32, 32))
    (root / "tum" / "rgb").mkdir(parents=True)
    for stamp in ("1.0", "2.0"):
        cv2.imwrite(str(root / "tum" / "rgb" / f"{stamp}.png"), texture(1, 480, 640))
    (root / "tum" / "groundtruth.txt").write_text("1.0 1 2 3 0 0 0 1\n2.0 2 2 3 0 0 0 1\n")
    (root / "tum" / "calibration.txt").write_text("525.0 526.0 319.5 239.5\n")
    torch.save(Encoder(2, 1).state_dict(), root / "300_net_G0.pth")
    if find_spec("onnx"):
        write_onnx(root / "network.onnx")
    for name, target in (("build-map", "map"), ("localize", "answers.csv")):
        assert main(COMMANDS[name].line(root, root / target)) == 0
    return root


def write_calibration_inputs(root: Path) -> list[str]:
    """What calibrate needs; its command line. Images a metre apart resemble each other."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8 + 40, 3), dtype=np.uint8)
    street = cv2.resize(noise, (8 * (8 + 40), 48), interpolation=cv2.INTER_CUBIC)
    with DatasetWriter(root / "drive", DatasetInfo("street", {"front": CAMERA})) as writer:
        for index in range(40):
            data = cv2.imencode(".png", street[:, 8 * index : 8 * index + 64])[1].tobytes()
            stamp_ns = (index + 1) * 1_000_000_000
            writer.add(data, stamp_ns, "front", "day", camera_pose(index), f"image {index}")
    save_tiny_model(root / "calibrated")
    (root / "build.yaml").write_text(SETTINGS)
    build = Command("build-map --dataset {w}/drive --model {w}/calibrated --config {w}/build.yaml")
    assert main(build.line(root, root / "long_map")) == 0
    line = "calibrate {w}/drive --map {w}/long_map --model {w}/calibrated"
    return line.format(w=root).split()
