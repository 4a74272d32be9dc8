"""Every configuration of the published repository is a command here."""

from functools import cache
from math import isclose

import pytest

from harness.config import Config
from harness.config.compose import resolve
from harness.model import slot_factory
from harness.records.files import flatten, plain
from tests.configs import our_hydra
from tests.harness.published_runs import BASELINE, LOCAL, LOCAL_ROWS, RUNS, PublishedRun

pytestmark = pytest.mark.thorough


@cache
def composed(arm: str, extra: tuple[str, ...]) -> Config:
    """Many published runs differ in their machine or seed alone: one command composes them."""
    overlays = f"+intervention=[{arm.replace('+', ',')}]"
    with our_hydra():
        return resolve(
            (),
            [
                "scale=gpt2_small",
                "data=fineweb_tokens",
                "train.round_up=true",
                overlays,
                *extra,
            ],
        )


def test_there_are_36_of_them() -> None:
    assert len({run.name for run in RUNS}) == len(RUNS) == 36


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_published_run_composes_to_its_values(run: PublishedRun) -> None:
    config = composed(run.arm, run.extra)
    settings = flatten(plain(config))
    found = {key: settings.get(key) for key in BASELINE | run.sets}
    assert found == BASELINE | run.sets
    assert config.n_steps == run.n_steps
    assert (config.arm, config.data.shuffle) == (run.arm, False)


@pytest.mark.parametrize("name", LOCAL_ROWS)
def test_rows_trained_on_another_corpus_are_arms_with_the_baselines_test(name: str) -> None:
    arm, extra, corpus = LOCAL_ROWS[name]
    with our_hydra():
        config = resolve(
            (),
            ["scale=gpt2_small", f"+intervention=[{arm.replace('+', ',')}]", *LOCAL, *extra],
        )
    tests = config.test_data[config.eval.test_set]
    assert (config.arm, config.data.name, config.train.batch_size) == (arm, corpus, 6)
    assert (tests.repo, tests.config) == ("HuggingFaceFW/fineweb", "sample-10BT")
    assert config.data.repo == tests.repo + ("-edu" if "edu" in arm else "")
    assert bool(config.train.init_from) == name.endswith("extended")


def test_the_published_schedule_peaks_at_step_1658_and_ends_at_a_tenth() -> None:
    run = next(run for run in RUNS if run.name.endswith("schedule-learning-rate"))
    config = composed(run.arm, run.extra)
    factor = slot_factory(config.schedule)
    n = config.n_steps
    rates = [config.optim.lr * factor(step, n) for step in range(n)]
    assert rates.index(max(rates)) == 1658
    assert isclose(rates[0], 1.4e-8)
    assert isclose(rates[1658], 1.4e-3)
    assert isclose(rates[-1], 1.4e-4, rel_tol=1e-6)
