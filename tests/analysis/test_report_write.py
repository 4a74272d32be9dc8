"""What `report` and `plot` write, where, and how fast."""

import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest
from full_study import full_study
from studies import study

from analysis.__main__ import main
from analysis.report import sections as report_sections
from analysis.report import write_report
from analysis.report.cells import tail
from analysis.runs.frame import Runs


@pytest.mark.slow
def test_a_report_says_what_holds_at_the_sizes_that_it_is_given(reported, tmp_path, capsys):
    frame = pd.DataFrame(
        [
            {"study": name, "arm": arm, "seed": seed, "flops": flops,
             "test_loss": 3 + delta * (arm == "a") + 0.01 * seed + 0.001 * seed * (arm == "a")}
            for name, flops, delta in (("small", 1e15, -0.1), ("middle", 4e15, -0.08), ("large", 2e16, -0.05))
            for arm in ("baseline", "a") for seed in range(3)
        ]
    )  # fmt: skip
    for name, part in frame.groupby("study"):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    large, *others = [str(tmp_path / f"{name}.csv") for name in ("large", "small", "middle")]
    assert main(["report", large, "--sizes", *others]) == 0
    page = (tmp_path / "large_report.html").read_text()
    assert "from the smallest to the largest: small, middle, large" in page
    assert "2e+16 FLOPs" in (tmp_path / "large_tables" / "scale.md").read_text()
    capsys.readouterr()


def test_page_tables_and_figures_are_made_of_sections_that_are_made_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(report_sections, "_unknown", made.append)
    for _ in range(2):
        frame = study({"a": -0.02}, n=3)
        written = write_report(Runs(frame, home=tmp_path), figures=True)
        assert (written.figures, written.tables) != ([], [])
    assert len(made) == len(set(map(id, made))) == 2


def test_a_log_that_is_a_folder_or_a_pipe_is_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "log.txt").write_text("one\ntwo\nthree\n")
    assert [tail(tmp_path / n, 2) for n in ("folder", "pipe", "log.txt")] == ["", "", "two\nthree"]


def test_the_command_writes_one_page_with_tables_and_figures(reported, tmp_path, capsys):
    assert main(["report", str(reported), "--out", str(tmp_path), "--figures"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert {f.suffix for f in (tmp_path / "tables").iterdir()} == {".md", ".csv", ".tex"}
    svg = (tmp_path / "figures" / "noise_band.svg").read_text()
    assert svg.startswith("<svg")
    assert "good+plain" in svg
    assert "$" not in re.sub(r"<text.*?</text>", "", svg), "a colour's name was left"
    assert (tmp_path / "figures" / "noise_band.png").read_bytes()[:4] == b"\x89PNG"


def test_a_tables_report_carries_its_name_and_what_it_cannot_compare_is_said(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    rows = [f"{arm},{seed},{3 + seed / 100}" for arm in ("baseline", "a") for seed in range(4)]
    file.write_text("\n".join(["arm,init_seed,test_loss", *rows]))
    assert main(["report", str(file)]) == 0
    assert (tmp_path / "mine_report.html").exists()
    assert (tmp_path / "mine_tables" / "verdicts.md").exists()
    (tmp_path / "mine_tables" / "notes.md").write_text("somebody else's")
    file.write_text("\n".join(["arm,init_seed,test_loss", *rows[4:]]))
    assert main(["report", str(file)]) == 0
    assert "It compares nothing: no complete run of the baseline" in capsys.readouterr().out
    assert not (tmp_path / "mine_tables" / "verdicts.md").exists()
    assert (tmp_path / "mine_tables" / "notes.md").exists()


def test_a_folder_without_records_is_refused_in_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no record.json")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["report", "plot"])
def test_a_table_without_arms_is_refused_in_one_line(tmp_path, capsys, command):
    (tmp_path / "runs.csv").write_text("Recipe,test_loss\nold,3.1\nnew,3.2\nold,3.0\nnew,3.3\n")
    assert main([command, str(tmp_path / "runs.csv")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--column arm=Recipe" in said


def test_a_place_that_cannot_be_written_to_is_named(reported, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["report", str(reported), "--out", str(tmp_path / "file")]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arms", "seeds", "most_mb", "most_seconds"),
    [(12, 5, 3, 300), pytest.param(125, 8, 10, 600, marks=pytest.mark.proof)],
)
def test_large_studies_stay_small_and_quick(tmp_path, arms, seeds, most_mb, most_seconds):
    effects = {"baseline": 0.0} | {f"arm_{i:03}": -0.001 * i for i in range(1, arms)}
    folder = full_study(tmp_path / "large", effects, seeds, n_points=200)
    started = time.process_time()
    report = write_report(folder).report
    assert time.process_time() - started < most_seconds  # of a processor, however busy it is
    assert report.stat().st_size < most_mb * 1e6


@pytest.mark.thorough
def test_the_report_imports_neither_the_engine_nor_a_tracker():
    code = (
        "import sys, analysis.report, analysis.report.page, analysis.report.write;"
        "print([m for m in ('torch', 'hydra', 'wandb', 'vl_convert', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
