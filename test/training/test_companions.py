# SPDX-License-Identifier: Apache-2.0
"""Every companion system from images to answers: recipe, map, evaluation."""

from pathlib import Path

import pytest

pytest.importorskip("moderngl", reason="moderngl is not installed")

from disam_ros.config import LocalizerConfig, MapBuilderConfig, SequenceConfig
from disam_ros.datasets.dataset import Dataset
from disam_ros.datasets.sources import open_images
from disam_ros.evaluation import evaluate_drive, judge
from disam_ros.localization.localizer import Localizer
from disam_ros.mapping.builder import build_map
from disam_ros.models.model import load_model
from training.recipes import load_config
from training.train import open_run

ROOT = Path(__file__).parents[2]
FROM_ABOVE = "spatial_prior"
SEEN = ("summer_day", "autumn_rain")  # of validation, too

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    """Two small towns by seed: drives with depth in town_*, pictures from above in above_*."""
    from disam_ros.datasets.aerial.polar import AerialConfig, write_aerial_dataset
    from disam_ros.datasets.aerial.tiles import TileSet
    from season_town import DriveConfig, RenderError, write_drive
    from season_town.aerial import TownAerialConfig, write_tiles

    root = tmp_path_factory.mktemp("towns")
    small = {"width": 160, "height": 120, "spacing_m": 6.0, "length_m": 180.0, "depth": True}
    try:
        for seed, conditions in ((1, (*SEEN, "night")), (2, SEEN)):
            for drive, condition in enumerate(conditions):
                chosen = DriveConfig(condition, seed, drive, **small)
                write_drive(chosen, root / f"town_{seed}" / condition)
            tiles = root / f"tiles_{seed}"
            write_tiles(TownAerialConfig(town_seed=seed, metres_per_pixel=0.4), tiles)
            poses = Dataset(root / f"town_{seed}" / "summer_day")
            write_aerial_dataset(TileSet(tiles), poses, root / f"above_{seed}", AerialConfig())
    except RenderError as error:
        pytest.skip(f"no OpenGL context on this machine: {error}")
    return root


@pytest.mark.parametrize("name", ["soft_contrastive", FROM_ABOVE, "scene_geometry"])
def test_a_recipe_trains_maps_and_evaluates(towns, tmp_path, name):
    config = load_config(ROOT / f"config/train_{name}_smoke.yaml")
    above = name == FROM_ABOVE

    def data(seed):
        drives = f"{towns}/town_{seed}"
        return f"{drives} + {towns}/above_{seed}" if above else drives

    config.data, config.validation.data = [data(1)], [data(2)]
    config.output = str(tmp_path / "run")
    for planned in config.stages:
        planned.steps = 4
    directory = open_run(config).run()
    model = load_model(directory)
    assert model.network.encoder == "global" and "steps of" in model.label

    reference = towns / ("above_2" if above else "town_2/summer_day")
    settings = MapBuilderConfig(
        keypoints=0, keyframe_distance=0.0, domain="aerial" if above else ""
    )
    source = open_images(reference, "map")
    place_map = build_map(source, model, tmp_path / "map", settings, show_progress=False)

    query = towns / "town_2" / ("summer_day" if above else "autumn_rain")
    alone = LocalizerConfig(device="cpu", min_probability=0.0, sequence=SequenceConfig(False))
    localizer = Localizer.open(tmp_path / "map", directory, alone)
    run = evaluate_drive(localizer, open_images(query, "map"), "drive", show_progress=False)
    assert judge(place_map, [run], {}).overall.metrics.answered == 1.0
