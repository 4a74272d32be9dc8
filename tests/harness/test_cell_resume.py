"""A cell that is stopped, killed or damaged goes on to the result of an undisturbed one."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from harness.cell import recorder
from harness.cell import train as cell
from harness.cell.freeze import freeze, load_frozen
from harness.records import RunRecord, Status
from tests.configs import load
from tests.harness.cells import lines, run, run_until


@pytest.mark.parametrize("stop_at", [3, 4, 9])
def test_a_cell_stopped_anywhere_goes_on_to_the_weights_of_an_undisturbed_one(
    tiny, tmp_path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    reference, expected = run([*tiny, f"runs_dir={tmp_path / 'undisturbed'}"])
    folder = freeze(load(tiny))
    run_until(stop_at, folder, monkeypatch)
    assert len(list((folder / "checkpoints").glob("*.pt"))) == min(2, stop_at // 2)
    record = cell.run(folder)
    assert record.fingerprints == expected.fingerprints
    assert record.losses == expected.losses
    timing = {"train_seconds", "tokens_per_second"}
    for name in ("metrics.jsonl", "samples.jsonl"):
        ours, theirs = (
            [{k: v for k, v in row.items() if k not in timing} for row in lines(f / name)]
            for f in (folder, reference)
        )
        assert ours == theirs


def test_sigterm_saves_the_state_and_the_next_start_goes_on(tiny, monkeypatch) -> None:
    original = recorder.Recorder.step_done

    def ask_to_stop(self, *arguments) -> None:
        if self.training.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "step_done", ask_to_stop)
        record = cell.run(folder)
    assert record.status is Status.STOPPED
    assert record.step == 3
    assert "run it again" in record.error
    steps = []
    monkeypatch.setattr(recorder.Recorder, "step_done",
                        lambda self, *a: (original(self, *a), steps.append(self.training.step)))  # fmt: skip
    assert cell.run(folder).status is Status.COMPLETE
    assert steps == [4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    "handler", [signal.default_int_handler, signal.SIG_IGN], ids=["closed", "nohup"]
)
def test_a_closed_terminal_saves_the_state_and_under_nohup_stops_nothing(
    tiny, monkeypatch, handler
) -> None:
    original = recorder.Recorder.step_done

    def close_the_terminal(self, *arguments) -> None:
        if self.training.step == 3:
            os.kill(os.getpid(), signal.SIGHUP)
        original(self, *arguments)

    monkeypatch.setattr(recorder.Recorder, "step_done", close_the_terminal)
    before = signal.signal(signal.SIGHUP, handler)
    try:
        folder, record = run(tiny)
    finally:
        signal.signal(signal.SIGHUP, before)
    ignored = handler is signal.SIG_IGN
    assert (record.status, record.step) == (
        (Status.COMPLETE, 10) if ignored else (Status.STOPPED, 3)
    )
    assert (folder / "checkpoints" / "step_000000003.pt").exists() is not ignored


def test_a_broken_checkpoint_falls_back_to_the_one_before_and_says_so(
    tiny, monkeypatch, capsys
) -> None:
    _, expected = run([*tiny, "study_name=undisturbed"])
    folder = freeze(load(tiny))
    run_until(7, folder, monkeypatch)
    newest = max((folder / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    record = cell.run(folder)
    assert record.fingerprints == expected.fingerprints
    assert f"{newest.name} cannot be read" in capsys.readouterr().err


def test_a_cell_killed_while_it_is_tested_trains_no_step_again(
    tiny, tmp_path, monkeypatch, capsys
) -> None:
    def kill(*_: object) -> None:
        raise SystemExit

    _, expected = run(tiny)
    folder = freeze(load([*tiny, f"runs_dir={tmp_path / 'again'}"]))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "_test", kill)
        with pytest.raises(SystemExit):
            cell.run(folder)
    monkeypatch.setattr("harness.loop.accumulate_gradients", pytest.fail)
    record = cell.run(folder)
    assert f"going on from step {expected.n_steps}" in capsys.readouterr().err
    assert (record.losses, record.fingerprints) == (expected.losses, expected.fingerprints)


def test_weights_alone_are_kept_along_the_way_and_load_back(tiny) -> None:
    from safetensors.torch import load_file

    from harness.model import build

    folder, record = run([*tiny, "checkpoint.n_weights=2", "+intervention=weight_tying"])
    files = sorted(path.name for path in (folder / "weights").iterdir())
    assert files == ["step_000000005.safetensors", "step_000000010.safetensors"]
    config = load_frozen(folder)
    model = build(config.model)
    missing, unexpected = model.load_state_dict(
        load_file(folder / "weights" / files[1]), strict=False
    )
    assert (missing, unexpected) == (["head.weight"], [])  # tied: stored once
    from harness.engine.randomness import weights_hash

    assert weights_hash(model) == record.fingerprints.final_weights


def test_checkpoints_that_will_not_fit_are_refused_before_training(tiny, monkeypatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=1000))
    folder, record = run(tiny)
    assert record.status is Status.FAILED
    assert "1000" not in record.error
    assert "Traceback" not in (folder / "log.txt").read_text()
    assert "checkpoints will need" in record.error
    assert "checkpoint.keep" in record.error
    assert not (folder / "metrics.jsonl").exists()


def test_signals_at_once_are_one_wish(tiny, monkeypatch) -> None:
    """A group and its launcher may both pass SIGTERM on."""
    original = recorder.Recorder.step_done

    def terminated(self, *arguments) -> None:
        if self.training.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)

    monkeypatch.setattr(recorder.Recorder, "step_done", terminated)
    folder, record = run(tiny)
    assert record.error.startswith("stopped at step 3 of 10")
    assert (folder / "checkpoints" / "step_000000003.pt").exists()


@pytest.mark.parametrize("damage", ["bit", "another cell's", "other content"])
def test_a_state_that_is_not_the_cells_own_falls_back(tiny, monkeypatch, capsys, damage) -> None:
    expected = run([*tiny, "study_name=undisturbed"])[1]
    folders = [freeze(load([*tiny, f"seed={seed}"])) for seed in (0, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(cell, "_test", lambda *_: sys.exit())
        for folder in folders:
            with pytest.raises(SystemExit):
                cell.run(folder)
    newest, other = (max((folder / "checkpoints").glob("*.pt")) for folder in folders)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    torch.save({"model": {}}, other.parent / "wrong")
    newest.write_bytes({"bit": content, "another cell's": other.read_bytes(),
                        "other content": (other.parent / "wrong").read_bytes()}[damage])  # fmt: skip
    with (folders[0] / "samples.jsonl").open("a") as file:
        file.write('{"step": 60, "completion": "a {x}')  # a half line
    record = cell.run(folders[0])
    assert f"{newest.name} cannot be read" in capsys.readouterr().err
    assert record.fingerprints == expected.fingerprints


def test_checkpoints_go_only_when_the_final_record_is_written(tiny, monkeypatch) -> None:
    original = cell.write_record

    def full_disk(folder: Path, record: RunRecord) -> None:
        if record.status is Status.COMPLETE:
            raise OSError(28, "No space left on device")
        original(folder, record)

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "write_record", full_disk)
        assert cell.train_cell(folder) == 1
    assert list((folder / "checkpoints").glob("*.pt"))
    assert cell.run(folder).status is Status.COMPLETE
    assert not (folder / "checkpoints").exists()
