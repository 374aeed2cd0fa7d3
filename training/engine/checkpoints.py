# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run, and its finished stages.

checkpoints/<step>/    state.json, networks, optimizers and each process's memory (safetensors),
                       written atomically: a killed run leaves nothing half-written
stages/<name>.safetensors        all networks at the end of a stage
stages/<name>.best.safetensors   encoders with the best validation recall
model/                 the result, for disam_ros.load_model
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file

from disam_ros.errors import OutputError
from disam_ros.files.outputs import (
    add_to_output,
    atomic_directory,
    remove_output,
    require_output,
)
from disam_ros.files.reading import read_json
from disam_ros.files.writing import atomic_file, describe_fault, part_of, sync, write_json
from training.engine.guard import require_finite
from training.engine.networks import State
from training.engine.parallel import Processes
from training.engine.stage_base import StageBase
from training.errors import TrainingError
from training.settings import RunConfig

CHECKPOINT, STAGES = "checkpoint", "set of stages"  # kinds of output
FORMAT = 1  # of state.json
FREE_KEYS = (  # settings that may differ when a run is resumed: they do not change what is computed
    "output",
    "device",
    "threads",
    "log_every",
    "grid_every",
    "gradients_every",
    "checkpoint_every",
)


@dataclass
class Progress:
    """How far a run is."""

    stage: int = 0  # number of the present stage
    step: int = 0  # its finished steps
    seconds: float = 0.0  # of training
    began_at: str = ""  # commit of the source tree
    best: dict[str, float] = field(default_factory=dict)  # mean recall by stage [percent]
    history: list[dict[str, Any]] = field(default_factory=list)  # validations in order
    rate: float = 1.0  # factor of the stage's learning rate, halved after a loss was not finite
    # By stage and loss: last mean value, mean share of the gradient, number of measurements
    terms: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)  # sentences of the check of the data

    def note(self, stage: str, means: Mapping[str, float], shares: Mapping[str, float]) -> None:
        """Keep losses of a stage in `terms`: the last mean and the mean share of the gradient."""
        terms = self.terms.setdefault(stage, {})
        for name, mean in means.items():
            terms.setdefault(name, {})["value"] = mean
        for name, share in shares.items():
            entry = terms.setdefault(name, {})
            count = entry["measured"] = entry.get("measured", 0) + 1
            before = entry.get("gradient_share", 0.0)
            entry["gradient_share"] = before + (share - before) / count


def save_checkpoint(
    directory: Path,
    config: RunConfig,
    images: Mapping[str, int],
    progress: Progress,
    run: StageBase[Any],
    processes: Processes,
) -> Path:
    """Write a checkpoint and remove the older ones.

    images: how many of each domain. Raises NotFiniteError where weights are not finite: the last
    good checkpoint stays.
    """
    done = sum(stage.steps for stage in config.stages[: progress.stage]) + progress.step
    target = directory / "checkpoints" / f"{done:09d}"
    networks = run.networks.state()
    require_finite(networks, progress.step)
    first = processes.first
    output = atomic_directory(target, CHECKPOINT, overwrite=True)  # of the same step
    with _written(target), output if first else nullcontext(part_of(target)) as part:
        processes.wait()
        save_file(run.memory_state(), part / f"memory-{processes.rank}.safetensors")
        processes.wait()
        if first:
            save_file(networks, part / "networks.safetensors")
            save_file(run.optimizer_state(), part / "optimizers.safetensors")
            header = {
                "format_version": FORMAT,
                "config": config.to_json(),
                "images": dict(images),
                "processes": processes.count,
                "progress": asdict(progress),
            }
            write_json(part / "state.json", header)
            _sync_files(part)
    if first:
        for old in _checkpoints(directory):
            if old != target:
                with suppress(OutputError):  # something else of such a name stays
                    remove_output(old, CHECKPOINT)
    processes.wait()
    return target


def find_checkpoint(directory: Path) -> Path | None:
    """Finds the newest complete checkpoint of a run."""
    return max(_checkpoints(directory), default=None)


