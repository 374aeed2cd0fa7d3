# SPDX-License-Identifier: Apache-2.0
"""Small files of every kind that people bring, damaged: read, or refused with the file's name."""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.data import texture
from support.fuzz import damaged, edited, few, read_or_refuse
from support.imports import run_import
from support.onnx_files import write_onnx
from support.rtabmap import MODEL, PICTURE, save_rtabmap

from disam_ros.config import LocalizerConfig
from disam_ros.datasets.bags.cameras import read_info_file
from disam_ros.datasets.formats.cmu_seasons import CmuSeasons
from disam_ros.datasets.formats.colmap import Colmap
from disam_ros.datasets.formats.kitti_odometry import KittiOdometry
from disam_ros.datasets.formats.nerfstudio import Nerfstudio
from disam_ros.datasets.formats.nvm import read_nvm
from disam_ros.datasets.formats.photos import Photos
from disam_ros.datasets.formats.robotcar_seasons import RobotcarSeasons
from disam_ros.datasets.formats.rtabmap import Rtabmap
from disam_ros.datasets.formats.tum import Tum
from disam_ros.datasets.records import IMAGE_COLUMNS, read_records
from disam_ros.datasets.sensor_tables import FIX_COLUMNS, ODOM_COLUMNS, read_odometry, read_table
from disam_ros.datasets.trajectories import read_trajectory
from disam_ros.domains.domain import load_rules
from disam_ros.errors import ConfigError, DisamError
from disam_ros.evaluation.predictions.files import read_predictions
from disam_ros.evaluation.results import read_results
from disam_ros.files.checking import build
from disam_ros.files.yaml_files import read_yaml
from disam_ros.mapping.life.alignment import read_fixes
from disam_ros.mapping.life.regions import read_geojson
from disam_ros.models.global_descriptors.backbone_weights import read_backbone_weights
from disam_ros.models.global_descriptors.config import GlobalConfig

JPEG = cv2.imencode(".jpg", texture(0, 48, 64))[1].tobytes()
T0 = 1_700_000_000


