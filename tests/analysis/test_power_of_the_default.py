import numpy as np
import pytest

from analysis import AnalysisError
from analysis.stats.dunnett import critical_value
from analysis.stats.linear import fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.model import moderate
from analysis.stats.planning.design import ALIKE, Design, seeds_needed
from analysis.stats.planning.typical import Layout, residuals
from benchmarks.simulate import (
    ALPHA,
    OURS,
    SD,
    Cell,
    Studies,
    draw,
    judge,
    residual_variance,
)


def found(n_arms, n, K, rho, count):
    """Return the share of studies that find one true difference, where pooled power is 0.8.

    `rho` is None where arms share no seeds.
    """
    rng = np.random.default_rng([n_arms, n, K])
    delta = Design(SD, rho, n_arms, K, pooled=True).detectable(n)
    cell = Cell(n_arms, n, rho or 0.0, n_baseline=K)
    studies = draw(cell, rng, count, effect=0.0)
    loss = studies.loss - delta * (studies.arm == 1)
    if rho is not None and n == K:
        rejected = judge(cell, Studies(loss, studies.arm, studies.seed, studies.truth))[
            OURS
        ].rejected
        return delta, rejected[:, 0].mean()
    hits = 0
    for y in loss:
        seed = studies.seed if rho is not None else np.arange(len(y))
        fit = fit_mixed(y, studies.arm, seed) if rho is not None else fit_pooled(y, studies.arm)
        hits += moderate(fit, y, studies.arm, seed).against_baseline().p_adj[0] < ALPHA
    return delta, hits / count


@pytest.mark.proof
@pytest.mark.parametrize(
    ("n_arms", "n", "K", "rho"),
    [
        (1, 4, 4, 0.0),
        (2, 3, 3, 0.0),
        (4, 2, 2, 0.0),
        (4, 6, 6, 0.0),
        (12, 3, 3, 0.0),
        (4, 3, 8, 0.0),
        (1, 8, 8, 0.8),
        (2, 6, 6, 0.8),
        (4, 2, 2, 0.4),
        (4, 4, 4, 0.8),
        (8, 3, 3, 0.8),
        (8, 8, 8, 0.4),
        (12, 2, 2, 0.8),
        (1, 3, 3, None),
        (2, 2, 6, None),
        (4, 3, 12, None),
        (8, 6, 2, None),
        (12, 2, 2, None),
        (4, 3, 12, 0.4),
        (4, 3, 12, 0.8),
        (8, 2, 6, 0.8),
        (8, 6, 3, 0.4),
    ],
)
def test_planned_power_is_within_four_points_of_simulated_studies(n_arms, n, K, rho):
    count = 1500 if rho is not None and n == K else 400
    delta, share = found(n_arms, n, K, rho, count)
    planned = Design(SD, rho, n_arms, K).power(delta, n)
    assert planned == pytest.approx(share, abs=0.04 + 2 * (0.2 / count) ** 0.5)
    assert planned < 0.81 + (0.05 if n_arms == 1 else 0.0)


@pytest.mark.parametrize("rho", [0.8, 0.0])
def test_few_cases_agree_in_the_fast_suite_too(rho: float):
    delta, share = found(4, 3, 3, rho, 500)
    assert Design(SD, rho, 4).power(delta, 3) == pytest.approx(share, abs=0.04 + 0.04)


def test_seeds_that_carry_no_noise_leave_the_residual_that_reml_finds():
    """At rho 0 REML's residual is the smaller of two: the chance of that, its size, and power."""
    n, T, rng = 3, 2, np.random.default_rng(2)
    y = rng.normal(size=(200_000, T + 1, n))
    within = residual_variance(y - y.mean(axis=2, keepdims=True))
    found = residuals(Layout(T, n, n, paired=True), 0.0, T * (n - 1))
    for power_of in (1, 2):  # E s^k of a chi-square's mean over df: 1, and 1 + 2 / df
        moment = (1.0, 1 + 2 / found.df)[power_of - 1]
        expected = moment * found.weight @ found.scale ** (2 * power_of)
        assert expected == pytest.approx((within**power_of).mean(), rel=0.01)
    design = Design(1.0, 0.0, T, pooled=True)
    t = (y[:, 1].mean(axis=1) - y[:, 0].mean(axis=1) + 2.5) / np.sqrt(2 * within / n)
    limit = critical_value([0.5**0.5] * T, T * (n - 1), 0.05)
    assert design.power(2.5, n) == pytest.approx((t > limit).mean(), abs=0.004)


