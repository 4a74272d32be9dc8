"""Operations of a step, as PyTorch counts them; and budgets of equal operations."""

import pytest
import torch

from harness.cell.freeze import freeze
from harness.cell.speed import flops
from harness.cell.speed.flops import StepFlops, count_flops, model_flops_per_token, step_flops
from harness.config import ConfigError
from harness.config.frozen import read_config
from harness.model import build, flops_per_token
from tests.configs import load
from tests.harness.cells import run


@pytest.mark.parametrize("changes", [[], ["model.tie_weights=true"], ["model.block_size=48"]])
def test_a_plain_model_costs_what_the_formula_says(tiny, changes) -> None:
    config = load([*tiny, *changes])
    found = count_flops(config)
    formula = flops_per_token(build(config.model), config.model)
    assert found.per_sequence == formula * config.model.block_size
    assert found.per_step == 0


@pytest.mark.parametrize(
    "names", ["", "moe", "swiglu", "gqa", "hyper_connections", "doc_mask", "value_embeddings"]
)
def test_a_model_counted_on_short_sequences_costs_what_the_whole_training_does(tiny, names) -> None:
    size = [i for i in tiny if "n_head" not in i and "block_size" not in i]
    config = load([*size, "model.block_size=64", f"+intervention=[{names}]"])
    found = model_flops_per_token(config.model) * config.model.block_size
    assert found == pytest.approx(count_flops(config).per_sequence, rel=1e-6)


def test_experts_that_are_not_asked_cost_nothing(tiny) -> None:
    config = load([*tiny, "+intervention=moe"])
    found, all_of_them = count_flops(config), flops_per_token(build(config.model), config.model)
    baseline = count_flops(load(tiny))
    assert baseline.per_sequence < found.per_sequence < 0.7 * all_of_them * config.model.block_size


def test_an_optimiser_that_multiplies_is_charged_for_each_step(tiny) -> None:
    config = load([*tiny, "+intervention=muon"])
    found = count_flops(config)
    assert found.per_sequence == count_flops(load(tiny)).per_sequence
    blocks = [m for m in build(config.model).blocks.modules() if isinstance(m, torch.nn.Linear)]
    sides = [sorted(m.weight.shape) for m in blocks]
    iterations = sum(5 * (2 * m * m * n + 2 * m**3 + 2 * m * m * n) for m, n in sides)
    assert found.per_step == iterations
    assert found.per_token(config) == (16 * found.per_sequence + iterations) / 256


def test_an_optimiser_whose_first_step_sets_things_up_is_charged_for_the_later_ones(tiny) -> None:
    config = load([*tiny, "+intervention=soap"])
    blocks = [m for m in build(config.model).blocks.modules() if isinstance(m, torch.nn.Linear)]
    sides = [m.weight.shape for m in blocks]
    # gradient, mean and direction are turned from both sides; then the two means of products
    turned = sum(3 * (2 * r * r * c + 2 * r * c * c) for r, c in sides)
    products = sum(2 * r * r * c + 2 * r * c * c for r, c in sides)
    assert count_flops(config).per_step == turned + products


def test_an_arm_is_counted_once_and_a_plain_model_never(tiny, monkeypatch) -> None:
    counted = []
    monkeypatch.setattr(flops, "_COUNTED", {})
    monkeypatch.setattr(
        flops, "count_flops", lambda *given: counted.append(given) or StepFlops(1.0, 0.0)
    )
    plain = step_flops(load([*tiny, "+intervention=weight_tying"]))
    assert plain.per_sequence > 1
    for seed in range(3):
        step_flops(
            load([*tiny, "+intervention=moe", f"seed={seed}", f"train.tokens={2560 + seed}"])
        )
    assert len(counted) == 1
    step_flops(load([*tiny, "+intervention=deep_supervision"]))
    assert len(counted) == 2


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


@pytest.mark.parametrize("arm", [["+intervention=deep_supervision"], ["sweep=[model.n_layer]"]])
def test_events_and_swept_settings_have_their_price_too(tiny, arm: list[str]) -> None:
    config = load(
        [
            *(i for i in tiny if "n_layer" not in i),
            "model.n_layer=3",
            "train.equal_flops=true",
            *arm,
        ]
    )
    freeze(config)
    assert config.train.tokens < 2560


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
