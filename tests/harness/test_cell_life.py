"""One cell from its config to its record."""

import dataclasses
import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import loop
from harness.cell import recorder
from harness.cell import train as cell
from harness.cell.console import EXIT_BUSY, EXIT_REFUSED
from harness.cell.freeze import freeze, load_frozen
from harness.cell.lock import LOCK_FILE
from harness.loop import accumulate_gradients
from harness.records import Provenance, Status, read_record
from tests.configs import load
from tests.harness.cells import contents, lines, run


def test_a_cell_leaves_a_complete_record_and_all_its_files(tiny, tmp_path) -> None:
    folder, record = run([*tiny, "+intervention=qkv_bias", "seed=7", "hardware.usd_per_hour=3.6"])
    assert folder.parts[-3:-1] == ("adhoc", "qkv_bias")
    assert record == read_record(folder)
    assert (record.status, record.step, record.tokens) == (Status.COMPLETE, 10, 2560)
    assert (record.arm, record.interventions) == ("qkv_bias", ["qkv_bias"])
    assert record.cards["qkv_bias"]["published_delta"] == -0.023
    assert record.changes == {"model.qkv_bias": [False, True]}
    assert record.seeds.init == record.seeds.data == record.seeds.loop == 7
    assert record.cost.usd == pytest.approx(record.cost.train_seconds / 1000)
    assert record.cost.peak_memory_bytes > 0
    assert record.provenance.packages["torch"].startswith(torch.__version__.partition("+")[0])
    assert record.provenance.tokenizer == "bytes"
    losses = np.load(folder / "test_losses.npy")
    assert (losses.dtype, losses.shape) == (np.float32, (8,))
    assert record.losses.test == pytest.approx(losses.mean(), abs=1e-6)
    metrics = lines(folder / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [2, 4, 5, 6, 8, 10]  # 5 logged, 2 validated
    assert [row["step"] for row in metrics if "val_loss" in row] == [5, 10]
    samples = lines(folder / "samples.jsonl")
    assert [row["step"] for row in samples] == [5, 10]
    assert all(row["completion"].startswith("Every effort moves you") for row in samples)
    assert load_frozen(folder).arm == "qkv_bias"
    assert not (folder / "checkpoints").exists()


def test_the_same_cell_twice_gives_bit_identical_weights_and_losses(tiny, tmp_path) -> None:
    first, a = run(tiny)
    second, b = run([*tiny, f"runs_dir={tmp_path / 'again'}"])
    assert first.name == second.name
    assert a.fingerprints == b.fingerprints
    assert (first / "test_losses.npy").read_bytes() == (second / "test_losses.npy").read_bytes()


@pytest.mark.parametrize("seed", ["seeds.init", "seeds.data", "seeds.loop"])
def test_each_seed_changes_the_result_through_its_own_draws_only(tiny, seed: str) -> None:
    _, base = run(tiny)
    _, other = run([*tiny, f"{seed}=1"])
    ours, theirs = base.fingerprints, other.fingerprints
    assert ours.final_weights != theirs.final_weights
    assert (ours.init == theirs.init) == (seed != "seeds.init")
    assert (ours.data_order == theirs.data_order) == (seed != "seeds.data")


def test_the_data_seed_changes_nothing_without_shuffling_and_the_record_says_so(tiny) -> None:
    _, a = run([*tiny, "data.shuffle=false"])
    _, b = run([*tiny, "data.shuffle=false", "seeds.data=5"])
    assert a.fingerprints == b.fingerprints
    assert a.fingerprints.data_shuffled is False


def test_every_test_sequence_has_the_document_that_it_begins_in(tiny, data_dir) -> None:
    from harness.data.corpus import open_corpus

    folder, _ = run(tiny)
    losses, documents = (np.load(folder / f"test_{name}.npy") for name in ("losses", "documents"))
    assert len(losses) == len(documents) == 8
    starts = open_corpus(load(tiny).data, data_dir).document_starts("test")
    n_all = (len(open_corpus(load(tiny).data, data_dir).tokens("test")) - 1) // 16
    firsts = 16 * (np.arange(8) * n_all // 8)
    assert (starts[documents] <= firsts).all()
    assert all(first < starts[d + 1] for first, d in zip(firsts, documents, strict=True))


def test_a_finished_cell_is_not_trained_again_and_a_failed_one_is(tiny, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", fail)
        record = cell.run(folder)
    assert (record.status, record.error) == (Status.FAILED, "RuntimeError: out of luck")
    first = cell.run(folder)
    assert first.status is Status.COMPLETE
    monkeypatch.setattr(cell, "train", fail)
    assert cell.run(folder) == first


def test_divergence_is_a_result_with_its_step_not_a_crash(tiny, monkeypatch) -> None:
    folder, record = run([*tiny, "optim.lr=1e30", "train.max_skipped_steps=3",
                          "checkpoint.every_steps=0", "hardware.usd_per_hour=3600"])  # fmt: skip
    assert record.status is Status.DIVERGED
    assert record.tokens == record.step * 256 > 0
    assert record.cost.usd == pytest.approx(record.cost.train_seconds)
    assert "3 steps in a row" in record.error
    assert record.skipped_steps == 3
    assert record.losses.test is None
    json.loads((folder / "record.json").read_text(), parse_constant=pytest.fail)  # no NaN in JSON
    assert cell.run(folder).status is Status.DIVERGED


@pytest.mark.parametrize("compiled", [True, False])
def test_the_time_of_the_compiler_is_paid_but_is_no_speed(tiny, monkeypatch, compiled) -> None:
    clock, original = [0.0], accumulate_gradients

    def step(training, number):
        clock[0] += 1001.0 if number == 0 else 1.0
        return original(training, number)

    monkeypatch.setattr(loop, "accumulate_gradients", step)
    monkeypatch.setattr(recorder.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    hardware = [f"hardware.compile={compiled}", "hardware.usd_per_hour=3600",
                "hardware.peak_flops=1e6"]  # fmt: skip
    folder, record = run([*tiny, *hardware])
    cost = record.cost
    assert (cost.train_seconds, cost.usd) == (1010, 1010)
    assert cost.tokens_per_second == (256 if compiled else pytest.approx(2560 / 1010, abs=0.1))
    assert cost.mfu == pytest.approx(cost.flops / 2560 * cost.tokens_per_second / 1e6)
    *_, last = lines(folder / "metrics.jsonl")
    assert last["tokens_per_second"] == cost.tokens_per_second


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_a_second_run_of_a_cell_has_the_same_curve_and_is_sent_nowhere(tiny, command, n_devices):
    from analysis.audit.rerun import rerun

    arguments = [*tiny, f"hardware.n_devices={n_devices}", "tracking=wandb"]
    done = command("harness", *arguments, WANDB_MODE="offline")
    folder = freeze(load(arguments))
    assert done.returncode == 0, done.stderr
    sent = sorted((folder / "wandb").iterdir())
    again = rerun(folder, 10)
    assert (again.identical, again.elsewhere, again.steps[-1]) == (True, (), 10)
    assert sorted((folder / "wandb").iterdir()) == sent


def test_a_process_held_up_before_it_began_leaves_the_finished_cell_alone(
    tiny, monkeypatch
) -> None:
    folder = freeze(load(tiny))
    original = cell.settle_process

    def held_up(hardware) -> None:
        monkeypatch.setattr(cell, "settle_process", original)
        lock = (folder / LOCK_FILE).read_text()
        (folder / LOCK_FILE).unlink()
        cell.run(folder)  # another process takes over, and finishes
        seen.update(contents(folder))
        (folder / LOCK_FILE).write_text(lock.replace("token", "nekot"))

    seen: dict[Path, bytes] = {}
    monkeypatch.setattr(cell, "settle_process", held_up)
    assert cell.train_cell(folder) == EXIT_BUSY
    assert seen.items() <= contents(folder).items()


def test_a_cell_that_diverges_before_a_sample_has_diverged(tiny) -> None:
    _, record = run([*tiny, "optim.lr=1e30", "train.max_skipped_steps=6", "sample.n_times=10"])
    assert (record.status, record.skipped_steps) == (Status.DIVERGED, 6)


def test_a_cell_without_a_finite_step_at_its_end_has_diverged(tiny) -> None:
    _, record = run([*tiny, "optim.lr=1e30"])  # 50 steps in a row are more than it has
    assert record.status is Status.DIVERGED
    assert record.skipped_steps == record.step - 1 == 9
    assert record.losses.test is None


def test_only_the_first_of_several_processes_writes_the_record(tiny, tmp_path, data_dir) -> None:
    from harness.cell.build import Setup, new_record, start_training
    from harness.cell.lock import NO_LOCK
    from harness.data.corpus import open_corpus
    from harness.engine.distributed import World

    config = load(tiny)
    folder, cpu = freeze(config), torch.device("cpu")
    corpus, world = open_corpus(config.data, data_dir), World()
    record = new_record(folder, config, corpus, cpu)
    setup = Setup(folder, config, corpus, record, cpu, world, NO_LOCK)
    for world.rank in (1, 0):
        assert not (folder / "record.json").exists()
        recorder.Recorder(setup, start_training(setup)).update_record()
    assert (folder / "record.json").exists()


def test_a_process_that_lost_its_cell_writes_nothing_more(tiny, monkeypatch) -> None:
    original, seen = recorder.Recorder.step_done, {}

    def robbed(self, *arguments) -> None:
        if self.training.step == 3:  # held up for a minute; another process is at it now
            (folder / LOCK_FILE).write_text('{"host": "elsewhere", "pid": 1, "token": "theirs"}')
            seen.update(contents(folder))
        original(self, *arguments)

    folder = freeze(load(tiny))
    monkeypatch.setattr(recorder.Recorder, "step_done", robbed)
    assert cell.train_cell(folder) == EXIT_BUSY
    assert seen
    assert contents(folder) == seen


SELDOM = {"git_sha", "git_dirty", "git_error", "dirty_patch", "untracked", "code_sha256", "sources",
          "kept_sources", "init_from", "init_sha256", "n_devices", "compile"}  # fmt: skip
"""Of a record's provenance: what a plain cell on one device may leave empty."""


def test_a_record_says_what_ran_in_every_field_of_its_provenance(tiny, data_dir) -> None:
    from harness.data.corpus import open_corpus

    folder, record = run(tiny)
    found = record.provenance
    empty = {f.name for f in dataclasses.fields(Provenance) if not getattr(found, f.name)}
    assert empty <= SELDOM
    assert found.code
    assert found.command == sys.orig_argv
    assert (found.python, found.platform) == (platform.python_version(), platform.platform())
    corpus = open_corpus(load(tiny).data, data_dir)
    assert found.dataset_sha256 == corpus.dataset_sha256
    frozen = (folder / "config.yaml").read_bytes()
    assert found.config_sha256 == hashlib.sha256(frozen).hexdigest()


def rob(folder: Path) -> dict[Path, bytes]:
    """Take a cell from its process, which was held up for a minute; return what lies there."""
    (folder / LOCK_FILE).write_text('{"host": "elsewhere", "pid": 1, "token": "theirs"}')
    return contents(folder)


QUIET = ["log.n_points=1", "eval.n_val=1", "sample.n_times=1"]


@pytest.mark.parametrize(
    ("step", "overrides"),
    [(3, [*QUIET, "checkpoint.every_steps=4"]),
     (3, [*QUIET, "checkpoint.every_steps=0", "checkpoint.n_weights=2"]),
     (3, [*QUIET, "checkpoint.every_steps=0"]),
     (10, [*QUIET, "checkpoint.every_steps=0"])],
    ids=["checkpoint", "weights", "last line", "record"],
)  # fmt: skip
def test_whatever_comes_next_nothing_is_written_over_another_process(
    tiny, monkeypatch, step: int, overrides: list[str]
) -> None:
    original, seen = recorder.Recorder.step_done, {}
    folder = freeze(load([*tiny, *overrides]))

    def robbed(self, *arguments) -> None:
        if self.training.step == step < 10:
            seen.update(rob(folder))
        original(self, *arguments)
        if self.training.step == step == 10:
            seen.update(rob(folder))

    monkeypatch.setattr(recorder.Recorder, "step_done", robbed)
    assert cell.train_cell(folder) == EXIT_BUSY
    assert seen
    assert contents(folder) == seen


@pytest.mark.parametrize("before", [True, False])
def test_a_process_robbed_while_it_tests_writes_neither_losses_nor_record(
    tiny, monkeypatch, before: bool
) -> None:
    original, seen = cell._test, {}
    folder = freeze(load(tiny))

    def robbed(*arguments) -> None:
        if before:
            seen.update(rob(folder))
        original(*arguments)
        if not before:
            seen.update(rob(folder))

    monkeypatch.setattr(cell, "_test", robbed)
    assert cell.train_cell(folder) == EXIT_BUSY
    assert contents(folder) == seen


def test_the_exit_code_of_a_cell_is_zero_for_a_result_alone(tiny, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    diverging = ["optim.lr=1e30", "train.max_skipped_steps=3"]
    assert cell.train_cell(freeze(load([*tiny, *diverging]))) == 0
    monkeypatch.setattr(cell, "train", fail)
    assert cell.train_cell(freeze(load(tiny))) == 1
    assert (
        cell.train_cell(freeze(load([*tiny, "seed=1", "hardware.device=cuda:93"]))) == EXIT_REFUSED
    )
