import itertools

import numpy as np
import pandas as pd
import pytest
from studies import study

from analysis import AnalysisError, analyse, design
from analysis.__main__ import main
from analysis.stats.factorial import aliases, factorial


@pytest.mark.parametrize("seeds", [0, -4])
def test_a_design_of_no_seed_is_refused(seeds: int):
    with pytest.raises(AnalysisError, match=f"number of seeds is {seeds}"):
        design(["a", "b", "c"], seeds=seeds)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 12, 13, 16])
def test_designs_are_balanced_and_clear_of_two_way_interactions(n):
    screen = design([f"f{i:02d}" for i in range(n)])
    signs = 2 * screen.matrix - 1
    assert len(set(screen.arms)) == len(signs)
    assert (signs.sum(axis=0) == 0).all()
    assert signs.T @ signs == pytest.approx(len(signs) * np.eye(n))
    for i, j in itertools.combinations(range(n), 2):
        assert (signs.T @ (signs[:, i] * signs[:, j]) == 0).all()


def test_eight_interventions_take_sixteen_runs():
    assert len(design(list("abcdefgh")).arms) == 16
    assert "2^(8-4)" in design(list("abcdefgh")).kind


@pytest.mark.parametrize(
    ("n", "pairs", "n_runs"), [(7, [(0, 1), (2, 3)], 48), (12, [(9, 10)], 64), (12, [(0, 1)], 64)]
)
def test_exclusive_pairs_cost_few_runs_wherever_they_stand(n, pairs, n_runs):
    assert len(factorial(n, pairs)[0]) == n_runs


def test_exclusive_interventions_are_never_on_together():
    screen = design(["a", "b", "hot", "scheduled"], [["hot", "scheduled"]])
    on = pd.DataFrame(screen.matrix, columns=screen.factors)
    assert (on["hot"] * on["scheduled"] == 0).all()
    assert on["hot"].sum() > 0
    assert on["scheduled"].sum() > 0


