"""Every overlay is walked: a new one needs no test of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.cell.recorder import evenly_spaced
from harness.config import recipe
from harness.config.compose import load
from harness.loop import train
from interventions.card import OVERLAYS, read_card, read_cards

NAMES = sorted(path.stem for path in OVERLAYS.glob("*.yaml") if path.stem != "baseline")
NEEDS = {"no_amp": ["precision=amp_bf16"], "gradient_clipping": ["train.batch_size=1"]}
"""Something to switch off, and gradients long enough to be clipped."""


def overrides(name: str) -> list[str]:
    return NEEDS.get(name, [])


class Watch:
    """Keeps the losses of the steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step_done(self, loss: torch.Tensor, grad_norm: torch.Tensor, lr: float) -> None:
        self.losses.append(loss.item())


@pytest.mark.parametrize("name", NAMES)
def test_every_overlay_has_a_card_and_changes_the_config(name: str) -> None:
    card = read_card(OVERLAYS / f"{name}.yaml")
    assert len(card.summary) < 120
    assert (card.published_delta is None) == (card.published_where is None)
    assert load([*overrides(name), f"+intervention={name}"]).changes


@pytest.mark.parametrize("name", NAMES)
def test_every_overlay_is_applied_to_the_baselines_recipe(name: str) -> None:
    arm = [*overrides(name), f"+intervention={name}"]
    base = recipe(load(overrides(name)), "data")
    assert recipe(load(arm), "data") == base
    assert recipe(load([*arm, "train.tokens=614400"]), "data") != base


@pytest.mark.parametrize("name", NAMES)
def test_every_overlay_trains_two_finite_steps_that_differ_from_the_baselines(
    name: str, make_training
) -> None:
    def weights(extra: list[str]) -> torch.Tensor:
        training = make_training([*overrides(name), "train.tokens=1024", *extra])
        watch = Watch()
        train(training, watch)
        assert len(watch.losses) >= 2
        assert all(torch.isfinite(torch.tensor(watch.losses)))
        parameters = dict(training.model.named_parameters())
        return parameters["tok_emb.weight"].detach()

    assert not torch.equal(weights([]), weights([f"+intervention={name}"]))


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
        "batch_size_small": 0.252,
    }


def test_the_catalogue_names_every_intervention_with_its_source() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "interventions"], capture_output=True, text=True, check=True
    )
    assert [line for line in done.stdout.splitlines() if line and line[0] != " "] == NAMES
    assert done.stdout.count("source: ") == len(NAMES)


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
