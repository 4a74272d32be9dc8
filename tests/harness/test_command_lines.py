"""Bad command lines: what `python -m benchmarks.command_lines` draws, where no command need start."""

import os
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main as analysis
from analysis.comparison.compare import decide
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.judged.gold import read_gold
from analysis.report.watch import Live
from analysis.runs.reading import Reading
from analysis.runs.tables import read_runs
from benchmarks.bad_lines import NUMBERS, SETTINGS, Line, lines, parsers
from benchmarks.command_lines import Done
from harness.config import ConfigError
from harness.config.compose import load
from harness.evals.instructions.settings import parse
from harness.hub.push import check_name
from harness.records import Losses, RunRecord, Seeds, Status, StudyPlan, write_record
from harness.records.terminal import Parser, printing
from interventions.__main__ import main as interventions

BY_PARSER = {
    *("missing value", "a value for a switch", "unknown option", "misspelt option"),
    *("empty", "not a number", "text for a number", "empty item"),
}


def test_every_option_of_every_command_refuses_bad_values_in_one_line(capsys) -> None:
    found = parsers()
    del found["harness"]  # Hydra's own
    taken, wrong, codes, n = [], [], set(), 0
    for line in lines():
        parser = found.get(line.command)
        if parser is None or line.command in SETTINGS or line.kind not in BY_PARSER:
            continue
        n += 1
        try:
            parser.parse_args(line.words)
            taken.append(line)
        except SystemExit as stop:
            codes.add(stop.code)
            said = capsys.readouterr().err
            wrong += [said] * (said[:7] != "error: " or said.count("\n") != 1)
    assert n > 400
    assert codes == {2}
    assert wrong == []
    options = [line for line in taken if line.about[0].startswith("--") and not line.free]
    assert [line for line in options if line.kind in NUMBERS] == []


def test_a_word_that_steers_a_terminal_is_spelt_out_and_an_empty_path_refused(capsys) -> None:
    parser = Parser(prog="x")
    parser.add_argument("--out", type=Path)
    for words in (["--out", ""], ["\x1b[2J"], ["--no\nsuch"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
    assert capsys.readouterr().err == (
        "error: argument --out: empty: give a value; see: x --help\n"
        "error: unrecognized arguments: \\x1b[2J; see: x --help\n"
        "error: unrecognized arguments: --no such; see: x --help\n"
    )


def test_a_file_that_may_not_be_opened_is_one_line_of_any_command(capsys) -> None:
    with pytest.raises(SystemExit) as stop, printing():
        raise PermissionError(13, "Permission denied", "/x/y")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: /x/y: Permission denied\n"


def test_a_pipe_is_neither_a_study_nor_hand_labels(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AnalysisError, match="no regular file"):
        read_runs([str(tmp_path / "pipe")])
    with pytest.raises(AnalysisError, match="no regular file"):
        read_gold(tmp_path / "pipe")


def test_a_folder_without_runs_beside_one_with_runs_is_refused(tmp_path) -> None:
    record = RunRecord(
        study="s", arm="baseline", interventions=[], cell="c", n_steps=1, step=1,
        seeds=Seeds(init=0, data=0, loop=0), status=Status.COMPLETE, losses=Losses(test=3.0),
    )  # fmt: skip
    write_record(tmp_path / "study" / "baseline" / "c", record)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnalysisError, match=r"at or below .*empty"):
        read_runs([str(tmp_path / "study"), str(tmp_path / "empty")])


def test_looks_are_refused_against_a_baseline_that_nobody_planned() -> None:
    runs = pd.DataFrame({"arm": ["baseline", "a"], "seed": [0, 0], "test_loss": [3.0, 3.1]})
    with pytest.raises(AnalysisError, match="'nosuch', and none planned"):
        decide(runs, StudyPlan(study="s", looks=[2, 3]), Rules(baseline="nosuch"))


def test_the_live_page_reads_a_table_by_the_columns_that_it_is_told(tmp_path) -> None:
    rows = [f"{arm},{seed},{3 + seed / 10}" for arm in ("baseline", "a") for seed in range(3)]
    (tmp_path / "runs.csv").write_text("\n".join(["arm,seed,end", *rows]))
    live = Live([str(tmp_path / "runs.csv")], Rules(), Reading(columns={"test_loss": "end"}))
    assert live.state()["sentence"]


def test_what_an_override_refers_to_is_looked_up_under_its_key(command) -> None:
    done = command("harness", "train.equal_seconds=${oc.env:NO_SUCH_NAME}")
    assert done.returncode == 2
    assert "'NO_SUCH_NAME' not found\" (at train.equal_seconds)" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["page", "x"], ["publish", ""], ["show", "/nowhere/x"]],
)
def test_the_catalogues_commands_refuse_what_they_cannot_use(words, capsys) -> None:
    try:
        code = interventions(words)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert (code, said[:7], said.count("\n")) == (2, "error: ", 1)


@pytest.mark.parametrize("text", ["seeds=[1,,2]", "lr=[", "lr=inf", "val_frac=nan", "typo=1"])
def test_a_setting_of_a_fine_tuning_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError, match=text.partition("=")[0]) as caught:
        parse([text])
    assert "\n" not in str(caught.value)


def test_a_repositorys_name_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ConfigError, match="--push"):
        check_name("a" * 300)


def test_an_unknown_group_option_is_told_from_a_path(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown intervention '/nowhere/x'"):
        load(["+intervention=/nowhere/x"])


def test_watch_refuses_a_column_that_is_none_of_ours(tmp_path, capsys) -> None:
    (tmp_path / "runs.csv").write_text("arm,seed,test_loss\nbaseline,0,3\n")
    assert analysis(["watch", str(tmp_path / "runs.csv"), "--column", "nosuch=x"]) == 2
    assert "nosuch" in capsys.readouterr().err


LINE = Line("analysis table", "unknown name", ("--baseline", "nosuch"), ("--baseline", "nosuch"))
GOOD = Done(2, "", "error: no arm 'nosuch'\n")


def test_the_judgement_of_a_line_notices_each_thing_that_is_wrong() -> None:
    named = ["--baseline", "nosuch"]
    bad = {
        "": GOOD,
        "exit 0": Done(0, "", ""),
        "exit -9": Done(-9, "", ""),
        "no end": Done(None, "", ""),
        "0 error lines": Done(1, "", "nosuch\n"),
        "2 error lines": Done(1, "", "error: nosuch\nerror: nosuch\n"),
        "names neither option nor value": Done(2, "", "error: no\n"),
        "traceback or warning": Done(2, "", "x.py: RuntimeWarning: nosuch\nerror: nosuch\n"),
        "steers the terminal": Done(2, "\x1b[2J", "error: nosuch\n"),
        "changed runs": Done(2, "", "error: nosuch\n", ("runs",)),
    }
    assert {wrong: done.wrong(LINE, named) for wrong, done in bad.items()} == {w: w for w in bad}
