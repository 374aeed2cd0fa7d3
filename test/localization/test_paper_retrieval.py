# SPDX-License-Identifier: Apache-2.0
"""Maps of the paper's retrieval, against a reference in float64 written from its equations."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.data import camera_pose, detailed
from support.localize import candidates_of, describe, localize
from torch.nn import functional

from disam_ros import cli
from disam_ros.camera import Camera
from disam_ros.config import LocalizerConfig
from disam_ros.datasets.dataset import DatasetInfo, DatasetWriter
from disam_ros.domains.domain import domains_named, load_rules
from disam_ros.errors import MapError
from disam_ros.geometry import distance
from disam_ros.image import resized_bicubic
from disam_ros.localization.localizer import Localizer
from disam_ros.models.import_checkpoint import import_checkpoint
from disam_ros.models.model import save_model
from disam_ros.models.networks import Decoder, Encoder

MAP, QUERIES, SIDE = 40, 20, 64
DOMAINS = ("summer_day", "night")


def picture(seed: int) -> np.ndarray:
    """A map image, or for negative seeds one moved sideways, darker and with noise."""
    if seed >= 0:
        return detailed(seed)
    image = np.roll(detailed(-seed), 12, axis=1).astype(np.float64)
    noise = np.random.default_rng(-seed).normal(0.0, 20.0, image.shape)
    return (0.6 * image + noise).clip(0, 255).astype(np.uint8)


def write_pictures(directory, seeds, domain):
    camera = Camera(320, 240, 250.0, 250.0, 160.0, 120.0)
    with DatasetWriter(directory, DatasetInfo("pictures", {"front": camera})) as writer:
        for index, seed in enumerate(seeds):
            png = cv2.imencode(".png", cv2.cvtColor(picture(seed), cv2.COLOR_RGB2BGR))[1]
            pose = camera_pose(index)
            writer.add(png.tobytes(), (index + 1) * 10**9, "front", domain, pose, str(index))
    return directory


@pytest.fixture(scope="module")
def encoders():
    torch.manual_seed(3)
    return {stage: [Encoder(4, 1) for _ in DOMAINS] for stage in ("coarse", "fine")}


@pytest.fixture(scope="module")
def root(tmp_path_factory, encoders):
    """An imported checkpoint, a map of the paper's retrieval, and queries of another domain."""
    root = tmp_path_factory.mktemp("paper")
    for stage, networks in encoders.items():
        for index, network in enumerate([*networks, Decoder(4, 1), Decoder(4, 1)]):
            torch.save(network.state_dict(), root / f"{stage}_net_G{index}.pth")
    prefixes = [f"{root}/{stage}_net_G" for stage in ("coarse", "fine")]
    domains = domains_named(DOMAINS, load_rules())
    model = import_checkpoint(prefixes[0], domains, prefixes[1], (SIDE, SIDE))
    save_model(model, root / "model")
    data = write_pictures(root / "data", range(1, MAP + 1), DOMAINS[0])
    write_pictures(root / "queries", range(-QUERIES, 0), DOMAINS[1])
    command = ["build-map", "--dataset", str(data), "--model", f"{root}/model", "--keypoints", "0"]
    command += ["--keyframe-distance", "0", "--retrieval", "paper"]
    assert cli.main([*command, "--output", f"{root}/map"]) == 0
    return root


def features(networks, domain, seeds):
    """Features float64 [N, C, h, w] of pictures, resized as the paper does."""
    pixels = torch.from_numpy(np.stack([picture(seed) for seed in seeds])).permute(0, 3, 1, 2)
    small = functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True)
    images = small.double() / 255.0
    with torch.inference_mode():
        return networks[DOMAINS.index(domain)].double()((images - 0.5) / 0.5).numpy()


@pytest.fixture(scope="module")
def similarities(encoders):
    """Similarities float64 [queries, map images] by stage, of the paper's equations."""
    pairs = {}
    for stage, networks in encoders.items():
        mapped = features(networks, DOMAINS[0], range(1, MAP + 1))
        queries = features(networks, DOMAINS[1], range(-QUERIES, 0))
        axes = (2, 3) if stage == "coarse" else (1, 2, 3)  # Eq. 16 by channel, else one cosine
        a, b = (z / np.sqrt((z**2).sum(axes, keepdims=True)) for z in (queries, mapped))
        count = mapped.shape[1] if stage == "coarse" else 1
        pairs[stage] = np.einsum("qchw,mchw->qm", a, b) / count
    return pairs


@pytest.fixture(scope="module")
def candidates(root):
    """Candidates of all queries with the default settings, on the CPU."""
    localizer = Localizer.open(root / "map", root / "model", LocalizerConfig(device="cpu"))
    queries = [describe(localizer, picture(k), domain=DOMAINS[1]) for k in range(-QUERIES, 0)]
    return [candidates_of(localizer, query) for query in queries]


def test_a_map_of_the_papers_retrieval_ranks_images_as_the_papers_equations_do(
    similarities, candidates
):
    rankings = []
    for coarse, fine in zip(similarities["coarse"], similarities["fine"], strict=True):
        best = np.argsort(-coarse)[:3]
        rankings.append(best[np.argsort(-fine[best])].tolist())
    assert [ranked.rows.tolist() for ranked in candidates] == rankings


def test_its_scores_are_those_of_the_equations(similarities, candidates):
    for query, ranked in enumerate(candidates):
        for stage, scores in (("coarse", ranked.coarse), ("fine", ranked.fine)):
            assert scores == pytest.approx(similarities[stage][query][ranked.rows], abs=2e-3)
        assert not ranked.shifts.any()


def test_a_single_image_has_the_pose_of_its_best_map_image(root, candidates):
    localizer = Localizer.open(root / "map", root / "model", LocalizerConfig(device="cpu"))
    answer = localize(localizer, picture(-QUERIES), domain=DOMAINS[1])
    best = camera_pose(int(candidates[0].rows[0]))
    assert distance(answer.map_from_camera, best) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_a_map_that_was_built_before_the_papers_retrieval_is_not_of_it(root, tmp_path):
    shutil.copytree(root / "map", tmp_path / "map")
    path = tmp_path / "map" / "map.json"
    header = json.loads(path.read_text())
    assert header["descriptor"].pop("retrieval") == "paper"
    path.write_text(json.dumps(header))
    with pytest.raises(MapError, match="coarse_grid"):
        Localizer.open(tmp_path / "map", root / "model", LocalizerConfig(device="cpu"))


def test_more_images_than_are_compared_at_once_are_ranked_the_same(root, monkeypatch, candidates):
    monkeypatch.setattr("disam_ros.mapping.index.WHOLE_PART", 1)
    localizer = Localizer.open(root / "map", root / "model", LocalizerConfig(device="cpu"))
    query = describe(localizer, picture(-QUERIES), domain=DOMAINS[1])
    assert candidates_of(localizer, query).rows.tolist() == candidates[0].rows.tolist()


@pytest.mark.parametrize("shape", [(240, 320), (48, 64), (30, 40)])
def test_pixels_are_resized_as_by_pillows_bicubic_filter(shape):
    image = Image.fromarray(detailed(1)).resize(shape[::-1])
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), int)
    assert np.abs(resized_bicubic(np.asarray(image), (64, 64)) - expected).max() <= 1
