# SPDX-License-Identifier: Apache-2.0
"""Tiny recipes of companion systems, and drives along a street whose views overlap."""

import cv2
import numpy as np
from safetensors.torch import load_file

from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from support.data import CAMERA, camera_pose
from training.recipes import parse_config

TINY = {
    "method": "global",
    "network": {
        "backbone": "disam",
        "head": "mac",
        "width": 4,
        "encoder_blocks": 1,
        "image_size": [36, 48],
    },
    "tuples": {"near": 2, "far": 2, "cache": 8, "refresh": 3, "near_radius": 9.0},
    "log_every": 2,
    "validate_every": 5,
    "checkpoint_every": 5,
    "device": "cpu",
    "learning_rate": 3e-3,
}
COUNT, STEP = 14, 4.0  # images of a drive and the metres between them
SHIFT = 12  # pixels from one image to the next along the street
NOISE = np.random.default_rng(3).integers(0, 256, (6, 29, 3), dtype=np.uint8)
STREET = cv2.resize(NOISE, (64 + SHIFT * COUNT, 48), interpolation=cv2.INTER_CUBIC)


BRIGHTNESS = {"day": 1.0, "night": 0.35, "aerial": 0.6}


def view(k):
    """The k-th picture of the street; those that lie near each other overlap."""
    return STREET[:, SHIFT * k : SHIFT * k + 64]


def write_drive(directory, domain, count=COUNT, depth=False, posed=True):
    """A drive with an image every STEP metres, the same views in every domain.

    Depth is the picture's green, in metres, unknown in its first column and endless in its last.
    """
    unit = 0.01 if depth else None
    with DatasetWriter(directory, DatasetInfo(domain, {"front": CAMERA}, depth_unit=unit)) as out:
        for k in range(count):
            image = (view(k) * BRIGHTNESS[domain]).astype(np.uint8)
            data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            pose = camera_pose(STEP * k) if posed else None
            metres = view(k)[..., 1].astype(np.float32) / 3 + 1 if depth else None
            if depth:
                metres[:, 0], metres[:, -1] = np.nan, np.inf
            out.add(data, (k + 1) * 10**9, "front", domain, pose, depth=metres)
    return directory


def stage(steps=10, **changes):
    return {"steps": steps, "losses": {"soft_contrastive": 1}, **changes}


def recipe(folder, *stages, **changes):
    values = {**TINY, "output": str(folder / "run"), "data": [str(folder / "data")], **changes}
    values["network"] = TINY["network"] | changes.get("network", {})
    values["tuples"] = TINY["tuples"] | changes.get("tuples", {})
    return parse_config({**values, "stages": list(stages or [stage()])})


def weights(directory, name="descriptors"):
    return load_file(directory / "run" / "stages" / f"{name}.safetensors")


def depth_recipe(folder, *stages, **changes):
    return recipe(folder, *stages, network={"depth": True}, **changes)
