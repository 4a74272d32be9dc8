"""What spreadsheets hold besides runs: summaries, merged cells, percentages."""

import pandas as pd
import pytest

from analysis import AnalysisError, compare
from analysis.__main__ import main
from analysis.runs.tables import read_runs
from tests.analysis.test_other_tables import ARMS_WIDE, LONG, RUNS, SEEDS_WIDE


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (LONG + "Average,,3.27\nstd,,0.05\n", r"line 10 \(Average\), line 11 \(std\)"),
        ("arm,test_loss\na,3.1\na,3.2\nbaseline,3.3\nbaseline,3.4\nmean,3.25\n", r"line 6 \(mean\)"),
        (ARMS_WIDE + "Mean,3.32,3.22\n", r"line 6 \(Mean\)"),
        (ARMS_WIDE + ",3.32,3.22\n", r"line 6 \(no seed\)"),
    ],
)  # fmt: skip
def test_lines_that_sum_up_others_are_no_runs(tmp_path, table, line):
    (tmp_path / "runs.csv").write_text(table)
    with pytest.raises(AnalysisError, match=f"{line} sums up other lines"):
        compare(tmp_path / "runs.csv")


def test_an_arm_may_be_called_mean_where_its_runs_have_seeds(tmp_path):
    (tmp_path / "runs.csv").write_text(LONG.replace("muon", "mean"))
    assert {*compare(tmp_path / "runs.csv").table["arm"]} == {"baseline", "mean"}


def test_merged_cells_of_arms_are_not_read_as_the_baseline(tmp_path):
    merged = "arm,loss\nbaseline,3.3\n,3.31\nmuon,3.2\n,3.21\n"
    (tmp_path / "runs.csv").write_text(merged)
    with pytest.raises(
        AnalysisError, match=r"blank in line 3, line 5, below baseline, muon, as in"
    ):
        compare(tmp_path / "runs.csv")
    (tmp_path / "runs.csv").write_text("arm,loss\n,3.3\n,3.31\nmuon,3.2\nmuon,3.21\n")
    assert {*compare(tmp_path / "runs.csv").table["arm"]} == {"baseline", "muon"}


def test_means_beside_the_seeds_of_a_wide_table_are_left_alone(tmp_path):
    lines = SEEDS_WIDE.splitlines()
    (tmp_path / "runs.csv").write_text(
        "\n".join([f"{lines[0]},mean,std", *(f"{at},3,1" for at in lines[1:])])
    )
    assert {*compare(tmp_path / "runs.csv").table["n"]} == {4}


def test_names_of_a_frame_s_index_are_columns():
    frame = pd.DataFrame(RUNS, columns=["arm", "seed", "test_loss"])
    indexed = compare(frame.set_index(["arm", "seed"])).table
    pd.testing.assert_frame_equal(indexed, compare(frame).table)


def test_percentages_may_have_decimal_commas(tmp_path):
    rows = "".join(f"{a};{s};{x * 10:.2f} %\n".replace(".", ",") for a, s, x in RUNS)
    (tmp_path / "runs.csv").write_text("arm;seed;loss\n" + rows)
    assert compare(tmp_path / "runs.csv").table["mean_loss"].max() == pytest.approx(33.2625)


def test_means_without_a_number_of_runs_say_what_is_missing(tmp_path):
    (tmp_path / "runs.csv").write_text("arm,loss\nbaseline,3.31 +/- 0.02\nmuon,3.2 +/- 0.01\n")
    with pytest.raises(AnalysisError, match="no column for n, the number of runs; it has"):
        compare(tmp_path / "runs.csv")


def test_seeds_are_paired_however_each_file_writes_their_numbers(tmp_path):
    ways = {"baseline": "{}", "muon": "seed_{}"}
    frame = pd.DataFrame(RUNS, columns=["arm", "seed", "test_loss"])
    written = [ways[arm].format(seed) for arm, seed, _ in RUNS]
    mixed = compare(frame.assign(seed=written))
    pd.testing.assert_frame_equal(mixed.table, compare(frame).table)
    assert "share initialisation seeds" in mixed.why
    apart = [f"try {s}" if arm == "muon" else s for arm, s, _ in RUNS]
    said = "seeds are written in several ways (0, try 0): only equal ones are pairs"
    assert said in compare(frame.assign(seed=apart)).to_markdown()
    assert "several ways" not in mixed.to_markdown()


