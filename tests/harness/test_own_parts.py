"""Parts of one's own in the slots of model, optimiser and schedule, trained."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.records import Status
from tests.harness.cells import lines, run

PARTS = """
import torch
from torch import nn


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(-1, keepdim=True)


class Mean(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.value, self.layer = nn.Linear(config.n_embd, config.n_embd), layer

    def forward(self, x_BTC):
        n = torch.arange(1, x_BTC.shape[1] + 1, device=x_BTC.device)
        return self.value(x_BTC).cumsum(1) / n[:, None]


class Ramp(nn.Module):
    def forward(self, x_BTC, ctx):
        return x_BTC + torch.linspace(0, 1, x_BTC.shape[1])[:, None]


class SignDescent(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad.sign())


def halving(step, n_steps, every):
    return 0.5 ** (step // every)
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_norm_an_attention_and_a_position_of_ones_own_train(tiny, parts) -> None:
    slots = {"norm": "Centred", "attention": "Mean", "position": "Ramp"}
    own = [f"model.{slot}={{_target_: own_parts.{name}}}" for slot, name in slots.items()]
    folder, record = run([*tiny, *own, "checkpoint.n_weights=1"])
    assert record.status is Status.COMPLETE, record.error
    weights = load_file(folder / "weights" / "step_000000010.safetensors")
    assert {name for name in weights if "blocks.0" in name} == {
        f"blocks.0.{part}.{kind}" for part in ("attn.value", "mlp.up", "mlp.down", "mlp.proj")
        for kind in ("weight", "bias") if f"blocks.0.{part}.{kind}" in weights
    }  # fmt: skip
    assert "blocks.0.attn.value.weight" in weights
    assert not [name for name in weights if "norm" in name or "position" in name]
    losses = [row["train_loss"] for row in lines(folder / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_an_optimiser_and_a_schedule_of_ones_own_make_the_steps_that_they_say(tiny, parts) -> None:
    own = [
        "optim.optimizer={_target_: own_parts.SignDescent}",
        *("schedule._target_=own_parts.halving", "+schedule.every=4"),
        *("optim.lr=0.001", "checkpoint.n_weights=10", "log.n_points=10"),
    ]
    folder, record = run([*tiny, *own])
    assert record.status is Status.COMPLETE, record.error
    rates = [row["lr"] for row in lines(folder / "metrics.jsonl")]
    assert rates == pytest.approx([0.001] * 4 + [0.0005] * 4 + [0.00025] * 2)
    saved = [
        load_file(path)["blocks.0.mlp.up.weight"] for path in sorted((folder / "weights").iterdir())
    ]
    moves = [(after - before).abs().max().item() for before, after in pairwise(saved)]
    assert moves == pytest.approx(rates[1:], rel=1e-3)
    assert torch.isfinite(saved[-1]).all()
