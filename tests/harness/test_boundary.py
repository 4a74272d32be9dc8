"""What is read back is parsed once, in its types: spoilt files are refused, and run nothing."""

import argparse
import copy
import importlib
import json
import math
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch

from analysis.cli import COMMANDS
from benchmarks.fuzz import GONE, VALUES, changed, mutations, paths, quietly
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.cell.sources import use_kept_sources
from harness.config import Config, ConfigError, WandbMode
from harness.config.frozen import read_config
from harness.config.validate import validate
from harness.records import RecordError, read_record
from harness.records.files import as_json
from harness.records.numbers import number
from harness.records.reading import read_bytes
from harness.records.responses import read_responses
from harness.records.study import Study, read_all
from harness.study.plan import PlannedCell
from harness.study.runner import run_cells
from harness.study.states import cell_states
from tests.configs import load
from tests.harness.cells import run_until
from tests.harness.judged_files import write_files


def test_a_record_with_any_field_spoilt_is_read_or_refused_with_its_place(study: Path) -> None:
    file = next(study.rglob("record.json"))
    whole = json.loads(file.read_text())
    refused = 0
    for path in paths(whole):
        for value in (*VALUES.values(), GONE):
            file.write_text(json.dumps(changed(whole, path, value)))
            found = read_all([file])
            for error in found.unreadable:
                refused += 1
                assert error.file == file
                assert "\n" not in str(error)
                assert len(str(error)) < 400
    assert refused > 500


@pytest.mark.parametrize(
    "missing", ["version", "recipe", "tuning", "n_tokens", "line_to_fix", "cards"]
)
def test_an_older_record_that_lacks_a_newer_field_is_read(study: Path, missing: str) -> None:
    file = next(study.rglob("record.json"))
    whole = json.loads(file.read_text())
    del whole[missing]
    file.write_text(json.dumps(whole))
    assert read_record(file).cell == whole["cell"]


def test_one_unreadable_record_stops_nothing_else(study: Path, capsys) -> None:
    from analysis.__main__ import main

    first, second = sorted(study.rglob("record.json"))
    first.write_text(first.read_text().replace('"step": 10', '"step": null'))
    found = read_all([study])
    assert list(found.records) == [second.parent]
    assert [error.file for error in found.unreadable] == [first]
    assert sorted(s.state for s in cell_states(Study(study))) == [
        "complete",
        "unreadable",
    ]
    assert main(["verify", str(study)]) == 1
    assert "FAIL: unreadable: cannot read" in capsys.readouterr().out
    assert "Expected `int`, got `null` - at `$.step`" in str(found.unreadable[0])


def test_a_record_nested_without_end_is_refused_in_one_line(study: Path) -> None:
    file = next(study.rglob("record.json"))
    content = json.loads(file.read_text())
    deep: object = {}
    for _ in range(60):
        deep = {"a": deep}
    file.write_text(json.dumps(content | {"cards": {"qkv_bias": {"note": deep}}}))
    with pytest.raises(RecordError, match="nested too deeply"):
        read_record(file)


def test_responses_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = Path(write_files(tmp_path)[0])
    first, *others = path.read_text().splitlines()
    deep = "[" * 60 + "]" * 60
    path.write_text("\n".join([f'{first[:-1]}, "extra": {deep}}}', *others]) + "\n")
    with pytest.raises(RecordError, match="nested too deeply"):
        read_responses(path)


