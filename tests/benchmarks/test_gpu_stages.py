"""The stages that a GPU is rented for, tried without one: no minute of it may go to a typing error."""

import json

import pytest

from benchmarks.gpu import arms, check, floors, packing, profile, speed
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import Bench
from harness.cell.speed.step_timing import Trial
from tests.configs import load

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore"),  # of libraries that are measured beside
]
TRIAL = Trial(
    tokens_per_second=1000.0, eval_tokens_per_second=4000.0, mfu=0.5, peak_flops=1e12,
    memory_bytes=2 * 10**9, first_step_seconds=1.0,
)  # fmt: skip


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(device="cpu", out=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["speed", "arms", "packing", "study"])
def test_a_stage_runs_to_its_end_and_writes_its_part_of_the_page(stage, tmp_path) -> None:
    words = ["--device", "cpu", "--minutes", "0.01", "--out", str(tmp_path), "--stage", stage]
    assert main(words) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# On a GPU\n")
    assert f"## {stage}\n" in page
    assert "no GPU: a trial run" in page


def test_without_a_gpu_the_command_says_so(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cuda:99", "--stage", "speed"])
    assert "sees no GPU here" in capsys.readouterr().err


def test_a_peer_or_kernel_that_cannot_run_costs_one_row(bench, monkeypatch) -> None:
    monkeypatch.setattr(speed.profile, "lines", lambda _: "where")
    monkeypatch.setattr(speed, "measure", lambda _: [TRIAL])

    def fail(*_):
        raise RuntimeError("No available kernel\nand more")

    monkeypatch.setattr(speed.peers, "measure", fail)
    result = speed.run(bench)
    assert not result.failed
    assert "| tied, no dropout | textbook | 12 | RuntimeError: No available kernel |" in result.text
    assert "| tied, no dropout | ours | 12 | 1,000 | 1.00 | 50% | 2.0 | 1.0 |" in result.text


def test_arms_go_on_where_they_stopped_and_on_another_card_from_the_start(
    bench, monkeypatch
) -> None:
    asked = []

    def measure(config):
        asked.append(config.arm)
        return [TRIAL] if config.arm != "rope" else None

    monkeypatch.setattr(arms, "measure", measure)
    monkeypatch.setattr(arms, "catalogue", lambda: ["baseline", "rope", "swiglu"])
    assert "out of memory" in arms.run(bench).text
    assert asked == ["baseline", "rope", "swiglu"]
    arms.run(bench)
    assert len(asked) == 3
    file = bench.out / arms.FILE
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | {"machine": "other"}) + "\n" for line in lines))
    arms.run(bench)
    assert len(asked) == 6


def test_slow_arms_are_marked_and_come_first() -> None:
    speeds = {"baseline": 100.0, "fast": 120.0, "slow": 79.0}
    lines = [
        {"arm": arm, "tokens_per_second": speed, "memory_bytes": 10**9}
        for arm, speed in speeds.items()
    ]
    shown = [(row["arm"], row["of the baseline"]) for row in arms.rows(lines)]
    assert shown == [("baseline", "1.00"), ("slow", "0.79 (slow)"), ("fast", "1.20")]


def test_a_study_is_priced_from_what_all_cells_train_together(monkeypatch) -> None:
    monkeypatch.setattr(packing, "measure", lambda _, n: [TRIAL] * n)
    line = packing.row(load([]), 4, "in turns")
    assert line["all, tokens/s"] == "4,000"
    assert line["study, minutes"] == f"{50 * 200e6 / 4000 / 60:.0f}"


def test_the_check_counts_cases_and_names_what_failed(tmp_path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="test_bits_are_equal[a]"/>'
        '<testcase name="test_bits_are_equal[b]"><failure message="1 != 2&#10;more"/></testcase>'
        '<testcase name="test_other"><skipped/></testcase></testsuite></testsuites>'
    )
    result = check.summarise(report)
    assert result.failed
    assert "| bits are equal | 1 | 1 | 0 | 0 |" in result.text
    assert "| other | 0 | 0 | 0 | 1 |" in result.text
    assert result.text.endswith("- test_bits_are_equal[b]: 1 != 2")


def test_kernels_are_sorted_into_groups() -> None:
    found = [
        profile.Kernel("nvjet_hsh_128x256", 60.0, 3),
        profile.Kernel("void flash_fwd_kernel", 25.0, 6),
        profile.Kernel("triton_poi_fused_gelu", 15.0, 30),
    ]
    lines = profile.summarise(found).splitlines()
    assert lines[0] == " 60.0%  matrix products"
    assert lines[1] == " 25.0%  attention"
    assert lines[2] == " 15.0%  generated kernels"
    assert "  10 a step  triton_poi_fused_gelu" in lines[-1]


def test_the_floor_is_six_flops_a_parameter_and_token_and_attention() -> None:
    config = load(["scale=gpt2_small"]).model
    card = floors.Card("one", 1.0, 1.0)
    parts = floors.floors(config, card)
    matrices = 12 * 12 * 768**2 + 768 * 50257  # of the blocks and the tied head
    tokens = 96 * 1024
    assert parts["blocks"] + parts["head"] == pytest.approx(6 * matrices * tokens)
    assert parts["attention"] == pytest.approx(6 * 12 * 768 * 1024 * tokens)
