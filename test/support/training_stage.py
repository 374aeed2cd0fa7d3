# SPDX-License-Identifier: Apache-2.0
"""A tiny stage of DISAM's method on noise."""

import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from training.disam.networks import create_networks
from training.disam.sampling import Batch, Unpaired
from training.disam.stage import StageRun
from training.engine.checkpoints import find_checkpoint
from training.engine.parallel import join, leave
from training.engine.stage_base import StageBase
from training.recipes import parse_config

PAPER = {"gan": 1, "cycle": 10, "fcl": 0.1, "fcl_cosine": 0.1, "triplet_fcl": 1, "sam": 1000}
PAPER["triplet_sam"] = 1
TINY = {
    "network": {"width": 2, "encoder_blocks": 1, "decoder_blocks": 1, "image_size": [32, 32]},
    "descriptor": {"coarse_grid": 4, "fine_grid": 8},
    "triplets": {"group": 4},
    "log_every": 2,
    "grid_every": 0,
    "validate_every": 5,
    "checkpoint_every": 5,
    "device": "cpu",
}


def recipe(tmp_path, stages, **changes):
    values = {**TINY, "output": str(tmp_path / "run"), "data": [str(tmp_path / "data")], **changes}
    return parse_config({**values, "stages": stages})


def stage(steps=10, name="fine", **changes):
    return {"name": name, "steps": steps, "hard_from": 0.3, "losses": PAPER, **changes}


def stage_run(config, processes=None):
    networks = create_networks(config.network.build(), ["day", "night"], True, config.seed)
    return StageRun(config, 0, networks, torch.device("cpu"), processes)


def noise(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def couple(*samples, more=0):
    """The unpaired batch of these sample numbers, as samples of day and night."""
    a, b = (torch.stack([noise(10 * k + d, 3, 32, 32) for k in samples]) for d in range(2))
    return Unpaired(("day", "night"), a, b, noise(8, more, 3, 32, 32), noise(9, more, 3, 32, 32))


def gradients_of(run, batch):
    """Gradients of encoders and decoders, and of discriminators, of the third step's losses."""
    for optimizer in run.optimizers.values():  # gradients only, no update
        optimizer.step = lambda *_, **__: None
    run.step(2, batch)
    parameters = [*run.networks.generators(), *run.networks.critics()]
    return [p.grad.clone() for p in parameters if p.grad is not None]


def interrupt_after(monkeypatch, steps):
    """Press Ctrl-C during the `steps`-th step from now on."""
    original, left = StageBase.step, [steps]

    def step(self, *arguments):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(StageBase, "step", step)


def leavings(directory):
    """Everything a run leaves: weights at the end of its stages and what the checkpoint holds."""
    folders = directory / "stages", find_checkpoint(directory)
    files = [path for folder in folders for path in folder.glob("*.safetensors")]
    return {f"{path.stem}:{k}": v for path in files for k, v in load_file(path).items()}


def one_of_two_processes(rank, port, output, output_dir):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    processes, _ = join("cpu")
    assert processes.count == 2
    assert processes.any(rank == 1, torch.device("cpu"))
    run = stage_run(recipe(Path(output_dir), [stage()]), processes)
    gradients = gradients_of(run, Batch(couple(rank), None))
    if rank == 0:
        torch.save(gradients, output)
    processes.wait()
    leave()