def test_an_alias_bomb_in_a_config_is_one_line(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    (tmp_path / "config.yaml").write_text("\n".join(["l0: &l0 [x]", *levels]))
    with pytest.raises(ConfigError, match=r"cannot read .*config\.yaml: ") as caught:
        read_config(tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


def test_links_to_cells_and_arms_are_followed_and_counted_once(study: Path, tmp_path) -> None:
    arm = study / "qkv_bias"
    arm.rename(tmp_path / "elsewhere")
    arm.symlink_to(tmp_path / "elsewhere")
    (study / "again").symlink_to(arm)
    (study / "loop").symlink_to(study)
    assert len(read_all([study]).records) == len(cell_states(Study(study))) == 2


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        RecordError, match=r"^cannot read \S+: it is no regular file; move it away$"
    ):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(RecordError, match=r"gone: No such file or directory$"):
        read_bytes(tmp_path / "gone")
    assert read_bytes(tmp_path / "gone", absent=b"") == b""


def test_names_that_are_no_text_do_not_make_unreadable_files() -> None:
    assert json.loads(as_json({"command": ["\udcff", "😀"]})) == {"command": ["?", "😀"]}


@pytest.mark.slow
def test_no_command_stumbles_over_a_spoilt_file(tmp_path) -> None:
    from benchmarks.fuzz import build, fuzz, sample

    study = build(tmp_path, n_seeds=2, figures=False)
    assert len(list(mutations(study))) > 5000
    few = sample(study, 7, seed=7)
    readers = ["table", "verify", "noise", "sequential", "plan", "stack", "status", "again"]
    assert fuzz(study, few, readers).mishandled == []
    assert fuzz(study, few[:1], ["report", "watch"]).mishandled == []


READERS = """
import sys
from analysis.__main__ import main
from analysis.comparison.rules import Rules
from analysis.report.watch import Live
study, out = sys.argv[1:]
for words in (["table", study, "--no-write"], ["report", study, "--out", out], ["verify", study],
              ["noise", study], ["stack", study]):
    main(words)
main(["plan", "--delta", "0.1", "--arms", "2", "--pilot", study])
Live([study], Rules()).page()
from harness import status
sys.argv = ["status", study]
status.main()
"""


@pytest.mark.slow
def test_no_command_that_reads_runs_anything_of_a_folder(study: Path, tmp_path) -> None:
    sprung = tmp_path / "sprung"
    trap = f"open({str(sprung)!r}, 'w').close()\nraise SystemExit('sprung')\n"
    names = ("numpy", "yaml", "tiktoken", "own_idea", "sitecustomize", "conftest")
    cells = [config.parent for config in study.glob("*/*/config.yaml")]
    for folder in (study, *cells, *(folder / "sources" for folder in cells)):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / f"{name}.py").write_text(trap)
    for config in study.glob("*/*/config.yaml"):
        config.write_text(f"!!python/object/apply:os.system ['touch {sprung}']\n")
    done = subprocess.run([sys.executable, "-c", READERS, str(study), str(tmp_path / "out")],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not sprung.exists()


def test_a_planted_source_takes_no_modules_place(study: Path) -> None:
    folder = next(study.glob("baseline/*"))
    (folder / "sources").mkdir()
    (folder / "sources" / "tiktoken.py").write_text("raise SystemExit('sprung')\n")
    before = list(sys.meta_path)
    assert use_kept_sources(read_config(folder / "config.yaml"), folder) == []
    assert sys.meta_path == before


def test_nothing_of_a_frozen_config_is_resolved(study: Path, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "told")
    file = next(study.glob("baseline/*")) / "config.yaml"
    file.write_text(file.read_text().replace("entity: null", "entity: ${oc.env:SECRET}"))
    assert read_config(file).tracking.entity == "${oc.env:SECRET}"


def test_a_resumed_cell_is_tracked_as_the_command_says(tiny, monkeypatch) -> None:
    folder = freeze(load([*tiny, "tracking.entity=theirs", "tracking.mode=online"]))
    run_until(4, folder, monkeypatch)
    freeze(load([*tiny, "tracking.entity=ours"]))
    tracking = read_config(folder / "config.yaml").tracking
    assert (tracking.entity, tracking.mode) == ("ours", WandbMode.offline)


def test_a_state_that_does_not_fit_is_set_aside_for_the_one_before(
    tiny, monkeypatch, capsys
) -> None:
    folder = freeze(load(tiny))
    whole = cell.run(freeze(load([*tiny, "study_name=whole"])))
    run_until(6, folder, monkeypatch)
    *_, newest = sorted((folder / "checkpoints").glob("*.pt"))
    state = torch.load(newest)
    state["model"].pop(next(iter(state["model"])))
    torch.save(state, newest)
    record = cell.run(folder)
    assert record.fingerprints.final_weights == whole.fingerprints.final_weights
    err = capsys.readouterr().err
    assert f"{newest.name} does not fit this cell" in err
    assert "going on from step 4" in err


def test_a_cell_whose_record_is_unreadable_is_left_out_of_a_new_start(
    tiny, monkeypatch, capsys
) -> None:
    folder = freeze(load(tiny))
    (folder / "record.json").write_text("null")
    monkeypatch.setattr("harness.study.runner.require_results", lambda _: None)
    run_cells([PlannedCell(load(tiny))])
    assert f"left out: cannot read {folder / 'record.json'}" in capsys.readouterr().err


def _numbers(group, prefix: str = ""):
    for item in fields(group):
        value = getattr(group, item.name)
        if is_dataclass(value):
            yield from _numbers(value, f"{prefix}{item.name}.")
        elif item.type in ("int", "int | None"):
            yield f"{prefix}{item.name}", (-1, 10**19)  # more than 63 bits
        elif item.type in ("float", "float | None"):
            yield f"{prefix}{item.name}", (math.nan, math.inf, -1e300, -1, 1e300)


@pytest.fixture(scope="module")
def plain() -> Config:
    return load(["data=text", "data.path=x"])


def test_every_number_of_a_config_is_refused_by_its_key_where_it_makes_no_sense(plain) -> None:
    for key, values in _numbers(plain):
        if key == "seed":  # which is the three seeds
            continue
        *groups, name = key.split(".")
        for value in values:
            config = copy.deepcopy(plain)
            owner = config
            for group in groups:
                owner = getattr(owner, group)
            setattr(owner, name, value)
            with pytest.raises(ConfigError, match=rf"^{key}="):
                validate(config)


def _options():
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"analysis.cli.{name.replace('-', '_')}").add_arguments(parser)
        yield from parser._actions
    for name in ("evaluate", "judge", "sample"):
        yield from importlib.import_module(f"harness.{name}")._parser()._actions


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "x", ""])
def test_every_option_that_is_a_number_refuses_what_makes_no_sense(text: str) -> None:
    kind = type(number(int))
    checked = [
        option
        for option in _options()
        if isinstance(option.type, kind) and option.type.__module__ == number.__module__
    ]
    assert len(checked) > 25
    for option in checked:
        with pytest.raises(argparse.ArgumentTypeError, match="number"):
            option.type(text)
    assert not [option for option in _options() if option.type in (int, float)]


def test_exit_codes_and_words_of_a_command_are_caught() -> None:
    assert quietly(lambda: sys.exit(2)) == (2, "")
    code, said = quietly(lambda: 1 / 0)
    assert code == -1
    assert "ZeroDivisionError" in said
