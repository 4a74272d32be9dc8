"""Benchmarks: what may be said of arms by the items that they answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from studies import on_disk, record, study

from analysis.__main__ import main as analyse
from analysis.benchmarks.answers import read_tasks
from analysis.benchmarks.tables import checks, task_table
from analysis.benchmarks.verdicts import Benchmark, judge_task
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import Kind
from analysis.errors import AnalysisError
from analysis.questions.paired import PairedRules
from analysis.report.evidence import gather
from analysis.report.sections import sections
from analysis.report.write import write_tables
from analysis.runs.tables import read_runs
from analysis.stats.judging.crossed import by_group, crossed_mean
from harness.records import read_record, write_record
from harness.records.benchmarks import ItemScore, TaskRun, task_files, write_task
from harness.records.evaluation import reference_folder

N, SEEDS = 60, 4
MARGINS = {"baseline": 0.0, "better": 1.0, "same": 0.0}
LOSSES = {"better": -0.1, "same": 0.0}


def answers(arm: str, seed: int, **changes: object) -> tuple[TaskRun, list[ItemScore]]:
    """Two-choice items in groups of two; every margin is known up to noise."""
    difficulty = np.random.default_rng(1).normal(0, 2, N)
    draw = np.random.default_rng([seed, len(arm)])
    margins = MARGINS.get(arm, 0.5) + difficulty + draw.normal(0, 0.3, N)
    scores = [
        ItemScore(
            item=str(i), group=f"g{i // 2}", answer=i % 2,
            nats=[-9.0, -9.0 + m][:: 1 if i % 2 else -1], lengths=[4, 4], greedy=False,
        )
        for i, m in enumerate(margins)
    ]  # fmt: skip
    cell = record(arm, seed, 3.0)
    run = TaskRun(
        task="two", source="bundled", items_sha256="i" * 12, n_items=N, n_cut=0,
        model=f"{arm}/{cell.cell}@150", weights_sha256="w", cell=cell.cell, in_study=True,
        precision="fp32", created="2026",
    )  # fmt: skip
    return replace(run, **changes), scores


def put(folder: Path, arm: str, seed: int, **changes: object) -> None:
    run, scores = answers(arm, seed, **changes)
    write_task(reference_folder(folder, run.model), run, scores)


def test_a_task_of_any_name_is_written_into_its_own_folder(tmp_path: Path) -> None:
    run, scores = answers("baseline", 0)
    file = write_task(tmp_path / "model", replace(run, task="../../x y/é_1.2-3"), scores)
    assert file == tmp_path / "model" / "benchmarks" / ".._.._x_y_é_1.2-3.jsonl"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A study whose cells answered one task, and a model of the hub with them."""
    folder = on_disk(tmp_path / "study", study(LOSSES, SEEDS))
    for arm in MARGINS:
        for seed in range(SEEDS):
            put(folder, arm, seed)
    put(folder, "hub", 0, model="hf:a/b@1", cell=None, in_study=False)
    return folder


def judged(folder: Path, **rules: object) -> Benchmark:
    [task] = read_tasks(read_runs([str(folder)]))
    return judge_task(task, PairedRules(**rules))


def test_groups_are_clusters_as_in_a_regression() -> None:
    draw = np.random.default_rng(2)
    group = np.sort(draw.integers(0, 9, 50))
    y = draw.normal(1, 1, 50) + draw.normal(0, 1, 9)[group]
    theirs = sm.OLS(y, np.ones(50)).fit(cov_type="cluster", cov_kwds={"groups": group})
    found = crossed_mean(by_group(y[:, None], group))
    assert found.estimate == pytest.approx(theirs.params[0])
    assert found.se == pytest.approx(theirs.bse[0])
    assert found.df == len(set(group)) - 1


def test_intervals_over_groups_of_items_and_seeds_cover() -> None:
    draw = np.random.default_rng(0)
    group, missed = np.repeat(range(25), [1, 2, 3, 4, 5] * 5), 0
    for _ in range(1000):
        y = draw.normal(0, 1, (25, 1))[group] + draw.normal(0, 0.3, (1, 4))
        y = y + draw.normal(0, 1, (25, 4))[group] + draw.normal(0, 1, (75, 4))
        found = crossed_mean(by_group(y, group))
        missed += abs(found.estimate) > found.half_width(0.05)
    assert 0.03 < missed / 1000 < 0.075


def test_the_better_arm_is_found_and_no_other(asked: Path) -> None:
    found = judged(asked)
    better, same = found.arms
    assert (better.arm, better.decided.verdict.kind) == ("better", Kind.BETTER)
    assert abs(better.margin.estimate - 1.0) < better.decided.half_width < 0.2
    assert same.decided.verdict.kind is Kind.UNDECIDED
    assert better.decided.half_width < better.decided.detectable < 0.3
    assert (found.task.n_items, found.task.n_groups, found.task.items.chance) == (60, 30, 0.5)
    sized = {a.arm: str(a.decided.verdict) for a in judged(asked, practical_size=0.3).arms}
    assert sized == {"better": "better (beyond practical size)", "same": "no practical difference"}