def rows(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Kind:
    """A kind of file: the files of a small sound example, and their reader."""

    files: dict[str, str | bytes]  # by path; the first one is damaged
    read: Callable[[Path], object]  # of the folder


def trajectory(name: str, *lines: str, **others: str) -> Kind:
    return Kind(
        {name: rows(*lines), **{key.replace("_", "."): text for key, text in others.items()}},
        lambda root: read_trajectory(root / name),
    )


TUM = [f"{T0 + n}.25 {2 * n} 0 0 0 0 0 1" for n in range(4)]
MATRICES = [f"1 0 0 {n} 0 1 0 0 0 0 1 0" for n in range(4)]
PLACED = SimpleNamespace(header=SimpleNamespace(latitude=47.0, longitude=8.0), directory="map")
RING = [[8.0, 47.0], [8.1, 47.0], [8.1, 47.1], [8.0, 47.0]]
SQUARE = {"type": "Polygon", "coordinates": [RING]}
FEATURE = {"type": "Feature", "geometry": SQUARE, "properties": {}}
COLMAP = {
    "cameras.txt": rows(
        "# cameras", "1 OPENCV 64 48 50 50 32 24 0.1 0 0 0", "2 PINHOLE 64 48 5 5 3 2"
    ),
    "images.txt": rows(
        "# images", "1 1 0 0 0 0 0 0 1 a.jpg", "", "2 1 0 0 0 1 0 0 1 b.jpg", "1.5 2.5 -1"
    ),
    "images/a.jpg": JPEG,
}
FRAMES = [
    {
        "file_path": f"{name}.jpg",
        "transform_matrix": [[1, 0, 0, n], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    }
    for n, name in enumerate("ab")
]
NERF = {"fl_x": 50, "fl_y": 50, "cx": 32, "cy": 24, "w": 64, "h": 48, "k1": 0.1, "frames": FRAMES}
CALIBRATION = rows(
    *("image_width: 64", "image_height: 48", "camera_name: front"),
    *("camera_matrix:", "  rows: 3", "  cols: 3", "  data: [50, 0, 32, 0, 50, 24, 0, 0, 1]"),
    "distortion_model: plumb_bob",
    *("distortion_coefficients:", "  rows: 1", "  cols: 5", "  data: [0.1, 0, 0, 0, 0]"),
    *("rectification_matrix:", "  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]"),
    *("projection_matrix:", "  data: [50, 0, 32, 0, 0, 50, 24, 0, 0, 0, 1, 0]"),
)
COLMAP_BINARY = {
    "cameras.bin": struct.pack("<QIiQQ4d", 1, 1, 1, 64, 48, 50, 50, 32, 24),
    "images.bin": struct.pack("<QI7dI6sQ", 1, 1, 1, *[0] * 6, 1, b"a.jpg\0", 0),
    "images/a.jpg": JPEG,
}
FIGURES = {"metrics": {"answered": 1, "median_error_m": 0.5, "p90_error_m": None}}
RESULTS = {
    "format_version": 1,
    "setup": {},
    "criteria": {"thresholds": [[0.25, 2.0]], "recall_distance": 5.0},
    "conditions": {"day": FIGURES},
    "overall": FIGURES,
    "frames": {
        **{key: ["a"] for key in ("condition", "camera", "outcome", "domain")},
        **{key: [1] for key in ("stamp_ns", "matched_id")},
        **{key: [0.5] for key in ("score", "error_m", "error_deg")},
        **{key: [True] for key in ("judged", "on_map")},
    },
}
KITTI = {
    "sequences/00/calib.txt": rows("P2: 50 0 32 0 0 50 24 0 0 0 1 0"),
    "sequences/00/times.txt": rows("0.0", "0.1"),
    "poses/00.txt": rows(*MATRICES[:2]),
    "sequences/00/image_2/000000.png": JPEG,
    "sequences/00/image_2/000001.png": JPEG,
}
TUM_FOLDER = {
    "rgb.txt": rows("# list", f"{T0}.25 a.jpg", f"{T0 + 1}.25 b.jpg"),
    "groundtruth.txt": rows(*TUM),
    "calibration.txt": "50 50 32 24 0.1 0 0 0 0\n",
    "a.jpg": JPEG,
}
CMU_IMAGE = "img_00122_c0_1303398475046031us"
CMU = {
    "intrinsics.txt": rows(*(f"c{n} OPENCV 64 48 50 50 32 24 0.1 0 0 0" for n in (0, 1))),
    "slice2/ground-truth-database-images-slice2.txt": rows(f"{CMU_IMAGE}.jpg 1 0 0 0 10 20 2"),
    f"slice2/database/{CMU_IMAGE}.jpg": JPEG,
}
ODOM = [f"{n},{n},0,0,0,0,0,1,1,0" for n in range(3)]
PATHS = "Query path:\na.jpg\nPredictions paths:\nb.jpg\nc.jpg\n"


def placed_photo(number: int) -> bytes:
    """A photo with time and place in its EXIF."""
    exif = Image.Exif()
    exif[0x8769] = {0x9003: f"2024:05:01 12:00:0{number}"}
    exif[0x8825] = {1: "N", 2: (47.0, 0.0, float(number)), 3: "E", 4: (8.0, 0.0, 0.0), 17: 90.0}
    buffer = io.BytesIO()
    Image.fromarray(texture(number, 24, 32)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def first(name: str, files: dict[str, str | bytes]) -> dict[str, str | bytes]:
    return {name: files[name], **files}


KINDS = {
    "TUM": trajectory("poses.txt", *TUM),
    "EuRoC": trajectory("data.csv", *(f"{T0 + n}000000000,{n},0,0,1,0,0,0" for n in range(4))),
    "KITTI": trajectory("poses.txt", *MATRICES, times_txt="0\n1\n2\n3\n"),
    "KITTI's times": Kind(
        {"times.txt": "0\n1\n2\n3\n", "poses.txt": rows(*MATRICES)},
        lambda root: read_trajectory(root / "poses.txt"),
    ),
    "table": trajectory(
        "poses.csv",
        "header.stamp.sec,header.stamp.nanosec,x,y,z,qx,qy,qz,qw",
        *(f"{T0},{n},{n},0,0,0,0,0,1" for n in range(4)),
    ),
    "ISO 8601": trajectory(
        "poses.csv",
        "time,x,y,z,qx,qy,qz,qw",
        *(f"2024-05-01T12:00:0{n}.5+02:00,{n},0,0,0,0,0,1" for n in range(4)),
    ),
    "latitudes": trajectory(
        "fix.csv",
        "timestamp,latitude,longitude,altitude,heading",
        *(f"{T0 + n},47.0000{n},8.0000{n},400,{n}" for n in range(4)),
    ),
    "RTKLIB": trajectory(
        "a.pos",
        "%  GPST   latitude(deg) longitude(deg)  height(m)   Q  ns   sdn(m)   sde(m)   sdu(m)",
        *(
            f"2024/05/01 12:00:0{n}.000 47.0000{n} 8.0000{n} 400 1 9 0.01 0.01 0.02"
            for n in range(4)
        ),
    ),
    "RTKLIB's weeks": trajectory(
        "a.pos",
        "%  GPST   x-ecef(m) y-ecef(m) z-ecef(m)   Q  ns   sdx(m)   sdy(m)   sdz(m)",
        *(f"2312 30000{n}.000 431{n}000 606000 4641000 1 9 0.01 0.01 0.02" for n in range(4)),
    ),
    "images.csv": Kind(
        {
            "images.csv": rows(
                ",".join(IMAGE_COLUMNS),
                *(f"{n},{T0 + n},front,day,a{n}.jpg,a{n}.jpg,{n},0,0,0,0,0,1" for n in range(3)),
            )
        },
        lambda root: read_records(root / "images.csv"),
    ),
    "odom.csv": Kind({"odom.csv": rows(",".join(ODOM_COLUMNS), *ODOM)}, read_odometry),
    "fix.csv": Kind(
        {"fix.csv": rows(",".join(FIX_COLUMNS), "1,47,8,400,1", "2,47.1,8,400,2")},
        lambda root: read_table(root / "fix.csv", FIX_COLUMNS),
    ),
    "fixes of a map": Kind(
        {"fix.csv": rows("stamp_ns,latitude,longitude,altitude", "1,47,8,400", "2,47.1,8,400")},
        lambda root: read_fixes(root / "fix.csv"),
    ),
    "GeoJSON": Kind(
        {
            "area.json": json.dumps(
                {
                    "type": "FeatureCollection",
                    "features": [
                        FEATURE,
                        {"type": "GeometryCollection", "geometries": [SQUARE]},
                        {"type": "MultiPolygon", "coordinates": [[RING], [RING]]},
                    ],
                }
            )
        },
        lambda root: read_geojson(root / "area.json", PLACED),  # type: ignore[arg-type]
    ),
    "pairs": Kind({"p.txt": rows("a b", "a c")}, lambda root: read_predictions(root / "p.txt")),
    "predictions": Kind(
        {"p.csv": rows("query,1,2", "a,b,c", "d,e,f")},
        lambda root: read_predictions(root / "p.csv"),
    ),
    "folder of predictions": Kind(
        {"p/0.txt": PATHS, "p/1.txt": PATHS}, lambda root: read_predictions(root / "p")
    ),
    "results.json": Kind({"results.json": json.dumps(RESULTS)}, read_results),
    "calibration": Kind(
        {"front.yaml": CALIBRATION}, lambda root: read_info_file(root / "front.yaml")
    ),
    "settings": Kind(
        {"config.yaml": "candidates: 5\nsequence: {enabled: true}\ndomain: {override: day}\n"},
        lambda root: build(
            LocalizerConfig,
            read_yaml(root / "config.yaml", ConfigError),
            str(root / "config.yaml"),
        ),
    ),
    **{
        f"COLMAP's {name}": Kind(first(name, files), Colmap("day", scale=1.0).read)
        for files in (COLMAP, COLMAP_BINARY)
        for name in files
        if name != "images/a.jpg"
    },
    "VisualSFM": Kind(
        {"a.nvm": rows("NVM_V3", "2", "a.jpg 50 1 0 0 0 1 2 3 0 0", "b.jpg 50 1 0 0 0 4 5 6 0 0")},
        lambda root: read_nvm(root / "a.nvm"),
    ),
    "nerfstudio": Kind(
        {"transforms.json": json.dumps(NERF), "a.jpg": JPEG, "b.jpg": JPEG},
        Nerfstudio("day", scale=1.0).read,
    ),
    **{
        f"KITTI odometry's {Path(name).stem}": Kind(
            first(name, KITTI), KittiOdometry("00", "day").read
        )
        for name in KITTI
        if name.endswith("txt")
    },
    **{
        f"TUM's {Path(name).stem}": Kind(first(name, TUM_FOLDER), Tum("day").read)
        for name in TUM_FOLDER
        if name.endswith("txt")
    },
    **{
        f"CMU's {Path(name).stem}": Kind(first(name, CMU), CmuSeasons(2).read)
        for name in CMU
        if name.endswith("txt")
    },
}


ROBOTCAR = {
    "intrinsics/left_intrinsics.txt": rows("fx 400", "fy 400", "cx 512", "cy 512"),
    "robotcar_v2_train.txt": rows("rain/rear/1417176458999821.jpg 1 0 0 1 0 1 0 2 0 0 1 3 0 0 0 1"),
    **{f"intrinsics/{c}_intrinsics.txt": "fx 4\nfy 4\ncx 5\ncy 5\n" for c in ("rear", "right")},
    "3D-models/all-merged/all.nvm": rows("NVM_V3", "1", "images/a/left/1.jpg 4 1 0 0 0 1 2 3 0 0"),
    "images/rain/rear/1417176458999821.jpg": JPEG,
}
KINDS |= {
    "photos": Kind(
        {"a.jpg": placed_photo(0), "b.jpg": placed_photo(1), "c.jpg": placed_photo(2)},
        Photos("day").read,
    ),
    "rules": Kind(
        {"rules.yaml": "fog_day: {sun_elevation: [6, 90], months: [6, 7], weather: [fog]}\n"},
        lambda root: load_rules(root / "rules.yaml"),
    ),
    **{
        f"RobotCar's {Path(name).stem}": Kind(first(name, ROBOTCAR), RobotcarSeasons().read)
        for name in ROBOTCAR
        if name.endswith("txt")
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def sound(folder: Path, name: str) -> Path:
    """The folder of a kind's sound files, written once."""
    root = folder / str(list(KINDS).index(name))
    if not root.exists():
        write(root, KINDS[name].files)
        KINDS[name].read(root)
    return root


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
@few(60)
def test_a_damaged_file_is_read_or_refused_by_name(name, folder, data):
    root, kind = sound(folder, name), KINDS[name]
    path, whole = next(iter(kind.files.items()))
    if isinstance(whole, bytes) or not data.draw(st.integers(0, 5)):
        content = whole if isinstance(whole, bytes) else whole.encode()
        (root / path).write_bytes(data.draw(damaged(content)))
    else:
        (root / path).write_bytes(data.draw(edited(whole)))
    read_or_refuse(lambda: kind.read(root), root)


HUGE = "9" * 5000
SMALLEST = [
    ("TUM", "1e99999999999999999999 0 0 0 0 0 0 1"),
    ("TUM", f"{HUGE} 0 0 0 0 0 0 1"),
    ("KITTI", "1e25 0 0 1 0 1 0 0 0 0 1 0"),
    ("RTKLIB", "2024/05/01 9223372036:00:00 47 8 400 1 9 0 0 0"),
    ("fixes of a map", "stamp_ns,latitude,longitude\n9223372036854775808,47,8"),
    ("odom.csv", f"{','.join(ODOM_COLUMNS)}\n{2**63},0,0,0,0,0,0,1,1,0"),
    ("VisualSFM", f"NVM_V3\n{10**25}"),
    ("VisualSFM", "NVM_V3\n²"),
    ("TUM's rgb", f"{T0} a\0.jpg"),
    ("TUM's rgb", f"{T0} \ud800.jpg"),
    ("pairs", "\ud800 b"),
    ("predictions", f"a,b\n{HUGE * 40},c"),
    ("latitudes", "timestamp,latitude\rlongitude\n1,2,3"),
    ("images.csv", "id,\rstamp_ns"),
    ("GeoJSON", "[]"),
    ("GeoJSON", '{"type": "GeometryCollection", "geometries": 5}'),
    ("GeoJSON", '{"type": "FeatureCollection", "features": {"a": 1}}'),
    ("GeoJSON", '{"type": "Polygon", "coordinates": "x"}'),
    ("GeoJSON", '{"type": "Polygon", "coordinates": [[]]}'),
    ("GeoJSON", '{"type": "MultiPolygon", "coordinates": [[[]], []]}'),
    ("GeoJSON", '{"type": "Polygon", "coordinates": [[[1e400, 1], [1, 1], [2, 2]]]}'),
    ("calibration", "camera_matrix: {data: null}"),
    ("KITTI odometry's calib", "P2: 1 1 0 0 1 1 0 0 0 0 1 0"),
    ("KITTI odometry's times", "1e400"),
]


@pytest.mark.parametrize("number", range(len(SMALLEST)))
def test_what_python_refuses_is_refused_by_name(number, folder):
    name, text = SMALLEST[number]
    root = sound(folder, name)
    (root / next(iter(KINDS[name].files))).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DisamError, match=re.escape(str(root))):
        KINDS[name].read(root)


numbers = st.sampled_from([0, 1, -1, 2**62, 1.5, float("inf"), float("nan"), "", "x", b"", None])
cells = numbers | st.binary(max_size=60) | st.just(MODEL) | st.just(PICTURE)
COLUMNS = ["Node.id", "Node.stamp", "Data.id", "Data.image", "Data.calibration"]
COLUMNS += ["Admin.version", "Admin.opt_ids", "Admin.opt_poses"]


@given(data=st.data())
@few(60)
def test_a_database_with_any_value_in_any_column_is_read_or_refused(tmp_path, data):
    path, whole = tmp_path / "rtabmap.db", tmp_path / "whole.db"
    if not whole.exists():
        save_rtabmap(whole)
    shutil.copyfile(whole, path)
    with sqlite3.connect(path) as made:
        made.execute("PRAGMA synchronous = OFF")
        for column in data.draw(st.lists(st.sampled_from(COLUMNS), max_size=2)):
            table, name = column.split(".")
            made.execute(f"UPDATE {table} SET {name} = ?", (data.draw(cells),))
    made.close()
    path.write_bytes(data.draw(st.just(path.read_bytes()) | damaged(path.read_bytes())))

    def read() -> None:
        drive = Rtabmap("day").read(path)
        assert drive.pixels is not None
        for image in drive.images:
            drive.pixels(image)

    read_or_refuse(read, path)


@given(data=st.data())
@few(15)
def test_a_damaged_network_is_imported_or_refused(tmp_path, data):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    path = write_onnx(tmp_path / "net.onnx")
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    output = tmp_path / "model"
    shutil.rmtree(output, ignore_errors=True)
    read_or_refuse(lambda: run_import(path, output), path)


@pytest.mark.parametrize("backbone", ["resnet18", "mobile"])
@given(data=st.data())
@few(30)
def test_damaged_weights_of_a_backbone_are_read_or_refused(backbone, tmp_path, data):
    path = tmp_path / "net.pth"
    torch.save({"conv1.weight": torch.zeros(2), "bn1.bias": torch.zeros(3)}, path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    config = GlobalConfig(backbone=backbone)
    read_or_refuse(lambda: read_backbone_weights(path, config), path)
