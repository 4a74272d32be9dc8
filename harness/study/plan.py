"""The plan of a study: fixed before the first loss is seen, never changed afterwards."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

from harness.cell import provenance
from harness.cell.console import say
from harness.cell.freeze import freeze, load_frozen, locate
from harness.config import (
    Autocast,
    Backend,
    Config,
    ConfigError,
    Flat,
    Matmul,
    WandbMode,
    recipe,
    stack_of,
)
from harness.data.corpus import ensure_corpora
from harness.data.evaluated import test_sequences
from harness.records import (
    BASELINE,
    FEWEST_DF,
    PlannedRun,
    StudyPlan,
    write_plan,
)
from harness.records.cell import Cell, seed_text
from harness.records.files import canonical_hash, flatten, now, plain
from harness.records.study import Study
from harness.records.versions import changes_of_test_set
from harness.study.outcome import result
from harness.study.states import cell_states, shown
from harness.tracking.backends import foreseen


class PlannedCell(Cell):
    """A cell with the config that it is to be trained with."""

    def __init__(self, config: Config, folder: Path | None = None) -> None:
        super().__init__(folder or locate(config))
        self.config, self.frozen = config, False

    def freeze(self) -> None:
        """Write the config into the folder, once."""
        if not self.frozen:
            freeze(self.config, self.folder)
            self.frozen = True

    @property
    def name(self) -> str:
        """Arm and seed, for people."""
        return _key(self.entry)

    @property
    def entry(self) -> PlannedRun:
        """What the study's plan says of it."""
        seeds = asdict(self.config.seeds)
        return {"arm": self.config.arm, "seeds": seeds, "cell": self.id}

    @property
    def work(self) -> float:
        """Roughly proportional to the time it takes on a GPU: tokens x weights x format."""
        model, precision = self.config.model, self.config.precision
        slowdown = 1
        if precision.autocast is Autocast.none:
            slowdown = 8 if precision.matmul is Matmul.highest else 2
        return slowdown * self.config.train.tokens * model.n_layer * model.n_embd**2


def settle(
    cells: Sequence[PlannedCell],
    looks: Sequence[int] = (),
    tuning: dict[str, Any] | None = None,
) -> None:
    """Check the cells of a sweep together, then freeze them and, of a saved study, the plan.

    An arm's cells may still be planned anew, and a study while it has none but such arms, as long
    as none of them has logged a loss or ended: nobody has seen what the change would be made for.
    What the command asks for is noted in the study's folder. A sweep that is refused, with a
    `ConfigError`, has written nothing.
    """
    if not cells:
        raise ConfigError("an empty sweep: name at least one arm and one seed")
    _refuse_twins(cells)
    _refuse_repeats(cells)
    _refuse_other_tests(cells)
    study = cells[0].study
    new = _plan(cells, looks) if cells[0].config.study.arms else None
    if new and tuning:
        new.tuning = tuning
    seen = _seen(study) if new else set()
    old = study.plan() if seen else None
    if old and new:
        _hold_against(old, new, seen)
        new = replace(old, cells=new.cells, tuning=new.tuning)
    _refuse_namesakes(cells)
    warn_of_tracker(cells[0].config.tracking.backend, cells[0].config.tracking.mode)
    for cell in cells:
        cell.freeze()
    if new and new != old:
        write_plan(study.folder, new)
    study.note_command([cell.entry for cell in cells])
    if not cells[0].config.study.tuning:
        _warn_of_no_verdict(study, planned=new is not None)


@cache
def warn_of_tracker(backend: Backend, mode: WandbMode) -> None:
    """Refuse a tracker that is not installed; say once what its every cell would."""
    if said := foreseen(backend, mode):
        say(f"warning: {said}")


def _seen(study: Study) -> set[str]:
    """Return the arms of which a loss was logged, or a result is known: one may log nothing."""
    cells = map(Cell, study.cells())
    return {cell.arm for cell in cells if cell.metrics_file.exists() or result(cell)}


def _refuse_twins(cells: Sequence[PlannedCell]) -> None:
    """Refuse a sweep that names one cell twice."""
    counts = Counter(cell.folder for cell in cells)
    twins = [cell for cell in cells if counts[cell.folder] > 1]
    if twins:
        cell, advice = twins[0], "give each value once"
        if cell.config.study.arms:
            advice = "name each arm of study.arms once"
        if keys := _apart([one.config for one in twins if one.folder == cell.folder]):
            advice = f"they differ in {', '.join(keys)}, which changes no result: give one value"
        raise ConfigError(f"two cells of this sweep are the same one ({cell.name}): {advice}")