def test_pairing_takes_out_what_is_hard_for_all(asked: Path) -> None:
    better = judged(asked).arms[0]
    task = judged(asked).task
    alone = np.stack([a.margins for a in task.arms["better"].values()], axis=1)
    assert better.margin.se < 0.3 * crossed_mean(by_group(alone, task.items.groups)).se


def test_the_table_has_accuracies_chance_and_reference_rows(asked: Path) -> None:
    table = task_table(judged(asked))
    rows = {row[0].text: [item.text for item in row] for row in table.rows}
    assert list(rows)[:2] == ["better", next(a for a in rows if a in ("baseline", "same"))]
    assert rows["hf:a/b@1"][-1] == "reference"
    right = float(rows["better"][2])
    assert right > float(rows["baseline"][2]) > 30
    assert "30 groups" in table.notes[0]
    assert "chance is 50.0% right" in table.notes[0]


def test_only_runs_that_count_and_have_answered_are_compared(asked: Path) -> None:
    missing = next(asked.glob("references/same*"))
    for file in missing.rglob("*.jsonl"):
        file.unlink()
    failed = next((asked / "better").iterdir())
    item = read_record(failed)
    item.status = "failed"
    write_record(failed, item)
    found = judged(asked)
    assert {a.arm: a.margin.n_seeds for a in found.arms} == {"better": 3, "same": 3}
    assert any("1 complete cells did not answer" in str(check) for check in checks(found))


def test_one_seed_gives_no_verdict(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "s", study({"better": -0.1}, 1))
    for arm in ("baseline", "better"):
        put(folder, arm, 0)
    found = judged(folder)
    assert found.arms[0].decided.verdict.kind is Kind.UNDECIDED
    assert np.isnan(found.arms[0].decided.detectable)
    assert any("the noise of training is unknown" in str(check) for check in checks(found))


def test_arms_without_a_seed_of_the_baseline_are_named(asked: Path) -> None:
    frame = study({"far": 0.0}, 2, n_baseline=2, shared=False)
    on_disk(asked, frame[frame["arm"] == "far"], plan=False)
    for seed in {int(s) for s in frame.loc[frame["arm"] == "far", "init_seed"]}:
        cell = record("far", seed, 3.0)
        item = read_record(asked / "far" / cell.cell)
        item.seeds = replace(item.seeds, data=seed + 90)
        write_record(asked / "far" / cell.cell, item)
        put(asked, "far", seed)
    found = judged(asked)
    assert found.unpaired == ("far",)
    assert any("far; train them at its seeds" in str(check) for check in checks(found))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"items_sha256": "other"}, "answered other items of two"),
        ({"final_weights": "older"}, "before it was trained anew"),
    ],
)
def test_answers_that_do_not_compare_are_refused(asked: Path, changes: dict, said: str) -> None:
    put(asked, "better", 0, **changes)
    with pytest.raises(AnalysisError, match=said):
        read_tasks(read_runs([str(asked)]))


def test_the_command_prints_and_writes_the_tables(
    asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyse(["benchmarks", str(asked), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "0.05 nats were worth" in printed
    assert "of the 60 items of two right in this study" in printed
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "benchmark_two.csv",
        "measures.csv",
    }
    for file in task_files(asked):
        file.unlink()
    assert analyse(["benchmarks", str(asked)]) == 2
    assert "python -m harness.evaluate" in capsys.readouterr().err


def test_a_model_beside_the_study_is_shown_in_every_measure_and_exchanged_in_none(asked) -> None:
    alone = gather(read_runs([str(asked)]), Rules()).measures()
    beside = gather(read_runs([str(asked)]), Rules(references={"hf:a/b@1": 3.2})).measures()
    shown = {row[0].text: [item.text for item in row] for row in beside.rows}
    _, loss, _, by_loss, margin, _, by_margin = shown["hf:a/b@1"]
    assert (by_loss, by_margin) == ("reference", "reference")
    assert float(loss) < -0.3
    assert float(margin) == pytest.approx(0.5, abs=0.1)
    assert beside.notes == alone.notes


def test_the_report_has_the_task_and_all_measures_side_by_side(asked: Path) -> None:
    evidence = gather(read_runs([str(asked)]), Rules())
    parts = {part.name: part for part in sections(evidence)}
    [task] = parts["benchmarks"].tables
    assert task.name == "benchmark_two"
    first = [column.label for column in task.columns[:4]]  # a phone shows no more
    assert first == ["arm", "verdict", "margin", "95% CI"]
    [beside] = parts["measures"].tables
    assert [column.label for column in beside.columns] == [
        *("arm", "test loss", "test loss CI", "by test loss", "two", "two CI", "by two"),
    ]
    stale = asked / "tables" / "benchmark_gone.md"
    stale.parent.mkdir()
    stale.write_text("old")
    written = write_tables(evidence, stale.parent)
    assert not stale.exists()
    assert asked / "tables" / "benchmark_two.md" in written
