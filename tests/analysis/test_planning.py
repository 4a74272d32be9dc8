import numpy as np
import pandas as pd
import pytest
from studies import on_disk, study

from analysis import AnalysisError, Pilot, compare, pilot_of, plan
from analysis.__main__ import main
from analysis.comparison.table import planning_design
from analysis.stats.mixed import fit_mixed, fit_of_design
from analysis.stats.moderated.own_variance import spread
from analysis.stats.planning.design import Design, _noise
from analysis.stats.planning.power import power, upper_sd
from analysis.stats.planning.typical import Layout, typical_paired, typical_unpaired


def test_power_agrees_with_the_noncentral_t_of_scipy():
    from scipy import stats

    assert power(2.0, 0.7, 2.4) == pytest.approx(stats.nct.sf(2.4, 0.7, 2.0), abs=1e-3)
    for df in (3, 10, 60):
        ours = power([0.5, 2.0, 5.0], df, 2.4)
        assert ours == pytest.approx(stats.nct.sf(2.4, df, [0.5, 2.0, 5.0]), abs=1e-9)


def test_power_agrees_with_simulated_studies():
    rng = np.random.default_rng(0)
    from analysis.stats.dunnett import critical_value

    n, T, sd, rho, delta = 4, 3, 0.015, 0.4, 0.03
    critical = critical_value([0.5**0.5] * T, T * (n - 1))
    seeds = rng.normal(0, sd * rho**0.5, (20_000, 1, n))
    runs = seeds + rng.normal(0, sd * (1 - rho) ** 0.5, (20_000, T + 1, n))
    means = runs.mean(axis=2)
    resid = runs - means[:, :, None] - runs.mean(axis=1, keepdims=True)
    resid += runs.mean(axis=(1, 2), keepdims=True)
    se = np.sqrt(2 * (resid**2).sum(axis=(1, 2)) / (T * (n - 1)) / n)
    found = (means[:, 1] - means[:, 0] + delta) / se > critical
    assert Design(sd, rho, T, pooled=True).power(delta, n) == pytest.approx(found.mean(), abs=0.01)


@pytest.mark.proof
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_upper_limit_from_shared_seeds_covers_the_noise_of_differences(rho):
    rng, covered, studies = np.random.default_rng(9), 0, 120
    for _ in range(studies):
        frame = study({"a": 0.0}, n=4, sd=0.01, rho=rho, rng=rng)
        pilot = pilot_of(frame)
        limit = upper_sd(pilot.sd, pilot.df) * np.sqrt(1 - (pilot.rho or 0.0))
        covered += int(limit >= 0.01 * np.sqrt(1 - rho))
    assert covered / studies == pytest.approx(0.8, abs=0.09)


def test_a_pilot_of_shared_seeds_without_correlation_says_that_they_are_shared():
    seeds = {"init_seed": [0, 1, 2, 3] * 2, "arm": ["baseline"] * 4 + ["a"] * 4}
    frame = pd.DataFrame({**seeds, "test_loss": [1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0]})
    pilot = pilot_of(frame)
    assert pilot.rho == 0
    said = plan(2.0, pilot, 2).to_markdown()
    assert "correlation of same-seed runs 0.00 (measured -1.00 from 4 pairs)" in said
    assert "Power is that of the default rule" in said
    pooled = pilot_of(frame, variance="pooled")
    assert "Power is that of the pooled rule" in plan(2.0, pooled, 2).to_markdown()


def test_the_upper_limit_of_an_sd_covers_four_times_in_five():
    rng = np.random.default_rng(5)
    sds = rng.normal(0, 1, (20_000, 8)).std(axis=1, ddof=1)
    assert np.mean([upper_sd(1.0, 7) * s >= 1 for s in sds]) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--alpha", "2"], "alpha is 2: allowed is between 0 and 0.5"),
        (["--alpha", "0"], "alpha is 0: allowed"),
        (["--power", "1"], "the power is 1: allowed is between 0 and 1, e.g. 0.8"),
        (["--hours", "-2"], "the hours of one run are -2: they cannot be below 0"),
    ],
)
def test_absurd_figures_of_a_plan_are_refused_in_one_line(wrong, message, capsys):
    assert main(["plan", "--delta", "0.02", "--arms", "2", "--sd", "0.01", *wrong]) == 2
    assert message in capsys.readouterr().err


