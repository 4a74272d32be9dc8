"""How large an overlay's change is stands in the overlay, at any scale."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import Config, ConfigError
from harness.config.doses import times
from tests.configs import load

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(
    ("scale", "doses"),
    [
        ("demo", [3.5e-3, 3.5e-3, 1.0, 4, 8, 32, 0.01, 0.33724]),
        ("proxy", [3.5e-3, 3.5e-3, 1.0, 8, 32, 128, 0.01, 0.33724]),
        ("gpt2_small", [1.4e-3, 1.4e-3, 3.5, 6, 48, 192, 0.01, 0.33724]),
    ],
)
def test_the_doses_of_the_catalogue(scale: str, doses: list[float], compose_all: Callable) -> None:
    keys = {
        "higher_lr": "optim.lr",
        "scheduled_lr": "optim.lr",
        "gradient_clipping": "optim.grad_clip",
        "batch_size_small": "train.batch_size",
        "batch_size_half": "train.batch_size",
        "batch_size_double": "train.batch_size",
        "weight_decay_gpt2": "optim.weight_decay",
        "weight_decay_cerebras": "optim.weight_decay",
    }
    arms = compose_all(scale, list(keys))
    assert [arms[name].changes[key][1] for name, key in keys.items()] == doses


@pytest.fixture
def own(tmp_path: Path):
    """Return a function that loads an overlay of one's own, which sets this, at one's own scale."""

    def make(sets: str, *overrides: str, scale: str = "optim: {lr: 2e-3}") -> Config:
        for group in ("intervention", "scale"):
            (tmp_path / group).mkdir(exist_ok=True)
        card = "interventions: {mine: {summary: s, source: t}}"
        (tmp_path / "intervention" / "mine.yaml").write_text(
            f"# @package _global_\n{card}\n{sets}\n"
        )
        (tmp_path / "scale" / "small.yaml").write_text(
            f"# @package _global_\nmodel: {{n_layer: 2, n_head: 4, n_embd: 128, block_size: 64}}\n"
            f"train: {{batch_size: 16, tokens: 307_200}}\n{scale}\n"
        )
        search = f"hydra.searchpath=[file://{tmp_path}]"
        return load([search, "scale=small", "+intervention=mine", *overrides])

    return make


def test_a_factor_is_one_of_the_baselines_value_at_any_scale(own) -> None:
    config = own('optim: {lr: "${times:3.5}"}')
    assert config.changes == {"optim.lr": [2e-3, 7e-3]}
    assert config.scale_name == "small"
    sets = 'optim: {lr: "${times:3}", eps: "${times:0.5}"}'
    assert own(sets, scale="optim: {lr: 4e-4}").optim.lr == 1.2e-3
    assert own(sets, "optim.eps=1e-6", "optim.weight_decay=0.3").changes == {
        "optim.lr": [2e-3, 6e-3]
    }


def test_a_factor_of_what_a_stack_changes_is_still_one_of_the_baselines(own) -> None:
    with pytest.raises(ConfigError, match=r"set optim\.lr differently \(0\.004 and 0\.007\)"):
        own('optim: {lr: "${times:2}"}', "+intervention=higher_lr")


def test_a_dose_for_each_scale_is_chosen_by_the_name_of_the_scales_file(own) -> None:
    sets = 'optim: {grad_clip: "${per_scale:{small: 0.5, default: 1.0}}"}'
    assert own(sets).optim.grad_clip == 0.5
    assert own(sets, "scale=demo").optim.grad_clip == 1.0
    nested = 'optim: {lr: "${times:${per_scale:{small: 2, demo: 3}}}"}'
    assert own(nested).optim.lr == 4e-3
    assert own(nested, "scale=demo").optim.lr == 3e-3


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            'optim: {grad_clip: "${per_scale:{demo: 1.0, proxy: 2.0}}"}',
            "optim.grad_clip: no dose for scale=small, only for demo, proxy: add it, or default, "
            "to the overlay's per_scale",
        ),
        (
            'optim: {grad_clip: "${times:2}"}',
            "optim.grad_clip: the baseline has None here, no number to take 2 times",
        ),
        (
            'train: {batch_size: "${times:0.3}"}',
            "train.batch_size: 0.3 times the baseline's 16 is 4.8, no whole number",
        ),
    ],
)
def test_a_dose_that_cannot_be_worked_out_is_one_line(own, sets: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own(sets)
    assert str(caught.value) == said


def test_hydras_own_print_of_a_config_says_where_a_factor_is_worked_out(command) -> None:
    printed = command("harness", "+intervention=higher_lr", "--cfg", "job", "--resolve")
    assert printed.stderr.startswith("error: times is a factor of the baseline's value")
    helped = command("harness", "--help", "+intervention=higher_lr")
    assert "lr: 0.0035" in helped.stdout
    clipped = command(
        "harness",
        "scale=gpt2_small",
        "+intervention=gradient_clipping",
        "--cfg",
        "job",
        "--resolve",
    )
    assert "grad_clip: 3.5" in clipped.stdout


def test_a_product_has_no_digits_that_its_factors_do_not_have() -> None:
    assert 3 * 4e-4 != 1.2e-3
    assert times(4e-4, 3) == 1.2e-3
    assert (times(96, 0.5), times(1e-8, 10), times(0.1, 3.5)) == (48, 1e-7, 0.35)
