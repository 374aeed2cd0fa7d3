# SPDX-License-Identifier: Apache-2.0
"""Recall@1 and recall@5 of the running node and of every peer on Gardens Point.

`python -m benchmark.accuracy.gardens_point --data DIR --model DIR` prints them for other folders
and models. DIR holds day_left, day_right and night_right, one image per place; frame i is place i.
Maps and bags are made by the package's own tools. An answer is right within ±2 frames. This set is
for testing only: nothing is trained, tuned or chosen on it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy.drives import EVERY_IMAGE, localized
from benchmark.accuracy.page import PAGE
from benchmark.peers import dinov2, peer_similarities
from disam_ros import image
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig, MapBuilderConfig
from disam_ros.datasets.bags.from_dataset import dataset_to_bag
from disam_ros.datasets.dataset import Dataset, DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import ImageSource, PosedImage, open_dataset
from disam_ros.errors import DatasetError
from disam_ros.features.learned.weights import installed
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import Model, load_model
from disam_ros.nodes.localizer.publishers.answer_status import ranked_ids
from disam_ros.nodes.replay.node_run import NodeOptions, NodeRun, run_node_on_bag

DATA = Path("data/gardens_point")
SHIPPED = Path(__file__).parents[2] / "models"
QUERIES = {"day_left": ("day_right", "night_right"), "day_right": ("night_right",)}  # by map
TOLERANCE = 2  # frames
FIRST = 5  # candidates of recall@5
PERIOD_NS = 200_000_000  # 5 Hz
START_NS = 1_000_000_000
KEYPOINTS = MapBuilderConfig(keyframe_distance=0.0, local_features="xfeat")
BASE_FROM_CAMERA = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)

Recalls = dict[str, float]  # "R@1", "R@5" → share of queries, 0…1


def main() -> None:
    """Print the section for the given models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the three drives")
    parser.add_argument(
        "--model", type=Path, action="append", help="model directory; may be repeated"
    )
    arguments = parser.parse_args()
    PAGE.show("gardens_point", measure(arguments.data, arguments.model))


def measure(data: Path = DATA, models: Sequence[Path] | None = None) -> dict[str, Any]:
    """Recalls by method and pair of drives. models: directories; None: every shipped one."""
    if models is None:
        models = sorted(path.parent for path in SHIPPED.glob("*/model.json"))
    loaded = {directory: load_model(directory) for directory in models}
    methods: dict[str, dict[str, Recalls]] = {}
    for map_drive, query_drives in QUERIES.items():
        drives = [files_of(data / name) for name in (map_drive, *query_drives)]
        peers = peer_recalls(*drives)
        peers["chance"] = [chance(len(drives[0]), len(files)) for files in drives[1:]]
        ours = {
            f"{model.name}{name}": shares
            for directory, model in loaded.items()
            for name, shares in node_recalls(model, directory, data, map_drive).items()
        }
        rivals = dinov2_recalls(data, map_drive) if dinov2.is_installed() else {}
        for method, recalls in {**ours, **rivals, **peers}.items():
            pairs = (f"{map_drive} → {name}" for name in query_drives)
            methods.setdefault(method, {}).update(zip(pairs, recalls, strict=True))
    return {
        "images": len(files_of(data / "day_left")),
        "models": [model.label for model in loaded.values()],
        "methods": methods,
    }


def node_recalls(
    model: Model, directory: Path, data: Path, map_drive: str
) -> dict[str, list[Recalls]]:
    """R@1 of the running node and R@5 of its candidates, by settings, per drive of queries.

    "": without keypoints, each image alone, its pose published whatever its probability; the
    others: as a sequence without odometry, at the defaults, with XFeat where it is installed. These
    cameras have no intrinsics.
    """
    shares: dict[str, list[Recalls]] = {"": [], ", sequence": []}
    least = LocalizerConfig().min_probability
    if installed("xfeat"):
        shares |= {", XFeat": [], ", sequence, XFeat": []}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        reference = aligned_dataset(data / map_drive, root / map_drive, domain_of(model, map_drive))
        source = without_intrinsics(open_dataset(reference.directory))
        place_map = build_map(source, model, root / "map", EVERY_IMAGE)
        if ", XFeat" in shares:
            build_map(source, model, root / "xfeat", KEYPOINTS)
        for name in QUERIES[map_drive]:
            domain = domain_of(model, name)
            queries = aligned_dataset(data / name, root / name, domain)
            bag = root / f"{name}_bag"
            dataset_to_bag(queries, bag, show_progress=False)
            localizer = Localizer(model, place_map, LocalizerConfig())
            images = open_dataset(queries.directory).images
            several = recall(candidates(images, domain, localizer))
            for settings, recalls in shares.items():
                directory_of_map = root / ("xfeat" if "XFeat" in settings else "map")
                parameters = {
                    "localizer.domain.override": domain,
                    "localizer.sequence.enabled": "sequence" in settings,
                    "localizer.min_probability": least if "sequence" in settings else 0.0,
                }
                options = NodeOptions(parameters=parameters)
                run = run_node_on_bag(bag, directory_of_map, directory, options)
                first = recall(published(queries, run))
                recalls.append({"R@1": first, f"R@{FIRST}": several})
    return shares


def without_intrinsics(source: ImageSource) -> ImageSource:
    """Returns the images as those of cameras whose intrinsics are unknown."""
    cameras = {
        name: replace(camera, fx=0.0, fy=0.0) for name, camera in source.info.cameras.items()
    }
    return replace(source, info=replace(source.info, cameras=cameras))


