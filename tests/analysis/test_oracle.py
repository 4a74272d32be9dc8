import pytest

from benchmarks.oracle import limits

CLOSE = 0.01
"""Of 100,000 studies by chance and of the grid of critical values."""


def test_an_oracle_with_equal_variances_has_the_family_error_it_asks_for():
    best = limits(8, 3, 1.0, 1)[0]
    assert best["lowest fwer"] == pytest.approx(0.05, abs=CLOSE)
    assert best["power at ratio 1"] > 0.877, "the best valid method without an oracle"


def test_three_seeds_cannot_show_a_noisy_baseline_and_eight_can():
    few, many = limits(8, 3, 4.0, 1), limits(8, 8, 4.0, 1)
    errors = [row["lowest fwer"] for row in few]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] > 0.08 > 0.02 > many[1]["lowest fwer"]
