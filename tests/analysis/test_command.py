import subprocess
import sys
import time

import pandas as pd
import pytest
from studies import on_disk, study

from analysis.__main__ import main


@pytest.fixture
def folder(tmp_path):
    return on_disk(tmp_path / "runs" / "synthetic", study({"good": -0.05, "nothing": 0.0}, n=4))


def refused(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_table_is_printed_and_written_beside_the_runs(folder, capsys):
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "| good" in printed
    assert "Method:" in printed
    assert (folder / "results.md").read_text() in printed
    assert {file.name for file in folder.glob("results.*")} == {
        "results.md",
        "results.csv",
        "results.json",
        "results.tex",
    }
    table = pd.read_csv(folder / "results.csv")
    assert set(table["arm"]) == {"good", "nothing", "baseline"}
    assert table["delta"].is_monotonic_increasing


def test_what_a_command_does_not_know_is_answered_with_what_was_meant(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parents[1])
    assert "did you mean runs/synthetic?" in refused(capsys, "plan", "synthetic")
    priced = refused(capsys, "plan", "+study=published", "device=h100")
    assert "+study=published does not exist" in priced
    assert "python -m harness.bill" in priced
    assert "see: python -m analysis --help" not in priced
    with pytest.raises(SystemExit):
        main(["plan", str(folder), "--seeds", "4"])
    assert capsys.readouterr().err.endswith("--seeds 4; see: python -m analysis plan --help\n")


def test_results_of_other_rules_are_not_replaced_in_silence(folder, capsys):
    main([str(folder), "--variance", "pooled"])
    assert "replace" not in capsys.readouterr().out
    main([str(folder), "--variance", "pooled"])
    assert "replace" not in capsys.readouterr().out
    main([str(folder), "--practical-size", "0.02"])
    out = capsys.readouterr().out
    assert "replace those of other rules (practical size 0.01, variance pooled)" in out


def test_no_write_leaves_the_folder_as_it_was(folder):
    before = sorted(folder.rglob("*"))
    assert main([str(folder), "--no-write"]) == 0
    assert sorted(folder.rglob("*")) == before


def test_a_spreadsheet_of_two_columns_is_enough(tmp_path, capsys):
    table = tmp_path / "mine.csv"
    table.write_text(
        "config,loss\n"
        + "".join(
            f"{arm},{loss}\n"
            for arm, losses in {
                "": (3.69, 3.70, 3.68, 3.71, 3.70),
                "clip": (3.60, 3.61, 3.59, 3.62, 3.60),
            }.items()
            for loss in losses
        )
    )
    assert main([str(table)]) == 0
    out = capsys.readouterr().out
    assert "| clip" in out
    assert "better" in out
    assert (tmp_path / "mine_results.csv").exists()


def test_foreign_columns_are_mapped(tmp_path, capsys):
    table = tmp_path / "mine.parquet"
    frame = study({"good": 0.05}, n=4).rename(columns={"arm": "recipe", "test_loss": "acc"})
    frame.to_parquet(table)
    main([str(table), "--column", "arm=recipe", "--metric", "acc", "--higher-is-better"])
    out = capsys.readouterr().out
    assert "acc against baseline" in out
    assert "better" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arm,test_loss\nbaseline,3.6\nclip,3.x\n", "line 3, column 'test_loss': '3.x'"),
        ("arm,test_loss\nbaseline,3.6\nclip\n", "line 3, column 'test_loss': 1 values"),
        ("arm,test_loss\nbaseline,3.6,1\n", "line 2, column 'number 3'"),
        ("arm,arm\nbaseline,3.6\n", "two columns are called 'arm'"),
        ("arm,test_loss\n", "has no rows"),
        ("a,b\n1,2\n", "no column 'arm'"),
        ("arm,test_loss\nbaseline,\n", "line 2 (baseline)"),
    ],
)
def test_a_malformed_table_is_refused_by_line_and_column(tmp_path, capsys, text, message):
    table = tmp_path / "mine.csv"
    table.write_text(text)
    assert message in refused(capsys, table)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]


def test_what_does_not_exist_is_named(tmp_path, capsys):
    assert "nowhere does not exist" in refused(capsys, "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no record.json at or below" in refused(capsys, tmp_path / "empty")


def test_a_misspelt_command_is_told_of_the_right_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["nose", "runs"])
    assert caught.value.code == 2
    assert "did you mean: python -m analysis noise; see" in capsys.readouterr().err
    on_disk(tmp_path / "nose", study({"good": -0.05}, n=4))
    assert main(["nose"]) == 0


def test_a_broken_record_is_named(folder, capsys):
    broken = next(folder.rglob("record.json"))
    broken.write_text("{")
    assert main([str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "1 unreadable" in out
    assert f"unreadable: cannot read {broken}: " in err


def test_an_unwritable_place_is_an_error_of_one_line(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "--no-write" in refused(capsys, folder, "--out", tmp_path / "file")


def test_results_are_written_all_or_none(folder, capsys):
    main([str(folder)])
    before = (folder / "results.md").read_text()
    (folder / "results.tex").unlink()
    (folder / "results.tex").mkdir()
    assert "results.tex: Is a directory" in refused(capsys, folder, "--rope", "0.02")
    assert (folder / "results.md").read_text() == before
    assert not list(folder.glob(".results*"))


def test_a_reference_that_is_no_number_is_refused(folder, capsys):
    assert "'x' is not a number" in refused(capsys, folder, "--reference", "GPT-2=x")


def python(*arguments):
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done, time.perf_counter() - start


@pytest.mark.thorough
def test_help_imports_nothing_heavy_and_tables_no_scipy_stats_or_torch(folder):
    code = (
        "import sys; from analysis.__main__ import main\n"
        "try: main({args})\n"
        "except SystemExit: pass\n"
        "print([m for m in {banned} if m in sys.modules])"
    )
    heavy = ["numpy", "pandas", "scipy", "torch", "hydra", "wandb", "vl_convert"]
    done, _ = python("-c", code.format(args=["--help"], banned=heavy))
    assert done.stdout.splitlines()[-1] == "[]"
    banned = ["torch", "hydra", "wandb", "scipy.stats", "vl_convert", "statsmodels"]
    done, _ = python("-c", code.format(args=[str(folder), "--no-write"], banned=banned))
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "wrong", [["--variance", "odd", "runs"], ["plan", "--delta", "2%"], ["plan", "--typo"]]
)
def test_a_wrong_flag_is_refused_in_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "--help" in error


def test_noise_takes_the_direction_of_a_metric_and_old_rules_are_named_shortly(tmp_path, capsys):
    table = tmp_path / "runs.csv"
    study({"a": 0.05}, n=4).rename(columns={"test_loss": "acc"}).to_csv(table, index=False)
    assert main(["noise", str(table), "--metric", "acc", "--higher-is-better"]) == 0
    main([str(table), "--metric", "acc", "--rope", str(0.007 + 1e-17 + 0.1 - 0.1)])
    capsys.readouterr()
    main([str(table), "--metric", "acc", "--rope", "0.1"])
    assert "(practical size 0.007)" in capsys.readouterr().out