def published(queries: Dataset, run: NodeRun) -> list[list[float]]:
    """Frames of the map images that the running node answered with [Q, 1]; infinite where it
    published no pose."""
    stamps = [record.stamp_ns for record in queries.records]
    return [
        [ranked_ids(run.answers[stamp])[0] if stamp in run.poses else np.inf] for stamp in stamps
    ]


def candidates(
    queries: Iterable[PosedImage], domain: str, localizer: Localizer
) -> list[list[float]]:
    """Frames of the localizer's first candidates [Q, FIRST]; infinite where nothing is visible."""
    return [
        [c.map_from_camera.translation[0] for c in answer.candidates[:FIRST]]
        if answer
        else [np.inf] * FIRST
        for answer in localized(localizer, queries, domain)
    ]


def peer_recalls(
    map_files: Sequence[Path], *query_files: Sequence[Path]
) -> dict[str, list[Recalls]]:
    """R@1 and R@5 of every peer, per drive of queries."""
    map_images, *drives = ([image.read(f) for f in files] for files in (map_files, *query_files))
    return {
        name: [ranked_recalls(similarities) for similarities in every]
        for name, every in peer_similarities(map_images, drives)
    }


def dinov2_recalls(data: Path, map_drive: str) -> dict[str, list[Recalls]]:
    """Recalls of DINOv2 offline, per drive of queries: with our matching, and as AnyLoc."""
    names = map_drive, *QUERIES[map_drive]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        model = dinov2.imported(root)
        domain = model.domain_names()[0]
        drives = {name: aligned_dataset(data / name, root / name, domain) for name in names}
        source = without_intrinsics(open_dataset(drives[map_drive].directory))
        localizer = Localizer(
            model, build_map(source, model, root / "map", EVERY_IMAGE), LocalizerConfig()
        )
        queries = [open_dataset(drives[name].directory).images for name in names[1:]]
        ours = [ranks(candidates(images, domain, localizer)) for images in queries]
        mapped, *others = ([image.read(f) for f in files_of(data / name)] for name in names)
        theirs = [dinov2.anyloc_similarity(mapped, drive, root) for drive in others]
    return {
        "DINOv2 ViT-S/14, imported": ours,
        "DINOv2 ViT-S/14, VLAD": [ranked_recalls(similarities) for similarities in theirs],
    }


def ranks(frames: Sequence[Sequence[float]] | NDArray[Any], tolerance: int = TOLERANCE) -> Recalls:
    """R@1 and R@5 of the frames of ranked candidates [Q, at least FIRST]."""
    ranked = np.asarray(frames)
    return {f"R@{n}": recall(ranked[:, :n], tolerance) for n in (1, FIRST)}


def ranked_recalls(similarities: NDArray[Any], tolerance: int = TOLERANCE) -> Recalls:
    """R@1 and R@5 of similarities [Q, M]; query i is of frame i."""
    return ranks(np.argsort(-similarities, axis=1, kind="stable"), tolerance)


def recall(ranks: Sequence[Sequence[float]] | NDArray[Any], tolerance: int = TOLERANCE) -> float:
    """Recall@N: share of queries with a right frame among those found [Q, N]."""
    truth = np.arange(len(ranks))[:, None]
    return float((np.abs(np.asarray(ranks) - truth) <= tolerance + 1e-6).any(1).mean())


def chance(places: int, queries: int, tolerance: int = TOLERANCE) -> Recalls:
    """Expected recall of map images drawn at random without repetition."""
    near = np.abs(np.arange(queries)[:, None] - np.arange(places)) <= tolerance
    wrong = places - near.sum(1)  # [Q]
    miss = np.cumprod([(wrong - n) / (places - n) for n in range(FIRST)], axis=0)  # [FIRST, Q]
    return {f"R@{n}": float(1 - miss[n - 1].mean()) for n in (1, FIRST)}


def domain_of(model: Model, drive: str) -> str:
    """The model's name for the drive's light: day (the season models: summer_day) or night."""
    light = drive.split("_")[0]
    return "summer_day" if light not in model.domain_names() and light == "day" else light


def aligned_dataset(folder: Path, directory: Path, domain: str) -> Dataset:
    """A folder of images in order → dataset directory with frame i at x = i metres."""
    files = files_of(folder)
    camera = camera_of(image.read(files[0]).shape)
    with DatasetWriter(directory, DatasetInfo(folder.name, {"front": camera})) as writer:
        for index, file in enumerate(files):
            base = Transform(np.array([index, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
            stamp_ns = START_NS + index * PERIOD_NS
            writer.add(
                file.read_bytes(), stamp_ns, "front", domain, base @ BASE_FROM_CAMERA, file.name
            )
    return Dataset(directory)


def camera_of(shape: tuple[int, ...]) -> Camera:
    """A camera for images of this shape [H, W, 3], with intrinsics that nothing relies on."""
    height, width = shape[:2]
    return Camera(width, height, width, width, width / 2, height / 2, (), BASE_FROM_CAMERA)


def files_of(folder: Path) -> list[Path]:
    """The images of a drive, in order. Raises DatasetError without any."""
    files = sorted(folder.glob("*.jpg"))
    if not files:
        raise DatasetError(f"no .jpg images in {folder}: name the folder of the three drives")
    return files


if __name__ == "__main__":
    main()