def test_pooled_power_is_the_published_one(r_numbers):
    """R's take the seeds' noise as given: here it is so large that no runs could miss it."""

    def sure(n_arms: int) -> Design:
        return Design(0.015 * (0.6 / 1e-5) ** 0.5, 1 - 1e-5, n_arms, pooled=True)

    unpaired = Design(0.015, None, 1, pooled=True)
    assert unpaired.power(0.014, r_numbers["power_t"]["unpaired"]) == pytest.approx(0.8, abs=1e-6)
    assert sure(1).power(0.014, 12.86408) == pytest.approx(0.8, abs=2e-4)
    assert sure(8).power(0.025, 4) == pytest.approx(0.578353, abs=5e-4)
    assert 0 < Design(0.015, 0.4, 8, pooled=True).power(0.025, 4) - sure(8).power(0.025, 4) < 0.005
    assert Design(0.015, None, 8, 8).power(0.05, 1) == pytest.approx(0.396121, abs=1e-6)


def test_the_baseline_s_own_number_of_runs_counts():
    few, many = (Design(0.015, None, 8, K) for K in (3, 12))
    assert many.power(0.04, 3) > few.power(0.04, 3) + 0.15
    assert seeds_needed(0.04, 0.015, None, 8, 12) == 3 < seeds_needed(0.04, 0.015, None, 8)
    paired = [Design(0.015, 0.4, 8, K).power(0.03, 3) for K in (3, 6, 12)]
    assert paired == sorted(paired)


def test_the_answer_is_the_smallest_number_of_seeds_and_the_detectable_difference_fits_it():
    design = Design(0.015, 0.5, 8)
    n = design.seeds_needed(0.02)
    assert design.power(0.02, n) >= 0.8 > design.power(0.02, n - 1)
    assert design.power(design.detectable(n), n) == pytest.approx(0.8, abs=1e-5)
    assert design.detectable(n) <= 0.02


def test_a_design_whose_verdicts_would_all_be_undecided_has_no_power():
    assert Design(0.015, 0.5, 1).power(1.0, 3) == 0  # 2 df
    assert Design(0.015, 0.5, 1).power(1.0, 4) > 0.99
    assert Design(0.015, 0.5, 1).detectable(3) == np.inf


def test_one_arm_with_shared_seeds_pays_nothing_and_many_runs_hardly_anything():
    """One difference is as noisy as the model says, unless REML finds no noise of the seeds."""
    shared = Design(10.0, 0.999, 1)
    assert shared.power(0.5, 6) == pytest.approx(
        Design(10.0, 0.999, 1, pooled=True).power(0.5, 6), abs=1e-4
    )
    assert 0.1 < shared.power(0.5, 6) < 0.9
    pooled = Design(1.0, 0.5, 4, pooled=True)
    gap = pooled.power(pooled.detectable(ALIKE), ALIKE) - Design(1.0, 0.5, 4).power(
        pooled.detectable(ALIKE), ALIKE
    )
    assert 0 <= gap < 0.01


def test_power_does_not_depend_on_the_unit_or_the_sign():
    one, thousand = Design(0.015, 0.4, 4), Design(15.0, 0.4, 4)
    assert one.power(0.03, 4) == pytest.approx(thousand.power(-30.0, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.015, None, 8), "other than 0"),
        ((0.01, 0.0, None, 8), "noise sd is 0"),
        ((0.01, 0.015, 1.0, 8), "rho is 1.0"),
        ((1e-6, 0.015, None, 8), "no number of seeds"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(AnalysisError, match=message):
        seeds_needed(*arguments)


def test_a_rule_that_does_not_exist_is_refused():
    with pytest.raises(AnalysisError, match="unknown rule 'beta'"):
        seeds_needed(0.01, 0.015, None, 8, beta=0.2)
