"""The plan of a study: when it is fixed, what is refused, what is pointed out."""

import contextlib

import pytest

from analysis import compare
from harness.cell import train as cell
from harness.cell.freeze import locate
from harness.config import ConfigError
from harness.config.compose import load_all
from harness.records import FEWEST_DF, RunRecord, Seeds, Status, StudyPlan, write_record
from harness.study.plan import (
    PlannedCell,
    _differences,
    _hold_against,
    degrees_of_freedom,
    seeds_for_verdicts,
    settle,
)
from tests.analysis.studies import study as simulated
from tests.configs import load
from tests.harness.studies import STUDY, results

BEYOND = "better (beyond practical size)"


@pytest.mark.slow
def test_a_plan_that_changed_under_a_study_is_refused_with_the_difference(
    command, tmp_path, tiny
) -> None:
    assert command("harness", *tiny, *STUDY).returncode == 0
    before = results(tmp_path / "runs")
    for change, words in (
        ("study.seeds=3", "2 cells not planned before"),
        ("study.arms=[baseline]", "2 cells planned but missing now"),
        ("optim.lr=2e-3", "4 cells configured differently (baseline seed 0"),
        ("study.alpha=0.01", "alpha was 0.05, now 0.01"),
    ):
        done = command("harness", *tiny, *STUDY, change)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
        assert "study_name=NAME" in done.stderr
        assert (
            "the same command with -m study_name=demo '+intervention=...' in place" in done.stderr
        )
    assert results(tmp_path / "runs") == before


def planned(tiny, *overrides: str) -> list:
    """Settle a saved study of two arms, as its sweeper does; return its cells."""
    arms = {"baseline": [], "qkv_bias": [*overrides]}
    configs = load_all([[*tiny, "study.arms=[baseline,qkv_bias]", f"+intervention={arm}", *more]
                        for arm, more in arms.items()])  # fmt: skip
    cells = [PlannedCell(config) for config in configs]
    settle(cells)
    return cells


@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [(["a", "b"], ["a", "c"], True), (["a", "b"], ["a", "b"], False), ([], ["a"], False)],
)
def test_code_that_changed_since_the_plan_is_said(before, after, warned, capsys) -> None:
    _hold_against(StudyPlan(study="s", code=before), StudyPlan(study="s", code=after), set())
    said = capsys.readouterr().err
    assert ("the code is not what it was when this study was planned" in said) is warned


def test_an_arm_is_planned_anew_until_it_has_logged_a_loss(tiny) -> None:
    baseline, arm = planned(tiny)
    study = baseline.study
    first = study.plan()
    cell.run(baseline.folder)
    (arm.folder / "log.txt").write_text("it failed in its first step\n")
    *_, again = planned(tiny, "optim.lr=0.01")  # as own code does that was fixed
    second = study.plan()
    assert [entry["cell"] for entry in second.cells] == [baseline.folder.name, again.folder.name]
    assert second.created == first.created
    cell.run(again.folder)
    with pytest.raises(ValueError, match="1 cells configured differently \\(qkv_bias seed 0"):
        planned(tiny)
    assert study.plan() == second


def test_a_study_without_a_loss_may_still_change_its_plan(tiny) -> None:
    study = planned(tiny)[0].study
    planned([*tiny, "study.alpha=0.01"])
    assert study.plan().alpha == 0.01


def test_the_practical_size_and_the_looks_are_fixed_with_the_first_loss(tiny) -> None:
    cells = planned([*tiny, "study.practical_size=0.05"])
    (cells[0].folder / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match=r"practical size was 0\.05, now 0\.2\."):
        planned([*tiny, "study.practical_size=0.2"])
    with pytest.raises(ConfigError, match=r"looks was \[\], now \[2, 3\]"):
        settle(cells, looks=[2, 3])
    settle(cells)
    assert (cells[0].study.plan().rope, cells[0].study.plan().looks) == (0.05, [])


@pytest.mark.parametrize(
    ("end", "open_"),
    [(Status.DIVERGED, False), (Status.COMPLETE, False), (Status.FAILED, True),
     (Status.STOPPED, True)],
)  # fmt: skip
def test_a_result_that_logged_no_loss_holds_the_plan_too(tiny, end: Status, open_: bool) -> None:
    _, arm = planned(tiny)
    record = RunRecord(
        study="adhoc", arm="qkv_bias", interventions=["qkv_bias"], cell=arm.folder.name,
        seeds=Seeds(init=0, data=0, loop=0), status=end, n_steps=10,
    )  # fmt: skip
    write_record(arm.folder, record)
    with contextlib.nullcontext() if open_ else pytest.raises(ValueError, match="differs: alpha"):
        planned([*tiny, "study.alpha=0.01"])
    assert (arm.study.plan().alpha == 0.01) == open_


def test_cells_that_one_arm_and_seed_name_alike_are_refused(tiny, capsys) -> None:
    configs = [load([*tiny, f"train.batch_size={size}"]) for size in (8, 16)]
    words = "2 cells of study adhoc are all baseline seed 0 and differ in train.batch_size, so no"
    with pytest.raises(ConfigError, match=words):
        settle([PlannedCell(config) for config in configs])
    assert not locate(configs[0]).exists()
    settle([PlannedCell(configs[0])])
    settle([PlannedCell(c) for c in (load(tiny), load([*tiny, "seed=1"]))])
    assert not capsys.readouterr().err
    cell.run(locate(configs[0]))
    capsys.readouterr()
    with pytest.raises(ConfigError, match=words):
        settle([PlannedCell(configs[1])])
    (locate(configs[0]) / "config.yaml").write_text("of_another_version: 1\n")
    settle([PlannedCell(configs[1])])
    elsewhere = load([*tiny, "train.batch_size=16", "study_name=other"])
    settle([PlannedCell(elsewhere)])
    assert not capsys.readouterr().err


