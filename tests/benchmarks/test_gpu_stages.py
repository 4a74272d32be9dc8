"""The stages that a GPU is rented for, tried without one: no minute of it may go to a typing error."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks.gpu import arms, check, floors, packing, profile, speed, stage, turns
from benchmarks.gpu import bench as bench_module
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import NOT_YET, ROOT, Bench
from harness.cell.speed.step_timing import Trial
from tests.configs import load
from tests.harness.studies import wait_until

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
def test_a_stage_runs_to_its_end_and_writes_its_part_of_the_page(
    stage, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(arms, "catalogue", lambda: ["baseline", "rope"])
    words = ["--device", "cpu", "--minutes", "0.2", "--out", str(tmp_path), "--stage", stage]
    assert main(words) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# On a GPU\n")
    assert f"## {stage}\n" in page
    assert "no GPU: a trial run" in page


def test_the_page_says_that_no_stage_has_been_run_until_one_has(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Bench, "machine", lambda _: "some GPU")
    trial, true = Bench(device="cpu", out=tmp_path), Bench(device="cuda", out=tmp_path)
    trial.write("check", "one")
    assert NOT_YET in (tmp_path / "gpu.md").read_text()
    true.write("check", "two")
    page = (tmp_path / "gpu.md").read_text()
    assert NOT_YET not in page
    assert "## check\n\ntwo\n\nsome GPU" in page
    assert "one\n\nsome GPU" not in page


def test_a_call_goes_on_from_what_was_put_beside_our_page(tmp_path, monkeypatch) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    monkeypatch.setattr(bench_module, "PAGE", docs / "gpu.md")
    Bench(device="cpu", out=docs).keep("arms", {"arm": "rope"})
    second = Bench(device="cpu", out=out)
    second.keep("arms", {"arm": "swiglu"})
    assert sorted(line["arm"] for line in second.kept("arms")) == ["rope", "swiglu"]


def test_commands_that_start_elsewhere_find_the_checkout(tmp_path, monkeypatch) -> None:
    found = []

    def look(bench: Bench) -> stage.Result:
        command = [sys.executable, "-S", "-c", "import harness; print(harness.__file__)"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        found.append(Path(done.stdout.strip()))
        return stage.Result("")

    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(check, "run", look)
    assert main(["--device", "cpu", "--out", str(tmp_path), "--stage", "check"]) == 0
    assert found == [ROOT / "harness" / "__init__.py"]


def test_without_a_gpu_the_command_says_so(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cuda:99", "--stage", "speed"])
    assert "sees no GPU here" in capsys.readouterr().err


def answering(outcomes: dict[str, Trial | str], asked: list[str]):
    """Stand in for what runs jobs: answers by the name of a job's arm or peer."""

    def in_turns(jobs, at_once, seconds_left):
        for number, job in enumerate(jobs):
            name = getattr(job.args[1], "peer", job.args[1])
            asked.append(name)
            yield number, outcomes.get(name, TRIAL)

    return in_turns


def test_a_peer_or_kernel_that_cannot_run_costs_one_row(bench, monkeypatch) -> None:
    monkeypatch.setattr(speed.profile, "lines", lambda _: "where")
    failing = {"textbook": "RuntimeError: No available kernel"}
    monkeypatch.setattr(speed, "in_turns", answering(failing, []))
    result = speed.run(bench)
    assert not result.failed
    assert "| tied, no dropout | textbook | 12 | RuntimeError: No available kernel |" in result.text
    assert "| tied, no dropout | ours | 12 | 1,000 | 1.00 | 50% | 2.0 | 1.0 |" in result.text
    assert "A large bfloat16 matrix product reaches " in result.text


def test_rows_that_the_time_did_not_allow_are_named(bench, monkeypatch) -> None:
    monkeypatch.setattr(speed.profile, "lines", lambda _: "where")
    monkeypatch.setattr(speed, "_measured", lambda bench: [(speed.alone(bench)[0], TRIAL)])
    text = speed.run(bench).text
    assert "Not measured, the time was over: published, bf16 ours 12; " in text
    assert "published, bf16 ours, not compiled 12." in text


