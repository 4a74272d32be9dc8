"""What interventions report along training, and what they add to the loss."""

import json
import math

import pytest
import torch

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import ConfigError
from harness.loop import micro_loss
from harness.model import cross_entropy
from tests.configs import load
from tests.harness.cells import run_until

IDEA = """\
from harness.model import MLP, cross_entropy


class Loud(MLP):
    def forward(self, x_BTC, ctx):
        ctx.aux_losses.append(0.5 * x_BTC.square().mean())
        return super().forward(x_BTC)


def early(loss, logits_BTV, y_BT, model, ctx):
    return loss + cross_entropy(model.head(ctx.states_BTC[0]), y_BT)


def figures(model):
    return {"{{evil}} </script>": float("nan"), "bias": model.blocks[0].mlp.up.bias.sum()}


def words(model):
    return {"a": "b"}


class Counted:
    n = 0

    def step_done(self, model, step):
        self.n += 1

    def metrics(self, model):
        return {"n": self.n}

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]
"""


@pytest.fixture
def idea(own_idea):
    """Return a function from a card's lines and an overlay's rest to the overrides of its arm."""
    folder, overrides = own_idea
    (folder / "own_idea.py").write_text(IDEA)

    def make(card: str, rest: str = "{}") -> list[str]:
        (folder / "conf" / "intervention" / "own.yaml").write_text(
            "# @package _global_\n"
            f"interventions: {{own: {{summary: s, source: t, {card}}}}}\n"
            f"model: {rest}\n"
        )
        return overrides

    return make


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_figures_are_logged_under_the_intervention_s_name_and_nan_is_null(idea, tiny) -> None:
    overrides = idea("event: metrics, fn: {_target_: own_idea.figures, _partial_: true}")
    folder = freeze(load([*tiny, *overrides]))
    cell.run(folder)
    for row in rows(folder):
        assert row["own/{{evil}} </script>"] is None
        assert math.isfinite(row["own/bias"])


def test_without_figures_nothing_is_added_to_the_lines(tiny) -> None:
    folder = freeze(load(tiny))
    cell.run(folder)
    assert set(rows(folder)[-1]) == {
        "step", "tokens", "train_loss", "val_loss", "lr", "grad_norm", "skipped_steps",
        "train_seconds", "tokens_per_second",
    }  # fmt: skip


def test_figures_that_are_no_numbers_are_refused_by_name(idea, make_training) -> None:
    training = make_training(
        idea("event: metrics, fn: {_target_: own_idea.words, _partial_: true}")
    )
    with pytest.raises(ConfigError, match=r"own\.fn returned .*a.*names being text and figures"):
        training.events.metrics(training.model)


def test_an_object_s_figures_go_on_where_a_killed_cell_stopped(idea, tiny, monkeypatch) -> None:
    overrides = idea("fn: {_target_: own_idea.Counted}")
    folder = freeze(load([*tiny, *overrides]))
    run_until(7, folder, monkeypatch)
    cell.run(folder)
    assert [row["own/n"] for row in rows(folder)] == [2, 4, 5, 6, 8, 10]


LOUD = ("claim: c", "{dropout: 0.0, mlp: {_target_: own_idea.Loud}}")
EARLY = ("event: loss, fn: {_target_: own_idea.early, _partial_: true}", "{dropout: 0.0}")


def test_auxiliary_losses_are_differentiated_but_not_in_the_training_loss(
    idea, make_training
) -> None:
    training = make_training(idea(*LOUD))
    inputs = []
    for block in training.model.blocks:
        block.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    x_BT, y_BT = (part.long() for part in training.batches(0))
    training.model.train()
    found = micro_loss(training, x_BT, y_BT)
    torch.testing.assert_close(found.language, training.model.eval()(x_BT, y_BT))
    added = sum(0.5 * x.square().mean() for x in inputs[: len(training.model.blocks)])
    torch.testing.assert_close(found.objective, found.language + added)
    assert training.model.aux_losses == []  # the graph is let go


def test_a_loss_that_names_ctx_gets_the_hidden_states(idea, make_training) -> None:
    training = make_training([*idea(*EARLY), "model.n_layer=2"])
    states = []
    for block in training.model.blocks:
        block.register_forward_hook(lambda *args: states.append(args[-1]))
    x_BT, y_BT = (part.long() for part in training.batches(0))
    training.model.train()
    found = micro_loss(training, x_BT, y_BT)
    kept = training.model.ctx.states_BTC
    assert [torch.equal(a, b) for a, b in zip(kept, states, strict=False)] == [True, True]
    torch.testing.assert_close(training.model.head(kept[-1]), training.model.eval()(x_BT))
    early = cross_entropy(training.model.head(kept[0]), y_BT)
    torch.testing.assert_close(found.objective, found.language + early)


def test_what_is_added_to_the_loss_is_logged_apart(idea, tiny) -> None:
    folder = freeze(load([*tiny, *idea(*LOUD)]))
    record = cell.run(folder)
    found = rows(folder)
    assert all(row["extra_loss"] > 0 for row in found)
    last = found[-1]
    assert record.losses.train == last["train_loss"]
    assert abs(last["train_loss"] - last["val_loss"]) < 0.5  # both without it


def test_the_share_of_clipped_steps_is_logged_where_something_is_clipped(tiny) -> None:
    for clip, share in ((1e-9, 1.0), (1e9, 0.0)):
        folder = freeze(load([*tiny, f"optim.grad_clip={clip}"]))
        cell.run(folder)
        assert [row["clipped_frac"] for row in rows(folder)] == [share] * len(rows(folder))


def test_a_model_that_keeps_no_context_is_named(idea, make_training) -> None:
    training = make_training(idea(*EARLY))
    training.model.keeps_ctx = False
    x_BT, y_BT = (part.long() for part in training.batches(0))
    with pytest.raises(ConfigError, match="asks for ctx, which GPT does not keep"):
        micro_loss(training, x_BT, y_BT)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's
@pytest.mark.parametrize("card", [LOUD, EARLY], ids=["auxiliary", "states"])
def test_a_compiled_model_gives_the_same_losses_and_gradients(card, idea, make_training) -> None:
    training = make_training(idea(*card))
    x_BT, y_BT = (part.long() for part in training.batches(0))
    training.model.train()
    found = []
    for forward in (
        training.model,
        torch.compile(training.model, backend="aot_eager", fullgraph=True),
    ):
        training.forward = forward
        loss = micro_loss(training, x_BT, y_BT)
        gradients = torch.autograd.grad(loss.objective, list(training.model.parameters()))
        found.append((loss.language, loss.objective, *gradients))
    torch.testing.assert_close(found[0], found[1])
