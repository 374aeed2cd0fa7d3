# SPDX-License-Identifier: Apache-2.0
"""Laws of products of descriptors, and of projections by directions that a model ships."""

import pickle
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from disam_ros.models import arrays
from disam_ros.models.arrays import (
    LARGEST,
    LONGEST,
    Digits,
    IntegerProduct,
    biased,
    digits_of,
    row_products,
    unbiased,
)
from disam_ros.models.onnx_runtime import node_model
from disam_ros.models.similarity import Projection

pytest.importorskip("onnxruntime")


def matrix(rng, size=12, width=300):
    codes = rng.integers(-127, 128, (size, width)).astype(np.int8)
    return codes, rng.uniform(1e-4, 1e-2, size).astype(np.float32)


def exact(rows, codes, scales):
    return rows.astype(np.float64) @ (codes * scales[:, None].astype(np.float64)).T


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (50, 45, 700), (0, 4, 5)])
def test_products_of_rows_are_float64s_whoever_computes_them(rng, monkeypatch, shape):
    n, m, size = shape
    a, b = (rng.standard_normal((k, size)).astype(np.float32) for k in (n, m))
    right = a.astype(np.float64) @ b.astype(np.float64).T
    assert row_products(a, b) == pytest.approx(right, abs=1e-4)
    assert row_products(a.astype(np.float64), b) == pytest.approx(right, abs=1e-12)
    monkeypatch.setattr(arrays, "_session_of_floats", lambda: None)
    assert row_products(a, b) == pytest.approx(right, abs=1e-4)


def test_a_process_that_is_forked_computes_products_as_well(rng):
    a = rng.standard_normal((50, 700)).astype(np.float32)
    result = row_products(a, a)
    with get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(row_products, (a, a)), result)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_a_product_is_float64s_to_fourteen_bits_of_a_row(rng, scale):
    codes, scales = matrix(rng)
    rows = (rng.standard_normal((7, 300)) * rng.uniform(0.1, 9, (7, 1)) * scale).astype(np.float32)
    result, right = IntegerProduct(codes, scales)(rows), exact(rows, codes, scales)
    weights = np.abs(codes * scales[:, None].astype(np.float64)).sum(1)
    bound = np.abs(rows).max(1, keepdims=True) / (2 * LARGEST) * weights
    assert (np.abs(result - right) <= bound + 1e-6 * np.abs(right)).all()
    assert np.linalg.norm(result - right) < 5e-4 * np.linalg.norm(right)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_factors_do_not_saturate(sign):
    codes, scales = np.full((3, 5376), 127, np.int8), np.ones(3, np.float32)
    rows = np.full((2, 5376), np.float32(sign * 0.37))
    result = IntegerProduct(codes, scales)(rows)
    assert np.allclose(result, exact(rows, codes, scales), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_products_of_codes_are_float64s_to_fourteen_bits_of_a_number(rng, scale):
    codes = rng.integers(-127, 128, (9, 300)).astype(np.int8)
    rows = (rng.standard_normal((4, 300)) * scale).astype(np.float32)
    values, unit = digits_of(rows.reshape(1, -1))
    values = np.moveaxis(values.reshape(2, 4, 300), (0, 1), (2, 1)).astype(np.int8)
    digits = Digits(np.ascontiguousarray(values), float(unit[0, 0]))
    right = codes.astype(np.float64) @ rows.astype(np.float64).T
    for result in (row_products(biased(codes), digits), row_products(biased(codes), rows)):
        assert np.linalg.norm(result - right) < 5e-4 * np.linalg.norm(right)
    assert np.array_equal(unbiased(biased(codes)), codes)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [1, LONGEST, 2 * LONGEST + 5])
def test_the_largest_codes_and_digits_do_not_saturate(sign, size):
    codes = np.full((2, size), 127, np.int8)
    digits = Digits(np.full((size, 1, 2), sign * 64, np.int8), 1.0)
    result = digits.products(biased(codes))
    assert np.allclose(result, sign * 127.0 * 64.0 * 129.0 * size, rtol=1e-6, atol=0.0)


def test_rows_of_zeros_give_zeros_and_rows_do_not_touch_each_other(rng):
    codes, scales = matrix(rng)
    product = IntegerProduct(codes, scales)
    rows = rng.standard_normal((5, 300)).astype(np.float32)
    rows[2] = 0.0
    together = product(rows)
    assert not together[2].any()
    assert np.array_equal(together, np.concatenate([product(row[None]) for row in rows]))


def shipped(rng):
    codes, scales = matrix(rng)
    return Projection(codes, np.full(12, 0.01, np.float32), "0" * 64, scales)


def test_a_projection_in_integers_is_that_in_floats_with_any_leading_dimensions(rng, monkeypatch):
    rows = rng.standard_normal((2, 3, 300)).astype(np.float32)
    rows[1, 2] = 0.0
    directions = shipped(rng)
    integers = directions.project(rows)
    monkeypatch.setattr(arrays, "has_runtime", lambda: False)
    floats = replace(directions).project(rows)
    assert integers.shape == floats.shape == (2, 3, 12)
    assert directions.project(rows[0, 0]).shape == (12,)
    assert np.abs(integers - floats).max() < 1e-3 and not integers[1, 2].any()


def test_a_projection_that_has_computed_can_be_sent_to_another_process(rng):
    directions, rows = shipped(rng), rng.standard_normal((2, 300)).astype(np.float32)
    result = directions.project(rows)
    assert np.array_equal(pickle.loads(pickle.dumps(directions)).project(rows), result)


def test_graphs_are_what_the_package_onnx_reads_and_accepts(rng):
    onnx = pytest.importorskip("onnx")
    constants = {"b": np.arange(600, dtype=np.int8).reshape(300, 2), "zero": np.array(64, np.uint8)}
    written = node_model("MatMulInteger", {"a": np.uint8}, ("c", np.int32), constants)
    model = onnx.load_from_string(written)
    onnx.checker.check_model(model, full_check=True)
    for tensor in model.graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(tensor), constants[tensor.name])
    gemm = node_model(
        "Gemm", {"a": np.float32, "b": np.float32}, ("c", np.float32), {}, flags=["transB"]
    )
    onnx.checker.check_model(onnx.load_from_string(gemm), full_check=True)
