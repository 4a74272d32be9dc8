"""Which estimator a study's seeds allow, which runs are a block, and in which words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from studies import study

from analysis import AnalysisError
from analysis.comparison.estimate import Obstacle, block_labels, estimate, hardly_paired
from harness.records import BASELINE

MIXED = "mixed model loss ~ arm + (1 | init_seed), REML, Kenward-Roger se and df"
BY_OWN = ", moderated by each difference's own variance (probability of equal noise: "
LOSSES = [3.70, 3.71, 3.69, 3.72, 3.68, 3.70, 3.71, 3.66, 3.69, 3.70, 3.73, 3.68]


def runs(*seeds: list[object], **columns: list[object]) -> pd.DataFrame:
    """Return runs of the baseline, a, b ... with these seeds."""
    names = [BASELINE, *"abc"]
    arms = [names[i] for i, mine in enumerate(seeds) for _ in mine]
    known = [seed for mine in seeds for seed in mine]
    given = {"arm": arms, "loss": LOSSES[: len(arms)], "init_seed": pd.Series(known, dtype=object)}
    return pd.DataFrame({**given, **columns})


@pytest.mark.parametrize(
    ("frame", "variance", "method", "why"),
    [
        (
            runs([0, 1, 2], [0, 1, 2]),
            "moderated",
            MIXED + BY_OWN,
            "runs share initialisation seeds",
        ),
        (runs([0, 1, 2], [0, 1, 2]), "pooled", MIXED, "runs share initialisation seeds"),
        (
            runs([0, 0, 1, 1], [0], [1]),
            "moderated",
            MIXED,
            "runs share initialisation seeds within the baseline only",
        ),
        (
            runs([0, 1, 2, 3], [3, 4, 5, 6]),
            "moderated",
            "one-way means, pooled variance, df 6" + BY_OWN,
            "no arm shares at least half of its initialisation seeds with the baseline",
        ),
        (
            runs([0, 1, 2], [3, 4, 5]),
            "pooled",
            "one-way means, pooled variance, df 4",
            "no two runs share an initialisation seed",
        ),
        (
            runs([None, None], [None, None]),
            "pooled",
            "one-way means, pooled variance, df 2",
            "no init_seed is given, so every run counts as a seed of its own",
        ),
        (
            runs([0, 1, 2, 3], [2, 3, 4, 5]),
            "pooled",
            "one-way means, pooled variance, df 6",
            "2 initialisation seed(s) shared between arms leave 1 degree(s) of freedom to estimate "
            "the pairing (3 are needed), so it is not used: more seeds that all arms complete "
            "restore it",
        ),
        (
            runs([0, 1, 2], [0], [1]),
            "moderated",
            "t prediction interval of one run from K = 3 baselines, df 2",
            "every other arm has a single run",
        ),
        (
            runs([0], [0], [0]),
            "moderated",
            "no inference",
            "every arm has one run: only the break-even sd can be given",
        ),
        (
            runs([0, 0], [1]),
            "moderated",
            "no inference",
            "the repeats of each arm share one initialisation seed: their spread leaves out the "
            "noise of the initial weights",
        ),
    ],
)
def test_the_seeds_choose_the_method_which_says_why(frame, variance, method, why) -> None:
    found = estimate(frame, BASELINE, variance)
    assert found.why == why
    assert found.method.startswith(method)
    assert (BY_OWN in found.method) == (BY_OWN in method)
    single = why.startswith("every arm has one run")
    loop = why.startswith("the repeats of each")
    wanted = Obstacle.NO_REPEATS if single else Obstacle.LOOP_ONLY if loop else None
    assert found.obstacle is wanted
    assert (found.judging is None) == (found.obstacle is not None)
    assert found.pairing_lost == ("so it is not used" in why)
    assert (found.correlation is None) == ("mixed" not in method)
    assert (found.equal_noise == 1) == (BY_OWN not in method)


def test_a_baseline_alone_is_fitted_and_judges_nothing() -> None:
    found = estimate(runs([0, 1, 2]), BASELINE)
    assert (found.judging, found.obstacle, found.arms) == (None, None, (BASELINE,))
    assert found.fit.sd_total == pytest.approx(0.01)


def test_the_correlation_to_plan_with_is_between_none_and_nearly_all() -> None:
    found = estimate(
        study({"a": 0.0, "b": 0.0}, n=4).rename(columns={"test_loss": "loss"}), BASELINE
    )
    for measured, planned in (
        (-0.3, 0.0),
        (0.0, 0.0),
        (0.4, 0.4),
        (0.9985, 0.9985),
        (0.9999, 0.999),
    ):
        assert (
            replace(found, correlation=replace(found.correlation, estimate=measured)).rho == planned
        )
    unmeasured = replace(found, correlation=None)
    assert unmeasured.rho == min(max(found.fit.rho, 0), 0.999)
    assert estimate(runs([0, 1], [2, 3]), BASELINE).rho is None
    assert estimate(runs([0], [0]), BASELINE).rho is None
    equal = runs([0, 1, 2], [0, 1, 2]).assign(loss=[3.7, 3.71, 3.69, 3.6, 3.61, 3.59])
    assert estimate(equal, BASELINE).noiseless
    assert estimate(equal, BASELINE).rho is None


def test_shared_seeds_are_counted_where_they_draw_the_same_weights() -> None:
    share = [1.0, 1.0, 1.0, 1.0, 1.0, np.nan, 0.5, 0.49, 1.0]
    frame = runs([0, 1, 2, 3], [0, 1, 2, 3, None], init_shared=share)
    assert estimate(frame, BASELINE).n_shared == (4, 3)
    assert estimate(frame.drop(columns="init_seed"), BASELINE).n_shared == (0, 0)


def test_a_block_is_a_seed_of_the_baseline_and_of_the_arms_paired_with_it() -> None:
    share = [1.0] * 4 + [1.0, 0.2, 1.0] + [1.0] * 3
    frame = runs([0, 1, 2, None], [0, 1, 4], [2, 5, 6], init_shared=share)
    base = [("seed", "0"), ("seed", "1"), ("seed", "2"), ("run", 3)]
    own = [("b", ("seed", "2")), ("b", ("seed", "5")), ("b", ("seed", "6"))]
    unpaired = [("a", ("seed", "0")), ("a", ("a", "1")), ("a", ("seed", "4"))]
    assert block_labels(frame, BASELINE) == [*base, *unpaired, *own]
    assert hardly_paired(frame, BASELINE) == ["a", "b"]
    paired = [("seed", "0"), ("seed", "1"), ("seed", "4")]
    same = frame.drop(columns="init_shared")
    assert block_labels(same, BASELINE) == [*base, *paired, *own]
    assert hardly_paired(same, BASELINE) == ["b"]
    unpaired[1] = ("a", ("seed", "1"))
    assert block_labels(same, BASELINE, pair=False) == [*base, *unpaired, *own]
    unknown = same.drop(columns="init_seed")
    assert block_labels(unknown, BASELINE)[:5] == [0, 1, 2, 3, ("a", 4)]
    assert hardly_paired(unknown, BASELINE) == []


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (runs([0, 1], [0, 1]), "(complete arms: 'a', 'baseline'): run it, or name another, e.g. "
         "--baseline a"),
        (runs(), "(complete arms: none): run it, or name another with --baseline"),
    ],
)  # fmt: skip
def test_a_baseline_that_was_not_run_is_refused(frame, said) -> None:
    with pytest.raises(AnalysisError) as refused:
        estimate(frame, "base")
    assert str(refused.value) == f"no complete run of the baseline 'base' {said}"


def test_an_unknown_rule_of_variance_is_refused() -> None:
    with pytest.raises(AnalysisError, match=r"variance 'own': allowed are moderated, pooled$"):
        estimate(runs([0, 1], [0, 1]), BASELINE, "own")
