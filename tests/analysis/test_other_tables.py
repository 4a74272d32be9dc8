"""Tables as programs, spreadsheets and papers write them."""

import io
import json

import pandas as pd
import pytest

from analysis import AnalysisError, compare, read_runs
from analysis.__main__ import main
from analysis.runs.frame import labels
from analysis.runs.normalise import normalised

LOSSES = {"baseline": (3.31, 3.33, 3.32, 3.345), "muon": (3.21, 3.22, 3.2, 3.25)}
RUNS = [(arm, seed, loss) for arm, losses in LOSSES.items() for seed, loss in enumerate(losses)]
LONG = "arm,seed,test_loss\n" + "".join(f"{a},{s},{x}\n" for a, s, x in RUNS)
WANDB = "Name,State,Created,Runtime,arm,seed,val_loss\n" + "".join(
    f"r{i},finished,2024-01-01T00:00:00.000Z,{100 + i},{a},{s},{x}\n"
    for i, (a, s, x) in enumerate(RUNS)
)
MLFLOW = "Start Time,Run ID,Status,params.variant,params.seed,metrics.val_loss\n" + "".join(
    f"2024-01-01,{i:032x},FINISHED,{a},{s},{x}\n" for i, (a, s, x) in enumerate(RUNS)
)
SHEET = "Variant,Seed,Val Loss,lr,lr,,\n" + "".join(f"{a},{s},{x},1,1,,\n" for a, s, x in RUNS)
ARMS_WIDE = "seed,baseline,muon\n" + "".join(
    f"{seed},{a},{b}\n" for seed, (a, b) in enumerate(zip(*LOSSES.values(), strict=True))
)
SEEDS_WIDE = "arm,seed 0,seed 1,seed 2,seed 3\n" + "".join(
    f"{arm},{','.join(map(str, losses))}\n" for arm, losses in LOSSES.items()
)
REPLICATES = "arm,run,test_loss\n" + "".join(f"{a},{s},{x}\n" for a, s, x in RUNS)
LISTS = LONG.replace("arm", "interventions").replace("muon", "\"['muon']\"")
LISTS = LISTS.replace("baseline", "[]")
CURVES = "arm,seed,step,val_loss\n" + "".join(
    f"{a},{s},{step},{x + (20 - step) / 10}\n" for a, s, x in RUNS for step in (10, 20)
)
MEANS = "arm,mean,sd,n\nbaseline,3.32,0.02,5\nmuon,3.25,0.01,4\n"
TABLES = {
    name: text
    for name, text in globals().items()
    if isinstance(text, str) and name.isupper()
}  # fmt: skip
PAIRED = set(TABLES) - {"REPLICATES", "MEANS"}


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "json", "nullable"])
@pytest.mark.parametrize("name", TABLES)
def test_a_frame_and_its_file_give_the_same_table(tmp_path, name, kind):
    (tmp_path / "given.csv").write_text(TABLES[name])
    frame = pd.read_csv(tmp_path / "given.csv")
    file = tmp_path / f"runs.{kind if kind != 'nullable' else 'parquet'}"
    if kind == "csv":
        file.write_text(TABLES[name])
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(r) + "\n" for r in frame.to_dict("records")))
    elif kind == "json":
        file.write_text(json.dumps(frame.to_dict("records")))
    else:
        frame = frame.convert_dtypes() if kind == "nullable" else frame
        frame.to_parquet(file)
    of_frame, of_file = compare(frame), compare(file)
    pd.testing.assert_frame_equal(of_frame.table, of_file.table)
    assert [a for a in of_file.table["arm"] if a != "muon"] == ["baseline"]
    assert ("mixed model" in of_file.method) == (name in PAIRED)


def test_every_column_that_was_guessed_is_named(tmp_path):
    (tmp_path / "runs.csv").write_text(MLFLOW)
    text = compare(tmp_path / "runs.csv").to_markdown()
    for guessed in ("run_id is Run ID", "arm is params.variant", "status is Status",
                    "test_loss is metrics.val_loss", "seed is params.seed"):  # fmt: skip
        assert guessed in text


def test_a_crashed_run_is_not_complete_whatever_the_case_of_its_column(tmp_path):
    crashed = WANDB.replace("r7,finished", "r7,crashed")
    (tmp_path / "runs.csv").write_text(crashed)
    assert compare(tmp_path / "runs.csv").ledger.counts == {"complete": 7, "failed": 1}


