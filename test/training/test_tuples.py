# SPDX-License-Identifier: Apache-2.0
"""Tuples and neighbourhoods: near, far and unknown places."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.sources import Photo
from training.errors import TrainingError
from training.global_descriptors.config import NeighbourhoodConfig, TupleConfig
from training.global_descriptors.neighbourhoods import NeighbourhoodSampler
from training.global_descriptors.routes import Routes, thinned, wrapped
from training.global_descriptors.tuples import Memory, TupleSampler

SEED = (0, 0)


def photo(x, y=0.0, yaw=0.0, group="route", domain="day"):
    axis = (math.cos(math.radians(yaw)), math.sin(math.radians(yaw)), 0.0)
    return Photo(Path(f"{x}_{y}.jpg"), domain, group, (float(x), float(y), 1.5), axis)


def street(count=60, step=3.0, **changes):
    return [photo(step * k, **changes) for k in range(count)]


def sampler(photos, seed=SEED, **changes):
    values = {"near": 3, "far": 4, "cache": 0, **changes}
    return TupleSampler(Routes(photos), np.arange(len(photos)), TupleConfig(**values), seed)


def split(rows, near=3):
    return rows[0], rows[1 : 1 + near], rows[1 + near :]


# Places


@given(st.floats(-1e3, 1e3), st.integers(-3, 3))
def test_a_whole_turn_changes_no_angle(angle, turns):
    assert (
        wrapped(np.array(angle + 2 * math.pi * turns))
        == pytest.approx(wrapped(np.array(angle)), abs=1e-9)
        or abs(abs(wrapped(np.array(angle))) - math.pi) < 1e-9
    )
    assert -math.pi <= wrapped(np.array(angle)) < math.pi


@pytest.mark.parametrize("heading", [0.0, 90.0, 179.0, 180.0, -179.0])
def test_the_yaw_window_wraps(heading):
    """Two headings 20° apart are near whichever way they point, 40° apart never."""
    turns = [heading, heading + 20, heading - 20, heading + 40, heading - 40]
    routes = Routes([photo(k, yaw=yaw) for k, yaw in enumerate(turns)])
    assert routes.near(0, 15.0, 30.0).tolist() == [1, 2]


def test_distances_are_metres_within_a_route_and_endless_between_routes():
    routes = Routes([photo(0), photo(3, 4), photo(0, group="other"), Photo(Path("a"), "day")])
    d = routes.metres(np.arange(4), np.arange(4))
    assert d[0, 1] == d[1, 0] == 5.0
    assert np.isinf(d[0, 2]) and np.isinf(d[3, :3]).all()
    assert not d.diagonal().any()
    assert routes.metres(np.array([[0, 1], [2, 3]]), np.array([[0, 1], [2, 3]])).shape == (2, 2, 2)


@pytest.mark.parametrize("axis", [(0.0, 0.0, 1.0), (0.05, 0.0, -0.99)])
def test_poses_without_a_yaw_are_refused_with_the_file(axis):
    photos = [photo(0), Photo(Path("nadir.jpg"), "day", "route", (1.0, 0.0, 0.0), axis)]
    with pytest.raises(TrainingError, match=r"no yaw.*nadir\.jpg"):
        Routes(photos)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 20.0))
def test_thinned_anchors_lie_apart_and_leave_no_gap(seed, spacing):
    photos = [*street(40, 1.3), *street(40, 1.1, yaw=180.0)]
    routes, rows = Routes(photos), np.arange(80)
    chosen = thinned(routes, rows, spacing, 30.0, np.random.default_rng(seed))
    for row in rows:
        near = {row, *routes.near(row, spacing * (1 - 1e-9), 30.0)}
        assert near & set(chosen.tolist())
        if row in chosen:
            assert near & set(chosen.tolist()) == {row}


# Tuples


def test_near_images_are_near_and_far_ones_apart_from_the_anchor_and_each_other():
    photos = [*street(), *street(yaw=175.0), *street(yaw=-175.0)]
    result = sampler(photos)
    for step in range(60):
        anchor, near, far = split(result.draw(step)[0])
        assert len(set(near.tolist())) == 3 and anchor not in near
        gaps = result.routes.metres(near, np.array([anchor]))
        turns = np.degrees(wrapped(result.routes.yaw[near] - result.routes.yaw[anchor]))
        assert (gaps <= 15).all() and (np.abs(turns) <= 30 + 1e-6).all()
        apart = result.routes.metres(np.array([anchor, *far]), np.array([anchor, *far]))
        assert (apart[~np.eye(5, dtype=bool)] > 15).all()


def test_every_anchor_has_its_turn_within_an_epoch_and_the_next_has_another_order():
    result = sampler(street(30, 3.0), anchor_spacing=0.0)
    length = len(result.anchors)
    anchors = [int(result.draw(step)[0, 0]) for step in range(2 * length)]
    assert sorted(anchors[:length]) == sorted(anchors[length:]) == result.anchors.tolist()
    assert anchors[:length] != anchors[length:]


def test_a_step_draws_the_same_tuples_whenever_it_is_asked_and_another_seed_does_not():
    a, b = sampler(street()), sampler(street())
    late = [b.draw(step) for step in (40, 3, 90)]
    for step in range(5):
        a.draw(step)
    assert all(np.array_equal(a.draw(s), x) for s, x in zip((40, 3, 90), late, strict=True))
    assert not np.array_equal(sampler(street(), seed=(1, 0)).draw(3), late[1])


def test_processes_share_an_epoch_out():
    photos, config = street(30), TupleConfig(near=3, far=4, cache=0, anchor_spacing=0.0)
    ranks = [TupleSampler(Routes(photos), range(30), config, SEED, k, 2) for k in range(2)]
    length = len(ranks[0].anchors)
    seen = [int(ranks[k].draw(s)[0, 0]) for s in range(length // 2) for k in range(2)]
    assert len(set(seen)) == len(seen)


def test_images_that_cannot_be_anchors_are_counted_and_placed_in_the_log(caplog):
    photos = [*street(40), photo(500.0, 70.0), photo(900.0, 80.0)]
    with caplog.at_level(logging.WARNING):
        result = sampler(photos)
    assert not {40, 41} & set(result.anchors.tolist())
    assert "2 of 42 posed images cannot be anchors" in caplog.text
    assert "2 have fewer than 3 near images (15.0 m, 30.0°), first at x 500 y 70" in caplog.text


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        (street(20, 100.0), "20 have fewer than 3 near"),
        (street(8, 1.0), "8 have fewer than 4 far"),
        ([Photo(Path("a.jpg"), "day")], "no posed images"),
    ],
)
def test_without_any_anchor_training_cannot_start(photos, message):
    with pytest.raises(TrainingError, match=message):
        sampler(photos)


def test_a_crowded_route_still_gives_the_far_images_it_holds():
    """Where a random order gets stuck, the order that is known to suffice takes over."""
    result = sampler(street(24, 3.0), far=3, far_radius=16.0)
    for step in range(100):
        assert result.draw(step).shape == (1, 7)


# Mined negatives


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_mined_negatives_are_the_most_similar_of_the_memory_that_lie_apart():
    result = sampler(street(80), cache=50, hard=0.5, far_radius=15.0)
    rows = result.draw(0)
    anchor, near, far = split(rows[0])
    random = np.random.default_rng(0)
    memory = Memory(result.cache_rows(0), unit(random.normal(size=(50, 8))).astype(np.float32))
    mined = result.mine(rows, memory.descriptors[:1], memory)[0]
    assert np.array_equal(mined[:6], rows[0, :6])  # anchor, near, first two far ones stay
    _, _, after = split(mined)
    apart = result.routes.metres(np.array([anchor, *after]), np.array([anchor, *after]))
    assert (apart[~np.eye(5, dtype=bool)] > 15).all()
    order = memory.rows[np.argsort(-(memory.descriptors @ memory.descriptors[0]))]
    allowed = [r for r in order if (result.routes.metres([r], [anchor, *far[:2]]) > 15).all()]
    assert after[2] == allowed[0]
    assert not set(near.tolist()) & set(after.tolist())


def test_a_memory_without_far_images_leaves_the_random_ones():
    result = sampler(street(80), cache=50)
    rows = result.draw(0)
    memory = Memory(rows[0, :1], np.ones((1, 4), np.float32))
    assert np.array_equal(result.mine(rows, np.ones((1, 4), np.float32), memory), rows)


def test_the_memory_is_renewed_every_so_many_anchors():
    result = sampler(street(80), cache=50, refresh=20, tuples=4)
    assert [s for s in range(12) if result.renews(s)] == [0, 5, 10]
    assert not np.array_equal(result.cache_rows(0), result.cache_rows(5))
    assert sampler(street(80), cache=0).mined == 0


# Neighbourhoods


def neighbours(photos, queries, references, **changes):
    config = NeighbourhoodConfig(**{"batch": 6, "radius": 30.0, **changes})
    return NeighbourhoodSampler(Routes(photos), queries, references, config, SEED)


def two_sides(count=60):
    photos = [*street(count), *street(count, y=2.0, domain="aerial")]
    return photos, np.arange(count), np.arange(count, 2 * count)


def test_a_batch_is_a_neighbourhood_whose_images_have_a_partner_of_their_place():
    photos, ground, aerial = two_sides()
    result = neighbours(photos, ground, aerial)
    for step in range(40):
        queries, partners = result.draw(step)
        assert len(set(queries.tolist())) == 6
        assert set(queries.tolist()) <= set(ground) and set(partners.tolist()) <= set(aerial)
        gaps = result.routes.metres(queries, partners)
        assert (gaps.diagonal() <= 5).all()
        assert (result.routes.metres(queries, queries[:1]) <= 30).all()


def test_without_a_radius_a_batch_is_of_all_routes_with_partners_of_their_places():
    photos = [*street(group="a"), *street(group="b")]
    photos += [*street(group="a", y=2.0), *street(group="b", y=2.0)]
    result = neighbours(photos, np.arange(120), np.arange(120, 240), radius=0.0)
    both = 0
    for step in range(20):
        queries, partners = result.draw(step)
        assert len(set(queries.tolist())) == 6
        assert (result.routes.metres(queries, partners).diagonal() <= 5).all()
        both += len(set(result.routes.route[queries].tolist())) == 2
    assert both > 10  # with a radius, one route makes a batch


def test_partners_are_drawn_anew():
    photos, ground, aerial = two_sides()
    result = neighbours(photos, ground, aerial)
    pairs = {}
    for step in range(300):
        for query, partner in zip(*result.draw(step), strict=True):
            pairs.setdefault(int(query), set()).add(int(partner))
    assert max(len(partners) for partners in pairs.values()) == 3  # 3 m apart, within 5 m


def test_where_the_disc_is_too_small_the_nearest_images_of_its_town_fill_the_batch():
    photos = [*street(20), *street(20, group="another town")]
    result = neighbours(photos, np.arange(40), np.arange(40), radius=4.0, batch=9)
    for step in range(10):
        queries, _ = result.draw(step)
        gaps = result.routes.metres(queries, queries[:1])[:, 0]
        assert len(queries) == 9 and gaps.max() <= 24


def test_one_side_pairs_drives_of_one_place_and_never_an_image_with_itself():
    photos = [*street(20), *street(20, y=1.0, domain="night")]
    result = neighbours(photos, np.arange(40), np.arange(40))
    for step in range(20):
        queries, partners = result.draw(step)
        assert (queries != partners).all()


def test_opposite_headings_are_no_pair():
    photos = [*street(20), *street(20, yaw=180.0, domain="aerial")]
    with pytest.raises(TrainingError, match="0 of 20 posed images have a partner"):
        neighbours(photos, np.arange(20), np.arange(20, 40))


def test_images_without_a_partner_are_counted_and_placed_in_the_log(caplog):
    photos, ground, aerial = two_sides()
    photos.append(photo(700.0, 50.0))
    with caplog.at_level(logging.WARNING):
        neighbours(photos, [*ground, 120], aerial)
    assert "1 of 61 posed images have no partner" in caplog.text and "x 700 y 50" in caplog.text
