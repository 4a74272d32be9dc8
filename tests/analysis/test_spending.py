"""How alpha is spent over looks, and the chance that is left, counted in seeds."""

import pytest
from scipy import stats

from analysis import AnalysisError
from analysis.stats.dunnett import critical_value
from analysis.stats.planning.spending import conditional_power, spending
from harness.records import StudyPlan


def test_two_looks_spend_what_o_brien_and_fleming_s_function_says() -> None:
    """Lan and DeMets (1983): 2 - 2 Phi(z / sqrt(t)) by the share t of all seeds."""
    first = 2 * stats.norm.sf(stats.norm.isf(0.05) / 0.5)
    assert spending([2, 8], alpha=0.1) == pytest.approx((first, 0.1 - first))
    assert spending([5]) == pytest.approx((0.05,))


def test_looks_that_do_not_grow_are_told_what_is_allowed() -> None:
    with pytest.raises(AnalysisError) as refused:
        spending([2, 2])
    assert str(refused.value) == (
        "looks [2, 2] are not allowed: increasing numbers of seeds from 2 on, e.g. 2 3 4 6 8"
    )


@pytest.mark.parametrize("t_now", [1.5, -1.5, 0.0])
@pytest.mark.parametrize(("n", "t_size"), [(3, 2.0), (7, 2.0), (3, 0.0)])
def test_the_power_that_is_left_is_that_of_the_seeds_that_are_left(
    t_now: float, n: int, t_size: float
) -> None:
    """A seed adds the practical size over its noise, which is t_size / sqrt(n), and a normal."""
    plan, n_arms, N = StudyPlan(study="s", looks=[3, 8], alpha=0.1), 2, 8
    last = spending(plan.looks, 0.1)[-1]
    critical = critical_value([0.5**0.5] * n_arms, n_arms * (N - 1), last)
    so_far, more = abs(t_now) * n**0.5, (N - n) * t_size / n**0.5
    expected = stats.norm.sf((critical * N**0.5 - so_far - more) / (N - n) ** 0.5)
    assert conditional_power(t_now, t_size, n, plan, n_arms) == pytest.approx(expected)


@pytest.mark.parametrize("n", [8, 9])
def test_after_the_last_look_the_bound_is_crossed_or_not(n: int) -> None:
    plan = StudyPlan(study="s", looks=[3, 8])
    bound = critical_value([0.5**0.5], 7, spending(plan.looks)[-1])
    found = [conditional_power(sign * bound * f, 9.0, n, plan, 1) for sign in (1, -1)
             for f in (0.999, 1.001)]  # fmt: skip
    assert found == [0, 1, 0, 1]