def load_progress(
    checkpoint: Path, config: RunConfig, images: Mapping[str, int], processes: Processes
) -> Progress:
    """Read how far a run was. Settings that it did not know yet had their defaults.

    Raises TrainingError naming every setting that differs now.
    """
    header = read_json(checkpoint / "state.json", FORMAT, TrainingError)
    try:
        progress = Progress(**header["progress"])
        was = {"config": header["config"], "images": header["images"]}
        was["processes"] = header["processes"]
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{checkpoint} is damaged ({error}); remove it") from error
    was["config"] = completed(was["config"], defaults_of(config))
    settings = config.to_json()
    now = {"config": settings, "images": dict(images), "processes": processes.count}
    for key in FREE_KEYS:
        was["config"].pop(key, None)
        settings.pop(key, None)
    gaps = differences(was, json.loads(json.dumps(now)))
    if gaps:
        raise TrainingError(
            f"{checkpoint} was made with other settings: {'; '.join(gaps)}. Resume with the same "
            f"config and data, or choose another --output"
        )
    return progress


def restore(checkpoint: Path, run: StageBase[Any], processes: Processes) -> None:
    """Restore networks, optimizers and memory of a stage. Raises TrainingError if damaged."""
    try:
        run.networks.load(load_file(checkpoint / "networks.safetensors"))
        run.load_optimizer_state(load_file(checkpoint / "optimizers.safetensors"))
        run.load_memory_state(load_file(checkpoint / f"memory-{processes.rank}.safetensors"))
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise TrainingError(f"{checkpoint} is damaged ({error}); remove it") from error


def defaults_of(config: RunConfig) -> dict[str, Any]:
    """Returns a recipe of the same method with as many stages, all settings at their defaults."""
    plain = type(config)()
    plain.stages = [type(stage)() for stage in config.stages]
    return plain.to_json()


def completed(values: Any, defaults: Any) -> Any:
    """Completes JSON values with the keys of `defaults` that they lack, at every depth."""
    if isinstance(values, dict) and isinstance(defaults, dict):
        kept = {key: completed(value, defaults.get(key)) for key, value in values.items()}
        return kept | {key: value for key, value in defaults.items() if key not in values}
    if isinstance(values, list) and isinstance(defaults, list) and len(values) == len(defaults):
        return [completed(*pair) for pair in zip(values, defaults, strict=True)]
    return values


def differences(was: Any, now: Any, name: str = "") -> list[str]:
    """Lists every leaf in which two JSON values differ, as 'key: was → now'."""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        was, now = (dict(enumerate(values)) for values in (was, now))
    if isinstance(was, dict) and isinstance(now, dict):
        gaps = []
        for key in [*was, *(k for k in now if k not in was)]:
            inner = f"{name}.{key}" if name else f"{key}"
            gaps += differences(was.get(key), now.get(key), inner)
        return gaps
    return [] if was == now else [f"{name.removeprefix('config.')}: {was} → {now}"]


def save_stage(directory: Path, name: str, state: State) -> None:
    """Write stages/<name>.safetensors atomically."""
    path = add_to_output(directory / "stages", STAGES, f"{name}.safetensors")
    with _written(path), atomic_file(path, "wb") as file:
        file.write(save(state))


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raises OutputError for a fault of the disk; what was saved before is still there."""
    try:
        yield
    except (OSError, SafetensorError, OutputError) as error:
        what = f"{error}"
        if not isinstance(error, OutputError):
            why = describe_fault(error) if isinstance(error, OSError) else error
            what = f"{path} cannot be written: {why}"
        raise OutputError(
            f"{what}. With --resume the run goes on from its last checkpoint, if there is one"
        ) from error


def load_stage(directory: Path, name: str) -> State:
    """Reads the networks at the end of a stage. Raises TrainingError."""
    path = directory / "stages" / f"{name}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); train that stage again") from error


def best_encoders(directory: Path, name: str) -> State:
    """Reads a stage's encoders with the best recall, or the last ones where none was measured."""
    best = f"{name}.best"
    exists = (directory / "stages" / f"{best}.safetensors").exists()
    return load_stage(directory, best if exists else name)


def forget_stages(directory: Path) -> None:
    """Remove stage files of a run that ended before its first checkpoint.

    Raises OutputError where other files have their place.
    """
    remove_output(directory / "stages", STAGES)
    require_output(directory / "stages", STAGES)


def _checkpoints(directory: Path) -> list[Path]:
    states = (directory / "checkpoints").glob("*/state.json")
    return [path.parent for path in states if path.parent.name.isdigit()]


def _sync_files(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as file:
            sync(file)