def test_an_arm_that_is_planned_twice_is_refused(tiny) -> None:
    configs = [load([*tiny, "study.arms=[baseline,baseline]"]) for _ in range(2)]
    with pytest.raises(ValueError, match=r"\(baseline seed 0\): name each arm of study.arms once"):
        settle([PlannedCell(config) for config in configs])


@pytest.mark.parametrize(
    ("swept", "said"),
    [(("hardware.threads=1", "hardware.threads=2"), "differ in hardware.threads, which changes no"),
     (("optim.lr=1e-3", "optim.lr=0.001"), "give each value once")],
)  # fmt: skip
def test_cells_of_a_sweep_that_are_one_say_what_was_swept_in_vain(tiny, swept, said) -> None:
    cells = [PlannedCell(load([*tiny, item])) for item in swept]
    with pytest.raises(ConfigError, match=rf"\(baseline seed 0\): .*{said}"):
        settle(cells)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("n_arms", "n", "n_baseline", "shared"),
    [(1, 3, 3, True), (1, 4, 4, True), (1, 3, 3, False), (1, 3, 2, True), (2, 2, 2, True),
     (2, 3, 3, True), (3, 2, 2, True), (3, 1, 1, True), (3, 1, 3, True), (3, 1, 4, True)],
)  # fmt: skip
def test_the_runner_knows_which_studies_the_analysis_must_leave_undecided(
    n_arms: int, n: int, n_baseline: int, shared: bool
) -> None:
    deltas = {f"arm{i}": -0.5 for i in range(n_arms)}
    runs = simulated(deltas, n, n_baseline=n_baseline, shared=shared)
    df = degrees_of_freedom(list(zip(runs["arm"], map(str, runs["init_seed"]), strict=True)))
    verdicts = set(compare(runs, rope=0.01).table.query("arm != 'baseline'")["verdict"])
    assert verdicts == {BEYOND if df >= FEWEST_DF else "undecided"}
    enough = simulated(deltas, seeds_for_verdicts(n_arms + 1))
    assert "undecided" not in set(compare(enough, rope=0.01).table["verdict"])


def test_one_initialisation_alone_leaves_no_degrees_of_freedom() -> None:
    assert degrees_of_freedom([(arm, "0") for arm in ("baseline", "mine") for _ in range(5)]) == 0


def test_a_sweep_that_can_only_end_undecided_is_told_before_it_trains(tiny, capsys) -> None:
    def warning(arms: list[str], n_seeds: int, *study: str) -> str:
        named = f"study_name=s{n_seeds}{len(arms)}{len(study)}"
        configs = load_all([[*tiny, *study, named, f"+intervention={arm}", f"seed={seed}"]
                            for arm in arms for seed in range(n_seeds)])  # fmt: skip
        settle([PlannedCell(config) for config in configs])
        return capsys.readouterr().err

    two = ["baseline", "qkv_bias"]
    assert warning(two, 3) == (
        "warning: every verdict will be undecided: 6 runs of 2 arms leave 2 of the 3 degrees of "
        "freedom that a verdict needs; 4 seeds of every arm are enough: 'seed=range(4)'\n"
    )
    assert warning(two, 3, "study.arms=[baseline,qkv_bias]").endswith("enough: study.seeds=4\n")
    assert not warning(two, 4)
    assert not warning(["baseline"], 1)
    assert "0 of the 3" in warning([*two, "no_dropout"], 1)
    assert not warning([*two, "[no_dropout,qkv_bias]"], 1)  # a screening design


def with_overlay(tiny, folder, body: str) -> list[PlannedCell]:
    """Return a cell of the demo's baseline and one of an overlay that no override contradicts."""
    free = [item for item in tiny if "block_size" not in item and "test_sequences" not in item]
    card = "interventions: {longer: {summary: s, source: t, declares: [eval]}}"
    path = folder / "intervention" / "longer.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# @package _global_\n{card}\n{body}\n")
    arm = [f"hydra.searchpath=[file://{folder}]", "+intervention=longer"]
    return [PlannedCell(load(free)), PlannedCell(load([*free, *arm]))]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("model: {block_size: 32}", "(model.block_size 64 -> 32)"),
        ("eval: {test_sequences: 3}", "(eval.test_sequences 1024 -> 3)"),
    ],
)
def test_an_arm_of_another_test_set_is_refused_before_anything_is_trained(
    tiny, tmp_path, body: str, words: str
) -> None:
    cells = with_overlay(tiny, tmp_path, body)
    with pytest.raises(ValueError, match="longer is tested on other tokens") as caught:
        settle(cells)
    assert words in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "body",
    ["model: {block_size: 32}\neval: {test_sequences: 2048}",
     "model: {block_size: 128}\neval: {block_size: 64}"],
)  # fmt: skip
def test_another_context_on_the_same_test_tokens_is_an_arm_like_any(
    tiny, tmp_path, body: str
) -> None:
    cells = with_overlay([*tiny, "eval.spread=false"], tmp_path, body)
    settle(cells)
    assert all(cell.frozen for cell in cells)


@pytest.mark.parametrize(("n", "named"), [(3, "a, b, c"), (4, "a, b, c ...")])
def test_three_cells_of_a_difference_are_named(n: int, named: str) -> None:
    cells = [{"arm": arm, "seeds": {"init": 0}, "cell": arm} for arm in "abcd"[:n]]
    old, new = StudyPlan(study="s", cells=cells), StudyPlan(study="s")
    expected = named.replace(",", " seed 0,").replace("c", "c seed 0")
    assert _differences(old, new, set()) == [f"{n} cells planned but missing now ({expected})"]
