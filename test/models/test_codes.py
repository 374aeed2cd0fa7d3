# SPDX-License-Identifier: Apache-2.0
"""Laws of fine similarity with a map's codes."""

import numpy as np
import pytest

from disam_ros.models.arrays import Digits, biased
from disam_ros.models.codes import PIECE, shifted_features, squares_of
from disam_ros.models.onnx_runtime import has_runtime
from disam_ros.models.similarity import ShiftedFeatures, Shifts

SHAPE = 3, 5, 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("runtime", [True, False])
@pytest.mark.parametrize("shifts", [Shifts(1, 2), Shifts(0, 0), Shifts(2, 0)])
@pytest.mark.parametrize("share", [1.0, 0.7], ids=["all cells", "cells that are seen"])
def test_codes_are_compared_as_the_numbers_that_they_stand_for(
    rng, monkeypatch, shifts, runtime, share
):
    monkeypatch.setattr("disam_ros.models.codes.has_runtime", lambda: runtime and has_runtime())
    codes = rng.integers(-127, 128, (2 * PIECE + 3, *SHAPE)).astype(np.int8)
    queries = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    seen = None if share == 1.0 else (rng.random(SHAPE[1:]) < share).astype(np.float32)
    z, moved = biased(codes), shifted_features(queries, shifts, seen)
    assert isinstance(moved.moved, Digits) == (runtime and has_runtime())
    expected = ShiftedFeatures.of(queries, shifts, seen).similarities(codes.astype(np.float32))
    assert np.allclose(moved.similarities(z, squares_of(z)), expected, atol=1e-4)


def test_a_map_image_is_most_similar_to_itself(rng):
    z = biased(rng.integers(-127, 128, (9, *SHAPE)).astype(np.int8))
    best = shifted_features(z[4:5], Shifts(1, 2)).similarities(z, squares_of(z))[0].max(1)
    assert best.argmax() == 4 and best[4] == pytest.approx(1.0, abs=1e-5)
