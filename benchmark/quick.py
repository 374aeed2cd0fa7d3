# SPDX-License-Identifier: Apache-2.0
"""Speed of this working tree beside an earlier commit, in paired runs of less than three minutes.

`python -m benchmark.quick [--against COMMIT] [--rounds N]` prints, for both, the processor's time
for an image of a drive with the sequence on, for an image of a map without keypoints and for the
start, on one thread, and the resident memory after it all. Runs of both alternate, so that a
machine that becomes slower meets both; what counts is the median of the ratios of pairs. Without
COMMIT it is the last tag, or where there is none the commit before HEAD. Images are noise, smooth
enough to resemble their neighbours on the route.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
ROUNDS, IMAGES = 5, 150
PARTS = "disam_ros", "models", "package.xml"  # of a commit, that a run needs
FIGURES = {
    "image": "an image with the sequence [ms]",
    "building": "an image of the map [ms]",
    "start": "import, model and map [ms]",
    "memory": "resident [MiB]",
}
Figures = dict[str, float]

# Runs in a process of its own with either tree on its path; thus it uses the public interface only.
RUN = """
import json, resource, sys, time
begin = time.process_time()
from disam_ros import Frame, LocalizerConfig, MapBuilderConfig, Pipeline, Shot, load_model
started = time.process_time() - begin
import cv2
import numpy as np
from pathlib import Path
from disam_ros.camera import Camera
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.datasets.sources import open_dataset
from disam_ros.geometry import BODY_FROM_OPTICAL, Transform
from disam_ros.mapping.builder import build_map

folder, model_dir, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(0)
noise = rng.integers(0, 256, (30, 40 + 4 * count, 3), np.uint8)
scene = cv2.resize(noise, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)
images = [np.ascontiguousarray(scene[:, 64 * k : 64 * k + 640]) for k in range(count)]
mount = Transform.from_rotation(np.zeros(3), BODY_FROM_OPTICAL)
lens = Camera(640, 480, 500.0, 500.0, 320.0, 240.0, (), mount)
with DatasetWriter(folder / "data", DatasetInfo("map", {"front": lens})) as writer:
    for k, image in enumerate(images):
        pose = Transform(np.array([float(k), 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])) @ mount
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        writer.add(jpeg, (k + 1) * 10**9, "front", "summer_day", pose)
model, source = load_model(model_dir), open_dataset(folder / "data")
begin = time.process_time()
build_map(source, model, folder / "map", MapBuilderConfig(keypoints=0), show_progress=False)
building = (time.process_time() - begin) / count
begin = time.process_time()
pipeline = Pipeline.open(folder / "map", model_dir, LocalizerConfig(device="cpu"))
started += time.process_time() - begin
times = []
for k, image in enumerate(images):
    begin = time.process_time()
    pipeline.process([Shot(Frame(image, "front", (k + 1) * 10**9))])
    times.append(time.process_time() - begin)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
figures = dict(image=np.median(times[5:]), building=building, start=started)
print(json.dumps({name: 1e3 * value for name, value in figures.items()} | {"memory": memory}))
"""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="", metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    against = arguments.against or last_release()
    with tempfile.TemporaryDirectory() as scratch:
        before = extracted(against, Path(scratch))
        pairs = [(run(before), run(ROOT)) for _ in range(arguments.rounds)]
    print(table(pairs, against))


def last_release() -> str:
    """Returns the last tag, or the commit before HEAD where there is none."""
    described = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"], cwd=ROOT, capture_output=True, text=True
    )
    return described.stdout.strip() or "HEAD~1"


def extracted(commit: str, folder: Path) -> Path:
    """Writes the package of a commit into a folder. Exits with git's words for an unknown one."""
    archive = subprocess.run(
        ["git", "archive", commit, "--", *PARTS], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        sys.exit(f"--against {commit}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def run(tree: Path, images: int = IMAGES) -> Figures:
    """Figures of a tree, in a process of its own. Raises CalledProcessError."""
    paths = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", RUN, scratch, str(tree / "models/outdoor"), str(images)]
        ran = subprocess.run(
            command, env=paths, cwd=tree, stdout=subprocess.PIPE, text=True, check=True
        )
    figures: Figures = json.loads(ran.stdout)
    return figures


def table(pairs: list[tuple[Figures, Figures]], against: str) -> str:
    """Makes a table in Markdown of runs before and now; the ratio is the median of the pairs'."""
    lines = [f"| | {against} | now | ratio | of the pairs |", "|---|---|---|---|---|"]
    for name, text in FIGURES.items():
        before, now = ([pair[side][name] for pair in pairs] for side in (0, 1))
        ratios = sorted(b / a for a, b in zip(before, now, strict=True))
        lines.append(
            f"| {text} | {median(before):.1f} | {median(now):.1f} | {median(ratios):.2f} | "
            f"{ratios[0]:.2f}–{ratios[-1]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
