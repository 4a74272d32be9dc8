"""The study sweepers and launcher, where Hydra looks for plugins. Thin: the work is in `harness`.

A sweeper turns a saved study's plan, or swept overrides, into jobs, freezes them all and settles
the plan; the launcher runs the frozen cells side by side on this machine. Any other launcher
(SLURM, Ray) runs the same jobs: cells are idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from harness.records.study import Study
    from harness.study.plan import PlannedCell

LOOKS_FILE = "looks.jsonl"
_HERE = "hydra_plugins.study_plugins"
_SWEEPER = {"max_batch_size": None}
for _group, _name, _node in (
    ("sweeper", "study", {"_target_": f"{_HERE}.StudySweeper", **_SWEEPER}),
    ("sweeper", "sequential", {"_target_": f"{_HERE}.SequentialSweeper", "looks": [2, 3, 4]}),
    ("launcher", "study", {"_target_": f"{_HERE}.StudyLauncher"}),
):
    ConfigStore.instance().store(
        group=f"hydra/{_group}", name=_name, node=_node, provider="harness"
    )

Job = tuple[str, ...]
"""The overrides of one cell."""


class StudySweeper(BasicSweeper):
    """Hydra's grid over ``a,b`` and ``range(n)``; a saved study adds its arms and seeds."""

    def sweep(self, arguments: list[str]) -> Any:
        """Freeze every combination, then launch all of a study at once."""
        config, launcher = self._parts()
        studies = [[*arguments, *size] for size in _sizes(config)]
        if config.study.tune:
            return [done for study in studies for done in self._tuned(study)]
        planned = [self.jobs(config, study) for study in studies]
        cells = [settled(config, jobs) for jobs in planned]  # all are checked before one is trained
        return [
            done
            for jobs, known in zip(planned, cells, strict=True)
            for done in _launch(launcher, jobs, known)
        ]

    def _tuned(self, arguments: list[str]) -> Any:
        """Launch one study's trials, then its cells with what each arm's trials chose."""
        config, launcher = self._parts()
        tuning = self.tune(arguments)
        jobs = self.jobs(config, arguments, tuning)
        return _launch(launcher, jobs, settled(config, jobs, tuning=tuning))

    def tune(self, arguments: list[str]) -> dict[str, Any]:
        """Launch the trials of every arm; return what the study's plan says of them."""
        from harness.study import tuning

        config, launcher = self._parts()
        study: Any = OmegaConf.to_object(config.study)
        given = [text.partition("=")[2] for text in arguments if text.startswith("study_name=")]
        found: list[tuning.Candidate] = []
        launches = []
        for factors in tuning.combinations(study.tune):
            trial = [*arguments, *tuning.overrides([config.study_name, *given][-1], factors)]
            jobs = self.jobs(config, trial, seeds=tuning.seeds(study))
            cells = settled(config, jobs)
            found.append(tuning.Candidate(factors, list(cells.values())))
            launches.append((jobs, cells))
        for jobs, cells in launches:  # all are checked before one is trained
            _launch(launcher, jobs, cells)
        return tuning.summary(study, found)

    def _parts(self) -> tuple[DictConfig, Launcher]:
        return cast(DictConfig, self.config), cast(Launcher, self.launcher)

    def jobs(
        self,
        config: DictConfig,
        arguments: list[str],
        tuning: dict[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Job]:
        """Return the overrides of every cell: the plan's, times what is swept.

        `tuning` holds the factors that each arm trains with, `seeds` those of trials.
        """
        from harness.config import ConfigError
        from harness.config.typed import names_arms
        from harness.study.tuning import tuned

        config.study.arms = [_plain(arm) for arm in config.study.arms]
        parsed = OverridesParser.create().parse_overrides(
            [_plain_arms(argument) for argument in arguments]
        )
        # overwriting is done once, when the cells are frozen: a job that a cluster queues again
        # must go on, not begin anew
        kept = [override for override in parsed if override.key_or_group != "overwrite"]
        swept = names_arms(o.get_key_element() for o in kept if o.is_sweep_override())
        named = (f"sweep=[{','.join(swept)}]",) if swept else ()
        grid = [(*job, *named) for job in self.split_arguments(kept, None)[0]]
        if not config.study.arms and "study" not in config.hydra.runtime.choices:
            return [tuple(job) for job in grid]
        if config.study.arms and "baseline" not in config.study.arms:
            raise ConfigError(
                f"study.arms={list(config.study.arms)} has nothing to compare with: add baseline"
            )
        if swept and config.study.tune:
            raise ConfigError(f"study.tune tunes the study's arms: do not sweep {swept[0]} as well")
        own = {arm: (tuned(one["tuned"]),) for arm, one in (tuning or {"arms": {}})["arms"].items()}
        return [
            (*job, *_overrides(arm, seed), *own.get(_sorted(arm), ()))
            for arm in config.study.arms
            for seed in (seeds or range(n_seeds(config, arm)))
            for job in grid
        ]


class SequentialSweeper(StudySweeper):
    """Run a saved study in looks: the next seeds go only to the arms that are not decided yet."""

    def __init__(self, looks: list[int]) -> None:
        super().__init__(max_batch_size=None)
        self.looks = [int(look) for look in looks]

    def sweep(self, arguments: list[str]) -> Any:
        """Launch look after look until every arm is decided or the last look is done."""
        from harness.cell.console import StudyFailed
        from harness.config import ConfigError

        config, launcher = self._parts()
        if not config.study.arms:
            raise ConfigError("hydra/sweeper=sequential runs a saved study: add +study=NAME")
        if config.study.scales:
            raise ConfigError(
                "hydra/sweeper=sequential decides one size: add 'study.scales=[]' scale=NAME"
            )
        config.study.seeds, config.study.baseline_seeds = self.looks[-1], None
        tuning = self.tune(arguments) if config.study.tune else None
        jobs = self.jobs(config, [*arguments, f"study.seeds={self.looks[-1]}"], tuning)
        cells = settled(config, jobs, self.looks, tuning)
        study = cells[jobs[0]].study
        returns: list[Any] = []
        arms, n_seeds, look = {cell.config.arm for cell in cells.values()}, self.looks[0], 0
        while n_seeds is not None:
            due = [
                job
                for job, cell in cells.items()
                if cell.config.arm in arms and cell.config.seed < n_seeds
            ]
            returns += _launch(launcher, due, cells)
            decision = _decide(study)
            if decision.look == look:
                raise StudyFailed(
                    f"the look at {n_seeds} seeds cannot be taken: too few baseline runs that did "
                    f"not diverge, or arms beside the plan in {study}"
                )
            _record_look(study, decision)
            arms, n_seeds = {*decision.running, "baseline"}, decision.next_n
            look = decision.look
        return returns


class OtherLaunchers(SearchPathPlugin):
    """Lets ``conf/hydra/launcher/NAME.yaml`` build on what another plugin stores as NAME.

    Hydra would match the two by name, a way that it has deprecated; so the plugin's is renamed to
    ``NAME_schema``, which ours names in its defaults. Called when all plugins are known.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Rename the schemas."""
        store = ConfigStore.instance()
        for name in ("ray", "submitit_slurm"):
            theirs = store.repo["hydra"]["launcher"].pop(f"{name}.yaml", None)
            if theirs is not None:
                store.store(
                    group=theirs.group,
                    name=f"{name}_schema",
                    node=theirs.node,
                    provider=theirs.provider,
                )


class OwnFolders(SearchPathPlugin):
    """Finds a person's overlays, studies and corpora in ``my_conf`` or ``conf`` beside the command.

    They come after ours, so that another program's ``conf`` changes nothing.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders that are there."""
        from harness.records.files import conf_folders

        for folder in conf_folders()[1:]:
            search_path.append(provider="beside the command", path=f"file://{folder}")


class StudyLauncher(Launcher):
    """Runs cells on this machine; see `harness.study.runner`."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra hands over."""
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run every cell; exits non-zero if one of them has no result."""
        from harness.study.runner import run_cells

        cells = [_cell(self.config, job) for job in job_overrides]
        for cell in cells:  # a sweeper of ours has done it, another has not
            cell.freeze()
        run_cells(cells)
        return [JobReturn(list(job), status=JobStatus.COMPLETED) for job in job_overrides]


def _sizes(config: DictConfig) -> list[list[str]]:
    """Return the overrides of each size of a family of studies; one without any, if it is none."""
    scales = [str(scale) for scale in config.study.scales]
    return [[f"scale={name}", f"study_name={config.study_name}_{name}"] for name in scales] or [[]]


def n_seeds(config: DictConfig, arm: str) -> int:
    """Return how many seeds the plan gives an arm."""
    study = config.study
    baseline = arm == "baseline" and study.baseline_seeds is not None
    return int(study.baseline_seeds if baseline else study.seeds)


def settled(
    config: DictConfig,
    jobs: Sequence[Job],
    looks: Sequence[int] = (),
    tuning: dict[str, Any] | None = None,
) -> dict[Job, PlannedCell]:
    """Freeze every job and settle the plan, once all of them have been checked."""
    from harness.study.plan import settle

    cells = {job: _cell(config, job) for job in jobs}
    settle([cells[job] for job in jobs], looks, tuning)
    return cells


def _cell(config: DictConfig, job: Sequence[str]) -> PlannedCell:
    """Compose and check one job; a job that this process knows is not touched again."""
    hydra_overrides = tuple(config.hydra.overrides.hydra)
    return _composed(hydra_overrides, tuple(job), overwrite=bool(config.overwrite))


@cache
def _composed(hydra_overrides: tuple[str, ...], job: Job, *, overwrite: bool) -> PlannedCell:
    from harness.config.compose import resolve
    from harness.study.plan import PlannedCell

    config = resolve(hydra_overrides, job)
    config.overwrite = overwrite
    return PlannedCell(config)


def _launch(
    launcher: Launcher, jobs: Sequence[Job], cells: dict[Job, PlannedCell]
) -> Sequence[JobReturn]:
    """Run the jobs; whoever ran them, a cell without a result is an error."""
    from harness.cell.console import say
    from harness.study.runner import require_results

    returns = launcher.launch(jobs, initial_job_idx=0)
    if not isinstance(launcher, StudyLauncher):
        for job in returns:
            if job.status is JobStatus.FAILED:
                say(f"error: {' '.join(job.overrides or [])}: {job._return_value}")
        require_results([cells[job] for job in jobs])
    return returns


def _plain(arm: Any) -> str:
    """Return an arm's name; a stack may be written as a list, too, as in '+intervention=[a,b]'."""
    names = arm.strip("[]").split(",") if isinstance(arm, str) else arm
    return "+".join(str(name).strip() for name in names)


def _sorted(arm: str) -> str:
    """Return an arm's name as records have it."""
    return "+".join(sorted(arm.split("+")))


def _plain_arms(argument: str) -> str:
    if not argument.startswith("study.arms=["):
        return argument
    arms: Any = OverridesParser.create().parse_override(argument).value()
    return f"study.arms=[{','.join(map(_plain, arms))}]"


def _overrides(arm: str, seed: int) -> Job:
    return (f"+intervention=[{','.join(arm.split('+'))}]", f"seed={seed}")


def _decide(study: Study) -> Any:
    """Ask the analysis which arms are decided, from the records and the frozen plan."""
    from analysis import decide, read_runs

    runs = read_runs([str(study)])
    (plan,) = runs.plans.values()
    return decide(runs.frame, plan)


def _record_look(study: Study, decision: Any) -> None:
    """Append the look to ``looks.jsonl``, once, and show it."""
    from harness.cell.console import say
    from harness.records.files import append_json_lines, now
    from harness.records.reading import decoder, read_json_lines
    from harness.records.study import Look

    say("\n" + decision.to_markdown())
    path = study.folder / LOOKS_FILE
    taken: list[Look] = read_json_lines(path, decoder(Look), skip_torn=True)
    if decision.look in [line["look"] for line in taken]:
        return
    rows = decision.table.astype(object).where(decision.table.notna(), None).to_dict("records")
    line = {"look": decision.look, "time": now(), "next_n": decision.next_n, "arms": rows}
    append_json_lines(path, [line])
