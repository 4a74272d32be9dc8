"""What a command prints into a closed pipe, a full disk or an ASCII log; what it is asked wrongly."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import main as analysis
from harness import throughput
from harness.cell import __main__ as one_cell
from harness.config import ConfigError
from harness.config.compose import load_all
from harness.records import Losses, RunRecord, Seeds, Status, write_record
from harness.records.terminal import printing
from interventions.__main__ import main as interventions


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of four records, of an arm whose name is not ASCII; nothing was trained."""
    folder = tmp_path_factory.mktemp("runs") / "größen"
    for arm in ("baseline", "größer"):
        for seed in range(2):
            cell = f"{arm[:4]}{seed}"
            record = RunRecord(
                study="größen", arm=arm, interventions=[], cell=cell, n_steps=1, step=1,
                seeds=Seeds(init=seed, data=seed, loop=seed), status=Status.COMPLETE,
                losses=Losses(test=3.0 + seed / 100 - (arm != "baseline") / 10),
            )  # fmt: skip
            write_record(folder / arm / cell, record)
    return folder


@pytest.mark.parametrize(
    "words", ["interventions", "analysis table {} --no-write", "harness.status {}"]
)
def test_a_full_disk_a_gone_reader_and_ascii_are_no_tracebacks(words: str, study: Path) -> None:
    ways = {
        "> /dev/full": (1, "error: cannot print: No space left on device\n"),
        "| true; exit ${PIPESTATUS[0]}": (0, ""),
        "> /dev/null": (0, ""),
        ">&-": (0, ""),
    }
    command = f"{sys.executable} -m {words.format(study)}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    started = {
        way: subprocess.Popen(
            ["bash", "-c", f"{command} {way}"], env=environment, stderr=subprocess.PIPE, text=True
        )
        for way in ways
    }
    for way, (code, said) in ways.items():
        assert (started[way].communicate()[1], started[way].returncode) == (said, code), way


def test_a_folder_that_was_deleted_under_the_command_is_one_line(tmp_path: Path) -> None:
    command = f"cd {tmp_path} && rmdir {tmp_path} && {sys.executable} -m harness hardware=cpu"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    said = "error: the current folder was deleted: change to one that exists\n"
    assert (done.stderr, done.returncode) == (said, 2)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_a_file_that_cannot_be_written_ends_a_command_in_one_line(number, code, capsys) -> None:
    with pytest.raises(SystemExit) as left, printing():
        raise OSError(number, os.strerror(number), "some.md")
    assert left.value.code == code
    assert capsys.readouterr().err == f"error: some.md: {os.strerror(number)}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"# @package _global_\nname: \xff\n", "idea.yaml is not UTF-8, at byte 26"),
     (b"# @package _global_\nseed: [1\n", "not valid YAML: .*idea.yaml")],
)  # fmt: skip
def test_a_config_that_is_no_text_or_no_yaml_is_named(text, words, tmp_path, monkeypatch) -> None:
    (tmp_path / "my_conf" / "intervention").mkdir(parents=True)
    (tmp_path / "my_conf" / "intervention" / "idea.yaml").write_bytes(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        load_all([["+intervention=idea"]])


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [("no.such.thing", 2, "no module 'no'"), ("collections.OrderedDict", 1, "takes no step")],
)
def test_a_target_that_cannot_be_built_is_one_line(target, code, words, tiny, capsys) -> None:
    assert throughput.main([*tiny, f"model.mlp._target_={target}"]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_word_too_many_is_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["harness.cell", "a", "b"])
    with pytest.raises(SystemExit):
        one_cell.main()
    assert "unrecognized arguments: b" in capsys.readouterr().err
    assert interventions(["a", "b"]) == 2
    assert "what is 'b' for?" in capsys.readouterr().err


def test_a_plan_of_a_million_arms_is_refused_at_once(capsys) -> None:
    with pytest.raises(SystemExit):
        analysis(["plan", "--delta", "0.01", "--arms", "1000000"])
    assert "at most 10000" in capsys.readouterr().err


def test_another_programs_files_above_the_runs_are_left_alone(tmp_path, capsys) -> None:
    table = tmp_path / "a" / "b" / "c" / "runs.csv"
    table.parent.mkdir(parents=True)
    for folder in (tmp_path, *table.parents[:3]):
        (folder / "plan.json").write_text('{"name": "of another program"}')
        (folder / "record.json").write_text("[1]")
    rows = [
        f"{arm},{seed},{3.3 - (arm == 'b') / 10 + seed / 100}"
        for arm in ("baseline", "b")
        for seed in range(3)
    ]
    table.write_text("\n".join(["arm,seed,test_loss", *rows]))
    assert analysis([str(table), "--no-write"]) == 0
    assert "unreadable" not in capsys.readouterr().out
