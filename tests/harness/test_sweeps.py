"""From a command line to cells: sweeps, saved studies, launchers."""

import json
import sys
from functools import partial

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from harness.cell.console import same_command
from harness.records import Status, write_record
from harness.records.files import CONF_DIR
from tests.analysis.studies import record
from tests.harness.studies import STUDY, results


def sweeper():
    """Return the plugin, found as Hydra finds it: it loads its own plugins anew."""
    from hydra_plugins.study_plugins import StudySweeper

    return StudySweeper(None)


def test_overwriting_happens_once_and_is_no_part_of_a_job() -> None:
    nothing_planned = OmegaConf.create(
        {"study": {"arms": []}, "hydra": {"runtime": {"choices": {}}}}
    )
    jobs = sweeper().jobs(nothing_planned, ["overwrite=true", "seed=0,1", "optim.lr=0.1"])
    assert jobs == [("seed=0", "optim.lr=0.1"), ("seed=1", "optim.lr=0.1")]


@pytest.mark.parametrize("stack", ["[qkv_bias,no_dropout]", '"[qkv_bias,no_dropout]"'])
def test_a_stack_among_the_arms_may_be_a_list(stack: str) -> None:
    arms = ["baseline", ["qkv_bias", "no_dropout"] if stack[0] == "[" else stack.strip('"')]
    planned = OmegaConf.create(
        {"study": {"arms": arms, "seeds": 1, "baseline_seeds": None}, "hydra": {}}
    )
    jobs = sweeper().jobs(planned, [f"study.arms=[baseline,{stack}]"])
    chosen = "study.arms=[baseline,qkv_bias+no_dropout]"
    assert jobs == [
        (chosen, "+intervention=[baseline]", "seed=0"),
        (chosen, "+intervention=[qkv_bias,no_dropout]", "seed=0"),
    ]


@pytest.mark.slow
def test_a_refused_sweep_leaves_nothing_behind(command, tiny, tmp_path) -> None:
    for refused in ("+intervention=baseline,[higher_lr,scheduled_lr,typo]", "model.block_size=8,512",
                    "model.block_size=8,8"):  # fmt: skip
        assert command("harness", *tiny, "-m", refused).returncode == 2
        assert not (tmp_path / "runs").exists()
    assert command("harness", *STUDY, *tiny).returncode == 0
    before = sorted((tmp_path / "runs").rglob("*"))
    changed = command("harness", *STUDY, *tiny, "optim.lr=0.1")
    assert (changed.returncode, "configured differently" in changed.stderr) == (2, True)
    assert sorted((tmp_path / "runs").rglob("*")) == before


def test_a_saved_study_without_arms_is_refused(command, tiny) -> None:
    done = command("harness", "+study=demo", "study.arms=[]", *tiny)
    assert done.returncode == 2
    assert done.stderr == "error: an empty sweep: name at least one arm and one seed\n"


def test_a_saved_study_without_a_baseline_is_refused(command, tiny) -> None:
    done = command("harness", "+study=demo", "study.arms=[qkv_bias]", *tiny)
    assert done.returncode == 2
    assert "study.arms=['qkv_bias'] has nothing to compare with: add baseline" in done.stderr


@pytest.mark.parametrize("swept", ["+intervention=qkv_bias,no_dropout", "seed=range(2)"])
def test_a_sweep_without_its_flag_is_told_of_it(command, tiny, swept) -> None:
    done = command("harness", *tiny, swept)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add -m" in done.stderr


@pytest.mark.slow
def test_the_last_line_counts_this_sweep_alone(command, tiny) -> None:
    for seeds in ("seed=0,1", "seed=2,3"):
        assert "\n2 complete\n" in command("harness", *tiny, "-m", seeds).stderr


@pytest.mark.slow
def test_a_sweep_that_overwrites_trains_again(command, tiny, tmp_path) -> None:
    sweep = [*tiny, "-m", "seed=0,1"]
    assert command("harness", *sweep).returncode == 0
    before = results(tmp_path / "runs")
    assert "2 cells to train" in command("harness", *sweep, "overwrite=true").stderr
    assert results(tmp_path / "runs") == before


def test_nobody_is_told_to_overwrite_again(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "-m", "seed=0,1"])
    assert same_command() == "the same command"
    sys.argv.append("overwrite=true")
    assert same_command() == "the same command, without overwrite=true,"


@pytest.mark.proof
@pytest.mark.slow
def test_submitits_local_executor_runs_the_same_cells(command, tmp_path, tiny) -> None:
    arguments = [*tiny, *STUDY]
    local = command("harness", *arguments, "hydra/launcher=submitit_local")
    assert local.returncode == 0, local.stderr
    assert {status for status, *_ in results(tmp_path / "runs").values()} == {Status.COMPLETE}
    mixed = command("harness", *arguments)
    assert mixed.returncode == 0, mixed.stderr
    assert mixed.stderr.count("skipped, already complete") == 4


