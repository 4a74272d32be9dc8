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


@pytest.mark.parametrize("sign", [1, -1])
def test_a_root_is_found_in_a_few_steps(sign):
    asked = []
    find_root(lambda x: asked.append(x) or sign * (x**3 - 8), 1.0, 5.0)
    assert len(asked) < 16
    assert min(asked) == 1.0
    assert max(asked) == 5.0


def test_a_root_without_a_change_of_sign_is_refused():
    assert find_root(lambda x: x**3 - 8, 1.0, 5.0) == pytest.approx(2.0)
    with pytest.raises(ValueError, match=r"no sign change between 3\.0 and 5\.0"):
        find_root(lambda x: x**3 - 8, 3.0, 5.0)


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_root_at_an_end_is_that_end(at):
    assert find_root(lambda x: x - at, 0.0, 1.0) == at


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [1.3, 2.0, 4.9])
def test_a_root_is_found_to_the_asked_digits_whichever_way_the_function_goes(sign, at):
    root = find_root(lambda x: sign * (np.exp(x) - np.exp(at)), 1.0, 5.0)
    assert root == pytest.approx(at, rel=1e-10)
    near = []
    find_root(lambda x: near.append(x) or sign * (np.exp(x) - np.exp(at)), 1.0, 5.0, tolerance=1e-2)
    exact = []
    find_root(lambda x: exact.append(x) or sign * (np.exp(x) - np.exp(at)), 1.0, 5.0)
    assert len(near) < len(exact)


def test_a_root_near_zero_needs_no_digits_of_its_own():
    assert find_root(lambda x: x**3 - 1e-15, -1.0, 2.0) == pytest.approx(1e-5, abs=1e-9)


def test_a_root_of_a_step_is_where_it_jumps():
    assert find_root(lambda x: -1.0 if x < 0.3 else 1.0, 0.0, 1.0) == pytest.approx(0.3, abs=1e-9)


@pytest.mark.parametrize("at", [0.0, 0.001, 0.3, 3.5, 6.7, 6.999, 7.0])
def test_the_smallest_value_is_found_beside_an_end_too(at):
    assert minimise(lambda x: abs(x - at), 0.0, 7.0) == pytest.approx(at, abs=1e-9)


def test_roots_of_flat_and_steep_functions_are_found_beside_each_other():
    """One of them is zero throughout; another one is found only in many steps."""
    power = np.array([1.0, 9.0, 0.0])

    def function(x):
        return np.where(power == 0, 0.0, x ** np.maximum(power, 1) - 0.5)

    found = find_roots(function, np.zeros(3), np.full(3, 1.0))
    assert found[:2] == pytest.approx([0.5, 0.5 ** (1 / 9)], abs=1e-7)
    assert np.isfinite(found).all()
