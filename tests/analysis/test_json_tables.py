"""Runs in JSON files of any program."""

import json

import pandas as pd
import pytest
from studies import study

from analysis import AnalysisError, compare
from analysis.__main__ import main
from analysis.runs.tables import read_runs

FRAME = study({"a": -0.03, "b": 0.0}, n=3)[["arm", "init_seed", "test_loss"]]
LINES = "".join(json.dumps(row) + "\n" for row in FRAME.to_dict("records"))


@pytest.mark.parametrize(
    "text",
    [
        FRAME.to_json(orient="records"),
        FRAME.to_json(),
        json.dumps(FRAME.to_dict("list")),
        LINES,
        LINES.rstrip(),
        "\ufeff" + FRAME.to_json(orient="records", indent=2),
        json.dumps([{"config": {"arm": r["arm"], "init_seed": r["init_seed"]},
                     "summary": {"test_loss": r["test_loss"], "note": float("nan")}}
                    for r in FRAME.to_dict("records")]),
    ],
    ids=["records", "columns", "lists", "lines", "cut lines", "byte order mark", "nested"],
)  # fmt: skip
def test_a_json_file_gives_the_table_of_its_rows(tmp_path, text: str) -> None:
    (tmp_path / "runs.json").write_text(text, encoding="utf-8")
    columns = ["arm", "n", "delta", "ci_low", "p_adj", "verdict"]
    pd.testing.assert_frame_equal(
        compare(tmp_path / "runs.json").table[columns], compare(FRAME).table[columns]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "has no rows"),
        ("", "Expecting value: line 1 column 1"),
        ("[1, 2]", "1 is no object; a list of runs is read"),
        ('{"schema_version": 1, "study": "demo"}', '"study": "demo"} is no table'),
        ('{"arm": ["a", "b"], "test_loss": [1]}', "is no table; a list of runs is read"),
        ('{"arm": {"0": "a"}, "test_loss": {"1": 2}}', "is no table"),
        ("7", "7 is no table"),
        ('[{"arm": "a", "test_loss": 2.5}', "Expecting ',' delimiter"),
        ('[{"arm": ' + "[" * 60 + "]" * 60 + "}]", "it is nested too deeply"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"arm": "a", "test_loss": 2.5}\n[1]\n', "line 2: [1] is no object"),
    ],
)
def test_what_is_no_table_is_refused_with_the_form_that_is_read(
    tmp_path, text: str, words: str
) -> None:
    file = tmp_path / "runs.json"
    file.write_text(text)
    with pytest.raises(AnalysisError) as refused:
        read_runs([str(file)])
    assert words in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    (tmp_path / "runs.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnalysisError, match="'utf-8' codec"):
        read_runs([str(tmp_path / "runs.json")])


def test_results_of_this_program_are_told_from_runs(tmp_path, capsys) -> None:
    table = tmp_path / "mine.csv"
    FRAME.to_csv(table, index=False)
    assert main([str(table)]) == 0
    results = str(tmp_path / "mine_results.json")
    assert main([results]) == 2
    assert "is a results table that this program wrote" in capsys.readouterr().err
    assert main([str(table), results, "--no-write"]) == 0
    assert f"left out, as results of this program: {results}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["table.md", "table.xlsx"])
def test_a_table_of_another_format_is_refused_with_those_that_are_read(tmp_path, name) -> None:
    (tmp_path / name).write_text("| arm | test_loss |\n| --- | --- |\n| baseline | 3.2 |\n")
    with pytest.raises(AnalysisError) as refused:
        read_runs([str(tmp_path / name)])
    assert str(refused.value) == (
        f"{tmp_path / name} is neither a record.json nor one of .csv, .tsv, .parquet, .json, "
        ".jsonl, .ndjson, .log, .txt; save its table as CSV"
    )
