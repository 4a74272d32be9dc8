"""What is read, refused, counted and written."""

import json

import numpy as np
import pandas as pd
import pytest
from studies import on_disk, put, record, study

import analysis
from analysis import AnalysisError, compare
from harness.records import BASELINE, Fingerprints, Provenance, Status


def row(result, arm):
    return result.table.set_index("arm").loc[arm]


def test_nan_in_a_complete_run_is_refused_by_name():
    frame = study({"a": 0.0})
    frame["run_id"] = [f"run{i}" for i in range(len(frame))]
    frame.loc[4, "test_loss"] = np.nan
    with pytest.raises(AnalysisError, match="run4"):
        compare(frame)


def test_duplicates_are_refused_unless_declared():
    frame = study({"a": 0.0})
    twice = pd.concat([frame, frame.iloc[[0]]], ignore_index=True)
    twice.loc[len(twice) - 1, "test_loss"] += 0.001
    with pytest.raises(AnalysisError, match=r"same seeds.*row 1 .*--allow-reruns"):
        compare(twice)
    assert row(compare(twice, allow_reruns=True), BASELINE).n == 4


def test_a_table_exported_twice_without_seeds_counts_once():
    frame = study({"a": -0.012, "b": 0.0}, n=4)[["arm", "test_loss"]]
    once = compare(frame)
    both = [frame.assign(run_id=[f"{name}{i}" for i in frame.index]) for name in ("x", "y")]
    twice = compare(pd.concat(both, ignore_index=True))
    assert twice.to_csv() == once.to_csv()
    assert any(w.startswith("the table lists every run 2 times") for w in twice.warnings)
    assert not any("counts once" in w or "equal figures" in w for w in once.warnings)


def test_copies_of_some_runs_are_pointed_out_where_no_seed_tells_them_apart():
    frame = study({"a": -0.012}, n=4)[["arm", "test_loss"]]
    result = compare(pd.concat([frame, frame.iloc[[5, 6]]], ignore_index=True))
    assert row(result, "a").n == 6
    assert row(result, "a").warnings == "runs of equal figures"
    other = frame.iloc[[5, 6]].assign(val_loss=3.0)
    different = compare(pd.concat([frame.assign(val_loss=3.1), other], ignore_index=True))
    assert row(different, "a").warnings == ""


def test_a_baseline_of_two_test_sets_is_refused_naming_both_sides():
    frame = study({"a": 0.0})
    frame["test_set"] = ["x" * 64] * 2 + ["y" * 64] * 4
    with pytest.raises(AnalysisError, match=r"2 different test sets \(xxxxxxxxxxxx: row 1"):
        compare(frame)


def test_an_arm_of_another_test_set_is_left_out_and_the_others_are_judged_as_without_it():
    frame = study({"a": -0.02, "b": 0.0})
    frame["test_set"] = ["x" * 64] * 6 + ["y" * 64] * 3
    result, without = compare(frame), compare(frame.iloc[:6])
    left_out = row(result, "b")
    assert (left_out.n, left_out.verdict) == (0, "no complete run (3 other test set)")
    assert result.to_csv().splitlines()[:-1] == without.to_csv().splitlines()
    assert any(w.startswith("left out: b: measured on another test set") for w in result.warnings)
    assert "3 other test set" in result.ledger.sentence()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "control"}, "no complete run of the baseline 'control'"),
        ({"metric": "accuracy"}, "no column 'accuracy'.*metric="),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"rope": -0.1}, "the practical size is -0.1"),
        ({"variance": "robust"}, "allowed are moderated, pooled"),
        ({"ropes": 1}, "unknown rule 'ropes'"),
    ],
)
def test_impossible_rules_are_refused_with_what_is_allowed(changes, message):
    with pytest.raises(AnalysisError, match=message):
        compare(study({"a": 0.0}), **changes)


@pytest.mark.parametrize(("column", "word"), [("n_params", "parameters"), ("n_steps", "steps")])
def test_an_arm_of_two_scales_is_refused(column, word):
    frame = study({"a": 0.0}, n=3)
    frame[column] = [100, 100, 2000, 100, 100, 100]
    with pytest.raises(
        AnalysisError, match=rf"baseline differ in their number of {word} \(100, 2.*study_name"
    ):
        compare(frame)


@pytest.mark.parametrize("column", ["n_params", "n_steps"])
def test_sizes_that_a_file_holds_as_text_are_numbers(column):
    frame = study({"a": 0.0}, n=3)
    frame[column] = ["100", "100.0", "1e2", "100", "100", "100"]
    compare(frame)
    frame[column] = ["100", "2000", "100", "100", "100", "100"]
    with pytest.raises(AnalysisError, match=r"of baseline differ in their number of"):
        compare(frame)


def test_an_unknown_status_is_refused():
    frame = study({"a": 0.0})
    frame["status"] = ["complete"] * 5 + ["finnished"]
    with pytest.raises(AnalysisError, match=r"unknown status 'finnished' of row 6"):
        compare(frame)


