# SPDX-License-Identifier: Apache-2.0
"""Soak: the localizer node for hours under all that may leak, grow or lose an image.

`python -m benchmark.reliability.soak [--minutes N] [--page]`: images at 10 Hz over DDS with
odometry and position priors, loop closures on, a reload of the map every minute and a clock that
jumps an hour ahead and back; beside it a map builder that maps the same drive, and an open page of
`disam view`. Exit code 1 where memory, threads or descriptors of one of them grow after the
warm-up, an image has neither exactly one answer nor a counted drop, or the live map cannot be
completed and opened. Ctrl-C ends it early; what was measured is shown and judged.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rclpy.executors import ExternalShutdownException
from tqdm import tqdm

from benchmark.machine import circumstances, load, resident
from benchmark.reliability.companions import Companions, companions
from benchmark.reliability.page import PAGE
from benchmark.reliability.vehicle import Sight, Vehicle
from benchmark.truth import truth_of
from disam_ros.camera import mount
from disam_ros.config import MapBuilderConfig
from disam_ros.datasets.sources import open_dataset
from disam_ros.demo.drives import MODEL, REFERENCE
from disam_ros.errors import DisamError
from disam_ros.mapping.builder import build_map
from disam_ros.mapping.place_map import PlaceMap
from disam_ros.models.model import load_model
from disam_ros.nodes.replay.answer_recorder import AnswerRecorder
from disam_ros.nodes.replay.domain import own_domain
from disam_ros.nodes.replay.localizer_process import localizer_process, require_alive

MINUTES, HZ = 120.0, 10
START_NS = 1_687_348_800_000_000_000  # noon UTC on a day in June
JUMP_NS = 3_600_050_000_000  # no multiple of the period: every stamp occurs once
ROUTE = 240  # images of the drive that is repeated to and fro
GROWTH = 0.02  # of memory after the warm-up
PARTS = 5  # of the time after the warm-up: the last is compared with the first
ROWS = 10  # of the table
PATIENCE = 300.0  # time for the nodes to start, and for its last answers [s]
PARAMETERS = {
    "image_transport": "raw",
    "use_tf": False,
    "use_sim_time": True,
    "loop_closure.enabled": True,
    "localizer.prior.source": "topic",
    # The middleware must not replace images that wait for the node: nothing would count them.
    "qos_overrides./image.subscription.depth": 100,
}
DROPPED = "images dropped"
FIGURES = ("resident", "threads", "descriptors")
COUNTS = (
    "places known",
    "places unknown",
    "priors used",
    "loop closures own",
    "loop closures map",
    "stamps refused",
    "drives started over",
    "inference errors",
)


@dataclass(frozen=True)
class Plan:
    """Numbers of images."""

    images: int  # in all
    warm_up: int
    reload: int = 60 * HZ  # between two reloads
    jump: int = 130 * HZ  # between two jumps of the clock
    sample: int = 5 * HZ  # between two samples

    @classmethod
    def of(cls, minutes: float) -> Plan:
        """Ten minutes of warm-up, in short runs half of the time."""
        images = round(60 * minutes * HZ)
        return cls(images, min(600 * HZ, images // 2))

    def stamp_ns(self, number: int) -> int:
        """Stamp of an image: a period after the last; every other jump is ahead."""
        ahead = number // self.jump % 2
        return START_NS + number * 10**9 // HZ + ahead * JUMP_NS


@dataclass(frozen=True)
class Sample:
    """The node's process after so many images."""

    images: int  # sent
    seconds: float  # since the first
    resident: float  # memory [MiB]
    anonymous: float  # memory without files [MiB]
    threads: int
    descriptors: int  # of open files
    answered: int  # images
    dropped: int  # images
    beside: dict[str, list[float]] = field(default_factory=dict)  # FIGURES of each process


