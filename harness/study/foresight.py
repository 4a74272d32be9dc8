"""What a study can decide, told before its hours are spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.log import say
from harness.records import BASELINE
from harness.study.view import cell_states, shown

FEWEST_DF = 3
"""Degrees of freedom below which the analysis gives no verdict."""


def warn_of_no_verdict(study: Path, *, planned: bool) -> None:
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
        f"warning: expect no verdict but undecided: the {len(runs)} runs of {len(arms)} arms leave "
        f"{df} of the {FEWEST_DF} degrees of freedom that it needs; {n_seeds} seeds of every arm "
        f"are enough: {option}"
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
