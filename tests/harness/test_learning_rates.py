"""Every parameter group trains at its own rate, whatever the schedule, through kills and resumes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.cell import train as cell
from harness.cell.build import synthetic_training
from harness.cell.freeze import freeze
from harness.config import ConfigError, OptimConfig
from harness.engine import checkpoint
from harness.loop import Nobody, train, train_step
from harness.optim import adamw, load_state, set_rates, settle_rates
from tests.configs import load
from tests.harness.cells import run_until

OWN_OPTIMIZER = """
import torch

def two_rates(model, config):
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "lr": 100 * config.lr}, {"params": others}]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
"""


@pytest.fixture
def two_rates(tmp_path: Path, monkeypatch) -> list[str]:
    (tmp_path / "own_rates.py").write_text(OWN_OPTIMIZER)
    monkeypatch.syspath_prepend(tmp_path)
    return ["optim.optimizer={_target_: own_rates.two_rates}", "schedule=warmup_cosine"]


def groups(model: nn.Module, *settings: dict) -> torch.optim.Optimizer:
    parts = [{"params": [p], **s} for p, s in zip(model.parameters(), settings, strict=True)]
    return torch.optim.SGD(parts, lr=0.001)


def test_groups_of_rates_a_hundred_times_apart_follow_one_schedule(
    make_training, two_rates
) -> None:
    training = make_training([*two_rates, "optim.lr=1e-3"])
    rates, factors = [], [training.schedule(step, 10) for step in range(10)]

    class Watch:
        def step_done(self, *_: object) -> None:
            rates.append([group["lr"] for group in training.optimizer.param_groups])

    train(training, Watch())
    assert len(set(factors)) > 5
    np.testing.assert_allclose(rates, np.outer(factors, [0.1, 0.001]))


def test_a_group_trains_as_far_as_its_own_rate_takes_it(make_training, two_rates) -> None:
    """Adam's first step is as long as its learning rate, whatever the gradient."""
    training = make_training([*two_rates, "optim.lr=1e-3", "optim.weight_decay=0"])
    before = [p.detach().clone() for p in training.model.parameters()]
    training.config.train.tokens = training.config.tokens_per_step
    train(training, Nobody())
    for old, new in zip(before, training.model.parameters(), strict=True):
        rate = 0.1 if new.ndim == 2 else 0.001
        assert (new - old).abs().max().item() == pytest.approx(rate, rel=0.01)


def test_a_killed_cell_of_two_rates_ends_with_the_weights_of_an_undisturbed_one(
    tiny, tmp_path, monkeypatch, two_rates
) -> None:
    expected = cell.run(freeze(load([*tiny, *two_rates, f"runs_dir={tmp_path / 'undisturbed'}"])))
    folder = freeze(load([*tiny, *two_rates]))
    run_until(5, folder, monkeypatch)
    saved, _ = checkpoint.load_newest(folder)
    assert [group["lr_scale"] for group in saved["optimizer"]["param_groups"]] == [100, 1]
    assert cell.run(folder).fingerprints == expected.fingerprints


def test_steps_are_timed_at_the_rates_they_train_at(tiny, two_rates) -> None:
    config = load([*tiny, *two_rates, "optim.lr=1e-3"])
    training = synthetic_training(config, torch.device("cpu"), 2)
    done = train_step(training, 0)
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert rates == pytest.approx([100 * done.lr, done.lr])
    assert done.loss.isfinite()
    assert done.grad_norm > 0


def test_a_group_says_its_rate_as_a_rate_or_as_a_multiple() -> None:
    optimizer = groups(nn.Linear(2, 2), {"lr": 0.02}, {"lr_scale": 3.0})
    settle_rates(optimizer, 0.001)
    set_rates(optimizer, 0.01)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.03])


def test_a_rate_and_a_multiple_that_disagree_are_refused() -> None:
    settle_rates(groups(nn.Linear(2, 2), {"lr": 0.02, "lr_scale": 20.0}, {}), 0.001)
    disagreeing = groups(nn.Linear(2, 2), {}, {"lr": 0.02, "lr_scale": 3.0})
    with pytest.raises(ConfigError) as caught:
        settle_rates(disagreeing, 0.001)
    assert str(caught.value) == (
        "optim.optimizer: parameter group 1 has lr=0.02 and lr_scale=3, but optim.lr=0.001 times "
        "lr_scale is 0.003: give the group one of the two"
    )


def test_the_baselines_rate_is_the_schedules_to_the_last_bit() -> None:
    optimizer = adamw(nn.Linear(2, 2), OptimConfig(lr=4e-4))
    settle_rates(optimizer, 4e-4)
    for lr in (4e-4, 4e-4 / 3, 0.0):
        set_rates(optimizer, lr)
        assert [group["lr"] for group in optimizer.param_groups] == [lr]


def old_state(optimizer: torch.optim.Optimizer) -> dict:
    """Return a state as it was saved before groups kept their own rates."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group.pop("lr_scale", None)
        group["lr"] = 0.0005
    return state


def test_a_state_saved_before_groups_kept_their_rates_is_resumed() -> None:
    model = nn.Linear(2, 2)
    optimizer = adamw(model, OptimConfig(lr=0.001))
    settle_rates(optimizer, 0.001)
    load_state(optimizer, old_state(adamw(model, OptimConfig(lr=0.001))))
    set_rates(optimizer, 0.01)
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_a_state_that_was_trained_at_wrong_rates_is_not_resumed() -> None:
    optimizer = groups(nn.Linear(2, 2), {"lr": 0.02}, {})
    settle_rates(optimizer, 0.001)
    with pytest.raises(ConfigError, match=r"lr_scale is 20: delete the cell's checkpoints"):
        load_state(optimizer, old_state(optimizer))
