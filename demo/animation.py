# SPDX-License-Identifier: Apache-2.0
"""Makes the README's picture of a drive, its matches and its route from the output of `make demo`.

python -m demo.animation        # docs/images/night.webp
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from disam_ros import image
from disam_ros.datasets.dataset import Dataset
from disam_ros.demo.drives import DATA, REFERENCE, read_drive
from disam_ros.errors import DisamError, OutputError
from disam_ros.files.writing import atomic_file

Point = NDArray[np.float64]  # x, y [m]

OUTPUT = Path("docs/images/night.webp")
STEP = 3  # every third image of the drive
SECONDS = 0.2  # duration of a frame
QUALITY = 55  # of WebP, 0 to 100
WIDTH, HEIGHT, PLAN, TITLE, GAP = 320, 240, 240, 26, 6  # pixels
NEAR = 5.0  # metres from the true place up to which an answer is right
DARK, GREY, WHITE, GREEN, RED = "#10151c", "#566273", "#e8edf2", "#3fbf6f", "#e5534b"
FONT = ImageFont.load_default(15)


def frames(evaluation: Path, condition: str) -> Iterator[Image.Image]:
    """Draws the frames. evaluation: directory that the demo wrote."""
    answers = _answers(evaluation, condition)
    drive, reference = read_drive(DATA / condition), Dataset(REFERENCE)
    poses = [record.map_from_camera for record in reference.records]
    plan = _Plan(np.stack([pose.translation[:2] for pose in poses if pose is not None]))
    way: list[tuple[Point, Point, bool]] = []
    for stamp_ns, query, truth in zip(drive.stamps_ns, drive.images, drive.truth, strict=True):
        source, position = answers.get(stamp_ns, ("", np.full(2, np.nan)))
        error = float(np.linalg.norm(position - truth.translation[:2]))
        way.append((truth.translation[:2], position, error <= NEAR))
        if len(way) % STEP == 0:
            match = image.read(REFERENCE / source) if source else np.zeros_like(query)
            title = f"match on the summer map, {error:.1f} m off" if source else "no answer"
            yield _frame(query, match, title, plan.draw(way), error <= NEAR)


def _answers(evaluation: Path, condition: str) -> dict[int, tuple[str, Point]]:
    """Reads the file of the matched map image and the vehicle's position by stamp [ns]."""
    try:
        with (evaluation / "answers.csv").open() as file:
            sources = {int(r["stamp_ns"]): r["matched_source"] for r in csv.DictReader(file)}
        poses = (evaluation / "trajectories" / f"{condition}.txt").read_text().splitlines()
    except FileNotFoundError as error:
        raise OutputError(f"{error.filename} is not there: run `make demo` first") from error
    answers: dict[int, tuple[str, Point]] = {}
    for seconds, x, y, *_ in map(str.split, poses):
        stamp_ns = int(seconds.replace(".", ""))  # nine decimals
        answers[stamp_ns] = (sources[stamp_ns], np.array([float(x), float(y)]))
    return answers


class _Plan:
    """The route seen from above. route: positions [n, 2] [m]."""

    def __init__(self, route: NDArray[np.float64]) -> None:
        low, high = route.min(axis=0), route.max(axis=0)
        self._scale = (PLAN - 40) / (high - low).max()
        self._centre = (low + high) / 2
        self._route = self._pixels(route)

    def draw(self, way: list[tuple[Point, Point, bool]]) -> Image.Image:
        """Draws the images so far. way: true position, answered one and whether that is right."""
        picture = Image.new("RGB", (PLAN, HEIGHT), DARK)
        draw = ImageDraw.Draw(picture)
        draw.line(self._route, GREY, 7, joint="curve")
        for _, position, right in way:
            if np.isfinite(position).all():
                ((x, y),) = self._pixels(position[None])
                draw.circle((x, y), 2.5, GREEN if right else RED)
        ((x, y),) = self._pixels(way[-1][0][None])
        draw.circle((x, y), 6, outline=WHITE, width=2)
        return picture

    def _pixels(self, positions: NDArray[np.float64]) -> list[tuple[float, float]]:
        moved = (positions - self._centre) * self._scale * (1, -1) + (PLAN / 2, HEIGHT / 2)
        return [(float(x), float(y)) for x, y in moved]


def _frame(
    query: NDArray[np.uint8],
    match: NDArray[np.uint8],
    title: str,
    plan: Image.Image,
    right: bool,
) -> Image.Image:
    """Draws query, match and plan beside each other."""
    picture = Image.new("RGB", (2 * WIDTH + PLAN + 4 * GAP, HEIGHT + TITLE + GAP), DARK)
    draw = ImageDraw.Draw(picture)
    second = WIDTH + 2 * GAP
    picture.paste(Image.fromarray(query), (GAP, TITLE))
    picture.paste(Image.fromarray(match), (second, TITLE))
    picture.paste(plan, (2 * WIDTH + 3 * GAP, TITLE))
    corners = (second, TITLE, second + WIDTH - 1, TITLE + HEIGHT - 1)
    draw.rectangle(corners, outline=GREEN if right else RED, width=3)
    draw.text((GAP, 4), "camera, at night", WHITE, FONT)
    draw.text((second, 4), title, WHITE, FONT)
    draw.text((2 * WIDTH + 3 * GAP, 4), "the way so far", WHITE, FONT)
    return picture


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the animation. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluation", type=Path, default=Path("demo_output/evaluation"))
    parser.add_argument("--output", type=Path, default=OUTPUT, help="WebP file to write")
    arguments = parser.parse_args(argv)
    try:
        first, *rest = frames(arguments.evaluation, "night")
    except DisamError as error:
        print(f"animation: {error}", file=sys.stderr)
        return 1
    with atomic_file(arguments.output, "wb") as file:
        first.save(
            file,
            "WEBP",
            save_all=True,
            append_images=rest,
            duration=round(1000 * SECONDS),
            loop=0,
            quality=QUALITY,
            method=6,
        )
    print(f"{arguments.output}: {1 + len(rest)} frames, {arguments.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