def test_a_pilot_supplies_noise_and_cost(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": 0.0, "b": -0.02}, n=6))
    pilot = pilot_of(folder)
    assert pilot.hours == pytest.approx(0.01)
    assert pilot.usd == pytest.approx(0.02)
    assert 0.005 < pilot.sd < 0.02
    result = plan(0.01, pilot, 4)
    last = result.curve.iloc[-1]
    assert last["usd"] == pytest.approx(0.02 * last["runs"])
    assert result.seeds_cautious >= result.seeds
    assert "dollars" in result.to_markdown()


@pytest.mark.parametrize(
    ("hours", "column"), [(0.002, ("minutes", 1.2)), (0.3, ("hours", 3)), (3, ("days", 1.2))]
)
def test_the_time_of_a_plan_is_in_a_unit_that_suits_it(hours: float, column: tuple[str, float]):
    text = plan(0.03, Pilot(0.01, 20, 0.4, hours), 4).to_markdown()
    table = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    assert (table[0][-1].strip(), float(table[2][-1])) == column


def test_runs_without_noise_cannot_be_planned_with():
    frame = pd.DataFrame({"arm": ["baseline", "a"], "test_loss": [3.7, 3.6]})
    with pytest.raises(AnalysisError, match="--sd"):
        pilot_of(frame)


def test_the_baseline_of_an_unpaired_study_gets_more_runs():
    result = plan(0.02, Pilot(0.015, 20, None), 9)
    assert result.n_baseline == 3 * result.seeds
    assert (
        plan(0.02, Pilot(0.015, 20, 0.4), 9).n_baseline
        == plan(0.02, Pilot(0.015, 20, 0.4), 9).seeds
    )


def test_without_a_noise_the_command_prices_those_of_others(capsys):
    given = ["plan", "--delta", "0.01", "--arms", "6"]
    assert main(given) == 0
    plain = capsys.readouterr().out
    assert "such a noise" in plain
    assert "dollars" not in plain.split("###")[1]
    assert main([*given, "--usd", "2"]) == 0
    table = [
        line.strip("| ").split("|")
        for line in capsys.readouterr().out.splitlines()
        if line[:1] == "|"
    ]
    heads = [head.strip() for head in table[0]]
    for row in (dict(zip(heads, row, strict=True)) for row in table[2:]):
        sd, seeds = float(row["sd"]), int(row["seeds per arm"])
        design = Design(sd, 0.0, 6)
        assert design.power(0.01, seeds) >= 0.8 > design.power(0.01, seeds - 1)
        runs = int(row["runs in all"].replace(",", ""))
        assert (runs, float(row["dollars"])) == (7 * seeds, 2 * runs)
    assert main([*given, "--metric", "acc"]) == 2
    assert "--sd" in capsys.readouterr().err


def test_a_study_s_folder_alone_is_planned_for_its_own_arms_and_practical_size(tmp_path, capsys):
    folder = str(on_disk(tmp_path / "runs", study({"a": 0.0, "b": -0.02}, n=6)))
    assert main(["plan", folder]) == 0
    said = capsys.readouterr().out
    pilot = pilot_of(folder)
    assert "Plan: 2 arm(s)" in said
    assert f"a difference of {pilot.size:.3g} nats per token" in said
    assert main(["plan", "--pilot", folder]) == 0
    assert capsys.readouterr().out == said
    assert main(["plan", "--delta", "0.01"]) == 2
    assert "--delta 0.01 --arms 6" in capsys.readouterr().err


def test_a_plan_has_the_family_error_that_its_runs_were_judged_at():
    frame = study({"a": 0.0, "b": -0.02}, n=6)
    pilot = pilot_of(frame, alpha=0.2)
    result = plan(0.01, pilot, 2)
    assert (result.alpha, result.seeds) == (0.2, plan(0.01, pilot, 2, alpha=0.2).seeds)
    assert result.seeds < plan(0.01, pilot, 2, alpha=0.05).seeds
    needed = compare(frame, alpha=0.2, practical_size=0.01).table["seeds_needed"].max()
    assert result.seeds == needed


def test_runs_without_residual_noise_are_no_pilot():
    seeds = {"init_seed": [0, 1, 2, 3] * 2, "arm": ["baseline"] * 4 + ["a"] * 4}
    frame = pd.DataFrame({**seeds, "test_loss": [3.1, 3.2, 3.3, 3.4, 3.0, 3.1, 3.2, 3.3]})
    with pytest.raises(AnalysisError, match="no loss differs by more than its arm"):
        pilot_of(frame)
    result = compare(frame)
    assert result.table["seeds_needed"].isna().all()
    assert not result.next_steps


def test_the_command_says_what_is_missing(capsys):
    assert main(["plan", "--delta", "0.02", "--arms", "4", "--sd", "0.015"]) == 0
    said = capsys.readouterr().out
    same = plan(0.02, Pilot(0.015, 20, 0.0), 4)
    assert f"run **{same.seeds} seeds per arm** and {same.seeds} of the baseline" in said
    assert "the baseline get the same seeds." in said
    assert "correlation of same-seed runs 0.00 (not known" in said


def test_a_metric_that_is_no_loss_has_no_unit(tmp_path, capsys):
    table = tmp_path / "runs.csv"
    study({"a": 0.05}, n=4).rename(columns={"test_loss": "acc"}).to_csv(table, index=False)
    given = ["plan", "--delta", "0.02", "--arms", "1", "--pilot", str(table)]
    assert main([*given, "--metric", "acc", "--higher-is-better"]) == 0
    assert "difference of 0.02 with power" in capsys.readouterr().out
    given = ["plan", "--delta", "0.02", "--arms", "1", "--sd", "0.01"]
    assert main([*given, "--metric", "acc"]) == 0
    assert "difference of 0.02 with power" in capsys.readouterr().out
    assert main(given) == 0
    assert "difference of 0.02 nats per token with power" in capsys.readouterr().out


def test_a_difference_has_the_same_plan_whatever_its_sign():
    pilot = Pilot(0.015, 7, 0.4)
    assert plan(-0.012, pilot, 8).to_markdown() == plan(0.012, pilot, 8).to_markdown()


def test_an_arm_without_degrees_of_freedom_has_no_power():
    assert np.isnan(power([2.0], 0.0, 2.0)).all()


def test_own_variances_of_unequal_groups_are_those_of_simulated_runs():
    n, K, T, rng = 3, 7, 2, np.random.default_rng(0)
    base = rng.normal(size=(40_000, 1, K)).var(axis=2, ddof=1)
    arms = rng.normal(size=(40_000, T, n)).var(axis=2, ddof=1)
    squares = arms.sum(axis=1, keepdims=True) * (n - 1) + base * (K - 1)
    pooled = squares / (T * (n - 1) + K - 1)
    simulated = (arms / n + base / K) / (1 / n + 1 / K) / pooled
    ratio, weight = typical_unpaired(Layout(n_arms=T, n=n, K=K, paired=False))
    for power_of in (1, 2):
        typical = weight @ ratio[:, 0] ** power_of
        assert typical == pytest.approx((simulated[:, 0] ** power_of).mean(), rel=0.02)


@pytest.mark.parametrize(("n", "K"), [(3, 7), (6, 3)])
def test_own_variances_of_partly_paired_runs_are_those_of_simulated_runs(n: int, K: int):
    """Over what the true model expects of them; so few nodes miss the last of the tail."""
    T, rho, rng = 2, 0.4, np.random.default_rng(3)
    runs = [K, *[n] * T]
    arm, seed = np.repeat(np.arange(T + 1), runs), np.concatenate([np.arange(k) for k in runs])
    fit = fit_of_design(arm, seed, rho, 1 - rho)
    shared = rng.normal(0, rho**0.5, (4000, max(n, K)))[:, seed]
    losses = shared + rng.normal(0, (1 - rho) ** 0.5, (4000, len(arm)))
    contrast = np.array([-1.0, 1.0, 0.0])
    simulated = np.array([spread(y, arm, seed).of(contrast, fit).ratio[0] for y in losses])
    ratio, weight = typical_paired(Layout(T, n, K, paired=True), rho)
    assert weight @ ratio[:, 0] == pytest.approx(simulated.mean(), rel=0.06)
    assert weight @ (ratio[:, 0] - 1) ** 2 == pytest.approx(simulated.var(), rel=0.3)


def test_one_seed_of_many_arms_beside_a_larger_baseline_finds_nothing() -> None:
    design = Design(0.01, 0.5, 99, 8)
    assert design.power(1.0, 1) == 0
    assert design.fewest_seeds(0.5) == 2


@pytest.mark.parametrize(("n_arms", "n"), [(2, 3), (3, 2)])
def test_no_typical_study_is_one_that_no_runs_could_show(n_arms: int, n: int) -> None:
    """Complete blocks: differences that all are the baseline's noise leave the least residual."""
    ratio, weight = typical_paired(Layout(n_arms, n, n, paired=True), rho=0.4)
    arm, seed = np.repeat(np.arange(n_arms + 1), n), np.tile(np.arange(n), n_arms + 1)
    loss = np.where(arm == 0, np.arange(n)[seed] ** 2.0, 0.0)
    difference = np.arange(n) ** 2.0
    model = 2 * fit_mixed(loss, arm, seed).var_resid
    assert ratio.sum(axis=1).max() == pytest.approx(n_arms * difference.var(ddof=1) / model)
    assert weight.sum() == pytest.approx(1)


def test_runs_are_planned_with_the_correlation_that_their_pairs_show():
    apart, together = (
        planning_design(compare(study({"a": 0.0}, n=6, shared=shared))) for shared in (False, True)
    )
    assert apart.rho is None
    pairs = study({"a": 0.0}, n=6)["test_loss"].to_numpy().reshape(2, 6)
    assert together.rho == pytest.approx(compare(study({"a": 0.0}, n=6)).rho)
    assert np.sign(together.rho) == np.sign(np.corrcoef(pairs)[0, 1])


@pytest.mark.parametrize(("n", "K"), [(4, 4), (3, 7), (6, 2)])
def test_the_own_degrees_of_freedom_of_unpaired_runs_are_welchs_for_equal_variances(n, K):
    """Satterthwaite's, from simulated variances: twice the squared mean over the variance."""
    rng = np.random.default_rng(1)
    arm, base = rng.chisquare(n - 1, 400_000) / (n - 1), rng.chisquare(K - 1, 400_000) / (K - 1)
    own = arm / n + base / K
    expected = 2 * own.mean() ** 2 / own.var()
    assert _noise(Layout(3, n, K, paired=False), 0.0).df_own == pytest.approx(expected, rel=0.02)


def test_runs_of_seeds_that_decide_all_are_not_planned_as_if_a_difference_had_no_noise():
    frame = study({"a": 0.0}, n=6, rho=1.0)
    frame["test_loss"] += 1e-4 * np.sin(np.arange(12))
    assert compare(frame).rho > 0.9999
    assert planning_design(compare(frame)).rho == 0.999


@pytest.mark.parametrize(("n_baseline", "spare"), [(8, 8), (4, None), (3, None)])
def test_a_plan_keeps_the_baseline_s_runs_where_it_has_more_than_the_arms(n_baseline, spare):
    found = planning_design(compare(study({"a": 0.0, "b": 0.0}, n=4, n_baseline=n_baseline)))
    assert found.n_baseline == spare


def test_two_runs_of_the_baseline_are_more_than_one_of_each_arm():
    design = planning_design(compare(study({"a": 0.0, "b": 0.0}, n=1, n_baseline=2)))
    assert design is not None
    assert design.n_baseline == 2


def test_a_baseline_has_runs_to_spare_only_beside_the_arm_that_has_the_most():
    frame = study({"a": 0.0, "b": 0.0}, n=6)
    fewer = frame[(frame["arm"] != "b") | (frame["init_seed"] < 4)]
    assert planning_design(compare(fewer)).n_baseline is None
