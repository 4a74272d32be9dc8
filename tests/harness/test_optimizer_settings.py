"""Weight decay, momentum and betas follow schedules, as the learning rate does."""

import pytest
import torch

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import ConfigError, scientific, stack_of
from harness.loop import Nobody, train
from tests.configs import load
from tests.harness.cells import run, run_until

COSINE = "{_target_:harness.schedule.warmup_cosine,warmup_frac:0.5,final_frac:0.0}"
SCHEDULES = [f"+optim.schedules={{weight_decay:{COSINE},momentum:{COSINE},beta2:{COSINE}}}"]


def settings_of_every_step(training) -> list[dict]:
    seen: list[dict] = []

    class Watch(Nobody):
        def step_done(self, *_: object) -> None:
            seen.append(dict(training.optimizer.param_groups[0]))

    train(training, Watch())
    return seen


def test_settings_follow_their_schedules_as_the_rate_follows_its_own(make_training) -> None:
    training = make_training([*SCHEDULES, "schedule=warmup_cosine", "schedule.warmup_frac=0.5",
                              "schedule.final_frac=0.0", "optim.lr=1e-3"])  # fmt: skip
    for group in settings_of_every_step(training):
        factor = group["lr"] / 1e-3
        assert group["weight_decay"] == pytest.approx(0.1 * factor)
        assert group["betas"] == pytest.approx((0.9 * factor, 0.999 * factor))


def test_a_scheduled_weight_decay_shrinks_the_weights_by_what_it_says(make_training) -> None:
    """With zero gradients AdamW only decays: the product of 1 - lr x decay, over all steps."""
    training = make_training([SCHEDULES[0], "optim.lr=0.1", "optim.weight_decay=0.5"])
    training.events.gradients_ready = lambda model, step: [
        p.grad.zero_() for p in model.parameters()
    ]
    before = training.model.head.weight.detach().clone()
    expected = 1.0
    for group in settings_of_every_step(training):
        expected *= 1 - 0.1 * group["weight_decay"]
    torch.testing.assert_close(training.model.head.weight.detach(), expected * before)
    assert expected < 0.9


def test_a_killed_cell_goes_on_with_its_schedules(tiny, tmp_path, monkeypatch) -> None:
    _, expected = run([*tiny, *SCHEDULES, f"runs_dir={tmp_path / 'undisturbed'}"])
    folder = freeze(load([*tiny, *SCHEDULES]))
    run_until(5, folder, monkeypatch)
    assert cell.run(folder).fingerprints == expected.fingerprints
    assert run(tiny)[1].fingerprints.final_weights != expected.fingerprints.final_weights


@pytest.mark.parametrize("name", ["lr", "typo"])
def test_a_schedule_of_what_no_group_has_is_refused(make_training, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_training([f"+optim.schedules={{{name}:{COSINE}}}"])
    assert str(caught.value) == (
        f"optim.schedules.{name}: AdamW can schedule: beta2, eps, momentum, weight_decay"
    )


def test_plain_optimisers_of_pytorch_get_what_they_name(make_training) -> None:
    slot = ["optim.optimizer._target_=torch.optim.NAdam", "+optim.optimizer.eps=1e-6"]
    training = make_training([*slot, "optim.betas=[0.8,0.9]", "optim.lr=0.01"])
    (group,) = training.optimizer.param_groups
    assert {key: group[key] for key in ("lr", "betas", "eps", "weight_decay", "lr_scale")} == {
        "lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1, "lr_scale": 1.0,
    }  # fmt: skip
    train(training, Nobody())


def test_an_arm_without_its_schedules_is_the_baseline_again() -> None:
    plain, arm = load(), load(SCHEDULES)
    arm.changes = {
        f"optim.schedules.{name}.{key}": [None, value]
        for name, slot in arm.optim.schedules.items()
        for key, value in slot.items()
    }
    undone = stack_of(arm, ())
    assert undone.optim == plain.optim
    assert scientific(undone, "data") == scientific(plain, "data") != scientific(arm, "data")
