# SPDX-License-Identifier: Apache-2.0
"""Calibration of a finished model on its validation drives, as `disam calibrate` does it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_dataset
from disam_ros.errors import DisamError
from disam_ros.files.paths import expand
from disam_ros.localization.calibration import save_calibration
from disam_ros.localization.fitting.calibrate import calibrate
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model


def calibrate_model(model: Path, entries: Sequence[str], reference: str) -> str:
    """Write <model>/calibration.json from the validation data. Returns a sentence on the result.

    entries: folders of drives. In the first one that has a drive of the `reference` condition, that
    drive is mapped, without keypoints, and the other drives are localized.
    """
    for entry in entries:
        drives = _drives(Path(expand(entry)))
        mapped = [d for d in drives if d.domains() == [reference]]
        others = [d for d in drives if d not in mapped[:1]]
        if mapped and others:
            break
    else:
        return (
            f"not calibrated: the validation data hold no drive of '{reference}' beside others; "
            f"run disam calibrate on drives with known poses"
        )
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "map"
        config = MapBuilderConfig(keyframe_distance=0.0, keypoints=0)
        try:
            build_map(
                open_dataset(mapped[0].directory),
                load_model(model),
                target,
                config,
                show_progress=False,
            )
            localizer = Localizer.open(target, model, LocalizerConfig())
            sources = [open_dataset(drive.directory) for drive in others]
            calibration = calibrate(localizer, sources, show_progress=False)
        except DisamError as error:
            return f"not calibrated: {error}"
    save_calibration(calibration, model)
    return (
        f"calibrated on {', '.join(calibration.learned_on)}: errors of correct answers (1 sigma) "
        f"{calibration.horizontal:.2f} m horizontal, {calibration.vertical:.2f} m vertical, "
        f"{calibration.yaw:.2f}° yaw"
    )


def _drives(folder: Path) -> list[Dataset]:
    """Lists the datasets directly in a folder."""
    if not folder.is_dir():
        return []
    return [Dataset(d) for d in sorted(folder.iterdir()) if (d / "dataset.json").exists()]
