import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.crossing import Crossing, first_crossing


@given(
    slope=st.floats(0.05, 2.0),
    where=st.floats(0.0, 1.0),
    start=st.floats(1e3, 1e9),
    grid=st.floats(1.05, 3.0),
)
def test_a_straight_line_on_log_tokens_is_crossed_exactly(slope, where, start, grid):
    tokens = [start * grid**i for i in range(12)]
    loss = [6.0 - slope * math.log(t / start) for t in tokens]
    target = loss[0] + where * (loss[-1] - loss[0])
    found = first_crossing(tokens, loss, target)
    assert found.tokens == pytest.approx(start * math.exp((6.0 - target) / slope), rel=1e-6)


def test_a_run_that_never_gets_there_is_censored_at_its_last_point():
    found = first_crossing([100, 200, 400], [5.0, 4.0, 3.9], 3.5)
    assert found == Crossing(tokens=None, last=400, grid=1.0, at_start=False)


def test_the_first_of_several_crossings_counts():
    found = first_crossing([10, 20, 40, 80, 160], [5.0, 3.0, 4.5, 3.0, 2.0], 3.5)
    assert found == Crossing(pytest.approx(10 * 2**0.75), last=160, grid=2.0, at_start=False)


def test_a_curve_that_starts_below_the_target_says_so():
    found = first_crossing([10, 20], [3.0, 2.0], 3.5)
    assert (found.tokens, found.at_start) == (10, True)


def test_a_target_on_a_logged_point_has_no_grid_around_it():
    found = first_crossing([10, 20, 40], [4.0, 3.5, 3.0], 3.5)
    assert (found.tokens, found.grid, found.at_start) == (20, 1.0, False)


def test_order_missing_values_and_the_untrained_model_do_not_matter():
    found = first_crossing([40, 0, 10, 20, 30], [3.0, 9.0, 5.0, 4.0, math.nan], 3.5)
    assert found.tokens == pytest.approx(20 * 2**0.5)
    after_a_spike = first_crossing([10, 20], [math.inf, 3.0], 3.5)
    assert after_a_spike.tokens == pytest.approx(20)


def test_a_curve_without_points_is_refused():
    with pytest.raises(ValueError, match="no point"):
        first_crossing([0, 10], [9.0, math.nan], 3.5)
