"""Operations of a step, as PyTorch counts them; and budgets of equal operations."""

import pytest
import torch

from harness.cell.freeze import freeze
from harness.cell.step_timing import count_flops
from harness.config import ConfigError
from harness.config.compose import load
from harness.config.frozen import read_config
from harness.model import build, flops_per_token
from tests.harness.cells import run


@pytest.mark.parametrize("changes", [[], ["model.tie_weights=true"], ["model.block_size=48"]])
def test_a_plain_model_costs_what_the_formula_says(tiny, changes) -> None:
    config = load([*tiny, *changes])
    found = count_flops(config)
    formula = flops_per_token(build(config.model), config.model)
    assert found.per_sequence == formula * config.model.block_size
    assert found.per_step == 0


def test_experts_that_are_not_asked_cost_nothing(tiny) -> None:
    config = load([*tiny, "+intervention=moe"])
    found, all_of_them = count_flops(config), flops_per_token(build(config.model), config.model)
    baseline = count_flops(load(tiny))
    assert baseline.per_sequence < found.per_sequence < 0.7 * all_of_them * config.model.block_size


def test_an_optimiser_that_multiplies_is_charged_for_each_step(tiny) -> None:
    config = load([*tiny, "+intervention=muon"])
    found = count_flops(config)
    assert found.per_sequence == count_flops(load(tiny)).per_sequence
    per_step = found.per_token(config) * config.tokens_per_step
    assert per_step == found.per_sequence * config.train.batch_size + found.per_step
    assert found.per_step > 0


def test_counting_leaves_the_training_as_it_was(tiny) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    count_flops(load([*tiny, "precision.matmul=high", "precision.autocast=bf16"]))
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision(before)


def test_an_arm_of_equal_operations_trains_as_many_tokens_as_they_pay_for(tiny) -> None:
    wider = load([*tiny, "+intervention=moe", "train.equal_flops=true"])
    folder = freeze(wider)
    frozen = read_config(folder / "config.yaml")
    ratio = count_flops(load(tiny)).per_token(wider) / count_flops(wider).per_token(wider)
    assert frozen.train.tokens == round(2560 * ratio) < 2560
    assert frozen.changes["train.tokens"] == [2560, frozen.train.tokens]
    assert freeze(wider) == folder  # asked again, it is the same cell


def test_the_baseline_of_a_study_of_equal_operations_is_the_plain_one(tiny) -> None:
    assert freeze(load([*tiny, "train.equal_flops=true"])) == freeze(load(tiny))


def test_an_arm_that_sets_its_own_tokens_is_refused(tiny) -> None:
    config = load([*tiny, "+intervention=moe", "train.equal_flops=true"])
    config.changes["train.tokens"], config.train.tokens = [2560, 5120], 5120  # as an overlay does
    with pytest.raises(ConfigError, match=r"moe sets train\.tokens=5120, and so does train\.eq"):
        freeze(config)


def test_a_record_has_the_operations_that_were_counted(tiny) -> None:
    config = load([*tiny, "+intervention=moe"])
    _, record = run([*tiny, "+intervention=moe"])
    assert record.cost.flops == pytest.approx(count_flops(config).per_token(config) * 2560)
