"""The loop: micro-batches, number formats, clipping, steps that are not finite."""

from contextlib import nullcontext

import pytest
import torch

from harness.loop import Diverged, Nobody, accumulate_gradients, train
from harness.records import Status
from tests.harness.cells import run


def test_a_step_with_a_gradient_that_is_not_finite_is_left_out_and_counted(make_training) -> None:
    training = make_training(["data.shuffle=false"])
    before = {n: p.clone() for n, p in training.model.named_parameters()}

    def poison(model: torch.nn.Module, step: int) -> None:
        if step == 0:
            next(model.parameters()).grad[0, 0] = float("nan")

    training.events.gradients_ready = poison
    seen = []

    class Observer:
        def step_done(self, loss: torch.Tensor, grad_norm: torch.Tensor, lr: float) -> None:
            after = dict(training.model.named_parameters())
            seen.append(all(torch.equal(after[n], before[n]) for n in before))

    train(training, Observer())
    assert seen[0]
    assert not any(seen[1:])
    assert (training.skipped_steps, training.skipped_in_a_row) == (1, 0)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "amp_fp16", "amp_bf16"])
def test_every_precision_trains_and_stays_near_float32(tiny, precision: str) -> None:
    _, record = run([*tiny, f"precision={precision}"])
    _, reference = run([*tiny, "precision=fp32"])
    assert record.status is Status.COMPLETE
    assert record.losses.test == pytest.approx(reference.losses.test, abs=0.02)


def test_accumulation_does_not_change_the_training(tiny) -> None:
    _, whole = run([*tiny, "model.dropout=0"])
    _, parts = run([*tiny, "model.dropout=0", "hardware.micro_batch=1", "study_name=parts"])
    assert whole.cell == parts.cell
    assert parts.losses.test == pytest.approx(whole.losses.test, abs=1e-5)


def test_accumulated_gradients_are_the_mean_over_the_whole_batch(make_training) -> None:
    """Two trainings that agree do not show it: Adam's steps hardly depend on the gradients' scale."""

    def gradients(micro_batch: int) -> list[torch.Tensor]:
        training = make_training(["model.dropout=0", f"hardware.micro_batch={micro_batch}"])
        assert training.micro_batch == micro_batch
        loss = accumulate_gradients(training, 0)
        return [loss, *(parameter.grad for parameter in training.model.parameters())]

    whole = gradients(16)
    for micro_batch in (4, 1):
        torch.testing.assert_close(gradients(micro_batch), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("at_most", "expected"), [(None, 12), (5, 4), (7, 6), (1, 1), (100, 12)])
def test_the_micro_batch_is_the_largest_divisor_that_fits(at_most, expected: int) -> None:
    from harness.loop import largest_micro_batch

    assert largest_micro_batch(12, at_most) == expected


def test_clipping_bounds_the_norm_of_all_gradients(make_training) -> None:
    training = make_training(["optim.grad_clip=0.01"])
    norms = []
    step = training.precision.step

    def spy(optimizer: torch.optim.Optimizer, grad_norm: torch.Tensor) -> bool:
        grads = [p.grad for p in training.model.parameters()]
        norms.append((grad_norm.item(), torch.nn.utils.get_total_norm(grads).item()))
        return step(optimizer, grad_norm)

    training.precision.step = spy
    train(training, type("Nobody", (), {"step_done": lambda *_: None})())
    assert all(before > 0.01 for before, _ in norms)
    assert all(after == pytest.approx(0.01, rel=1e-3) for _, after in norms)


def test_diverged_is_raised_only_after_enough_steps(make_training) -> None:
    training = make_training(["optim.lr=1e30", "train.max_skipped_steps=4"])
    with pytest.raises(Diverged):
        train(training, type("Nobody", (), {"step_done": lambda *_: None})())
    assert training.skipped_in_a_row == 4


def test_deterministic_mode_asks_torch_for_it_and_changes_no_bit_on_a_cpu(tiny) -> None:
    _, plain = run(tiny)
    try:
        _, strict = run([*tiny, "hardware.deterministic=true", "study_name=strict"])
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert strict.status is Status.COMPLETE
    assert strict.fingerprints == plain.fingerprints


@pytest.mark.parametrize(("lost", "diverges"), [(10, True), (2, True), (1, False)])
def test_a_tenth_at_the_end_without_a_finite_step_is_a_divergence(
    make_training, lost: int, diverges: bool
) -> None:
    """The weights are sound, and so is the test loss; but nothing was learnt any more."""
    training = make_training([])

    def poison(model: torch.nn.Module, step: int) -> None:
        if step >= 10 - lost:
            next(model.parameters()).grad[0, 0] = float("nan")

    training.events.gradients_ready = poison
    with pytest.raises(Diverged, match="up to step 10 of 10") if diverges else nullcontext():
        train(training, Nobody())
    assert training.skipped_in_a_row == lost


def test_the_loss_scale_is_part_of_a_saved_state(make_training) -> None:
    first, second = (make_training(["precision=amp_fp16", f"seed={seed}"]) for seed in (0, 1))
    first.precision.scaler.scale(torch.ones(()))  # made by its first use
    first.precision.scaler.update(1024.0)
    assert second.precision.scaler.get_scale() != 1024
    second.load_state_dict(first.state_dict())
    assert second.precision.scaler.get_scale() == 1024
