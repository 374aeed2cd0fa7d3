# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import torch

from training.disam.averaging import choose_average, interpolated

DOMAINS = ["day", "snow", "night"]


def state(value):
    return {f"encoders/{domain}/weight": torch.full((2,), float(value)) for domain in DOMAINS}


def shares_of(weights):
    return {domain: float(weights[f"encoders/{domain}/weight"][0]) for domain in DOMAINS}


def measure_around(best, calls=None):
    """Recall that is highest where every domain has the share `best`."""

    def measure(weights):
        result = shares_of(weights)
        rows = {d: 100.0 - 50.0 * abs(result[d] - best[d]) for d in DOMAINS if d != "day"}
        rows["night tiles"] = rows["night"]
        rows = {
            name: value - 50.0 * abs(result["day"] - best["day"]) for name, value in rows.items()
        }
        if calls is not None:
            calls.append(result)
        return {**rows, "mean": sum(rows.values()) / len(rows)}

    return measure


def test_a_share_of_zero_is_the_start_and_of_one_the_trained_weights():
    start, trained = state(2.0), state(4.0)
    result = interpolated(start, trained, {"day": 0.0, "snow": 0.25, "night": 1.0})
    assert shares_of(result) == {"day": 2.0, "snow": 2.5, "night": 4.0}


def test_every_domain_gets_the_share_that_validates_best():
    best = {"day": 0.4, "snow": 0.2, "night": 1.0}
    result = choose_average(state(0), state(1), [0.2, 0.4], DOMAINS, "day", measure_around(best))
    assert result.shares == best and shares_of(result.state) == pytest.approx(best)
    assert result.recall["chosen"]["mean"] == pytest.approx(100.0)
    assert {"0", "0.2", "0.4", "1", "chosen"} == set(result.recall)


def test_about_equal_recall_keeps_more_of_the_start():
    def measure(weights):
        recall = {0.0: 90.0, 0.5: 94.5, 1.0: 95.0}[shares_of(weights)["day"]]
        return {"snow": recall, "night": recall, "mean": recall}

    result = choose_average(state(0), state(1), [0.5], DOMAINS, "day", measure)
    assert result.shares == {"day": 0.5, "snow": 0.0, "night": 0.0}


def test_a_model_worse_than_its_start_is_reported_loudly(caplog):
    means = iter([90.0, 91.0, 80.0, 80.0, 70.0])

    def measure(weights):
        mean = next(means)
        return {"snow": mean, "mean": mean}

    with caplog.at_level(logging.WARNING):
        choose_average(state(0), state(1), [], DOMAINS, "day", measure)
    assert "WORSE THAN ITS START" in caplog.text
