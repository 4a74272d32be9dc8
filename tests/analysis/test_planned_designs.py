"""Designs and their power against other programs, and against the analysis's own judgement."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from analysis import AnalysisError
from analysis.stats.dunnett import critical_value
from analysis.stats.linear import Contrasts
from analysis.stats.moderated.model import Differences
from analysis.stats.moderated.own_variance import OwnVariance
from analysis.stats.moderated.posterior import fit_posterior
from analysis.stats.planning.design import (
    ALIKE,
    MOST_SEEDS,
    Design,
    _first,
    allocate_baseline,
    seeds_needed,
)
from analysis.stats.planning.typical import Layout, residuals, typical_paired, typical_unpaired


@pytest.mark.parametrize("start", [1, 2, 3, 50, 400])
@pytest.mark.parametrize("wanted", [2, 3, 4, 51, 333])
def test_the_smallest_number_that_is_enough_is_found_from_anywhere(start: int, wanted: int):
    asked: list[int] = []
    assert _first(lambda n: asked.append(n) or n >= wanted, start) == wanted
    assert (1 in asked) == (start == 1 and wanted == 2)
    assert len(asked) < 25


def test_no_number_of_seeds_is_searched_for_above_the_most():
    asked: list[int] = []
    assert _first(lambda n: asked.append(n) or False, 2) == MOST_SEEDS + 1 == 100_001
    assert max(asked) == MOST_SEEDS
    assert _first(lambda n: n >= MOST_SEEDS, 2) == MOST_SEEDS
    assert [_first(lambda n: True, start) for start in (1, 2, 5)] == [1, 2, 2]


@pytest.mark.parametrize(("n", "K"), [(4, None), (10, None), (6, 18), (12, 3)])
def test_two_arms_without_shared_seeds_have_the_power_of_the_t_test(n: int, K: int | None):
    design = Design(0.5, None, 1, K, alpha=0.1, pooled=True)
    theirs = TTestIndPower()
    given = {"nobs1": n, "ratio": (K or n) / n, "alpha": 0.05, "alternative": "larger"}
    assert design.power(-0.6, n) == pytest.approx(theirs.power(1.2, **given), abs=1e-6)
    found = theirs.solve_power(power=0.7, **given)
    assert design.detectable(n, 0.7) == pytest.approx(0.5 * found, rel=1e-5)


def test_the_seeds_that_are_needed_are_the_t_test_s():
    exact = TTestIndPower().solve_power(1.2, alpha=0.025, power=0.8, alternative="larger")
    assert seeds_needed(0.6, 0.5, None, 1) == np.ceil(exact)
    assert Design(0.5, None, 1, pooled=True).seeds_needed(0.6) == np.ceil(exact)


def dunnett_power(delta: float, n: int, K: int, n_arms: int) -> float:
    df = n_arms * (n - 1) + K - 1
    critical = critical_value([(n / (n + K)) ** 0.5] * n_arms, df)
    return float(stats.nct.sf(critical, df, delta / (1 / n + 1 / K) ** 0.5))


def test_a_baseline_gets_the_runs_that_it_deserves():
    assert [allocate_baseline(*runs) for runs in ((3, 8), (2, 1), (5, 100))] == [8, 2, 50]
    apart = Design(1.0, None, 9, pooled=True)
    n = apart.fewest_seeds(1.5)
    assert dunnett_power(1.5, n, 3 * n, 9) >= 0.8 > dunnett_power(1.5, n - 1, 3 * n - 3, 9)
    assert apart.power(1.5, n) == pytest.approx(dunnett_power(1.5, n, n, 9))
    assert [apart.allocated(4).n_baseline, Design(1.0, 0.5, 9).allocated(4).n_baseline] == [12, 4]
    there = [Design(1.0, rho, 9, n_baseline=20).allocated(4).n_baseline for rho in (None, 0.5)]
    assert there == [20, 20]


@pytest.mark.parametrize("rho", [None, 0.0, 0.4])
def test_from_sixty_four_runs_on_own_variances_are_known(rho: float | None):
    moderated, pooled = (Design(1.0, rho, 3, pooled=pooled) for pooled in (False, True))
    found = [[design.power(0.4, n) for design in (moderated, pooled)] for n in (ALIKE, ALIKE + 1)]
    assert found[0][0] != found[0][1]
    assert found[1][0] == found[1][1]
    few = [Design(1.0, rho, 3, ALIKE, pooled=pooled).power(0.4, 200) for pooled in (False, True)]
    assert few[0] != few[1]
    one = [Design(0.015, None, 8, 8, pooled=pooled).power(0.05, 1) for pooled in (False, True)]
    assert one[0] == one[1] > 0


def judged(design: Design, n: int, ratio: np.ndarray, loading: float) -> np.ndarray:
    """Return what the analysis itself asks of the first difference of each study."""
    noise, T = design._noise(n), design.n_arms
    correlation = np.full((T, T), loading**2) + (1 - loading**2) * np.eye(T)
    found = Contrasts(np.zeros(T), np.ones(T), np.full(T, noise.df), correlation)
    owns = [OwnVariance(row, np.full(T, noise.df_own)) for row in ratio]
    return np.array(
        [Differences(found, own, fit_posterior(own)).half_width(design.alpha)[0] for own in owns]
    )


@pytest.mark.parametrize("K", [4, 9])
def test_without_shared_seeds_power_is_that_of_the_judgement_of_typical_studies(K: int):
    design, n = Design(1.0, None, 2, K, alpha=0.1), 4
    noise, layout = design._noise(n), Layout(2, n, K, paired=False)
    ratio, weight = typical_unpaired(layout)
    asked = judged(design, n, ratio, (n / (n + K)) ** 0.5)
    found, by = design._critical(n, noise, residuals(layout, 0.0, noise.df))
    assert found[0] == pytest.approx(asked, rel=1e-3)
    assert by.tolist() == weight.tolist()
    seen = weight @ stats.nct.sf(asked, noise.df, 2.5 / (1 / n + 1 / K) ** 0.5)
    assert design.power(2.5, n) == pytest.approx(seen, abs=1e-3)


def test_of_shared_seeds_it_is_asked_at_the_least_and_the_largest_residual():
    design, n, layout = Design(1.0, 0.3, 2), 4, Layout(2, 4, 4, paired=True)
    noise = design._noise(n)
    at = residuals(layout, 0.3, noise.df)
    found, weight = design._critical(n, noise, at)
    ratio, by = typical_paired(layout, 0.3)
    assert weight.tolist() == by.tolist()
    for end in (at.over_own.argmin(), at.over_own.argmax()):
        asked = judged(design, n, ratio / at.over_own[end], 0.5**0.5)
        assert found[end] == pytest.approx(asked, rel=1e-3)
    order = np.argsort(at.over_own)
    slope = np.diff(found[order], axis=0) * 1.0
    step = np.diff(at.over_own[order])
    moved = step > 1e-9
    assert np.ptp(slope[moved] / step[moved][:, None], axis=0) == pytest.approx(0, abs=1e-6)
    shift = 2.0 / (2 * 0.7 / 4) ** 0.5
    seen = stats.nct.sf(found * at.scale[:, None], at.df, shift)
    assert design.power(2.0, n) == pytest.approx(at.weight @ seen @ by, abs=1e-6)


@pytest.mark.parametrize("K", [None, 8])
def test_a_single_seed_detects_nothing(K: int | None):
    assert Design(0.015, None, 8, K).detectable(1) == np.inf
    assert np.isfinite(Design(0.015, None, 8, K).detectable(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.015, None, 8), "the difference to find is 0.0: it must be a number other than 0"),
        (
            (np.inf, 0.015, None, 8),
            "the difference to find is inf: it must be a number other than 0",
        ),
        ((0.01, 0.0, None, 8), "the noise sd is 0.0: it must be above 0"),
        ((0.01, np.inf, None, 8), "the noise sd is inf: it must be above 0"),
        ((0.01, 0.015, 1.0, 8), "the seeds' correlation rho is 1.0: allowed are 0 up to below 1"),
        ((0.01, 0.015, -0.1, 8), "the seeds' correlation rho is -0.1: allowed are 0 up to below 1"),
        (
            (1e-6, 0.015, None, 8),
            "no number of seeds up to 100,000 finds 1e-06 with power 0.8 at sd 0.015: ask for a "
            "larger difference",
        ),
        (
            (0.001, 0.015, None, 8, 2),
            "no number of seeds up to 100,000 finds 0.001 with power 0.8 at sd 0.015: ask for a "
            "larger difference, or run more baseline seeds",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_told_why(arguments: tuple[float, ...], message: str):
    with pytest.raises(AnalysisError) as refused:
        seeds_needed(*arguments)
    assert str(refused.value) == message


@pytest.mark.parametrize("rule", [{"power": 1.0}, {"power": 0.0}, {"alpha": 0.5}])
def test_chances_are_between_none_and_certainty(rule: dict[str, float]):
    with pytest.raises(
        AnalysisError, match=f"is {next(iter(rule.values())):g}: allowed is between"
    ):
        seeds_needed(0.01, 0.015, 0.0, 8, **rule)


def test_one_seed_of_each_arm_may_be_enough_beside_a_baseline_of_several():
    design = Design(0.015, None, 8, 8)
    assert design.power(0.2, 1) > 0.8 > design.power(0.05, 1)
    assert design.seeds_needed(0.2) == 1 < design.seeds_needed(0.05)
