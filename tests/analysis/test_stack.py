import pytest
from studies import study

from analysis import AnalysisError, compare, stack


def test_an_interaction_is_the_stack_minus_the_sum_of_its_parts():
    frame = study({"a": -0.05, "b": -0.04, "a+b": -0.05}, n=4, sd=0.002)
    result = stack(frame, rope=0.01)
    row = result.interactions.iloc[0]
    table = compare(frame).table.set_index("arm")["delta"]
    assert row["estimate"] == pytest.approx(table["a+b"] - table["a"] - table["b"])
    assert row["verdict"] == "sub-additive"
    assert row["ci_low"] < 0.04 < row["ci_high"]


@pytest.mark.parametrize(
    ("together", "verdict"),
    [(-0.09, "additive"), (-0.15, "super-additive"), (-0.02, "sub-additive")],
)
def test_stacks_are_judged_against_the_sum(together, verdict):
    frame = study({"a": -0.05, "b": -0.04, "a+b": together}, n=6, sd=0.002)
    assert stack(frame, rope=0.01).interactions["verdict"].item() == verdict


@pytest.mark.parametrize("sign", [1, -1])
def test_parts_whose_sum_has_no_clear_sign_give_an_interaction_no_name(sign):
    frame = study({"a": -0.05, "b": 0.05 + sign * 1e-4, "a+b": -0.2}, n=5, sd=0.002)
    row = stack(frame).interactions.iloc[0]
    assert row["p_adj"] < 0.001
    assert row["verdict"] == "undecided"


def test_without_a_declared_size_no_stack_is_called_additive():
    frame = study({"a": -0.05, "b": -0.04, "a+b": -0.09}, n=40, sd=0.002)
    verdicts = [stack(frame, rope=rope).interactions["verdict"].item() for rope in (None, 0.01)]
    assert verdicts == ["undecided", "additive"]


def test_noise_leaves_additivity_undecided():
    frame = study({"a": -0.05, "b": -0.04, "a+b": -0.08}, n=3, sd=0.05)
    assert stack(frame, rope=0.001).interactions["verdict"].item() == "undecided"


def test_the_interaction_s_standard_error_is_that_of_four_means():
    frame = study({"a": 0.0, "b": 0.0, "a+b": 0.0}, n=5, shared=False)
    row = stack(frame).interactions.iloc[0]
    groups = frame.groupby("arm")["test_loss"]
    pooled = groups.var().mean()
    assert row["se"] == pytest.approx((4 * pooled / 5) ** 0.5)
    assert row["df"] == pytest.approx(16)


def test_each_part_is_taken_out_where_the_rest_was_run():
    deltas = {"a": -0.05, "b": 0.0, "c": -0.01, "a+b": -0.05, "b+c": -0.01, "a+b+c": -0.06}
    table = stack(study(deltas, n=5, sd=0.002), rope=0.01).leave_one_out
    row = table[(table["stack"] == "a+b+c") & (table["without"] == "a")].iloc[0]
    assert row["verdict"] == "helps"
    assert row["estimate"] == pytest.approx(-0.05, abs=0.005)
    assert len(table[table["stack"] == "a+b+c"]) == 2


def test_missing_parts_are_named():
    result = stack(study({"a": -0.05, "a+b": -0.05}, n=3))
    assert result.missing == ("b",)
    assert "these must run alone, as the stacks did: b\n" in result.to_markdown()


def test_a_baseline_that_is_a_part_of_a_stack_is_refused():
    frame = study({"a": -0.05, "b": -0.02, "a+b": -0.06}, n=3)
    with pytest.raises(AnalysisError, match=r"a\+b has a part in common with the baseline a, so"):
        stack(frame, baseline="a")


@pytest.mark.parametrize(
    ("n", "init_seeds", "why"),
    [(1, range(1), "one run"), (3, [0, 0, 0], "one initialisation seed")],
)
def test_stacks_without_repeated_initialisations_cannot_be_judged(n, init_seeds, why):
    frame = study({"a": -0.05, "b": 0.0, "a+b": -0.05}, n=n).assign(init_seed=[*init_seeds] * 4)
    with pytest.raises(AnalysisError, match=f"stacks cannot be judged: .*{why}"):
        stack(frame)


def test_a_study_without_stacks_is_told_so():
    with pytest.raises(AnalysisError, match="no stack among the complete arms baseline, a"):
        stack(study({"a": 0.0}, n=3))


def test_interactions_and_shares_are_two_tables_and_the_page_needs_no_other():
    result = stack(study({"a": -0.05, "b": -0.04, "a+b": -0.05}, n=4, sd=0.002), rope=0.01)
    assert [table.name for table in result.tables()] == ["stacks", "stack_shares"]
    sums, shares = result.tables()
    assert all("95% CI" in [column.label for column in table.columns] for table in (sums, shares))
    assert [row[1].text for row in shares.rows] == ["a", "b"]
    row = dict(zip([column.label for column in sums.columns], sums.rows[0], strict=True))
    assert row["interaction"].value == pytest.approx(result.interactions["estimate"].item())
    assert all(table.to_text() in result.to_markdown() for table in result.tables())


def test_p_values_of_several_stacks_are_adjusted_by_holm():
    parts = {"a": -0.02, "b": -0.02, "c": -0.02, "a+b": -0.03, "a+c": -0.04, "b+c": -0.035}
    result = stack(study(parts, n=4))
    for table in (result.interactions, result.leave_one_out):
        smallest, *others = table.sort_values("p_raw")[["p_raw", "p_adj"]].to_numpy()
        assert smallest[1] == pytest.approx(min(1.0, len(table) * smallest[0]))
        assert others[-1][1] >= others[-1][0]
