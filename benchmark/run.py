# SPDX-License-Identifier: Apache-2.0
"""`make bench`: measures and writes docs/performance.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark import training_step
from benchmark.machine import circumstances
from benchmark.node_latency import node_figures
from benchmark.ranking import COMPACT, bytes_per_image, coarse_to_fine, describe_all
from benchmark.speed import LOOP_IMAGES, MAP_IMAGES, query_times
from demo.drives import CONDITIONS, DATA, MODEL, read_drive
from disam_ros import image
from disam_ros.checkpoint import Model, create_model, load_model
from disam_ros.dataset import Dataset
from disam_ros.evaluation import score
from disam_ros.geometry import Transform
from disam_ros.networks import PRESETS

OUTPUT = Path("docs/performance.md")
FULL_STRIDE = 5  # every 5th image for the full-size network: its exact features are 8 MiB each


def main() -> None:
    """Run all measurements and write the page."""
    model = load_model(MODEL)
    full = create_model(PRESETS["full"], model.domains, "full, UNTRAINED")
    sections = [
        "# Performance\n\nWritten by `make bench`; figures of one run on one machine.\n",
        f"Measured under: {circumstances()}.\n",
        _node_section(),
        _speed_section(),
        training_step.render(training_step.measure()),
        _ranking_section(f"demo model, {model.label}", model, stride=1),
        _ranking_section("full size, untrained", full, stride=FULL_STRIDE),
    ]
    OUTPUT.write_text("\n".join(sections))
    print(OUTPUT.read_text())


def _node_section() -> str:
    rows = {reliability: node_figures(reliability) for reliability in ("auto", "best_effort")}
    names = list(rows["auto"])
    lines = [
        "## The node, raw 640×480 images at 5 Hz over DDS\n",
        "Times in ms, told by the node; the replay publishes reliably. Best effort loses raw "
        "images inside Fast DDS (README).\n",
        f"| reliability | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    lines += [f"| {name} | {' | '.join(row.values())} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def _speed_section() -> str:
    rows = {preset: query_times(preset) for preset in PRESETS}
    names = list(next(iter(rows.values())))
    lines = [
        f"## One query against {MAP_IMAGES} map images, CPU\n",
        "Medians in ms, 640×480 image in. `loop`: the coarse stage as a Python loop over exact "
        f"features, timed on {LOOP_IMAGES} images and scaled; ratio: (loop + encoders) / total.\n",
        f"| preset | {' | '.join(names)} | ratio |",
        "|---" * (len(names) + 2) + "|",
    ]
    for preset, times in rows.items():
        ratio = (times["loop"] + times["two encoders"]) / times["total"]
        cells = " | ".join(f"{times[name]:.1f}" for name in names)
        lines.append(f"| {preset} | {cells} | {ratio:.0f}× |")
    return "\n".join(lines) + "\n"


def _ranking_section(title: str, model: Model, stride: int) -> str:
    """What compact descriptors cost, on the demo's town."""
    reference = Dataset(DATA / "reference")
    records = reference.records[::stride]
    poses = [record.map_from_camera for record in records]
    camera = reference.info.cameras["front"].base_from_camera
    images = [image.read(reference.path(record)) for record in records]
    references = describe_all(model, "summer_day", images, COMPACT.values())
    lines = [
        f"## Ranking cost of compact descriptors: {title}\n",
        f"Season town, {len(records)} map images; R@1 within 5 m, share within 0.5 m 5°, percent; "
        "same: share of queries answered as with exact features.\n",
        "| descriptors | KiB per image | "
        + " | ".join(f"{c} R@1 | {c} 0.5 m 5° | {c} same" for c in CONDITIONS)
        + " |",
        "|---" * (2 + 3 * len(CONDITIONS)) + "|",
    ]
    cells: dict[str, list[str]] = {
        name: [f"{bytes_per_image(r) / 1024:.0f}"]
        for name, r in zip(COMPACT, references, strict=True)
    }
    for condition in CONDITIONS:
        drive = read_drive(DATA / condition)
        truth = [pose @ camera for pose in drive.truth[::stride]]
        queries = describe_all(model, condition, drive.images[::stride], COMPACT.values())
        exact = coarse_to_fine(queries[0], references[0])
        for name, query, reference_rows in zip(COMPACT, queries, references, strict=True):
            found = coarse_to_fine(query, reference_rows)
            cells[name] += _ranking_cells(truth, poses, found, exact)
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in cells.items()]
    return "\n".join(lines) + "\n"


def _ranking_cells(
    truth: list[Transform], poses: list[Transform], found: np.ndarray, exact: np.ndarray
) -> list[str]:
    result = score(truth, [poses[i] for i in found])
    shares = (result.recall_at_1, result.within["0.5 m 5°"], float(np.mean(found == exact)))
    return [f"{100 * share:.1f}" for share in shares]


if __name__ == "__main__":
    main()