def test_our_syntax_in_another_table_s_names_is_part_of_the_name():
    arms = ["baseline", "baseline++", "muon", "muon+", "b+a", "[x]", "'y'"]
    frame = pd.DataFrame({"arm": arms * 2, "test_loss": [3 + i / 10 for i in range(14)]})
    assert set(compare(frame).table["arm"]) == set(arms)


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT, "", "NaN", "n/a", "<NA>"])
def test_a_missing_status_is_one_however_it_is_written(nothing):
    frame = pd.DataFrame({"arm": ["baseline", "a"] * 2, "test_loss": [3.0, 3.1, 3.2, 3.3]})
    frame["status"] = pd.Series([nothing, "finished", "finished", "crashed"], dtype=object)
    assert compare(frame).ledger.counts == {"complete": 3, "failed": 1}


def test_numbers_are_one_name_however_they_are_written():
    assert labels(["1e-3", 0.001, "0.0010"]) == ["0.001"] * 3
    assert labels([3, 3.0, "3", None]) == ["3", "3", "3", None]
    assert labels(["1e3", "12e4567", "main"]) == ["1e3", "12e4567", "main"]


def test_two_columns_of_one_name_are_refused_where_they_are_needed(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("arm,loss,loss\nbaseline,3,4\na,3,4\n")
    with pytest.raises(AnalysisError, match="two columns are called 'loss'"):
        compare(file)
    file.write_text("arm,Loss,LOSS\nbaseline,3,4\na,3,4\n")
    with pytest.raises(AnalysisError, match="several columns that read as loss: Loss, LOSS"):
        compare(file)


def test_runs_of_several_files_keep_their_names_apart(tmp_path):
    for seed in range(4):
        losses = [(arm, LOSSES[arm][seed]) for arm in LOSSES]
        text = "arm,test_loss\n" + "".join(f"{arm},{loss}\n" for arm, loss in losses)
        (tmp_path / f"s{seed}.csv").write_text(text)
    files = [str(tmp_path / f"s{seed}.csv") for seed in range(4)]
    assert compare(files).ledger.counts == {"complete": 8}
    with pytest.raises(AnalysisError, match="runs given twice"):
        compare([files[0], files[0]])


def test_results_of_our_own_are_no_runs(tmp_path, capsys):
    (tmp_path / "runs.csv").write_text(LONG)
    assert main([str(tmp_path / "runs.csv")]) == 0
    both = [str(tmp_path / name) for name in ("runs.csv", "runs_results.csv")]
    assert main([*both, "--no-write"]) == 0
    assert "left out, as results of this program: " in capsys.readouterr().out
    assert main([both[1]]) == 2
    assert "is a results table that this program wrote" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_semicolons_and_decimal_commas_are_read_and_said(tmp_path, encoding):
    text = "sep=;\n" + LONG.replace(",", ";").replace(".", ",")
    (tmp_path / "runs.csv").write_text(text, encoding=encoding)
    result = compare(tmp_path / "runs.csv")
    (tmp_path / "plain.csv").write_text(LONG)
    pd.testing.assert_frame_equal(result.table, compare(tmp_path / "plain.csv").table)
    assert "decimal commas in test_loss" in result.to_markdown()


def test_means_of_a_paper_are_compared_unpaired_with_exactly_their_sds(tmp_path):
    (tmp_path / "sd.csv").write_text(MEANS)
    (tmp_path / "se.csv").write_text(
        f"arm,mean,SE,seeds\nbaseline,3.32,{0.02 / 5**0.5},5\nmuon,3.25,0.005,4\n"
    )
    (tmp_path / "text.csv").write_text(
        "arm,val_loss\nbaseline,3.32 ± 0.02 (5)\nmuon,3.25 +/- 0.01 (n=4)\n"
    )
    first, *others = (compare(tmp_path / f"{name}.csv") for name in ("sd", "se", "text"))
    pooled = (4 * 0.02**2 + 3 * 0.01**2) / 7
    assert first.sd == pytest.approx(pooled**0.5)
    assert first.table.set_index("arm").loc["muon", "delta"] == pytest.approx(-0.07)
    assert "nothing is known of pairs, so all is unpaired" in first.to_markdown()
    for other in others:
        pd.testing.assert_frame_equal(first.table, other.table)


def test_means_are_enough_for_the_table_alone(tmp_path, capsys):
    (tmp_path / "means.csv").write_text(MEANS)
    assert main(["plot", str(tmp_path / "means.csv")]) == 2
    assert "has means instead of runs" in capsys.readouterr().err


GRID = "Model,LR,seed,loss,note\n" + "".join(
    f"{m},{lr},{s},{x + float(lr)},{m}{lr}{s}\n" for m, s, x in RUNS for lr in ("1e-3", "2e-3")
)


def test_an_arm_may_be_made_of_several_columns(tmp_path, capsys):
    (tmp_path / "grid.csv").write_text(GRID)
    at = [str(tmp_path / "grid.csv"), "--no-write", "--column", "arm=Model,LR"]
    assert main([*at, "--baseline", "baseline, 0.001"]) == 0
    out = capsys.readouterr().out
    assert all(f"| {arm}" in out for arm in ("baseline, 0.002", "muon, 0.001", "muon, 0.002"))


def test_rows_are_kept_by_a_number_or_a_word(tmp_path, capsys):
    (tmp_path / "grid.csv").write_text(GRID)
    at = [str(tmp_path / "grid.csv"), "--no-write", "--column", "arm=Model", "--where"]
    assert main([*at, "lr=0.001"]) == 0
    assert "8 of 16 rows have LR = 0.001" in capsys.readouterr().out
    assert main([*at, "LR=3"]) == 2
    assert "no row of" in (error := capsys.readouterr().err)
    assert "LR is 1e-3, 2e-3" in error


def test_duplicates_name_the_setting_in_which_they_differ_and_the_way_on(tmp_path, capsys):
    (tmp_path / "grid.csv").write_text(GRID)
    at = [str(tmp_path / "grid.csv"), "--no-write", "--column", "arm=Model"]
    assert main(at) == 2
    error = capsys.readouterr().err
    assert "they differ in LR (1e-3, 2e-3)" in error
    assert "--column arm=Model,LR, or keep some, --where LR=1e-3" in error
    assert main([*at, "--allow-reruns"]) == 0
    assert "repeats of one arm and seed differ in LR (1e-3, 2e-3)" in capsys.readouterr().out


def test_without_seeds_too_a_setting_that_is_averaged_over_is_named(tmp_path, capsys):
    columns = pd.read_csv(io.StringIO(GRID)).drop(columns="seed")
    columns.to_csv(tmp_path / "grid.csv", index=False)
    at = [str(tmp_path / "grid.csv"), "--no-write", "--column"]
    assert main([*at, "arm=Model"]) == 0
    said = "runs of one arm differ in LR (0.001, 0.002), and are averaged as if they did not"
    assert said in (out := " ".join(capsys.readouterr().out.split()))
    assert "a column that counts repeats: --column seed=NAME" in out
    assert main([*at, "arm=Model,LR", "--baseline", "baseline, 0.001"]) == 0
    assert "differ in LR" not in capsys.readouterr().out


def test_arms_that_differ_in_their_capitals_alone_are_pointed_out():
    rows = [{"arm": a, "seed": s, "test_loss": x} for a, s, x in RUNS]
    rows[-1]["arm"] = "Muon"
    said = [str(check.what) for check in compare(pd.DataFrame(rows)).checks]
    assert any("'muon', 'Muon' differ only in upper and lower case" in text for text in said)
    rows[-1]["arm"] = "muon"
    said = [str(check.what) for check in compare(pd.DataFrame(rows)).checks]
    assert not any("capitals" in text for text in said)


def test_a_setting_is_told_from_a_result_whatever_it_is_called(tmp_path):
    rows = "".join(
        f"{m},{objective},{s},{x + i / 100},{7 * i + s}\n"
        for m, s, x in RUNS for i, objective in enumerate(("mse", "huber"))
    )  # fmt: skip
    (tmp_path / "fits.csv").write_text("arm,loss,seed,val_loss,best_epoch\n" + rows)
    with pytest.raises(AnalysisError, match=r"differ in loss \(mse, huber\).* arm=arm,loss"):
        compare(tmp_path / "fits.csv", metric="val_loss")


@pytest.mark.parametrize("above", ["# made by run.py, seeds 0,1\n\n", "sep=;\n"])
def test_what_stands_above_a_table_is_passed_over_and_counted(tmp_path, above):
    table = tmp_path / "runs.csv"
    table.write_text(above + "arm;seed;loss\nbaseline;0;3.1\nbaseline;1;x\n")
    line = 3 + above.count("\n")
    with pytest.raises(AnalysisError, match=f"line {line}, column 'loss': 'x' is not a number"):
        compare(table, metric="loss")


def test_a_column_may_be_called_number_sign_and_hold_percentages(tmp_path):
    table = tmp_path / "runs.csv"
    rows = [("baseline", 50.1), ("baseline", 50.3), ("a", 52.1), ("a", 52.4)]
    lines = "".join(f"{i},{arm},{x}%\n" for i, (arm, x) in enumerate(rows))
    table.write_text("#,arm,accuracy\n" + lines)
    result = compare(table, metric="accuracy", higher_is_better=True)
    assert result.table.set_index("arm").loc["a", "mean_loss"] == pytest.approx(52.25)
    assert "percentages in accuracy" in result.to_markdown()


@pytest.mark.parametrize(
    ("word", "status"),
    {"FINISHED": "complete", "COMPLETED": "complete", "TERMINATED": "complete", "FAIL": "failed",
     "PRUNED": "stopped", "TIMEOUT": "stopped", "OUT_OF_MEMORY": "failed"}.items(),
)  # fmt: skip
def test_the_states_of_other_programs_are_known(word, status):
    frame = pd.DataFrame({"arm": ["baseline"], "loss": [1.0], "State": [word]})
    assert normalised(frame).frame["status"].tolist() == [status]


def test_a_chart_s_export_of_wandb_says_what_to_export_instead():
    chart = pd.DataFrame({"Step": [1], "a - val_loss": [3.0], "a - val_loss__MIN": [3.0]})
    with pytest.raises(AnalysisError, match=r"chart's export of W&B.*wandb:ENTITY/PROJECT"):
        compare(chart)


def test_a_table_without_any_column_for_arms_is_told_to_add_one():
    with pytest.raises(AnalysisError, match="none of them says what was changed: add one"):
        compare(pd.DataFrame({"epoch": [0, 1], "val_loss": [3.4, 3.2]}))


def test_names_of_runs_are_not_taken_for_arms_where_another_column_says_what_was_changed():
    frame = pd.DataFrame({"Name": ["red-1", "blue-2", "green-3", "grey-4"], "seed": [0, 1, 0, 1],
                          "arch": ["base", "base", "muon", "muon"], "val_loss": [3.3, 3.4, 3.2, 3.1]})  # fmt: skip
    with pytest.raises(AnalysisError, match="'arch': 'arm'"):
        compare(frame)
    one_each = frame.assign(Name=["baseline", "a", "b", "c"]).drop(columns=["arch"])
    assert set(compare(one_each).arms) == {"baseline", "a", "b", "c"}


def test_a_missing_arm_proposes_the_column(tmp_path):
    (tmp_path / "runs.csv").write_text(LONG.replace("arm", "my recipe"))
    with pytest.raises(AnalysisError, match="--column 'arm=my recipe'"):
        compare(tmp_path / "runs.csv")


def test_several_metrics_are_a_table_and_files_each(tmp_path, capsys):
    lines = ["arm,seed,test_loss,val/loss", *(f"{a},{s},{x},{x + 0.1}" for a, s, x in RUNS)]
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    at = [str(tmp_path / "runs.csv"), "--metric", "test_loss", "--metric", "val/loss"]
    assert main(at) == 0
    out = capsys.readouterr().out
    assert "## test_loss against" in out
    assert "## val/loss against" in out
    assert "2 metrics: the family error holds in each table by itself" in out
    assert (tmp_path / "runs_results_val_loss.md").exists()
    assert (tmp_path / "runs_results_test_loss.md").exists()


def test_what_nobody_asked_for_may_be_anything(tmp_path):
    lines = LONG.splitlines()
    more = [
        f"{lines[0]},focal_loss,Hours,config",
        *(f"{x},big,1h 20m,{'y' * 140_000}" for x in lines[1:]),
    ]
    (tmp_path / "runs.csv").write_text("\n".join(more) + "\n")
    text = compare(tmp_path / "runs.csv").to_markdown()
    assert "hours is not read: '1h 20m' is no number" in text


def test_a_shape_may_be_told(tmp_path, capsys):
    (tmp_path / "runs.csv").write_text("wd,control,muon\n1,3.3,3.2\n2,3.31,3.22\n3,3.32,3.21\n")
    at = [str(tmp_path / "runs.csv"), "--no-write", "--baseline", "control"]
    assert main(at) == 2
    assert main([*at, "--wide", "arms", "--column", "seed=wd"]) == 0
    assert "one column for each of the arms: control, muon" in capsys.readouterr().out


def test_a_published_mean_with_its_sd_is_a_reference(tmp_path, capsys):
    (tmp_path / "runs.csv").write_text(LONG)
    at = [str(tmp_path / "runs.csv"), "--no-write", "--reference", "paper=3.30 ± 0.02 (5)"]
    assert main(at) == 0
    assert "paper (± 0.02, n 5)" in capsys.readouterr().out


def test_json_lines_have_dotted_names(tmp_path):
    rows = [{"config": {"variant": a, "seed": s}, "summary": {"val_loss": x}} for a, s, x in RUNS]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = read_runs([str(tmp_path / "runs.jsonl")])
    assert set(runs.frame["arm"]) == {"baseline", "muon"}
    assert runs.taken_from["test_loss"] == "summary.val_loss"
