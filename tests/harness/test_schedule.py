import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from harness.loop import train
from harness.schedule import constant, draw, interpolate, main, warmup_cosine, warmup_stable_decay


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


def test_the_published_form_is_that_of_pytorchs_schedulers() -> None:
    n_steps, warmup = 1999, 99
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.4e-3)
    rise = LinearLR(optimizer, start_factor=1e-5, total_iters=warmup)
    fall = CosineAnnealingLR(optimizer, T_max=n_steps - warmup, eta_min=1.4e-4)
    schedule = SequentialLR(optimizer, [rise, fall], milestones=[warmup])
    theirs = []
    for _ in range(n_steps):
        theirs.append(optimizer.param_groups[0]["lr"] / 1.4e-3)
        optimizer.step()
        schedule.step()
    assert factors(n_steps, warmup_frac=0.05, final_frac=0.1, start_frac=1e-5) == pytest.approx(
        theirs, rel=1e-9
    )


def test_the_published_run_is_at_its_peak_at_step_1658() -> None:
    found = [warmup_cosine(step, 33_165, start_frac=1e-5) for step in (0, 1658, 33_164)]
    assert found == pytest.approx([1e-5, 1, 0.1], abs=1e-7)


def test_a_power_bends_the_fall_and_leaves_the_rest() -> None:
    straight, bent = (
        [warmup_stable_decay(step, 100, decay_frac=0.5, power=power) for step in range(100)]
        for power in (1.0, 1.2)
    )
    assert bent[:50] == straight[:50]
    assert bent[50:] == pytest.approx([factor**1.2 for factor in straight[50:]])


@pytest.mark.parametrize("points", [[(0, 1), (1, 0)], [(0.1, 0.85), (0.4, 1.0), (0.9, 0.2)]])
def test_points_are_joined_by_straight_lines(points: list[tuple[float, float]]) -> None:
    found = [interpolate(step, 200, points=points) for step in range(200)]
    np.testing.assert_allclose(found, np.interp(np.arange(200) / 200, *zip(*points, strict=True)))


def test_a_drawing_is_as_high_as_the_factor() -> None:
    title, *rows, axis = draw("rate", [step / 100 for step in range(101)]).splitlines()
    assert title == "rate: 0 at step 0, 1 at step 100, 1 at step 100"
    heights = np.array([[c != " " for c in row[3:].ljust(len(axis) - 3)] for row in rows]).sum(0)
    assert heights.tolist() == sorted(heights.tolist())
    assert (heights[1], heights[36], heights[-1]) == (1, 5, 8)


def test_schedules_are_drawn_of_any_config_before_it_trains(capsys) -> None:
    linear = "{_target_:harness.schedule.interpolate,points:[[0,1],[1,0]]}"
    assert main(["+intervention=wsd", f"+optim.schedules={{weight_decay:{linear}}}"]) == 0
    text = capsys.readouterr().out
    assert "optim.lr: 6.667e-05 at step 0, 0.001 at step 14, 1.667e-05 at step 299" in text
    assert "factor on the optimiser's weight_decay: 1 at step 0" in text
    assert main(["+intervention=typo"]) == 2
    assert "typo" in capsys.readouterr().err
    for wrong, words in (
        ("schedule._target_=nowhere.schedule", "error: Error loading 'nowhere.schedule'"),
        ("optim.lrr=1", "allowed in optim: optimizer, lr"),
        ("seed=x", "seed=x: a seed is one whole number"),
    ):
        assert main([wrong]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
