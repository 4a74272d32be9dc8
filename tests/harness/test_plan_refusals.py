"""A plan's own figures, and the words of what a sweep is refused for."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import Autocast, ConfigError, Matmul
from harness.records import Losses, RunRecord, Seeds, Status, StudyPlan, write_record
from harness.records.files import now
from harness.study import plan
from harness.study.plan import (
    PlannedCell,
    _differences,
    _finished_before,
    _hold_against,
    _refuse_namesakes,
    _tested_alike,
    degrees_of_freedom,
    seeds_for_verdicts,
    settle,
)
from tests.configs import load


@pytest.mark.parametrize(
    ("before", "after", "times"),
    [
        ([], ["train.tokens=5120"], 2),
        ([], ["model.n_layer=3"], 3),
        ([], ["model.n_embd=48"], 9),
        (["precision=amp_bf16"], [], 8),
        (["precision=amp_bf16"], ["precision.matmul=high"], 2),
    ],
)
def test_a_cells_work_is_tokens_times_weights_times_how_slow_its_format_is(
    tiny, before: list[str], after: list[str], times: float
) -> None:
    configs = [load([*tiny, "precision.matmul=highest", *more]) for more in (before, after)]
    assert configs[1].precision.autocast is Autocast.none
    assert configs[0].precision.matmul is Matmul.highest
    one, other = (PlannedCell(config, Path("/x/y/z")).work for config in configs)
    assert other / one == times


def test_a_planned_cell_knows_its_name_and_is_frozen_once(tiny, monkeypatch) -> None:
    cell = PlannedCell(load([*tiny, "seed=3", "seeds.loop=4"]))
    assert cell.name == "baseline seed 3/3/4"
    assert cell.entry == {
        "arm": "baseline", "seeds": {"init": 3, "data": 3, "loop": 4}, "cell": cell.folder.name
    }  # fmt: skip
    frozen: list[Path] = []
    monkeypatch.setattr(plan, "freeze", lambda config, folder: frozen.append(folder))
    for _ in range(2):
        cell.freeze()
    assert (frozen, cell.frozen) == ([cell.folder], True)


def test_an_empty_sweep_and_one_cell_named_twice_are_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"^an empty sweep: name at least one arm and one seed$"):
        settle([])
    cells = [PlannedCell(load([*tiny, f"seed={seed}"])) for seed in (0, 1, 1)]
    advice = "give each value once"
    twice = [cells[i] for i in (1, 0, 0, 1)]
    for given, name in ((cells, "baseline seed 1"), (twice, "baseline seed 1"),
                        ([cells[0], *cells[:2]], "baseline seed 0")):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            settle(given)
        assert str(caught.value) == f"two cells of this sweep are the same one ({name}): {advice}"
    settle(cells[:2])


def test_a_saved_studys_plan_holds_what_it_was_settled_with(tiny, monkeypatch) -> None:
    study = ["study.arms=[baseline,qkv_bias]", "study.alpha=0.01", "study.practical_size=0.5"]
    cells = [PlannedCell(load([*tiny, *study, f"seed={seed}"])) for seed in (0, 1)]
    states = [SimpleNamespace(sha=sha, files_sha256=files, changes="c") for sha, files in
              (("sha", None), (None, "files"), (None, None))]  # fmt: skip
    before = now()
    for state, code in zip(states, ("sha", "files", ""), strict=True):
        monkeypatch.setattr(plan.provenance, "code_state", lambda state=state: state)
        settle(cells, [2, 4], {"settings": {"optim.lr": [1, 2]}})
        written = cells[0].study.plan()
        assert written.code == [code, "c"]
    assert before <= written.created <= now()
    assert written == StudyPlan(
        study="adhoc", alpha=0.01, rope=0.5, looks=[2, 4], cells=[cell.entry for cell in cells],
        tuning={"settings": {"optim.lr": [1, 2]}}, code=["", "c"], created=written.created,
    )  # fmt: skip
    (command,) = cells[0].study.commands()
    assert command["cells"] == written.cells
    assert all(cell.frozen for cell in cells)


def test_a_plan_that_is_fixed_is_written_once(tiny) -> None:
    cells = [PlannedCell(load([*tiny, "study.arms=[baseline]"]))]
    settle(cells)
    cells[0].metrics_file.touch()
    file = cells[0].study.folder / "plan.json"
    before = file.stat()
    settle(cells)
    assert file.stat() == before


def test_a_sweep_without_arms_has_no_plan_and_one_of_trials_no_warning(tiny, capsys) -> None:
    arms = ["+intervention=[]", "+intervention=qkv_bias"]
    settle(cells := [PlannedCell(load([*tiny, arm])) for arm in arms], tuning={"seeds": [0]})
    assert cells[0].study.plan() is None
    assert capsys.readouterr().err.startswith("warning: every verdict will be undecided: 2 runs")
    trial = [*tiny, "study_name=mine_tune_lr", "study.tuning=true"]
    settle([PlannedCell(load([*trial, arm])) for arm in arms])
    assert capsys.readouterr().err == ""


def entries(*names: str, cell: str = "1") -> list[dict]:
    pairs = (name.split() for name in names)
    return [{"arm": arm, "seeds": {"init": int(seed)}, "cell": cell} for arm, seed in pairs]


def test_each_difference_of_two_plans_is_told_and_unseen_arms_are_open() -> None:
    old = StudyPlan(study="s", alpha=0.05, looks=[2], cells=entries("a 0", "a 1", "b 0", "c 0"))
    new = StudyPlan(study="s", alpha=0.01, rope=0.1,
                    cells=entries("a 0", "a 1", "b 0", "d 0", cell="2"))  # fmt: skip
    alike = [
        "alpha was 0.05, now 0.01",
        "practical size was None, now 0.1",
        "looks was [2], now []",
        "1 cells not planned before (d seed 0)",
        "1 cells planned but missing now (c seed 0)",
    ]
    assert _differences(old, new, set()) == alike
    assert _differences(old, new, {"a", "c"}) == [
        *alike, "2 cells configured differently (a seed 0, a seed 1)"]  # fmt: skip
    assert _differences(old, old, {"a", "b", "c"}) == []


def test_a_plan_that_differs_is_refused_with_the_ways_on() -> None:
    old, new = (StudyPlan(study="s", alpha=alpha, created="2026") for alpha in (0.05, 0.01))
    with pytest.raises(ConfigError) as caught:
        _hold_against(old, new, set())
    assert str(caught.value) == (
        "the plan of study s was fixed on 2026 and differs: alpha was 0.05, now 0.01. Undo the "
        "change; or start a new study with study_name=NAME; or add runs beside the plan (the table "
        "is then stamped exploratory): the same command with -m study_name=s '+intervention=...' "
        "in place of +study=..., and with what that file sets, such as its scale"
    )


def finished(cell: PlannedCell) -> Path:
    """Freeze a cell and let it have a result."""
    cell.freeze()
    record = RunRecord(study="adhoc", arm=cell.arm, interventions=[], cell=cell.id, n_steps=1,
                       seeds=Seeds(**cell.entry["seeds"]), status=Status.COMPLETE,
                       losses=Losses(test=3.0))  # fmt: skip
    write_record(cell.folder, record)
    return cell.folder


def test_finished_cells_of_the_same_arms_and_the_first_seeds_are_looked_at(tiny) -> None:
    def made(*more: str) -> PlannedCell:
        return PlannedCell(load([*tiny, *more]))

    lr, arm = "optim.lr=0.01", "+intervention=qkv_bias"
    folders = [finished(made(lr)), finished(made(lr, "seed=1")), finished(made(lr, "seed=2")),
               finished(made(lr, arm)), finished(made(lr, "+intervention=no_dropout"))]  # fmt: skip
    made("optim.lr=0.02").freeze()  # not trained
    mine = [made("seed=1"), made(), made("seed=1", arm), made(arm)]
    finished(mine[0])
    found = _finished_before(mine)
    assert [cell.folder for cell in found] == [folders[1]]
    assert found[0].config.optim.lr == 0.01
    assert {cell.folder for cell in _finished_before(mine[1:2])} == {folders[0]}
    assert {cell.folder for cell in _finished_before(mine[3:])} == {folders[3]}
    (folders[1] / "config.yaml").write_text("of_another_version: 1\n")
    assert _finished_before(mine) == []


def test_cells_that_no_table_could_tell_apart_are_named_with_what_differs(tiny) -> None:
    sweep = [["optim.lr=0.1"], ["optim.lr=0.2", "train.batch_size=8"], ["optim.lr=0.3"],
             ["seed=1"], ["seed=1", "optim.lr=0.2"], ["seed=2"]]  # fmt: skip
    cells = [PlannedCell(load([*tiny, *more])) for more in sweep]
    with pytest.raises(ConfigError) as caught:
        _refuse_namesakes(cells)
    assert str(caught.value) == (
        "3 cells of study adhoc are all baseline seed 0 and differ in optim.lr, train.batch_size, "
        "so no table could tell them apart: sweep it (-m optim.lr=A,B makes an arm of each value), "
        "or keep settings apart with study_name=NAME"
    )
    _refuse_namesakes([cells[0], cells[0], cells[3], cells[5]])


def test_a_swept_value_that_the_studys_baseline_has_is_refused_before_it_is_trained(tiny) -> None:
    def made(value: str, *more: str) -> PlannedCell:
        return PlannedCell(load([*tiny, f"optim.lr={value}", "sweep=[optim.lr]", *more]))

    base = PlannedCell(load([*tiny, "optim.lr=0.02"]))
    again, other = made("0.02"), made("0.03")
    assert (again.id, again.arm) == (base.id, "baseline[optim.lr=0.02]")
    settle([base])
    with pytest.raises(ConfigError) as caught:
        settle([other, again])
    assert str(caught.value) == (
        f"baseline[optim.lr=0.02] seed 0 trains as baseline of this study does, with the same "
        f"seeds ({base.config.n_steps} steps), and would repeat its runs: leave optim.lr=0.02 out"
    )
    settle([other, made("0.02", "seed=1")])
    finished(again)
    settle([again])  # trained by an earlier version
    with pytest.raises(ConfigError) as caught:
        settle([PlannedCell(load([*tiny, "optim.lr=0.03"]))])
    assert str(caught.value).endswith(
        f"python -m analysis {base.study} --baseline 'baseline[optim.lr=0.03]' compares with it"
    )


def test_tokens_that_pay_for_no_further_step_make_no_other_arm(tiny) -> None:
    config = load(tiny)
    step, tokens = config.tokens_per_step, config.n_steps * config.tokens_per_step
    base, more = PlannedCell(config), ["sweep=[train.tokens]"]
    few, whole = (PlannedCell(load([*tiny, *more, f"train.tokens={n}"]))
                  for n in (tokens + step - 1, tokens + step))  # fmt: skip
    assert (few.config.n_steps, whole.config.n_steps) == (config.n_steps, config.n_steps + 1)
    with pytest.raises(ConfigError, match=rf"leave train.tokens={few.config.train.tokens} out$"):
        settle([base, few])
    settle([base, whole])


@pytest.mark.parametrize(
    ("tokens", "tokenizers", "texts", "alike"),
    [("aa", "xx", "tt", True), ("ab", "xy", "tt", True), ("ab", "xx", "tt", False),
     ("ab", "xy", "tu", False), ("aa", "xy", "tu", True)],
)  # fmt: skip
def test_two_cells_are_tested_alike_on_one_text_or_on_the_same_tokens(
    monkeypatch, tokens: str, tokenizers: str, texts: str, alike: bool
) -> None:
    def main(config: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(main=SimpleNamespace(text_hash=texts[config.i]))

    sets = [SimpleNamespace(sha256=lambda letter=letter: letter) for letter in tokens]
    monkeypatch.setattr(plan, "ensure_corpora", main)
    monkeypatch.setattr(plan, "test_sequences", lambda config, _: sets[config.i])
    arm, baseline = (
        SimpleNamespace(i=i, data=SimpleNamespace(tokenizer=tokenizers[i])) for i in (0, 1)
    )
    assert _tested_alike(arm, baseline) is alike


def runs(text: str) -> list[tuple[str, str]]:
    """Return an arm of each word, a run for each of its letters, which are seeds."""
    return [(str(arm), seed) for arm, word in enumerate(text.split()) for seed in word]


@pytest.mark.parametrize(
    ("text", "df"),
    [
        ("aaa aa", 0),  # one initialisation
        ("ab ab", 1), ("abc abc", 2), ("abcd abcd abcd", 6),  # paired: (arms - 1) (seeds - 1)
        ("ab cd", 2), ("abc ab", 3), ("a bcd", 2), ("abc", 0), ("ab ab ac", 3),
    ],
)  # fmt: skip
def test_noise_has_the_degrees_of_freedom_of_a_design_with_or_without_shared_seeds(
    text: str, df: int
) -> None:
    assert degrees_of_freedom(runs(text)) == df


def test_so_many_seeds_of_each_arm_leave_three_degrees_of_freedom() -> None:
    needed = {n_arms: seeds_for_verdicts(n_arms) for n_arms in (2, 3, 4, 5, 100)}
    assert needed == {2: 4, 3: 3, 4: 2, 5: 2, 100: 2}
    for n_arms, n in needed.items():
        design = " ".join(["abcdefgh"[:n]] * n_arms)
        assert degrees_of_freedom(runs(design)) >= 3
        assert degrees_of_freedom(runs(re.sub(r"\w\b", "", design))) < 3


def state(arm: str, seed: str) -> SimpleNamespace:
    return SimpleNamespace(arm=arm, seed=seed)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("baseline:0 a:0 a+b:0", None),  # a screening design
        ("baseline:0 a:0", "2 runs of 2 arms leave 0"),
        ("baseline:0 baseline:1 a:0 a:1 a+b:0", "5 runs of 3 arms leave 2"),
        ("a:0 b:0", None),
        ("baseline:0 baseline:1", None),
        ("baseline:0/0/1 baseline:0/0/2 a:0/0/1 a:?", "3 runs of 2 arms leave 0"),
        ("baseline:0 baseline:1 baseline:2 a:0 a:1", None),
        ("baseline:0 baseline:1 a:2 a:3", "4 runs of 2 arms leave 2"),
    ],
)
def test_a_study_that_can_end_undecided_alone_is_told_by_its_runs(
    monkeypatch, capsys, named: str, words: str | None
) -> None:
    found = [state(*name.split(":")) for name in named.split()]
    monkeypatch.setattr(plan, "cell_states", lambda _: found)
    monkeypatch.setattr(plan, "shown", lambda states: (states, []))
    plan._warn_of_no_verdict(None, planned=True)
    said = capsys.readouterr().err
    n_arms = len({one.arm for one in found})
    assert said == ("" if words is None else (
        f"warning: every verdict will be undecided: {words} of the 3 degrees of freedom that a "
        f"verdict needs; {seeds_for_verdicts(n_arms)} seeds of every arm are enough: "
        f"study.seeds={seeds_for_verdicts(n_arms)}\n"
    ))  # fmt: skip