def _refuse_repeats(cells: Sequence[PlannedCell]) -> None:
    """Refuse to train what an arm of another name is: a swept value may be the baseline's own."""
    study, arms = cells[0].study, defaultdict[str, list[str]](list)
    for cell in map(Cell, study.cells()):
        arms[cell.id].append(cell.arm)
    swept_first = sorted(cells, key=lambda cell: not cell.config.swept)
    trains = {cell: _in_whole_steps(cell) for cell in swept_first}
    for cell, same in trains.items():
        arms[same].append(cell.arm)
    for cell, same in trains.items():
        others = [arm for arm in arms[same] if arm != cell.arm]
        if others and not result(cell):
            swept = " ".join(f"{key}={value}" for key, value in cell.config.swept.items())
            compare = f"python -m analysis {study} --baseline {quote(others[0])} compares with it"
            raise ConfigError(
                f"{cell.name} trains as {others[0]} of this study does, with the same seeds "
                f"({cell.config.n_steps} steps), and would repeat its runs: "
                f"{f'leave {swept} out' if swept else compare}"
            )


def _in_whole_steps(cell: PlannedCell) -> str:
    """Return the id of the cell that takes the same steps, with no tokens left over."""
    config, train = cell.config, cell.config.train
    tokens = config.n_steps * config.tokens_per_step
    if tokens == train.tokens or train.round_up or train.batch_stages or train.length_stages:
        return cell.id
    return locate(replace(config, train=replace(train, tokens=tokens))).name


def _apart(configs: Sequence[Config]) -> list[str]:
    """Return the settings in which configs differ."""
    flat = [flatten(plain(config)) for config in configs]
    keys = sorted({key for one in flat for key in one})
    return [key for key in keys if any(one.get(key) != flat[0].get(key) for one in flat)]


def _refuse_other_tests(cells: Sequence[PlannedCell]) -> None:
    """Refuse an arm whose test set is not its baseline's: their losses could not be compared."""
    for cell in {cell.arm: cell for cell in cells}.values():
        what = changes_of_test_set(cell.config.changes)
        if what and not _tested_alike(cell.config, stack_of(cell.config, ())):
            raise ConfigError(
                f"{cell.arm} is tested on other tokens than its baseline ({what}), so their losses "
                "cannot be compared: eval.block_size and eval.test_set keep the baseline's test; "
                "or make the changes outside the overlays, in a study of its own (study_name=NAME)"
            )


def _tested_alike(arm: Config, baseline: Config) -> bool:
    """Tell whether two cells are tested on the same tokens, or on one text, in bits per byte."""
    ours, theirs = (ensure_corpora(config).main for config in (arm, baseline))
    if test_sequences(arm, ours).sha256() == test_sequences(baseline, theirs).sha256():
        return True
    return arm.data.tokenizer != baseline.data.tokenizer and ours.text_hash == theirs.text_hash


def _refuse_namesakes(cells: Sequence[PlannedCell]) -> None:
    """Refuse cells of equal arm and seeds that differ in a setting: no table tells them apart."""
    named: dict[str, list[Config]] = {}
    for cell in [*cells, *_finished_before(cells)]:
        named.setdefault(cell.name, []).append(cell.config)
    several = {name: _recipes(same) for name, same in named.items()}
    name, same = max(several.items(), key=lambda item: len(item[1]), default=("", []))
    every = sorted({key for settings in same for key in settings})
    keys = [key for key in every if len({str(settings.get(key)) for settings in same}) > 1]
    if len(same) > 1:
        raise ConfigError(
            f"{len(same)} cells of study {cells[0].config.study_name} are all {name} and differ in "
            f"{', '.join(keys)}, so no table could tell them apart: sweep it (-m {keys[0]}=A,B "
            "makes an arm of each value), or keep settings apart with study_name=NAME"
        )


def _recipes(configs: Sequence[Config]) -> list[Flat]:
    """Return the different ones; of equal ones the arm was edited: `harness.records.versions`."""
    found: list[Flat] = []
    for config in configs:
        settings = recipe(config, canonical_hash(plain(config.data)))
        if settings not in found:
            found.append(settings)
    return found