def test_diverged_runs_are_counted_and_listed(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.05}, n=4, sd=0.004))
    put(folder, record("a", 9, None, status=Status.DIVERGED, step=33))
    put(folder, record("hot", 0, None, status=Status.DIVERGED, step=12))
    result = compare(folder)
    assert row(result, "a").verdict == "better where it converged (1 of 5 diverged)"
    assert row(result, "hot").verdict == "no complete run (1 diverged)"
    assert "2 diverged" in result.ledger.sentence()
    assert "at step 33 of 150" in result.to_markdown()


def test_the_ledger_holds_the_runs_against_the_plan(tmp_path):
    frame = study({"a": -0.05}, n=4)
    folder = on_disk(tmp_path / "runs", frame)
    put(folder, record("a", 77, 3.6))
    put(folder, record("a", 3, None, status=Status.RUNNING))
    result = compare(folder)
    assert result.ledger.sentence() == ("8 planned, 8 complete, 1 running, 0 failed, 0 diverged")
    assert any(text.startswith("exploratory") for text in result.warnings)
    assert result.rope == 0.01
    assert result.rope_source == "declared in the study's plan"


def test_an_arm_with_another_initialisation_counts_as_unshared(tmp_path):
    folder = tmp_path / "runs"
    for seed in range(4):
        put(folder, record(BASELINE, seed, 3.69 + 0.01 * seed))
        put(folder, record("same", seed, 3.67 + 0.01 * seed + 0.001 * (seed % 2)))
        other = {"wte": f"z{seed}", "ones": "1", **{f"h{i}": f"z{i}s{seed}" for i in range(4)}}
        for arm in ("gpt2_init", "another"):
            loss = 3.66 + 0.008 * ((seed * 2) % 4)
            put(folder, record(arm, seed, loss, fingerprints=Fingerprints(init=other)))
    result = compare(folder)
    assert row(result, "same").n_shared_init == 4
    assert row(result, "gpt2_init").n_shared_init == 0
    assert row(result, "gpt2_init").se > 2 * row(result, "same").se
    (said,) = [text for text in result.warnings if "the initial weights differ" in text]
    assert said.startswith(("another, gpt2_init: ", "gpt2_init, another: "))


def test_published_deltas_stand_beside_single_interventions_only(tmp_path):
    folder = tmp_path / "runs"
    card = {"clip": {"summary": "s", "source": "x", "published_delta": -0.014}}
    for seed in range(3):
        put(folder, record(BASELINE, seed, 3.69 + 0.01 * seed))
        put(folder, record("clip", seed, 3.68 + 0.011 * seed, cards=card))
        put(folder, record("a+clip", seed, 3.67 + 0.012 * seed, cards=card))
    table = compare(folder).table.set_index("arm")
    assert table.loc["clip", "published_delta"] == -0.014
    assert np.isnan(table.loc["a+clip", "published_delta"])
    for other in ({"baseline": "a+clip"}, {"metric": "train_loss"}):
        result = compare(folder, **other)
        assert result.table["published_delta"].isna().all()
        assert "published" not in result.to_markdown()


def test_a_record_of_another_test_set_is_left_out_with_its_reason(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": 0.0}, n=2), plan=False)
    changes = {"model.block_size": [64, 128], "optim.lr": [0.1, 0.2]}
    other = Provenance(test_set_sha256="u" * 64)
    put(folder, record("b", 0, 3.6, provenance=other, changes=changes))
    result = compare(folder)
    assert any("left out: b (model.block_size 64 -> 128): " in w for w in result.warnings)
    assert row(result, "a").n == 2


def test_references_stand_in_the_table_and_change_nothing_else():
    frame = study({"a": -0.02}, n=4)
    plain = compare(frame)
    with_reference = compare(frame, references=(("GPT-2 small", 3.5),))
    assert row(with_reference, "GPT-2 small").verdict == "reference"
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].mean()
    assert row(with_reference, "GPT-2 small").delta == pytest.approx(3.5 - base)
    rest = with_reference.table[with_reference.table["arm"] != "GPT-2 small"]
    pd.testing.assert_frame_equal(rest.reset_index(drop=True), plain.table)


def test_a_reference_named_as_an_arm_is_refused():
    with pytest.raises(AnalysisError, match="a reference is named as an arm is: a; name it other"):
        compare(study({"a": -0.02}, n=4), references=(("a", 3.5),))


def test_json_is_strict_and_names_every_run(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.02}))
    content = json.loads(compare(folder).to_json())
    assert len(content["runs"]) == 6
    assert content["table"][0]["arm"] == "a"


def test_latex_escapes_what_latex_would_swallow():
    text = compare(study({"no_dropout": -0.02})).to_latex()
    assert r"no\_dropout" in text
    assert text.count(r"\\") == 3


def test_the_package_names_everything_it_promises():
    assert all(hasattr(analysis, name) for name in analysis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        _ = analysis.comparee


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("diverged", "4 diverged; it needs another recipe, or name another"),
        ("stopped", "4 stopped; finish it, or name another"),
    ],
)
def test_a_baseline_without_a_complete_run_says_what_became_of_it(status, words):
    frame = study({"a": 0.0}, n=4)
    frame["status"] = [status if arm == "baseline" else "complete" for arm in frame["arm"]]
    with pytest.raises(AnalysisError, match=words):
        compare(frame)
