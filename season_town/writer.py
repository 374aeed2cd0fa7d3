# SPDX-License-Identifier: Apache-2.0
"""Writes rendered drives as dataset directories with odom.csv and fix.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
from tqdm import tqdm

from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.datasets.depth import DEPTH_UNIT
from disam_ros.datasets.sensor_tables import FIX_COLUMNS, FIX_FILE, ODOM_COLUMNS, ODOM_FILE
from disam_ros.files.writing import number_text
from season_town.conditions import LATITUDE, LONGITUDE
from season_town.drive import DriveConfig, Frame, RenderedDrive
from season_town.sensors import GNSS_SIGMA

CAMERA = "front"
VARIANCE = GNSS_SIGMA**2 / 2  # of one of two horizontal axes [m²]


def write_drive(
    config: DriveConfig,
    directory: Path | str,
    jpeg_quality: int = 85,
    overwrite: bool = False,
) -> int:
    """Renders a drive into a dataset directory; returns the number of images.

    overwrite: replace a dataset of an earlier run. Raises OutputError, RenderError without OpenGL.
    """
    drive = RenderedDrive(config)
    info = DatasetInfo(
        name=f"season_town_{config.town_seed}_{config.condition}_{config.drive_seed}",
        cameras={CAMERA: drive.camera},
        latitude=LATITUDE,
        longitude=LONGITUDE,
        origin=f"rendered by season_town: {config}",
        depth_unit=DEPTH_UNIT if config.depth else None,
    )
    odometry: list[tuple[object, ...]] = []
    fixes: list[tuple[object, ...]] = []
    with DatasetWriter(directory, info, overwrite) as writer:
        for frame in tqdm(drive, desc=config.condition, unit="image"):
            writer.add(
                _jpeg(frame, jpeg_quality),
                frame.stamp_ns,
                CAMERA,
                config.condition,
                frame.map_from_camera,
                source="season_town",
                depth=frame.depth,
            )
            odometry.append(_odom_row(frame))
            fixes.append((frame.stamp_ns, *(f"{v:.9f}" for v in frame.fix), VARIANCE))
        _write_csv(writer.folder / ODOM_FILE, ODOM_COLUMNS, odometry)
        _write_csv(writer.folder / FIX_FILE, FIX_COLUMNS, fixes)
    return len(odometry)


def _jpeg(frame: Frame, quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _odom_row(frame: Frame) -> tuple[object, ...]:
    pose = frame.odom_from_base
    values = (*pose.translation, *pose.quaternion, *frame.twist)
    return (frame.stamp_ns, *map(number_text, values))


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
