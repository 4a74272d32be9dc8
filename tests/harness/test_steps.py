"""What each step reads, where batch, length, order or packing are not the baseline's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from harness.cell import train as cell
from harness.cell.build import build_batches
from harness.cell.freeze import freeze
from harness.config import ConfigError
from harness.config.steps import Plan, Steps
from harness.engine.batches import Batches
from harness.loop import accumulate_gradients, share_of_batch
from tests.configs import load
from tests.harness.cells import lines, run, run_until

BATCH = "train.batch_stages=[[0,0.25],[0.3,0.5],[0.6,1]]"
LENGTH = "train.length_stages=[[0,0.25],[0.5,1]]"
ALIGNED = "+intervention=bos_align"
PACKED = "+intervention=best_fit"
WAYS = [BATCH, LENGTH, ALIGNED, PACKED, "+intervention=token_dropout"]


def planned(tokens: int, **changes: object) -> Steps:
    usual = {"round_up": False, "batch_stages": [], "length_stages": []}
    return Plan(tokens=tokens, block_size=10, batch_size=8, **{**usual, **changes}).steps()


def test_tokens_are_rounded_down_or_up_to_whole_batches() -> None:
    assert [planned(tokens).n_steps for tokens in (800, 801, 879, 880)] == [10, 10, 10, 11]
    up = [planned(tokens, round_up=True).n_steps for tokens in (800, 801, 880, 881)]
    assert up == [10, 11, 11, 12]


def test_stages_change_at_fractions_of_the_tokens_and_read_every_sequence_once() -> None:
    steps = planned(1600, batch_stages=[[0, 0.25], [0.1, 0.5], [0.5, 1]])
    sizes = [steps.n_before(i + 1) - steps.n_before(i) for i in range(steps.n_steps)]
    assert sizes == [2] * 8 + [4] * 16 + [8] * 10
    assert steps.n_before(steps.n_steps) * 10 == 1600
    batches = Batches(np.arange(3000, dtype=np.uint16), 10, steps, seed=None)
    read = np.concatenate([batches.indices(step) for step in range(steps.n_steps)])
    assert read.tolist() == list(range(160))


def test_shorter_sequences_are_the_same_tokens_cut() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    cut = Batches(tokens, 10, planned(800, length_stages=[[0, 0.2], [0.3, 0.5], [0.5, 1]]), seed=3)
    whole = Batches(tokens, 10, 8, seed=3)
    for step, length in ((0, 2), (2, 2), (3, 5), (4, 5), (5, 10), (9, 10)):
        for ours, theirs in zip(cut(step), whole(step), strict=True):
            assert ours.shape == (80 // length, length)
            assert torch.equal(ours.flatten(), theirs.flatten())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.batch_stages=[[0,0.3]]", ["train.batch_stages", "0.3 of 16", "whole number"]),
        ("train.length_stages=[[0,0.1875]]", ["0.1875 of 64 does not divide it"]),
        ("train.batch_stages=[[0.1,0.5]]", ["the first at 0"]),
        ("train.batch_stages=[[0,0.5],[1,1]]", ["[0, 1)"]),
        ("train.batch_stages=[0.5]", ["pairs of numbers"]),
    ],
)
def test_stages_that_mean_nothing_are_refused(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override])
    assert all(word in str(caught.value) for word in words)


def test_every_size_of_batch_must_be_shared_out_over_the_devices() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size=4 .*n_devices=8"):
        load([BATCH, "hardware.n_devices=8"])


@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_cell_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch, way: str) -> None:
    _, expected = run([*tiny, way, f"runs_dir={tmp_path / 'undisturbed'}"])
    folder = freeze(load([*tiny, way]))
    run_until(5, folder, monkeypatch)
    record = cell.run(folder)
    assert (record.fingerprints, record.losses) == (expected.fingerprints, expected.losses)
    last = lines(folder / "metrics.jsonl")[-1]
    assert last["step"] == record.n_steps
    assert last["tokens"] == record.tokens == record.n_tokens <= 2560


@pytest.mark.parametrize("way", WAYS)
def test_micro_batches_and_processes_change_no_gradient(make_training: Callable, way: str) -> None:
    def gradients(micro_batch: int, n_processes: int) -> list[torch.Tensor]:
        t = make_training(["model.dropout=0", way])
        t.micro_batch = micro_batch
        t.world.average_gradients = lambda model: None
        t.world.size = n_processes
        for t.world.rank in range(n_processes):
            accumulate_gradients(t, 1)
        return [parameter.grad / n_processes for parameter in t.model.parameters()]

    whole = gradients(16, 1)
    for split in ((2, 1), (2, 2), (1, 4)):
        torch.testing.assert_close(gradients(*split), whole, rtol=1e-4, atol=1e-6)


def test_a_batch_event_sees_the_whole_batch_and_its_draws_follow_from_seed_and_step(
    make_training: Callable,
) -> None:
    def read(micro_batch: int, step: int, seed: int = 0) -> torch.Tensor:
        arguments = ["+intervention=token_dropout", f"hardware.micro_batch={micro_batch}"]
        t = make_training([*arguments, "data.shuffle=false", f"seeds.data={seed}"])
        x_BT, y_BT = (torch.cat(parts) for parts in zip(*share_of_batch(t, step), strict=True))
        plain_BT, targets_BT = t.batches(step)
        assert torch.equal(y_BT, targets_BT)
        assert 0.03 < (x_BT != plain_BT).float().mean() < 0.2
        return x_BT

    assert torch.equal(read(16, 1), read(2, 1))
    assert not torch.equal(read(16, 1), read(16, 1, seed=1))


def test_a_batch_event_that_returns_something_else_is_named(make_training: Callable) -> None:
    t = make_training(["+intervention=token_dropout"])
    (hook,) = next(hooks for event, hooks in t.events._by_event.items() if event.name == "batch")
    object.__setattr__(hook, "function", lambda x_BT, y_BT, step: (x_BT[:1], y_BT))
    with pytest.raises(ConfigError, match=r"token_dropout\.fn: .*returns x_BT and y_BT as it got"):
        accumulate_gradients(t, 0)


def test_a_pipeline_without_a_sequence_is_refused() -> None:
    tokens, starts = np.arange(50, dtype=np.uint16), np.array([0, 40])
    with pytest.raises(ConfigError, match=r"BosAligned makes no sequence of model\.block_size=64"):
        build_batches(load([ALIGNED]), tokens, starts)
