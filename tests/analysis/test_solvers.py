import numpy as np
import pytest

from analysis.stats.solvers import find_root, find_roots, minimise


@pytest.mark.parametrize("at", [0.1234567, 3.3, 6.9])
def test_the_smallest_value_is_found_between_the_points_of_the_grid(at):
    assert minimise(lambda x: (x - at) ** 2, 0.0, 7.0) == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize(("slope", "end"), [(1.0, 2.0), (-1.0, 7.0)])
def test_the_smallest_value_at_an_end_is_that_end(slope, end):
    assert minimise(lambda x: slope * x, 2.0, 7.0) == end


def test_roots_of_several_functions_are_found_at_once():
    wanted = np.array([0.5, 1.0, 2.5])
    found = find_roots(lambda x: x**3 - wanted**3, np.full(3, 0.25), np.full(3, 4.0))
    assert found == pytest.approx(wanted, abs=1e-8)


def test_a_root_is_found_in_a_few_steps():
    asked = []
    find_root(lambda x: asked.append(x) or x**3 - 8, 1.0, 5.0)
    assert len(asked) < 16


def test_a_root_without_a_change_of_sign_is_refused():
    assert find_root(lambda x: x**3 - 8, 1.0, 5.0) == pytest.approx(2.0)
    with pytest.raises(ValueError, match=r"no sign change between 3\.0 and 5\.0"):
        find_root(lambda x: x**3 - 8, 3.0, 5.0)


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_root_at_an_end_is_that_end(at):
    assert find_root(lambda x: x - at, 0.0, 1.0) == at