def test_arms_go_on_where_they_stopped_and_on_another_card_from_the_start(
    bench, monkeypatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(arms, "in_turns", answering({"rope": "out of memory"}, asked))
    monkeypatch.setattr(arms, "catalogue", lambda: ["baseline", "rope", "swiglu"])
    assert "out of memory" in arms.run(bench).text
    assert asked == ["baseline", "rope", "swiglu"]
    arms.run(bench)
    assert len(asked) == 3
    file = bench.out / "gpu_arms.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | {"machine": "other"}) + "\n" for line in lines))
    arms.run(bench)
    assert len(asked) == 6


def ready_and_timed(name: str, log: str, meet) -> Trial:
    """A job that says when it is timed: nobody else may be, meanwhile."""
    meet()
    with Path(log).open("a") as file:
        file.write(f"{name} begins\n")
        file.flush()
        time.sleep(0.2)
        file.write(f"{name} ends\n")
    return TRIAL


def failing(meet) -> Trial:
    raise RuntimeError("No available kernel\nand more")


def killed(meet) -> Trial:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fits_alone(log: str, meet) -> Trial | None:
    """A job that finds room the second time."""
    with Path(log).open("a") as file:
        file.write("tried\n")
    return TRIAL if Path(log).read_text().count("tried") == 2 else None


def asleep(meet) -> Trial:
    time.sleep(600)
    return TRIAL


@pytest.mark.slow
def test_jobs_are_made_ready_together_and_timed_one_at_a_time(tmp_path) -> None:
    log = str(tmp_path / "log")
    jobs = [partial(ready_and_timed, name, log) for name in "abc"]
    outcomes = dict(turns.in_turns([*jobs[:2], failing, killed, jobs[2]], 4, lambda: 100.0))
    assert outcomes == {0: TRIAL, 1: TRIAL, 2: "RuntimeError: No available kernel",
                        3: "out of memory", 4: TRIAL}  # fmt: skip
    lines = Path(log).read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["begins", "ends"] * 3


@pytest.mark.slow
def test_a_job_whose_memory_ran_out_beside_others_is_tried_again_alone(tmp_path) -> None:
    job = partial(fits_alone, str(tmp_path / "log"))
    assert list(turns.in_turns([job, failing], 2, lambda: 100.0)) == [
        (1, "RuntimeError: No available kernel"), (0, TRIAL)
    ]  # fmt: skip
    always = partial(fits_alone, str(tmp_path / "other"))
    assert list(turns.in_turns([always], 1, lambda: 100.0)) == [(0, turns.NO_MEMORY)]


@pytest.mark.slow
def test_a_job_that_hangs_costs_no_more_than_the_time_that_is_left(monkeypatch) -> None:
    monkeypatch.setattr(turns, "GRACE_SECONDS", 0.0)
    left = iter([1.0, 1.0, 0.0])
    outcomes = dict(turns.in_turns([asleep, failing], 1, lambda: next(left)))
    assert outcomes == {0: "not ready in time"}


def test_slow_arms_are_marked_and_come_first() -> None:
    speeds = {"baseline": 100.0, "fast": 120.0, "slow": 79.0}
    lines = [
        {"arm": arm, "tokens_per_second": speed, "memory_bytes": 10**9}
        for arm, speed in speeds.items()
    ]
    rows = arms.rows(lines, {"slow": "two more products", "fast": "none"})
    shown = [(row["arm"], row["of the baseline"], row["slow: its card says"]) for row in rows]
    assert shown == [
        ("baseline", "1.00", ""), ("slow", "0.79", "two more products"), ("fast", "1.20", "")
    ]  # fmt: skip
    assert arms.rows(lines, {})[1]["slow: its card says"] == "nothing"


def test_a_study_is_priced_from_what_all_cells_train_together(monkeypatch) -> None:
    monkeypatch.setattr(packing, "measure", lambda _, n: [TRIAL] * n)
    line = packing.row(load([]), 4, "in turns")
    assert line["all, tokens/s"] == "4,000"
    assert line["study, minutes"] == f"{50 * 200e6 / 4000 / 60:.0f}"


REPORT = (
    '<testsuites><testsuite><testcase name="test_bits_are_equal[a]"/>'
    '<testcase name="test_bits_are_equal[b]"><failure message="1 != 2&#10;more"/></testcase>'
    '<testcase name="test_other"><skipped/></testcase></testsuite></testsuites>'
)


def test_the_check_counts_cases_and_names_what_failed(tmp_path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    result = check.summarise(check.cases(report))
    assert result.failed
    assert "| bits are equal | 1 | 1 | 0 | 0 |" in result.text
    assert "| other | 0 | 0 | 0 | 1 |" in result.text
    assert result.text.endswith("- test_bits_are_equal[b]: 1 != 2")


def test_the_check_runs_again_what_has_not_passed(bench, monkeypatch) -> None:
    asked = []

    def pytest_instead(bench, report, passed):
        asked.append(passed)
        report.write_text(REPORT if len(asked) == 1 else REPORT.replace("failure", "ok"))
        return len(asked) > 1

    monkeypatch.setattr(check, "_pytest", pytest_instead)
    assert check.run(bench).text.endswith("Not all ran: run the stage again.")
    assert not check.run(bench).failed
    assert asked == [[], ["test_bits_are_equal[a]"]]


@pytest.mark.slow
def test_a_check_that_is_out_of_time_keeps_what_it_has(bench, tmp_path, monkeypatch) -> None:
    begun = tmp_path / "begun"

    def seconds_left(self) -> float:
        wait_until(begun.exists)
        return 0.0

    tests = tmp_path / "test_some.py"
    tests.write_text(
        "import pathlib, time\n\ndef test_quick():\n    pass\n\n"
        f"def test_slow():\n    pathlib.Path({str(begun)!r}).touch()\n    time.sleep(300)\n"
    )
    monkeypatch.setattr(check, "TESTS", str(tests))
    monkeypatch.setattr(Bench, "seconds_left", seconds_left)
    result = check.run(bench)
    assert result.failed
    assert "| quick | 1 | 0 | 0 | 0 |" in result.text
    assert "run the stage again" in result.text


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
    assert floors.text() in (ROOT / "docs" / "gpu.md").read_text()