@dataclass
class Run:
    """What a soak has measured."""

    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)  # number by stamp [ns] of the image sent
    foreign: int = 0  # answers to images that were not sent
    reloads: list[str] = field(default_factory=list)  # reason of each failure; empty: a success
    counts: dict[str, int] = field(default_factory=dict)  # of the node's diagnostics
    interrupted: bool = False
    ended: str = ""  # why it ended early
    live_map: list[str] = field(default_factory=list)  # what is wrong with it
    built: dict[str, str] = field(default_factory=dict)  # diagnostics of the map builder
    page: int = 0  # messages to the page

    @property
    def unaccounted(self) -> int:
        """Images without an answer and without a counted drop; negative: too many drops."""
        return sum(not number for number in self.answers.values()) - self.counts.get(DROPPED, 0)

    def growth(self, figure: str) -> tuple[float, float]:
        """Median of a figure in the first and in the last part after the warm-up."""
        return self._ends([getattr(sample, figure) for sample in self._judged()])

    def growth_beside(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Medians of the figures of each process beside the node, as of `growth`."""
        judged = self._judged()
        return {
            name: {
                figure: self._ends([sample.beside[name][number] for sample in judged])
                for number, figure in enumerate(FIGURES)
            }
            for name in (judged[-1].beside if judged else ())
        }

    def _judged(self) -> list[Sample]:
        """Samples after the warm-up."""
        return [sample for sample in self.samples if sample.images > self.plan.warm_up]

    @staticmethod
    def _ends(values: list[float]) -> tuple[float, float]:
        """Medians of the first and of the last part."""
        size = max(1, len(values) // PARTS)
        return (median(values[:size]), median(values[-size:])) if values else (0.0, 0.0)

    def faults(self) -> list[str]:
        """What must not be; empty: the node has passed."""
        reasons = [self.ended] if self.ended else []
        reasons += _grown("", {figure: self.growth(figure) for figure in FIGURES})
        for name, figures_beside in self.growth_beside().items():
            reasons += _grown(f"{name}: ", figures_beside)
        reasons += self.live_map
        if self.unaccounted and not self.interrupted:
            reasons.append(f"{self.unaccounted} images have neither an answer nor a counted drop")
        repeated = self.foreign + sum(number > 1 for number in self.answers.values())
        if repeated:
            reasons.append(f"{repeated} answers too many")
        reasons += [f"a reload failed: {reason}" for reason in set(self.reloads) - {""}]
        if errors := self.counts.get("inference errors", 0):
            reasons.append(f"{errors} images ended in an error of the localizer")
        return reasons


def _grown(prefix: str, growth: dict[str, tuple[float, float]]) -> list[str]:
    """What of a process grew more than it may, after the prefix."""
    reasons = []
    first, last = growth["resident"]
    if last > (1 + GROWTH) * first:
        reasons.append(f"{prefix}memory grew from {first:.0f} to {last:.0f} MiB")
    for figure in ("threads", "descriptors"):
        first, last = growth[figure]
        if last > first:
            reasons.append(f"{prefix}{figure} grew from {first:g} to {last:g}")
    return reasons


def soak(map_dir: Path, model_dir: Path, route: Sequence[Sight], plan: Plan, live_map: Path) -> Run:
    """Drive the route, of known poses, to and fro. Ctrl-C and the node's end keep what there is.

    live_map: directory of the map that is built meanwhile.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain_id, run = own_domain(), Run(plan)
    parameters = {"map": map_dir, "model": model_dir, **PARAMETERS}
    frame = PlaceMap(map_dir, verify=False).header.map_frame
    with (
        AnswerRecorder(domain_id=domain_id) as recorder,
        localizer_process(parameters, {}, domain_id) as process,
        companions(recorder.node, model_dir, live_map, domain_id) as beside,
    ):
        vehicle = Vehicle(recorder.node, route, frame)
        try:
            _connect(recorder, process, vehicle, beside)
            _drive(run, recorder, process, vehicle, beside)
            _drain(run, recorder, process, vehicle)
            run.live_map = beside.finish(recorder)
        except (KeyboardInterrupt, ExternalShutdownException):
            run.interrupted = True
        except DisamError as error:
            run.ended = str(error)
        run.answers = {stamp: recorder.count(stamp) for stamp in run.answers}
        run.foreign = recorder.outcomes.total() - sum(run.answers.values())
        run.reloads = vehicle.reloads()
        run.counts = {key: int(recorder.diagnostics.get(key, 0)) for key in (DROPPED, *COUNTS)}
        run.built, run.page = beside.facts, beside.page.messages
    return run


def _connect(
    recorder: AnswerRecorder,
    process: subprocess.Popen[bytes],
    vehicle: Vehicle,
    beside: Companions,
) -> None:
    """Wait until images reach the node and answers come back. Raises DisamError."""

    def connected() -> bool:
        require_alive(process)
        facts = recorder.diagnostics
        heard = int(facts.get("answer subscribers", 0)) > 0
        active = facts.get("state") == "active" and heard and vehicle.connected()
        return beside.connected() and active

    if not recorder.wait(connected, PATIENCE):
        raise DisamError(f"the node did not become active within {PATIENCE:g} s")


def _drive(
    run: Run,
    recorder: AnswerRecorder,
    process: subprocess.Popen[bytes],
    vehicle: Vehicle,
    beside: Companions,
) -> None:
    """Send the images of the plan, no faster than they are due."""
    plan, began = run.plan, time.monotonic()
    due = began
    with closing(tqdm(total=plan.images, desc="soak", unit="img", disable=None)) as bar:
        for number in range(plan.images):
            recorder.wait(lambda: False, due - time.monotonic())
            due = max(due + 1 / HZ, time.monotonic())
            require_alive(process)
            beside.connected()
            if number and number % plan.reload == 0:
                vehicle.reload()
            run.answers[plan.stamp_ns(number)] = 0
            vehicle.send(number, plan.stamp_ns(number))
            if number % plan.sample == plan.sample - 1:
                sample = _sample(run, recorder, process.pid, time.monotonic() - began)
                processes = beside.processes.items()
                sample.beside.update((name, _figures_of(child.pid)) for name, child in processes)
                run.samples.append(sample)
                recorder.forget()
                bar.set_postfix_str(f"{run.samples[-1].resident:.0f} MiB")
            bar.update()


def _drain(
    run: Run, recorder: AnswerRecorder, process: subprocess.Popen[bytes], vehicle: Vehicle
) -> None:
    """Wait for the answers to the last images and to the last reload; they may never come."""

    def complete() -> bool:
        require_alive(process)
        handled = recorder.outcomes.total() + int(recorder.diagnostics.get(DROPPED, 0))
        return handled >= len(run.answers) and not vehicle.reloading

    recorder.wait(complete, PATIENCE)


def _sample(run: Run, recorder: AnswerRecorder, pid: int, seconds: float) -> Sample:
    memory, threads, descriptors = _figures_of(pid)
    return Sample(
        images=len(run.answers),
        seconds=seconds,
        resident=memory,
        anonymous=resident("RssAnon", pid) / 2**20,
        threads=int(threads),
        descriptors=int(descriptors),
        answered=recorder.outcomes.total(),
        dropped=int(recorder.diagnostics.get(DROPPED, 0)),
    )


def _figures_of(pid: int) -> list[float]:
    """Returns the FIGURES of a process, its memory in MiB."""
    counts = [len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("task", "fd")]
    return [resident("VmRSS", pid) / 2**20, *counts]


def figures(run: Run) -> dict[str, Any]:
    """Figures of the page: medians over parts of the time."""
    size = max(1, -(-len(run.samples) // ROWS))
    parts = [run.samples[i : i + size] for i in range(0, len(run.samples), size)]
    rows = [asdict(part[-1]) for part in parts]
    for row, part in zip(rows, parts, strict=True):
        for figure in ("resident", "anonymous", "threads", "descriptors"):
            row[figure] = median(getattr(sample, figure) for sample in part)
    return {
        "rows": rows,
        "sent": len(run.answers),
        "answered": sum(number > 0 for number in run.answers.values()),
        "unaccounted": run.unaccounted,
        "jumps": max(0, len(run.answers) - 1) // run.plan.jump,
        "reloads": Counter(run.reloads)[""],
        "counts": run.counts,
        "warm_up": run.plan.warm_up / HZ / 60,
        "growth": {figure: run.growth(figure) for figure in FIGURES},
        "beside": run.growth_beside(),
        "built": run.built,
        "page": run.page,
        "interrupted": run.interrupted,
        "faults": run.faults(),
        "load": load(),
    }


def measure(minutes: float = MINUTES) -> dict[str, Any]:
    """Figures of a run with the shipped model on a map of the shipped drive, with keypoints."""
    source = open_dataset(REFERENCE)
    with tempfile.TemporaryDirectory() as scratch:
        map_dir = Path(scratch) / "map"
        build_map(source, load_model(MODEL), map_dir, MapBuilderConfig())
        plan, live_map = Plan.of(minutes), Path(scratch) / "live"
        return figures(soak(map_dir, MODEL, _route(), plan, live_map))


def _route() -> list[Sight]:
    source = open_dataset(REFERENCE)
    sights = []
    for item in list(source.images)[:ROUTE]:
        camera_from_base = mount(source.info.cameras, item.record.camera).inverse()
        sights.append((item.load, truth_of(item.record) @ camera_from_base))
    return sights


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, on request keep the figures; 1 where the node did not pass."""
    parser = argparse.ArgumentParser(prog="benchmark.reliability.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="duration, default 120")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.document}")
    arguments = parser.parse_args(argv)
    measured_under = circumstances()
    results = measure(arguments.minutes)
    PAGE.show("soak", results)
    if arguments.page:
        PAGE.keep("soak", results, measured_under)
        PAGE.write()
    return int(bool(results["faults"]))


if __name__ == "__main__":
    raise SystemExit(main())
