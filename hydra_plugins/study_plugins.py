"""The study sweeper and launcher, where Hydra looks for plugins. Thin: the work is in `harness`.

The sweeper turns a saved study's plan, or swept overrides, into jobs; the launcher freezes them
into cells and runs them side by side, each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

_STORE = ConfigStore.instance()
_STORE.store(
    group="hydra/sweeper",
    name="study",
    node={"_target_": "hydra_plugins.study_plugins.StudySweeper", "max_batch_size": None},
    provider="harness",
)
_STORE.store(
    group="hydra/launcher",
    name="study",
    node={"_target_": "hydra_plugins.study_plugins.StudyLauncher"},
    provider="harness",
)


class StudySweeper(BasicSweeper):
    """Hydra's grid over ``a,b`` and ``range(n)``; a saved study adds its arms and seeds."""

    def sweep(self, arguments: list[str]) -> Any:
        """Launch every combination at once, so that the launcher sees the whole study."""
        launcher, config = cast(Launcher, self.launcher), cast(DictConfig, self.config)
        parser = OverridesParser.create()
        grid = self.split_arguments(parser.parse_overrides(arguments), None)[0]
        planned = _planned(config)
        jobs = [[*job, *cell] for cell in planned for job in grid] if planned else grid
        return launcher.launch(jobs, initial_job_idx=0)


def _planned(config: DictConfig) -> list[list[str]]:
    """Return the overrides of each planned (arm, seed), arm by arm."""
    study = config.study
    jobs = []
    for arm in study.arms:
        n_seeds = study.seeds
        if arm == "baseline" and study.baseline_seeds is not None:
            n_seeds = study.baseline_seeds
        names = ",".join(arm.split("+"))
        jobs += [[f"+intervention=[{names}]", f"seed={seed}"] for seed in range(n_seeds)]
    return jobs


class StudyLauncher(Launcher):
    """Runs a study's cells on this machine; see `harness.study`."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra hands over."""
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Freeze and run every cell; exits non-zero if one of them failed."""
        from harness.compose import resolve
        from harness.study.runner import freeze_study, run_cells

        hydra_overrides = tuple(self.config.hydra.overrides.hydra)
        configs = [resolve(hydra_overrides, tuple(job)) for job in job_overrides]
        run_cells(freeze_study(configs))
        returns = []
        for job in job_overrides:
            returns.append(JobReturn(overrides=list(job), status=JobStatus.COMPLETED))
            returns[-1].return_value = None
        return returns
