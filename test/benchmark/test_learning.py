# SPDX-License-Identifier: Apache-2.0
"""A new condition without poses, and a fine stage of its own: what their tables compare."""

import numpy as np
import pytest
from support.data import texture
from support.training_data import write_drive, write_image

pytest.importorskip("rclpy", reason="ROS 2 is not installed: pip install -e '.[ros]'")

from benchmark.research import fine_stage, new_condition, new_condition_webcams, restyled
from disam_ros.datasets.dataset import Dataset
from disam_ros.image import read
from training.data.sources import find_photos
from training.disam.networks import create_networks
from training.engine.checkpoints import save_stage
from training.recipes import parse_config


@pytest.fixture
def towns(tmp_path):
    for town in new_condition.TOWNS:
        for condition in ("summer_day", "night", "winter_snow"):
            write_drive(tmp_path / "towns" / town / condition, condition, 3)
    return tmp_path


def tiny_translation(runs):
    """A translation that was trained already."""
    network = {"width": 2, "encoder_blocks": 1, "decoder_blocks": 1, "image_size": [32, 32]}
    stages = [{"name": "translation", "losses": {"gan": 1}}]
    domains = ["summer_day", "winter_snow", "night"]
    config = parse_config({"network": network, "domains": domains, "stages": stages})
    config.output = str(runs / "translation")
    networks = create_networks(config.network.build(), domains, True, 0)
    save_stage(runs / "translation", "translation", networks.state())
    return config, {}


@pytest.mark.parametrize("condition", new_condition.CONDITIONS)
def test_arms_differ_by_what_restyles_and_poses_of_the_condition_are_used_by_the_ceiling_alone(
    towns, monkeypatch, condition
):
    runs = towns / "new"
    monkeypatch.setattr(new_condition, "translation", lambda *_: tiny_translation(runs))
    configs = {
        arm: new_condition.arm_config(arm, condition, 1, runs, towns) for arm in new_condition.ARMS
    }
    for arm, config in configs.items():
        assert config.domains == ["summer_day", condition] and config.frozen == ["summer_day"]
        uses = any(f"/towns/101/{condition}" in entry for entry in config.data)
        assert uses == (arm == new_condition.TRUE)
        config.data, config.output = [], ""
    assert all(config == configs[new_condition.TRUE] for config in configs.values())


@pytest.fixture
def webcams(tmp_path, monkeypatch):
    """Two cameras by day and night, one by day alone."""
    monkeypatch.setattr(new_condition_webcams, "IMAGES", 2)
    for camera, darkest in (("a", 8), ("b", 8), ("day", 1)):
        for k in range(6):
            picture = texture(k) // (darkest if k % 2 else 1)
            write_image(tmp_path / "dnim" / "train" / camera / f"{k}.jpg", picture)
    return tmp_path


def test_webcams_arms_share_their_days_and_the_ceiling_alone_has_the_nights(webcams, monkeypatch):
    runs, data = webcams / "runs", webcams / "dnim"
    translated = tiny_translation(runs)
    monkeypatch.setattr(new_condition_webcams, "translation", lambda *_: translated)
    assert list(new_condition_webcams.cameras(data)) == ["a", "b"]
    configs, means = {}, {}
    for arm in new_condition.ARMS:
        configs[arm] = config = new_condition_webcams.arm_config(arm, 1, runs, data)
        assert config.domains == ["summer_day", "night"] and config.frozen == ["summer_day"]
        photos = find_photos(config.data)
        assert len(photos) == 2 * 2 * 2 and all(p.tiled for p in photos)
        means[arm] = [
            np.mean([read(p.path).mean() for p in photos if p.domain == domain])
            for domain in config.domains
        ]
        config.data, config.output = [], ""
    assert all(config == configs[new_condition.TRUE] for config in configs.values())
    assert len({day for day, _ in means.values()}) == 1
    for arm in (new_condition.TRUE, new_condition.COLOUR):
        assert means[arm][1] < means[arm][0] / 3
    assert means[new_condition.PHOTOMETRIC][1] > means[new_condition.PHOTOMETRIC][0] / 3


def test_restyled_drives_keep_poses_and_stamps_and_are_written_once(towns):
    source, target = towns / "towns" / "101" / "summer_day", towns / "x"
    restyled.write_restyled(source, target, "night", restyled.photometrically, 0)
    old, new = Dataset(source), Dataset(target)
    assert new.domains() == ["night"]
    for a, b in zip(old.records, new.records, strict=True):
        assert a.stamp_ns == b.stamp_ns
        np.testing.assert_allclose(a.map_from_camera.translation, b.map_from_camera.translation)
        np.testing.assert_allclose(a.map_from_camera.rotation, b.map_from_camera.rotation)
    before = new.path(new.records[0]).read_bytes()
    restyled.write_restyled(source, target, "night", lambda *_: 1 / 0, 0)
    assert new.path(new.records[0]).read_bytes() == before


def test_colour_transfer_gives_the_mean_and_spread_of_the_other_image(tmp_path):
    dark = (texture(1) // 3).astype(np.uint8)
    write_image(tmp_path / "dark.png", dark)
    transfer = restyled.ColourTransfer([tmp_path / "dark.png"])
    found = transfer(texture(2), np.random.default_rng(0))
    for got, wanted in zip(
        restyled._moments(restyled._lab(found)), restyled._moments(restyled._lab(dark)), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=3.0)
    same = restyled.ColourTransfer([tmp_path / "dark.png"])(dark, np.random.default_rng(0))
    assert np.abs(same.astype(int) - dark).max() <= 1


def test_rows_of_a_fine_stage_start_from_the_coarse_encoders_and_have_its_steps():
    coarse = fine_stage.stage_config("coarse", fine_stage.Row(), 2, "coarse")
    for name, row in fine_stage.ROWS.items():
        config = fine_stage.stage_config("fine0", row, 2, "fine")
        assert config.initial == f"{coarse.output}/stages/fine.safetensors"
        assert config.stages[0].steps == fine_stage.STEPS["fine"] and config.data == coarse.data
        near = name != fine_stage.CONTROL
        assert (config.aligned.negative_radius < 1) == near == (config.aligned.neighbourhood > 0)
    assert coarse.aligned.negative_radius == 10
