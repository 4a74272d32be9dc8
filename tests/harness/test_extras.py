"""Optional packages that are missing are said once, before anything is trained."""

import re
import sys
import tomllib

import pytest

from harness import evaluate, extras, finetune
from harness.cell import sources
from harness.config import ConfigError
from harness.config.messages import _unknown
from harness.evals.benchmarks.items import check_task
from harness.study import plan
from harness.study.plan import PlannedCell, settle
from harness.tracking import wandb_run
from tests.configs import load
from tests.conftest import REPOSITORY


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Return a function that takes a package away."""
    plan.warn_of_tracker.cache_clear()
    return lambda package: monkeypatch.setitem(sys.modules, package, None)


def test_every_extra_that_users_install_is_known_by_what_it_brings() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    offered = project["optional-dependencies"]
    assert set(extras.EXTRAS.values()) == set(offered) - {"dev"}
    for package, extra in extras.EXTRAS.items():
        wanted = " ".join(offered[extra]).lower()
        assert re.sub(r"[_-].*", "", package) in re.sub(r"[_-]", "", wanted)


@pytest.mark.parametrize("tracker", ["trackio", "wandb"])
def test_a_tracker_that_is_not_installed_refuses_the_sweep_before_anything_is_written(
    tiny, without, tracker: str
) -> None:
    without(tracker)
    cells = [PlannedCell(load([*tiny, f"tracking={tracker}", f"seed={i}"])) for i in (0, 1)]
    with pytest.raises(ConfigError) as caught:
        settle(cells)
    command = "'llm-interventions[trackio]'" if tracker == "trackio" else "wandb"
    assert str(caught.value) == (
        f"tracking={tracker} needs the package {tracker}, which is not installed here: "
        f"pip install {command}; or leave it out: runs/ holds everything"
    )
    assert not cells[0].study.folder.exists()


def test_online_without_a_login_is_said_once_before_a_sweep(
    tiny, monkeypatch, capsys, without
) -> None:
    monkeypatch.setattr(wandb_run, "is_logged_in", lambda: False)
    tracked = [*tiny, "tracking=wandb", "tracking.mode=online"]
    for seed in (0, 1):
        settle([PlannedCell(load([*tracked, f"seed={seed}"]))])
    assert capsys.readouterr().err.count("nobody is logged in: staying offline") == 1
    monkeypatch.setattr(wandb_run, "is_logged_in", lambda: True)
    plan.warn_of_tracker.cache_clear()
    settle([PlannedCell(load([*tracked, "seed=2"]))])
    assert "nobody is logged in" not in capsys.readouterr().err


def test_a_part_from_a_missing_package_names_its_extra(monkeypatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "own_gone", "optimizers")
    with pytest.raises(ConfigError) as caught:
        sources._files("own_gone.deep.Lion")
    assert str(caught.value) == (
        "_target_=own_gone.deep.Lion: no module 'own_gone'; "
        "pip install 'llm-interventions[optimizers]'"
    )


@pytest.mark.parametrize(("launcher", "extra"), [("ray", "ray"), ("submitit_slurm", "slurm")])
def test_a_cluster_s_launcher_without_its_plugin_names_the_extra(launcher: str, extra: str) -> None:
    said = _unknown(f"hydra/launcher/{launcher}_schema", None)
    assert f"hydra/launcher={launcher} needs its plugin" in said
    assert f"pip install 'llm-interventions[{extra}]'" in said


@pytest.mark.parametrize(
    ("task", "words"),
    [("blimp", "pip install 'llm-interventions[benchmarks]'"), ("none.yaml", "No such file")],
)
def test_tasks_are_looked_at_before_a_model_is_loaded(
    without, monkeypatch, capsys, task: str, words: str
) -> None:
    without("lm_eval")
    check_task("demo_words")
    monkeypatch.setattr(sys, "argv", ["evaluate", "no/model/here", "--tasks", f"demo_words,{task}"])
    with pytest.raises(SystemExit) as stopped:
        evaluate.main()
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_adapters_without_their_package_are_refused_before_a_model_is_loaded(
    without, capsys
) -> None:
    without("peft")
    assert finetune.main(["no/model/here", "lora_rank=4"]) == 2
    said = capsys.readouterr().err
    assert "lora_rank=4 needs the package peft" in said
    assert "pip install 'llm-interventions[finetune]'; or leave it out" in said
