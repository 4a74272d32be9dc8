import math

import pytest
import torch

from harness.loop import train
from harness.schedule import constant, warmup_cosine


def factors(n_steps: int, **options: float) -> list[float]:
    return [warmup_cosine(step, n_steps, **options) for step in range(n_steps)]


def test_the_warmup_rises_in_equal_steps_to_the_peak() -> None:
    found = factors(200, warmup_frac=0.05, final_frac=0.1)
    assert found[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert max(found) == 1


def test_the_cosine_falls_from_the_peak_to_the_final_fraction_at_the_last_step() -> None:
    found = factors(201, warmup_frac=0.0, final_frac=0.1)
    assert found[0] == 1
    assert found[50] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert found[100] == pytest.approx(0.55)
    assert found[200] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)


def test_the_constant_schedule_is_one_throughout() -> None:
    assert {constant(step, 100) for step in range(100)} == {1.0}


def test_the_published_schedule_reaches_the_optimiser_of_every_step(make_training) -> None:
    training = make_training(["+intervention=scheduled_lr", "train.tokens=10240"])
    told: list[float] = []
    used: list[float] = []

    class Watch:
        def step_done(self, loss: torch.Tensor, grad_norm: torch.Tensor, lr: float) -> None:
            told.append(lr)
            used.append(training.optimizer.param_groups[0]["lr"])

    train(training, Watch())
    assert told == used
    assert told == pytest.approx(
        [3.5e-3 * factor for factor in factors(40, warmup_frac=0.05, final_frac=0.1)]
    )
    assert told[1] == pytest.approx(3.5e-3)
    assert told[-1] == pytest.approx(3.5e-4)