def test_columns_of_steps_are_not_taken_for_seeds(tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("arm,1000,2000,3000\nbaseline,3.9,3.5,3.31\nmuon,3.8,3.41,3.21\n")
    said = "columns 1000, 2000, 3000 are seeds or steps: .* --wide seeds.* --metric 3000"
    with pytest.raises(AnalysisError, match=said):
        compare(table)
    assert main([str(table), "--wide", "seeds", "--no-write"]) == 0


@pytest.mark.parametrize("column", ["eval/ce", "Val Loss"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [("", "{} is not a finite number in 1 run"), ("x", "column {!r}: 'x' is not a number")],
)
def test_a_figure_that_is_none_is_told_by_the_table_s_own_name(
    tmp_path, capsys, column, wrong, said
):
    (tmp_path / "runs.csv").write_text(f"arm,seed,{column}\nbaseline,0,3.3\nmuon,0,{wrong}\n")
    assert main([str(tmp_path / "runs.csv"), "--column", f"test_loss={column}"]) == 2
    error = capsys.readouterr().err
    assert said.format(column) in error
    assert "test_loss" not in error


@pytest.mark.parametrize("asked", ["optimizer", "Optimizer", "optimzer"])
def test_a_column_that_nearly_has_the_name_is_proposed(tmp_path, capsys, asked):
    rows = "".join(f"{i},{arm},{seed},{x}\n" for i, (arm, seed, x) in enumerate(RUNS))
    (tmp_path / "runs.csv").write_text("run,params.train.optimizer,params.seed,loss\n" + rows)
    assert main([str(tmp_path / "runs.csv"), "--column", f"arm={asked}"]) == 2
    said = f"has no column {asked!r}"
    error = capsys.readouterr().err
    assert said in error
    assert error.endswith("did you mean --column arm=params.train.optimizer?\n")
    assert main([str(tmp_path / "runs.csv"), "--where", f"{asked}=muon"]) == 2
    said = "did you mean --where params.train.optimizer=muon?\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize(("title", "mark"), [("My runs", ","), ("My runs,,", ","), ("Runs", ";")])
def test_a_title_above_the_table_is_named(tmp_path, title, mark):
    (tmp_path / "runs.csv").write_text(f"{title}\n{LONG.replace(',', mark)}")
    alone = f"line 1: '{title.strip(',')}' stands alone, as a title .*: delete that line, or begin"
    with pytest.raises(AnalysisError, match=alone):
        compare(tmp_path / "runs.csv")
    (tmp_path / "runs.csv").write_text(f"# {title}\n{LONG.replace(',', mark)}")
    assert {*compare(tmp_path / "runs.csv").table["n"]} == {4}


def test_of_several_metrics_each_has_its_own_direction(tmp_path, capsys):
    rows = "".join(f"{arm},{seed},{x},{x / 10}\n" for arm, seed, x in RUNS)
    (tmp_path / "runs.csv").write_text("arm,seed,test_loss,acc\n" + rows)
    both = [str(tmp_path / "runs.csv"), "--metric", "test_loss", "--metric", "acc", "--no-write"]
    assert main([*both, "--higher-is-better"]) == 2
    assert "say of which, each with a --higher METRIC, e.g. --higher acc" in capsys.readouterr().err
    assert main([*both, "--higher", "f1"]) == 2
    assert "--higher f1 is no metric of this command" in capsys.readouterr().err
    assert main([*both, "--higher", "acc"]) == 0
    loss, acc = capsys.readouterr().out.split("## acc against")
    assert ("lower is better" in loss, "| better" in loss) == (True, True)
    assert ("higher is better" in acc, "| worse" in acc) == (True, True)


@pytest.mark.parametrize("ending", ["-seed{}", "_s{}", " seed={}", "Seed{}"])
def test_arms_of_one_run_that_end_in_a_seed_are_pointed_out(ending):
    names = [f"{arm}{ending.format(seed)}" for arm in ("adam", "muon") for seed in (0, 1)]
    runs = pd.DataFrame({"name": names, "val_loss": [3.2, 3.3, 3.1, 3.2]})
    said = [str(check.what) for check in compare(runs, baseline=names[0]).checks]
    (words,) = (text for text in said if "end in a seed" in text)
    assert all(name in words for name in names)
    with pytest.raises(AnalysisError, match="give the table a column arm without it"):
        compare(runs)


def test_arms_that_end_in_another_number_are_not_taken_for_seeds():
    runs = pd.DataFrame(
        {"name": ["gpts1", "gpts2", "lr-1", "lr-2"], "val_loss": [3, 3.1, 3.2, 3.3]}
    )
    said = [str(check.what) for check in compare(runs, baseline="lr-1").checks]
    assert not any("seed, and each" in text for text in said)


def test_columns_that_have_a_role_are_not_proposed_for_another(tmp_path):
    table = tmp_path / "export.csv"
    table.write_text(
        "State,optim.name,Random Seed,eval/nll,acc\n"
        "finished,adam,0,3.2,0.4\nfinished,muon,0,3.1,0.5\n"
        "crashed,adam,1,3.2,0.4\nfinished,muon,1,3.1,0.5\n"
    )
    with pytest.raises(AnalysisError, match=r"e\.g\. --column arm=optim\.name"):
        compare([str(table)])
    named = read_runs([str(table)], {"arm": "optim.name"})
    with pytest.raises(AnalysisError, match=r"choose one of 'eval/nll', 'acc' with --metric"):
        compare(named, baseline="adam")
    with pytest.raises(AnalysisError, match=r"of its own: --metric eval/nll --metric acc$"):
        compare(named, baseline="adam", metric="eval/nll,acc")


def test_a_swept_number_is_proposed_where_no_words_say_what_was_changed(tmp_path):
    table = tmp_path / "sweep.csv"
    rows = [f"{lr},{seed},{3 + lr + seed / 100}" for lr in (0.001, 0.003) for seed in (0, 1)]
    table.write_text("\n".join(["lr,seed,val_loss", *rows]))
    with pytest.raises(AnalysisError, match=r"e\.g\. --column arm=lr$"):
        compare([str(table)])
    table.write_text("\n".join(["lr,seed,val_loss", *rows[::2]]))
    with pytest.raises(AnalysisError, match="none of them says what was changed"):
        compare([str(table)])


def test_of_a_frame_the_way_out_is_said_in_python():
    frame = pd.DataFrame({"Model": ["a", "b"], "nll": [3.1, 3.2]})
    with pytest.raises(AnalysisError) as caught:
        compare(frame)
    renamed = eval(str(caught.value).partition("e.g. frame.")[2], {"rename": frame.rename})
    with pytest.raises(AnalysisError, match=r"choose one of 'nll' with metric= \(and higher_is"):
        compare(renamed)
    assert compare(renamed, metric="nll", baseline="a").table["arm"].tolist() == ["a", "b"]