def _finished_before(cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Return the study's finished cells of the same arms and first seeds with other settings."""
    first = [cell for cell in cells if cell.config.seeds == cells[0].config.seeds]
    arms, mine = {cell.arm for cell in first}, {cell.folder for cell in cells}
    found = []
    for folder in cells[0].study.cells():
        if folder.parent.name in arms and folder not in mine:
            record = result(Cell(folder))
            if record and asdict(record.seeds) == asdict(cells[0].config.seeds):
                with suppress(ConfigError):  # of another version
                    found.append(PlannedCell(load_frozen(folder), folder))
    return found


def _plan(cells: Sequence[PlannedCell], looks: Sequence[int]) -> StudyPlan:
    config = cells[0].config
    code = provenance.code_state()
    return StudyPlan(
        study=config.study_name,
        alpha=config.study.alpha,
        rope=config.study.practical_size,
        looks=list(looks),
        cells=[cell.entry for cell in cells],
        code=[code.sha or code.files_sha256 or "", code.changes],
        created=now(),
    )


def _hold_against(old: StudyPlan, new: StudyPlan, seen: set[str]) -> None:
    """Refuse another plan than the study's, with the difference and the ways on."""
    differences = _differences(old, new, seen)
    if differences:
        raise ConfigError(
            f"the plan of study {new.study} was fixed on {old.created} and differs: "
            f"{'; '.join(differences)}. Undo the change; or start a new study with "
            "study_name=NAME; or add runs beside the plan (the table is then stamped exploratory): "
            f"the same command with -m study_name={new.study} '+intervention=...' in place of "
            "+study=..., and with what that file sets, such as its scale"
        )
    if old.code and old.code != new.code:
        say(
            "warning: the code is not what it was when this study was planned; "
            "every record says what ran"
        )


def _differences(old: StudyPlan, new: StudyPlan, seen: set[str]) -> list[str]:
    """Say how the plans differ; how the cells of arms that nobody has `seen` are made, is open."""
    found = [
        f"{words} was {getattr(old, name)}, now {getattr(new, name)}"
        for name, words in {"alpha": "alpha", "rope": "practical size", "looks": "looks"}.items()
        if getattr(old, name) != getattr(new, name)
    ]
    before, after = (
        {_key(c): c["cell"] if c["arm"] in seen else "" for c in plan.cells} for plan in (old, new)
    )
    groups = {
        "not planned before": after.keys() - before.keys(),
        "planned but missing now": before.keys() - after.keys(),
        "configured differently": {
            k for k in before.keys() & after.keys() if before[k] != after[k]
        },
    }
    for words, keys in groups.items():
        if keys:
            some = ", ".join(sorted(keys)[:3]) + (" ..." if len(keys) > 3 else "")
            found.append(f"{len(keys)} cells {words} ({some})")
    return found


def _key(cell: PlannedRun) -> str:
    return f"{cell['arm']} seed {seed_text(cell['seeds'].values())}"


def _warn_of_no_verdict(study: Study, *, planned: bool) -> None:
    """Point out, before the hours are spent, a study whose arms can only end as undecided."""
    runs = [(s.arm, s.seed.split("/")[0]) for s in shown(cell_states(study))[0] if s.seed != "?"]
    arms = {arm for arm, _ in runs}
    screening = len(set(runs)) == len(arms) and any("+" in arm for arm in arms)
    if screening or BASELINE not in arms or len(arms) == 1:
        return
    df = degrees_of_freedom(runs)
    if df >= FEWEST_DF:
        return
    n_seeds = seeds_for_verdicts(len(arms))
    option = f"study.seeds={n_seeds}" if planned else f"'seed=range({n_seeds})'"
    say(
        f"warning: every verdict will be undecided: {len(runs)} runs of {len(arms)} arms leave "
        f"{df} of the {FEWEST_DF} degrees of freedom that a verdict needs; {n_seeds} seeds of "
        f"every arm are enough: {option}"
    )


def degrees_of_freedom(runs: Sequence[tuple[str, str]]) -> int:
    """Return what the noise is estimated from, of runs given as (arm, initialisation seed).

    Where all arms have the same seeds, differences between these are no noise. A single
    initialisation says nothing of the noise between initialisations.
    """
    seeds: dict[str, set[str]] = {}
    for arm, seed in runs:
        seeds.setdefault(arm, set()).add(seed)
    if max(map(len, seeds.values())) == 1:
        return 0
    first, *others = seeds.values()
    paired = len(first) - 1 if all(other == first for other in others) else 0
    return len(runs) - len(seeds) - paired


def seeds_for_verdicts(n_arms: int) -> int:
    """Return how many seeds, the same for every arm, leave enough degrees of freedom."""
    return 1 + math.ceil(FEWEST_DF / (n_arms - 1))