@pytest.mark.slow
def test_a_cell_without_a_result_is_an_error_whoever_ran_it(command, tiny) -> None:
    done = command("harness", *tiny, "-m", "seed=0,1", "hydra/launcher=submitit_local",
                   "hardware.device=cuda:93")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("hardware.device=cuda:93 is not here") == 2
    assert "2 of 2 cells have no result" in done.stderr


def test_a_clusters_settings_lie_on_its_plugins_schema_without_a_warning(command) -> None:
    done = command("harness", "hydra/launcher=submitit_slurm", "--cfg", "hydra")
    assert (done.returncode, done.stderr) == (0, "")
    assert "max_num_timeout: 20" in done.stdout  # ours
    assert "cpus_per_gpu: null" in done.stdout  # theirs
    typo = command("harness", "hydra/launcher=submitit_slurm", "hydra.launcher.partion=gpu")
    assert typo.returncode == 2
    assert "partion" in typo.stderr


@pytest.mark.slow
def test_a_sequential_study_takes_each_look_once(command, tmp_path, tiny) -> None:
    arguments = [*tiny, "+study=demo", "hydra/sweeper=sequential", "hydra.sweeper.looks=[2,3]",
                 "study.arms=[baseline,weight_tying,weight_decay_gpt2]", "eval.test_sequences=64"]  # fmt: skip
    done = command("harness", *arguments)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "runs" / "demo"
    plan = json.loads((study / "plan.json").read_text())
    assert plan["looks"] == [2, 3]
    assert len(plan["cells"]) == 9
    looks = [json.loads(line) for line in (study / "looks.jsonl").read_text().splitlines()]
    assert [look["look"] for look in looks] == [1, 2]
    again = command("harness", *arguments)
    assert again.returncode == 0
    assert "cells to train" not in again.stderr
    assert (study / "looks.jsonl").read_text().count("\n") == 2


LOSSES = {"baseline": 3.69, "higher_lr": 3.2, "no_dropout": 3.69, "qkv_bias": 3.69}


class Simulated:
    """A launcher whose cells are trained at once, with losses that the test knows."""

    def __init__(self, cell_of) -> None:
        self.cell_of, self.launched = cell_of, []

    def launch(self, jobs, initial_job_idx: int) -> list:
        cells = [self.cell_of(job) for job in jobs]
        self.launched.append([(cell.arm, cell.config.seed) for cell in cells])
        for cell, (arm, seed) in zip(cells, self.launched[-1], strict=True):
            loss = LOSSES[arm] + 0.002 * ((7 * seed + len(arm)) % 3)
            write_record(cell.folder, record(arm, seed, loss, study="demo", cell=cell.id))
        return []


def test_a_decided_arm_gets_no_more_seeds(tiny) -> None:
    from hydra_plugins.study_plugins import SequentialSweeper, _cell

    hydra = {"overrides": {"hydra": []}, "runtime": {"choices": {"study": "demo"}}}
    plan = {"arms": [*LOSSES], "seeds": 9, "baseline_seeds": None, "scales": [], "tune": {}}
    sweeper = SequentialSweeper([2, 3])
    sweeper.config = OmegaConf.create({"study": plan, "overwrite": False, "hydra": hydra})
    sweeper.launcher = Simulated(partial(_cell, sweeper.config))
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        sweeper.sweep([*tiny, "+study=demo", f"study.arms=[{','.join(LOSSES)}]"])
    first, second = sweeper.launcher.launched
    assert sorted(first) == sorted((arm, seed) for arm in LOSSES for seed in (0, 1))
    going_on = ("baseline", "no_dropout", "qkv_bias")
    assert sorted(second) == sorted((arm, seed) for arm in going_on for seed in (0, 1, 2))


def test_the_sequential_sweeper_needs_a_saved_study(command, tiny) -> None:
    done = command("harness", *tiny, "-m", "hydra/sweeper=sequential")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add +study=NAME" in done.stderr


@pytest.mark.proof
def test_a_family_of_sizes_is_one_study_for_each_and_the_analysis_holds_them_together(
    tiny, command, tmp_path
) -> None:
    cell = [word for word in tiny if not word.startswith(("model.n_embd", "train.tokens"))]
    done = command("harness", *cell, "+study=ladder", "study.scales=[demo_s,demo_m]",
                   "study.arms=[baseline,qkv_bias]", "study.seeds=2", "model.n_layer=1",
                   "train.batch_size=64")  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["ladder_demo_m", "ladder_demo_s"]
    names = [str(runs / f"ladder_{size}") for size in ("demo_s", "demo_m")]
    answer = command("analysis", "scale", *names)
    assert answer.returncode == 0, answer.stderr
    assert "| qkv_bias |" in answer.stdout
    assert "needs 3 or more" in answer.stdout