def test_the_printed_sweep_composes_every_arm(capsys):
    assert main(["design", "a", "b", "c", "d", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert (
        "'+intervention=baseline,[a,d],[b,d],[a,b],[c,d],[a,c],[b,c],[a,b,c,d]' 'seed=0,1'" in out
    )


@pytest.mark.parametrize(
    ("names", "exclusive", "message"),
    [
        (["a"], [], "takes 2 to 16"),
        (["a", "a"], [], "named twice"),
        (["a", "b"], [["a", "x"]], "'x' is exclusive but not among"),
        (["a", "b", "c"], [["a", "b", "c"]], "come in pairs"),
    ],
)
def test_impossible_designs_are_refused(names, exclusive, message):
    with pytest.raises(AnalysisError, match=message):
        design(names, exclusive)


def screened(effects, sd, seed=0, interaction=0.0):
    names = [f"f{i}" for i in range(8)]
    screen = design(names)
    rng = np.random.default_rng(seed)
    truth = screen.matrix @ np.array([effects.get(name, 0.0) for name in names])
    truth += interaction * screen.matrix[:, 0] * screen.matrix[:, 1]
    return pd.DataFrame({"arm": screen.arms, "init_seed": 0,
                         "test_loss": 3.69 + truth + rng.normal(0, sd, len(truth))})  # fmt: skip


def test_screening_finds_the_main_effects():
    table = analyse(screened({"f2": -0.05, "f5": 0.04}, 0.01, seed=2)).effects.set_index(
        "intervention"
    )
    assert table.loc["f2", "verdict"] == "better"
    assert table.loc["f5", "verdict"] == "worse"
    assert (table.drop(["f2", "f5"])["verdict"] == "undecided").all()
    assert table.loc["f2", "effect"] == pytest.approx(-0.05, abs=0.015)


@pytest.mark.proof
def test_sixteen_runs_find_five_hundredths_nearly_always():
    found = [
        analyse(screened({"f3": -0.05}, 0.015, seed)).effects.set_index("intervention")
        .loc["f3", "verdict"] == "better" for seed in range(150)
    ]  # fmt: skip
    assert np.mean(found) > 0.9


def test_effects_that_cannot_be_told_apart_are_refused():
    frame = pd.DataFrame({"arm": ["baseline", "a+b"] * 4, "init_seed": range(8),
                          "test_loss": np.arange(8.0)})  # fmt: skip
    with pytest.raises(AnalysisError, match="always on together"):
        analyse(frame)


@pytest.mark.parametrize("exclusive", [[], [["a", "b"]], [["a", "b"], ["c", "d"]]])
@pytest.mark.parametrize("n", [2, 4, 6, 8, 11])
def test_every_row_of_a_design_is_a_cell_and_no_main_effect_is_aliased(n, exclusive):
    if n < 2 * len(exclusive):
        return
    screen = design(list("abcdefghijk")[:n], exclusive)
    assert len(set(screen.arms)) == len(screen.arms) == len(screen.matrix)
    assert aliases(screen.matrix) == []
    assert f"{len(screen.arms)} runs for {n} interventions" in screen.to_markdown()


@pytest.mark.parametrize("seed", [2, 3])
def test_an_interaction_of_others_does_not_look_like_an_exclusive_pair(seed):
    screen = design(list("abcdefgh"), [["a", "b"]])
    rng = np.random.default_rng(seed)
    on = pd.DataFrame(screen.matrix, columns=screen.factors)
    loss = 3.7 - 0.05 * on["c"] - 0.05 * on["e"] - 0.10 * on["c"] * on["e"]
    frame = pd.DataFrame({"arm": screen.arms, "test_loss": loss + rng.normal(0, 0.005, len(on))})
    effects = analyse(frame).effects.set_index("intervention")
    assert list(effects.loc[["a", "b"], "verdict"]) == ["undecided", "undecided"]
    assert effects.loc[["a", "b"], "effect"].abs().max() < 0.01


def test_too_many_exclusive_pairs_for_any_design_are_refused():
    names = [f"f{i:02d}" for i in range(16)]
    with pytest.raises(AnalysisError) as refused:
        design(names, [names[i : i + 2] for i in range(0, 16, 2)])
    assert str(refused.value) == (
        "16 interventions with 8 exclusive pairs: no design of up to 256 runs keeps their main "
        "effects clear; screen fewer at once"
    )


def test_a_design_without_noise_names_the_seeds_that_have_it(capsys):
    main(["design", "no_dropout", "qkv_bias"])
    out = capsys.readouterr().out
    assert "4 runs for 2" in out
    assert "leave 1 df for the noise" in out
    assert "--seeds 2 has enough" in out
    assert "catalogue" not in out
    main(["design", "no_dropout", "qkv_bias", "--seeds", "2"])
    out = capsys.readouterr().out
    assert "4 runs at each of 2 seeds (8 in all)" in out
    assert "has enough" not in out


def test_a_mistyped_intervention_is_pointed_out(capsys):
    assert main(["design", "no_droput", "my_own_idea"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no_droput (did you mean no_dropout?), my_own_idea. Overlays of your own " in out


def test_runs_of_no_screening_design_are_told_so():
    text = analyse(study({"a": -0.05, "b": 0.0, "c": 0.0}, n=3)).to_markdown()
    assert "no screening design: no run turns on two interventions" in text
    frame = screened({}, 0.01).drop(columns="init_seed")
    assert "Warning" not in analyse(frame).to_markdown()
    assert "main effects are aliased with interactions" in analyse(frame[:-2]).to_markdown()


def test_a_design_at_one_seed_says_first_that_its_verdicts_hold_for_that_seed_alone():
    assert "At one seed, its verdicts hold for that seed alone." in design(["a", "b"]).to_markdown()
    assert "At one seed" not in design(["a", "b"], seeds=2).to_markdown()
    one = screened({"f2": -0.05}, 0.01)
    text = analyse(one).to_markdown()
    warning = "**Warning:** all runs have seed 0,"
    assert warning in text
    assert text.index(warning) < text.index("| intervention")
    two = pd.concat([one, screened({"f2": -0.05}, 0.01, 1).assign(init_seed=1)])
    assert "Warning" not in analyse(two).to_markdown()


def test_one_degree_of_freedom_is_the_reason_for_undecided():
    frame = pd.DataFrame({"arm": design(["a", "b"]).arms, "test_loss": [3.7, 3.6, 3.5, 3.41]})
    assert "All are undecided: 1 df, and a verdict needs 3" in analyse(frame).note


def test_one_run_alone_at_its_seed_does_not_undo_the_blocks():
    parts = [screened({"f2": -0.05}, 0.01, seed).assign(init_seed=seed) for seed in range(3)]
    frame = pd.concat([part.assign(test_loss=part["test_loss"] + i) for i, part in
                       enumerate(parts)])  # fmt: skip
    more = pd.concat([frame, pd.DataFrame([{"arm": "baseline", "init_seed": 9, "test_loss": 9.0}])])
    assert analyse(more).sd == pytest.approx(analyse(frame).sd)
    assert "1 run(s) that are the only one at their seed" in analyse(more).note


def test_another_baseline_is_no_intervention():
    frame = screened({"f2": -0.05}, 0.01)
    effects = analyse(frame).effects
    renamed = frame.replace({"arm": {"baseline": "control"}})
    pd.testing.assert_frame_equal(analyse(renamed, baseline="control").effects, effects)
    with pytest.raises(AnalysisError, match="no complete run of baseline 'contrl'"):
        analyse(renamed, baseline="contrl")


@pytest.mark.parametrize(
    ("n", "pairs", "n_runs", "kind"),
    [
        (2, [], 4, "2^2"),
        (3, [], 8, "2^3"),
        (4, [], 8, "2^(4-1)"),
        (5, [], 16, "2^(5-1)"),
        (8, [], 16, "2^(8-4)"),
        (9, [], 24, "folded-over Plackett-Burman"),
        (12, [], 24, "folded-over Plackett-Burman"),
        (13, [], 32, "2^(13-8)"),
        (2, [(0, 1)], 3, "2^2"),
        (3, [(0, 2)], 6, "2^3"),
        (9, [(0, 1)], 32, "2^(9-4)"),
    ],
)
def test_designs_have_the_textbook_s_sizes_and_names(n, pairs, n_runs, kind):
    matrix, said = factorial(n, pairs)
    assert (matrix.shape, said) == ((n_runs, n), kind)
    assert set(matrix.ravel()) == {0, 1}


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_runs_come_in_the_standard_order_from_the_baseline_on(n):
    """The independent columns count in binary, the first one fastest."""
    matrix, _ = factorial(n)
    basic = len(matrix).bit_length() - 1
    counted = np.arange(len(matrix))[:, None] >> np.arange(basic) & 1
    independent = matrix[:, :basic]
    assert np.array_equal(independent, counted)
