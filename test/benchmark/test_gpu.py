# SPDX-License-Identifier: Apache-2.0
"""The measurement of a GPU, run on the CPU with small sizes: its figures say nothing there."""

import pytest
import torch

from benchmark.performance import gpu
from benchmark.performance.page import PAGE


@pytest.mark.parametrize(
    ("driver", "built", "expected"),
    [
        (False, "12.8", "no CUDA driver"),
        (True, None, "built without CUDA"),
        (True, "12.8", "the driver is too old for CUDA 12.8"),
    ],
)
def test_without_a_gpu_it_says_what_is_missing_and_fails(
    monkeypatch, capsys, driver, built, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(gpu, "has_cuda_driver", lambda: driver)
    assert gpu.main() == 1 and gpu.measure() == {}
    assert expected in capsys.readouterr().out


def test_nothing_is_measured_where_the_gpu_answers_otherwise_than_the_cpu(monkeypatch, capsys):
    class Failed:
        returncode = 1

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu.subprocess, "run", lambda *arguments, **rest: Failed())
    monkeypatch.setattr(gpu, "measure", None)
    assert gpu.main() == 1
    assert "not the CPU's" in capsys.readouterr().out


def test_its_figures_make_a_section_and_without_them_the_page_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    figures = gpu.measure("cpu", {20: gpu.SMALL}, repeats=1, copied=1 << 10, side=16)
    assert {(row["images"], row["batch"]) for row in figures["answers"]} == {(20, 1), (20, 4)}
    assert all(row["ms"] > row["limit_ms"] > 0 for row in figures["answers"])
    section = {"gpu": {"measured_under": "a test", "stale": False, "results": figures}}
    text = PAGE.render(section, only="gpu")
    assert text.startswith("## GPU: cpu") and "half, CUDA graph" in text
    assert "Not measured; none was at hand" in PAGE.render({})
    assert "Not measured" not in PAGE.render(section)
