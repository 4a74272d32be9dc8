"""Every overlay is walked: a new one needs no test of its own."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import is_tensor
from torch.utils._pytree import tree_leaves

from harness.cell.recorder import evenly_spaced
from harness.config import recipe
from harness.loop import Training, train_step
from interventions.card import OVERLAYS, read_card, read_cards
from tests.interventions.arms import (
    NAMES,
    NEEDS,
    TWIN,
    composed,
    evaluated,
    keeps_state,
    same,
    started,
    steps,
    take,
    trained,
)  # fmt: skip

pytestmark = pytest.mark.thorough

EACH = pytest.mark.parametrize("name", NAMES, scope="module")
"""An overlay's tests run one after the other, so that it is composed and trained once."""


@EACH
def test_every_overlay_has_a_card_and_changes_the_config(name: str) -> None:
    card = read_card(OVERLAYS / f"{name}.yaml")
    assert len(card.summary) < 120
    assert (card.published_delta is None) == (card.published_where is None)
    assert f"+intervention={name}\n" in (OVERLAYS / f"{name}.yaml").read_text()
    config = composed((name,), NEEDS.get(name, ()))
    assert any((config.changes, config.interventions[name].fn, card.control))


@EACH
def test_every_overlay_is_applied_to_the_baselines_recipe(name: str) -> None:
    needs = NEEDS.get(name, ())
    arm, base = composed((name,), needs), recipe(composed(("baseline",), needs), "data")
    assert recipe(arm, "data") == base
    longer = replace(arm, train=replace(arm.train, tokens=2 * arm.train.tokens))
    assert recipe(longer, "data") != base


@EACH
def test_every_overlay_trains_finite_steps_that_differ_from_the_baselines(name: str) -> None:
    needs = NEEDS.get(name, ())
    weights, baselines = trained((name,), needs), trained((), needs)
    assert torch.equal(weights["tok_emb.weight"], baselines["tok_emb.weight"]) == (name == TWIN)
    assert all(weight.isfinite().all() for weight in weights.values())


@EACH
def test_every_optimiser_and_event_goes_on_from_a_saved_state_to_the_bit(name: str) -> None:
    if not keeps_state(name):
        return
    config, file = composed((name,)), io.BytesIO()
    before, after = started(config), started(config)
    take(before, steps(config)[:-1])
    torch.save(before.state_dict(), file)
    file.seek(0)
    after.load_state_dict(torch.load(file, weights_only=True))
    take(after, steps(config)[-1:])
    assert same(evaluated(after), trained((name,)))


def all_tensors(training: Training) -> list[torch.Tensor]:
    """Return what a step may change: the weights, and what the optimiser holds."""
    state = training.state_dict()
    return [leaf for leaf in tree_leaves([state["model"], state["optimizer"]]) if is_tensor(leaf)]


@EACH
def test_a_step_left_out_moves_neither_weights_nor_optimiser(name: str) -> None:
    config = composed((name,), NEEDS.get(name, ()))
    if not any(key.startswith("optim.optimizer") for key in config.changes):
        return
    training = started(config)
    take(training, (0, 1))
    before = [tensor.clone() for tensor in all_tensors(training)]

    def poison(model: torch.nn.Module, step: int) -> None:
        for parameter in model.parameters():
            parameter.grad[..., 0] = float("nan")

    training.events.gradients_ready = poison
    train_step(training, 2)
    assert training.skipped_steps == 1
    assert all(map(torch.equal, before, all_tensors(training)))


@pytest.mark.parametrize("others", [(), ("wd_groups",)], ids="+".join)
def test_late_untying_trains_as_tied_weights_do_until_then(others: tuple[str, ...]) -> None:
    arms = (("untie_late", *others), ("weight_tying", *others))
    late, tied = (started(composed(names)) for names in arms)
    for training in (late, tied):
        take(training, (0, 10, 26))
    assert torch.equal(late.model.tok_emb.weight, tied.model.tok_emb.weight)
    assert torch.equal(late.model.head.weight, tied.model.head.weight)
    take(late, (27,))
    assert not torch.equal(late.model.tok_emb.weight, late.model.head.weight)


def test_the_published_table_is_in_the_cards() -> None:
    published = {card.name: card.published_delta for card in read_cards() if card.published_delta}
    assert published == {
        "weight_tying": 0.182,
        "weight_decay_cerebras": 0.122,
        "no_amp": -0.013,
        "gradient_clipping": -0.014,
        "qkv_bias": -0.023,
        "weight_decay_gpt2": -0.049,
        "no_dropout": -0.051,
        "scheduled_lr": -0.090,
        "scheduled_lr_exact": -0.090,
        "batch_size_small": 0.252,
    }


def test_the_catalogue_names_every_intervention_with_its_source() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "interventions"], capture_output=True, text=True, check=True
    )
    assert [line for line in done.stdout.splitlines() if line and line[0] != " "] == NAMES
    assert done.stdout.count("\n  source: ") == len(NAMES)


@pytest.mark.parametrize("folder", [OVERLAYS, OVERLAYS.parent], ids=["overlays", "search path"])
def test_a_folder_of_ones_own_is_named_as_overlays_or_as_hydra_searches_it(folder: Path) -> None:
    command = [sys.executable, "-m", "interventions"]
    named = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    ours = subprocess.run(command, capture_output=True, text=True, check=True)
    assert named.stdout == ours.stdout


def test_a_card_shows_the_function_that_it_adds_and_the_settings_that_it_turns(tmp_path) -> None:
    fn = "{_target_: my_ideas.smooth, _partial_: true, eps: 0.1}"
    (tmp_path / "smooth.yaml").write_text(
        f"interventions: {{smooth: {{summary: s, source: t, event: loss, fn: {fn}}}}}\n"
        "optim: {grad_clip: 1.0}\n"
    )
    (card,) = read_cards(tmp_path)
    assert card.sets == {
        "event": "loss",
        "fn": {"_target_": "my_ideas.smooth", "_partial_": True, "eps": 0.1},
        "optim": {"grad_clip": 1.0},
    }


def test_an_overlay_without_a_card_is_named(tmp_path) -> None:
    (tmp_path / "bare.yaml").write_text("model: {n_embd: 64}\n")
    with pytest.raises(
        ValueError, match=r"bare\.yaml: interventions\.bare lacks summary and source"
    ):
        read_cards(tmp_path)


@pytest.mark.parametrize(
    ("n_times", "n_steps", "expected"), [(5, 10, {2, 4, 6, 8, 10}), (3, 2, {1, 2}), (2, 1, {1})]
)
def test_steps_are_evenly_spaced_and_end_with_the_last(n_times, n_steps, expected) -> None:
    assert evenly_spaced(n_times, n_steps) == expected
