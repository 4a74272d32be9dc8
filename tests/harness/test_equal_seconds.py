"""Budgets of equal seconds: what is measured, who shares it, and when it is refused."""

from concurrent.futures import Future

import pytest

from harness.cell import freeze as freezing
from harness.cell.freeze import freeze
from harness.cell.speed import step_timing
from harness.cell.speed.step_timing import relative_seconds, seconds_per_token
from harness.config import ConfigError
from harness.config.frozen import read_config
from tests.configs import load

ARM = ["+intervention=swiglu", "train.equal_seconds=true"]


@pytest.fixture
def timed(monkeypatch) -> list[str]:
    """Return the arms that were timed, each 1.25 times the baseline's seconds."""
    arms: list[str] = []

    def measure(config, baseline) -> float:
        arms.append(f"{config.arm} / {baseline.arm}")
        return 1.25

    monkeypatch.setattr(step_timing, "relative_seconds", measure)
    monkeypatch.setattr(freezing, "_TIMED", {})
    return arms


def test_an_arm_trains_for_the_baselines_seconds_and_its_cells_share_one_timing(
    tiny, timed, monkeypatch
) -> None:
    first = read_config(freeze(load([*tiny, *ARM])) / "config.yaml")
    assert (first.train.tokens, first.train.relative_seconds) == (2048, 1.25)
    assert first.changes["train.tokens"] == [2560, 2048]
    freeze(load([*tiny, *ARM, "seed=1"]))
    monkeypatch.setattr(freezing, "_TIMED", {})  # as in a later process
    later = read_config(freeze(load([*tiny, *ARM, "seed=2"])) / "config.yaml")
    assert later.train.relative_seconds == 1.25
    assert timed == ["swiglu / baseline"]
    freeze(load([*tiny, *ARM, "train.batch_size=8"]))  # another step, another timing
    assert len(timed) == 2


def test_the_cell_is_the_one_that_names_its_tokens(tiny, timed) -> None:
    folder = freeze(load([*tiny, *ARM]))
    assert freeze(load([*tiny, "+intervention=swiglu", "train.tokens=2048"])) == folder
    assert freeze(load([*tiny, *ARM])) == folder
    assert freeze(load([*tiny, "train.equal_seconds=true"])) == freeze(load(tiny))
    assert len(timed) == 1


def test_a_measurement_that_nothing_reads_is_refused(tiny, timed) -> None:
    with pytest.raises(ConfigError, match=r"read with train\.equal_seconds=true alone"):
        freeze(load([*tiny, "+intervention=swiglu", "train.relative_seconds=2"]))


def test_a_measurement_of_ones_own_is_taken(tiny, timed) -> None:
    config = load([*tiny, *ARM, "train.relative_seconds=2"])
    freeze(config)
    assert (config.train.tokens, timed) == (1280, [])


def test_two_budgets_are_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"equal_flops and train\.equal_seconds: leave out"):
        freeze(load([*tiny, *ARM, "train.equal_flops=true"]))


class Pool:
    """In the place of a process: returns the seconds that it was made with, one after another."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.asked = seconds, []

    def __call__(self, *_: object) -> "Pool":
        return self

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, _: object, config) -> Future:
        self.asked.append(config.arm)
        done: Future = Future()
        done.set_result(self.seconds.pop(0))
        return done


def test_baseline_and_arm_are_timed_in_turn_again_while_timings_disagree(tiny, monkeypatch) -> None:
    arm, baseline = load([*tiny, *ARM]), load(tiny)
    drifting = Pool([1.00, 1.51, 1.52, 1.03])
    monkeypatch.setattr(step_timing, "ProcessPoolExecutor", drifting)
    assert relative_seconds(arm, baseline) == 1.49
    assert drifting.asked == ["baseline", "swiglu", "swiglu", "baseline"]
    disturbed = Pool([1.0, 2.0, 3.0, 1.0, 1.0, 2.0, 2.0, 1.0])
    monkeypatch.setattr(step_timing, "ProcessPoolExecutor", disturbed)
    assert relative_seconds(arm, baseline) == 2
    assert len(disturbed.asked) == 8
    monkeypatch.setattr(step_timing, "ProcessPoolExecutor", Pool([1.0, 2.0, 2.2, 1.0] * 3))
    with pytest.raises(ConfigError, match=r"of swiglu or of its baseline are 10% apart"):
        relative_seconds(arm, baseline)


def test_a_token_s_seconds_are_those_of_whole_steps_with_all_their_micro_batches(
    tiny, monkeypatch
) -> None:
    def clock(_, function) -> float:
        function()
        return 1.0

    monkeypatch.setattr(step_timing, "clock", clock)
    config = load([*tiny, "train.batch_size=8", "hardware.micro_batch=1"])
    # a step of two micro-batches takes a second, half of one each of the other six
    assert seconds_per_token(config) == pytest.approx(4 / config.tokens_per_step)
