"""The search for the fastest way to run a config, and its bill."""

import re
from dataclasses import replace

import pytest
import torch

from harness.cell.speed.device import peak_above, peak_flops
from harness.cell.speed.step_timing import Trial
from harness.config import Config, StudyConfig
from harness.engine.cards import CALLED, CARDS, card_called
from harness.study.price import bill, cell_seconds, count_cells, growth
from harness.throughput import (
    best_row,
    largest_that_fits,
    main,
    micro_batches,
    precision_name,
    precisions,
    survey,
    told,
)
from tests.configs import load

TINY = ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.block_size=16"]


def trial(speed: float) -> Trial:
    return Trial(
        tokens_per_second=speed,
        eval_tokens_per_second=4 * speed,
        mfu=0.5,
        peak_flops=1e12,
        memory_bytes=10**9,
        first_step_seconds=1.0,
    )


@pytest.mark.parametrize("capacity", range(9))
def test_bisection_finds_the_largest_that_fits_and_asks_seldom(capacity: int) -> None:
    sizes, asked = [1, 2, 3, 4, 6, 8, 12, 24], []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= (0, *sizes)[capacity]

    assert largest_that_fits(sizes, fits) == (None, *sizes)[capacity]
    assert len(asked) == len(set(asked)) <= 4


def test_micro_batches_divide_each_devices_share() -> None:
    config = load(["train.batch_size=24", "hardware.n_devices=2"])
    assert micro_batches(config) == [1, 2, 3, 4, 6, 12]


def measure(config: Config) -> Trial | None:
    """A machine where 8 sequences fit, 4 are fastest, and compilation and bf16 pay."""
    hardware = config.hardware
    if hardware.micro_batch > 8:
        return None
    speed = {1: 10, 2: 20, 4: 45, 8: 40}[hardware.micro_batch]
    bonus = 2 if config.precision.autocast.name == "bf16" else 1
    return trial(speed * bonus * (1.5 if hardware.compile else 1))


def test_a_gpu_is_surveyed_in_all_formats_and_the_configs_own_is_recommended() -> None:
    config = load(["train.batch_size=32", "precision=amp_fp16"])
    rows = list(survey(config, measure, on_gpu=True))
    formats = {(row.config.precision.autocast.name, row.config.hardware.compile) for row in rows}
    assert formats == {(f, c) for f in ("none", "bf16", "fp16") for c in (False, True)}
    best = best_row(config, rows)
    assert best.config.precision == config.precision
    assert (best.config.hardware.micro_batch, best.config.hardware.compile) == (4, True)


def test_the_formats_of_the_survey_are_those_that_a_config_names() -> None:
    assert {"fp32", "tf32", "amp_bf16", "amp_fp16"} <= set(precisions())
    for name, precision in precisions().items():
        assert load([f"precision={name}"]).precision == precision
        assert precision_name(precision) == name


def test_a_cpu_is_surveyed_in_the_configs_own_format_uncompiled() -> None:
    config = load(["train.batch_size=32"])
    rows = list(survey(config, measure, on_gpu=False))
    assert [row.config.hardware.micro_batch for row in rows] == [2, 4, 8]


def test_where_nothing_fits_no_row_is_given() -> None:
    assert list(survey(load(), lambda _: None, on_gpu=False)) == []


@pytest.mark.thorough
def test_the_bill_counts_cells_training_evaluation_and_dollars() -> None:
    config = load(["hardware.usd_per_hour=2", "train.tokens=3600000", "eval.n_val=10"])
    config = replace(config, study=StudyConfig(arms=["baseline", "a", "b"], seeds=4))
    config.study.baseline_seeds = 8
    assert count_cells(config) == 16
    assert count_cells(load()) == 1
    evaluated = (10 * config.eval.val_sequences + config.eval.test_sequences) * 64 / 4000
    assert cell_seconds(config, trial(1000)) == pytest.approx(3600 + evaluated)
    text = bill(config, trial(1000))
    assert (
        f"16 cells x {60 + evaluated / 60:.1f} min = {16 * (1 + evaluated / 3600):.1f} h of one device"
        in text
    )
    assert f"${16 * (1 + evaluated / 3600) * 2:.2f}" in text


def test_cost_grows_with_the_weights_that_are_multiplied() -> None:
    factors = growth(load(["scale=gpt2_small", "data=fineweb"]))
    assert factors["twice the tokens"] == 2
    assert 1.5 < factors["twice the layers"] < 2  # the head stays
    assert 3 < factors["twice the width"] < 4
    assert 1 < factors["twice the context"] < 1.5


def test_a_peak_that_training_exceeds_is_measured_again() -> None:
    def peak_of(*measured: float) -> tuple[float, int]:
        left = list(measured)
        return peak_above(100.0, lambda: left.pop(0)), len(measured) - len(left)

    assert peak_of(150.0, 200.0) == (150.0, 1)
    assert peak_of(72.0, 90.0, 160.0, 170.0) == (160.0, 3)
    assert peak_of(60.0, 80.0, 70.0, 75.0, 500.0) == (100.0, 4)


def test_the_peak_of_a_known_card_is_its_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(["precision=amp_bf16"])
    for name, peak in (("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda"), config, torch.bfloat16, 1e12) == peak
    assert card_called("NVIDIA H100 NVL") is None
    assert set(CALLED.values()) == set(CARDS)


def test_the_search_says_what_it_measures_and_what_came_of_it(capsys) -> None:
    list(survey(load(["train.batch_size=32"]), told(measure), on_gpu=False))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("measuring 1: fp32, micro-batch 4 ... 45 tokens/s, ")
    assert [line.split(" ... ")[1].split(",")[0] for line in lines] == [
        "45 tokens/s", "does not fit", "40 tokens/s", "20 tokens/s",
    ]  # fmt: skip


def test_a_config_that_does_not_fit_this_machine_is_refused(capsys) -> None:
    assert main(["hardware.device=cuda:99"]) == 2
    assert "cuda:99 is not here" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_for_real_and_prints_settings_that_compose(started) -> None:
    done = started("harness.throughput", *TINY, "train.batch_size=2", "hardware=cpu")
    assert done.returncode == 0, done.stderr
    settings = re.findall(r"hardware\.\S+=\S+", done.stdout)
    hardware = load(["train.batch_size=2", *settings[:3]]).hardware
    assert hardware.micro_batch in (1, 2)
    assert hardware.peak_flops > 1e8
    assert "1 cell x" in done.stdout
