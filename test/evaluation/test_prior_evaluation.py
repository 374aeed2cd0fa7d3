# SPDX-License-Identifier: Apache-2.0
"""Laws of evaluating with made-up priors of the place."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from support.data import CAMERA, DESCRIPTOR, camera_pose, of_single_images, save_tiny_model, texture
from support.localize import localize

from disam_ros import cli
from disam_ros.config import DomainConfig, MapBuilderConfig, PriorConfig
from disam_ros.datasets.dataset import DatasetInfo
from disam_ros.datasets.records import ImageRecord
from disam_ros.datasets.sources import ImageSource, PosedImage
from disam_ros.errors import ConfigError
from disam_ros.evaluation import Drive, judge, localize_drive, score, tables
from disam_ros.evaluation.answers import QueryResult, localize_all
from disam_ros.evaluation.prior_trials import LOCAL_RADIUS, SEED
from disam_ros.evaluation.report import write_report
from disam_ros.evaluation.results import to_json
from disam_ros.geometry import Transform
from disam_ros.localization.answer import UNREADABLE
from disam_ros.localization.localizer import Localizer
from disam_ros.localization.prior import USED, Disc, PositionPrior
from disam_ros.mapping.builder import build_map

COUNT, PERIOD = 80, 60  # map images, two metres apart; looks repeat after PERIOD of them
SHARE = 0.5  # of the query's pixels that are another image's


def place(index):
    return Transform(camera_pose(2 * index).translation, camera_pose(0).quaternion)


def route(looks, name):
    images = [
        PosedImage(ImageRecord(i, (i + 1) * 10**9, "front", "day", f"{i}", place(i)), look)
        for i, look in enumerate(looks)
    ]
    return ImageSource(images, DatasetInfo(name, {"front": CAMERA}), name, len(images))


def blurred(index):
    mixed = (1 - SHARE) * texture(index % PERIOD) + SHARE * texture(1000 + index)
    return mixed.astype(np.uint8)


@pytest.fixture(scope="module")
def localizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    model = save_tiny_model(folder / "model")
    source = route([lambda i=i: texture(i % PERIOD) for i in range(COUNT)], "map")
    config = MapBuilderConfig(keypoints=0, keyframe_distance=0.0, descriptor=DESCRIPTOR)
    place_map = build_map(source, model, folder / "map", config, show_progress=False)
    settings = of_single_images(domain=DomainConfig(override="day"))
    with pytest.MonkeyPatch.context() as patch:  # an untrained model hardly discriminates
        patch.setattr("disam_ros.localization.candidates.TEMPERATURE", 0.01)
        yield Localizer(model, place_map, settings)


@pytest.fixture(scope="module")
def drive(localizer):
    source = route([lambda i=i: blurred(i) for i in range(COUNT)], "drive")
    noises = (0.0, 3.0, 30.0)
    return localize_drive(localizer, source, "drive", show_progress=False, prior_noises=noises)


@pytest.fixture(scope="module")
def evaluation(localizer, drive):
    return judge(localizer.map, [drive], {})


@pytest.mark.slow
def test_without_noise_local_recall_is_that_of_the_paper(localizer, drive, evaluation):
    """The best map image within 5 m beats every one at 5 to 50 m (Xia et al., RA-L 2021)."""
    wide = Localizer(localizer.model, localizer.map, replace(localizer.config, candidates=COUNT))
    fine = np.asarray(localizer.map.fine, np.float64)
    fine /= np.linalg.norm(fine, axis=1, keepdims=True)
    hits = []
    for item in drive.source.images:
        scores = fine @ wide.query(item.load()).fine.ravel()
        metres = np.abs(2.0 * np.arange(COUNT) - 2.0 * item.record.id)
        far = (metres > 5.0) & (metres <= LOCAL_RADIUS)
        hits.append(scores[metres <= 5.0].max() > scores[far].max())
    all_compared = localize_drive(
        wide, drive.source, "wide", show_progress=False, prior_noises=[0.0]
    )
    _, found = judge(localizer.map, [all_compared], {}).overall.priors
    assert found.local_recall_at_1 == pytest.approx(np.mean(hits))
    assert 0.5 < np.mean(hits) <= 1.0


def test_figures_are_those_of_asking_again_with_the_moved_place(localizer, drive, evaluation):
    condition = evaluation.conditions["day"]
    for noise, found in zip((0.0, 3.0, 30.0), condition.priors[1:], strict=True):
        errors, local, effects = [], [], []
        for item in drive.source.images:
            truth = item.record.map_from_camera.translation
            draw = np.random.default_rng([SEED, item.record.id]).standard_normal(2)
            x, y = truth[:2] + noise * draw
            prior = PositionPrior([x, y], max(noise, 0.01) ** 2 * np.eye(2))
            near = localize(localizer, item.load(), prior=prior)
            errors.append(np.linalg.norm(near.map_from_camera.translation - truth))
            effects.append(near.prior)
            if (np.hypot(x - 2.0 * np.arange(COUNT), y) > LOCAL_RADIUS).all():
                local.append(False)
                continue
            disc = localize(localizer, item.load(), prior=Disc(x, y, LOCAL_RADIUS))
            local.append(np.linalg.norm(disc.map_from_camera.translation - truth) <= 5.0)
        assert found.noise_m == noise and found.queries == COUNT
        assert found.recall_at_1 == pytest.approx(np.mean(np.array(errors) <= 5.0))
        assert found.median_error_m == pytest.approx(np.median(errors), abs=1e-9)
        assert found.local_recall_at_1 == pytest.approx(np.mean(local))
        assert found.overruled == pytest.approx(effects.count("overruled") / COUNT)
        assert found.off_map == pytest.approx(effects.count("off the map") / COUNT)


def test_the_row_without_a_prior_is_the_plain_answer_to_each_image_alone(evaluation):
    condition = evaluation.conditions["day"]
    none = condition.priors[0]
    assert (none.noise_m, none.overruled, none.off_map) == (None, 0.0, 0.0)
    assert none.recall_at_1 == none.local_recall_at_1 == condition.metrics.recall_at_1
    assert none.median_error_m == condition.metrics.median_error_m


def test_a_good_prior_helps_where_places_look_alike(evaluation):
    none, exact, good, _ = evaluation.overall.priors
    assert exact.recall_at_1 >= good.recall_at_1 > none.recall_at_1 + 0.1


def test_the_plain_answers_are_the_same_with_and_without_trials(localizer, drive):
    plain = localize_drive(localizer, drive.source, "drive", show_progress=False)
    for one, other in zip(plain.answers, drive.answers, strict=True):
        assert (one.ranking, one.prior) == (other.ranking, "")
        assert one.probability == pytest.approx(other.probability, abs=1e-6) and not one.trials
    assert judge(localizer.map, [plain], {}).overall.priors == []


def test_images_that_cannot_be_read_count_as_misses_with_every_prior(localizer, drive):
    answers = [QueryResult(a.record, UNREADABLE) if a.record.id % 2 else a for a in drive.answers]
    half = judge(localizer.map, [replace(drive, answers=answers)], {}).overall
    assert half.priors[1].queries == COUNT and half.priors[1].recall_at_1 <= 0.5


def test_without_true_poses_no_prior_can_be_made_up(localizer, drive):
    images = [
        replace(item, record=replace(item.record, map_from_camera=None))
        for item in list(drive.source.images)[:3]
    ]
    source = replace(drive.source, images=images)
    answers = list(localize_all(localizer, source, prior_noises=[5.0]))
    assert [a.trials for a in answers] == [()] * 3
    assert judge(localizer.map, [Drive("d", source, answers, 1.0)], {}).overall.priors == []


def test_an_answer_that_is_not_probable_is_no_answer_with_a_prior_either(localizer, drive):
    strict = replace(localizer.config, min_probability=1.0)
    found = localize_drive(
        Localizer(localizer.model, localizer.map, strict),
        replace(drive.source, images=list(drive.source.images)[:4]),
        *("d", False, False),
        prior_noises=[3.0],
    )
    _, trial = found.answers[0].trials
    assert trial.answer is None and trial.effect == USED and trial.local is not None
    assert np.isnan(judge(localizer.map, [found], {}).overall.priors[1].median_error_m)


def test_tables_results_and_report_tell_the_figures(localizer, evaluation, tmp_path):
    console = Console(width=160)
    with console.capture() as capture:
        for table in tables(evaluation):
            console.print(table)
    write_report(tmp_path / "report.html", evaluation, [], localizer.map)
    report = (tmp_path / "report.html").read_text()
    values = to_json(evaluation)["conditions"]["day"]["priors"]
    assert [row["noise_m"] for row in values] == [None, 0.0, 3.0, 30.0]
    for row in values[2:]:
        cell = f"{100 * row['local_recall_at_1']:.1f}"
        assert cell in capture.get() and cell in report
    for words in ("30 m", "local R@1", "overruled", "off the map"):
        assert words in capture.get() and words in report


def test_accuracy_is_of_what_lies_strictly_nearer_and_stands_beside_its_upper_bound(evaluation):
    origin, there = (Transform(np.array([x, 0.0, 0.0]), place(0).quaternion) for x in (0.0, 5.0))
    assert score([origin], [there]).accuracy == {"5 m": 0.0, "10 m": 1.0, "15 m": 1.0}
    console = Console(width=200)
    with console.capture() as capture:
        for table in tables(evaluation):
            console.print(table)
    got = evaluation.overall.metrics.accuracy["5 m"]
    assert evaluation.overall.bound.accuracy["5 m"] == 1.0
    assert f"{100 * got:.1f} (100.0)" in capture.get() and "upper bound" in capture.get()


@pytest.mark.parametrize("noise", [-1.0, float("nan"), float("inf")])
def test_a_noise_that_is_none_is_refused(localizer, drive, noise):
    with pytest.raises(ConfigError, match="metres from 0"):
        next(localize_all(localizer, drive.source, prior_noises=[noise]))


def test_a_prior_from_topics_is_for_the_node_alone(localizer, drive):
    settings = replace(localizer.config, prior=PriorConfig(source="fix"))
    node = Localizer(localizer.model, localizer.map, settings)
    with pytest.raises(ConfigError, match="only the running node subscribes to topics"):
        next(localize_all(node, drive.source))


def test_made_up_priors_are_not_for_the_running_node(capsys):
    command = ["evaluate", "BAG", "--map", "MAP", "--model", "MODEL"]
    assert cli.main([*command, "--prior-noise", "5", "--through-node"]) != 0
    assert "leave --through-node out" in capsys.readouterr().err
