"""What was planned and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import OTHER_TEST, SUPERSEDED, TWIN, Runs
from harness.records import RECORD_FILE, PlannedRun, StudyPlan
from harness.records.versions import changes_of_test_set


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every run accounted for."""

    planned: int | None
    """Cells of the studies' plans; None: there is no plan."""
    counts: dict[str, int]
    """Status -> number of runs."""
    missing: tuple[str, ...]
    """Cells that were planned, or asked for by a command, and never started."""
    not_named: tuple[str, ...]
    """Planned cells that have a record outside of the folders that were named."""
    unplanned: tuple[str, ...]
    """Complete runs that no plan has: the comparison is then exploratory."""
    diverged: tuple[str, ...]
    failed: tuple[str, ...]
    unfinished: tuple[str, ...]
    superseded: tuple[str, ...]
    """Runs of an arm that was edited since; they stand in no figure."""
    edits: tuple[str, ...]
    """What was edited, arm by arm."""
    unreadable: tuple[str, ...]
    """Files that could not be read, each with its reason; runs of such records count nowhere."""
    n_lost: int
    """Records among them."""
    shared: tuple[str, ...]
    """Runs whose cell several of the studies hold; each counts once."""
    other_tests: tuple[str, ...]
    """Arms measured on another test set than the baseline's, with what they change in it."""

    def sentence(self) -> str:
        """Return the ledger as one line."""
        parts = [] if self.planned is None else [f"{self.planned} planned"]
        order = ["complete", "running", "stopped", "failed", "diverged"]
        order += [SUPERSEDED, OTHER_TEST, TWIN]
        parts += [
            f"{self.counts.get(status, 0)} {status}"
            for status in order
            if self.counts.get(status) or status in ("complete", "failed", "diverged")
        ]
        if self.shared:
            parts.append(f"{len(self.shared)} of them in several studies, counted once")
        if self.n_lost:
            parts.append(f"{self.n_lost} unreadable")
        if self.missing:
            parts.append(f"{len(self.missing)} not started")
        if self.not_named:
            parts.append(f"{len(self.not_named)} outside of the folders named")
        return ", ".join(parts)


def take_stock(given: Runs) -> Ledger:
    """Compare all runs, whatever their status, with what plans and commands asked for."""
    runs, plans = given.frame, given.plans
    status = runs["status"].astype(str)
    cells = [*{cell["cell"]: cell for plan in plans.values() for cell in plan.cells}.values()]
    known = set(runs["cell"].astype(str)) if "cell" in runs else set()
    lost = {e.file.parent.name for e in given.unreadable if e.file.name == RECORD_FILE}
    planned = {cell["cell"] for cell in cells}
    waiting = [cell for cell in given.not_started if cell["cell"] not in planned]
    apart = {cell["cell"] for cell in given.not_named} - known
    unknown = [cell for cell in cells if cell["cell"] not in known | lost | apart]
    missing = tuple(_describe(cell) for cell in [*unknown, *waiting])
    return Ledger(
        planned=len(cells) if cells else None,
        counts={str(name): int(count) for name, count in status.value_counts().items()},
        missing=missing,
        not_named=tuple(_describe(cell) for cell in cells if cell["cell"] in apart),
        unplanned=_unplanned(runs, plans, planned) if cells else (),
        diverged=tuple(
            _at_step({str(k): v for k, v in row.items()})
            for row in runs[status == "diverged"].to_dict("records")
        ),
        failed=tuple(runs.loc[status == "failed", "run_id"]),
        unfinished=tuple(runs.loc[status.isin(["running", "stopped"]), "run_id"]),
        superseded=tuple(runs.loc[status == SUPERSEDED, "run_id"]),
        edits=_edits(runs[status == SUPERSEDED]),
        unreadable=tuple(map(str, given.unreadable)),
        n_lost=len(lost),
        shared=tuple(given.shared),
        other_tests=_other_tests(runs[status == OTHER_TEST]),
    )


def _other_tests(runs: pd.DataFrame) -> tuple[str, ...]:
    rows = runs.to_dict("records")
    arms = {str(row["arm"]): changes_of_test_set(row.get("changes")) for row in rows}
    return tuple(f"{arm} ({what})" if what else arm for arm, what in arms.items())


def _edits(superseded: pd.DataFrame) -> tuple[str, ...]:
    if "edit" not in superseded:
        return ()
    pairs = superseded[["arm", "edit"]].drop_duplicates()
    return tuple(f"{arm} ({edit})" for arm, edit in zip(pairs["arm"], pairs["edit"], strict=True))


def _unplanned(
    runs: pd.DataFrame, plans: dict[str, StudyPlan], planned: set[str]
) -> tuple[str, ...]:
    if "cell" not in runs:
        return ()
    bound = runs["study"].isin([study for study, plan in plans.items() if plan.cells])
    extra = bound & (runs["status"] == "complete") & ~runs["cell"].astype(str).isin(planned)
    return tuple(runs.loc[extra, "run_id"])


def _describe(cell: PlannedRun) -> str:
    values = [str(seed) for seed in cell["seeds"].values()]
    one_or_all = values[:1] if len(set(values)) == 1 else values
    return " seed ".join([cell["arm"], *(["/".join(one_or_all)] if values else [])])


def _at_step(row: dict[str, object]) -> str:
    step, of = row.get("step"), row.get("n_steps")
    return f"{row['run_id']} at step {step} of {of}" if step and of else str(row["run_id"])


def require_baseline(runs: pd.DataFrame, done: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return the complete runs; refuse them if the baseline was run and none of it is complete."""
    states = runs.loc[runs["arm"] == baseline, "status"].value_counts()
    if len(states) and baseline not in set(done["arm"]):
        became = ", ".join(f"{count} {status}" for status, count in states.items())
        way = "finish it" if set(states.index) - {"diverged"} else "it needs another recipe"
        raise AnalysisError(
            f"no complete run of the baseline {baseline!r}: {became}; {way}, or name another with "
            "--baseline"
        )
    return done
