"""The main effects of a screening design, from its runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.compare import Source, read
from analysis.comparison.rules import check_rules
from analysis.errors import AnalysisError
from analysis.runs.frame import complete, named
from analysis.stats.dunnett import two_sided_p
from analysis.stats.factorial import aliases
from analysis.stats.linear import FEWEST_DF, Array, clear_rounding, least_squares
from analysis.stats.textbook_tests import holm
from analysis.text import markdown_table, number, p_value
from harness.records import BASELINE


@dataclass(frozen=True, slots=True)
class ScreenResult:
    """Main effects of a screening design, sorted by size."""

    effects: pd.DataFrame
    """Columns intervention, effect, se, df, ci_low, ci_high (nats per token), p_raw, p_adj (Holm),
    verdict."""
    sd: float
    n: int
    note: str
    alpha: float = 0.05
    only_seed: str | None = None
    """The seed of all runs; None: there are several, or they are not known."""

    def to_markdown(self) -> str:
        """Return the effects for a person."""
        rows = [
            [
                row["intervention"],
                number(row["effect"], 4, sign=True),
                f"[{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]",
                p_value(row["p_adj"]),
                row["verdict"],
            ]
            for row in self.effects.to_dict("records")
        ]
        interval = f"{100 * (1 - self.alpha):g}% CI"
        header = ["intervention", "effect", interval, "p adj", "verdict"]
        parts = [
            "## Main effects\n",
            *self._one_seed(),
            markdown_table(header, rows),
            "",
            self.note,
        ]
        return "\n".join(parts) + "\n"

    def _one_seed(self) -> list[str]:
        if self.only_seed is None:
            return []
        return [
            f"**Warning:** all runs have seed {self.only_seed}, so how the effects vary with the "
            "seed is not in their intervals: every verdict holds for this seed alone.\n"
        ]


def analyse(
    runs: Source,
    *,
    metric: str = "test_loss",
    alpha: float = 0.05,
    baseline: str = BASELINE,
    higher_is_better: bool = False,
) -> ScreenResult:
    """Estimate the main effect of every intervention in a design's runs.

    Least squares of the loss on what each run turned on; the residual holds the noise and all
    interactions, so the test is careful where interventions interact. Intervals are pointwise.

    Parameters
    ----------
    runs
        As for `analysis.compare`; each arm's name says what was on.
    metric
        Column to analyse.
    alpha
        Family error of Holm's adjustment.
    baseline
        Arm that turns nothing on.
    higher_is_better
        The metric is an accuracy, not a loss.

    Raises
    ------
    AnalysisError
        Too few runs, or interventions that were always on together.
    """
    rules = check_rules(None, {"metric": metric, "alpha": alpha, "allow_reruns": True})
    done = complete(read(runs, rules).frame)
    if baseline != BASELINE and baseline not in set(done["arm"]):
        raise AnalysisError(
            f"no complete run of baseline {baseline!r}: the arms are {named(done['arm'].unique())}"
        )
    names, on = _turned_on(done, baseline)
    blocks, alone = _blocks(done)
    X = np.column_stack([np.ones(len(done)), on, blocks])
    _check_design(X, names)
    y = done["loss"].to_numpy(dtype=float)
    c, inverse, variance, free = least_squares(X, y - y.mean())
    df = int(free)
    if not clear_rounding(variance, float(y.mean())):
        raise AnalysisError("the residual is zero: there is no noise to judge the effects by")
    sd = variance**0.5
    se = sd * np.sqrt(np.diag(inverse))
    own = slice(1, 1 + len(names))
    effects = _effects(names, c[own], se[own], df, alpha)
    if higher_is_better:
        effects["verdict"] = effects["verdict"].replace({"better": "worse", "worse": "better"})
    note = _note(len(done), sd, df, alone) + _no_design(names, on)
    seeds = list(done["init_seed"].drop_duplicates()) if "init_seed" in done else []
    only_seed = seeds[0] if len(seeds) == 1 else None
    return ScreenResult(effects, sd, len(done), note, alpha, only_seed)


def _check_design(X: Array, names: list[str]) -> None:
    n, columns = X.shape
    if n <= columns or not names:
        raise AnalysisError(
            f"{n} complete runs cannot tell {len(names)} interventions apart from noise: "
            f"at least {columns + 1} are needed"
        )
    if np.linalg.matrix_rank(X) < columns:
        raise AnalysisError(
            "some interventions were always on together: their effects cannot be told apart; run "
            "the design as printed by python -m analysis design"
        )


def _note(n: int, sd: float, df: int, alone: int) -> str:
    note = (
        f"{n} runs, residual sd {sd:.4g} on {df} df (noise and interactions). Holm's p, "
        "pointwise intervals. Effects are averages over the other interventions on and off: "
        "confirm each alone against the baseline, at 2 new seeds or more."
    )
    if df < FEWEST_DF:
        note += f" All are undecided: {df} df, and a verdict needs {FEWEST_DF:g}; run more seeds."
    if alone:
        note += f" {alone} run(s) alone at their seed say nothing beside the blocks of the others."
    return note


def _turned_on(done: pd.DataFrame, baseline: str) -> tuple[list[str], Array]:
    """Return the interventions, and which of them each run turned on."""
    sets = [set(arm.split("+")) - {BASELINE} if arm != baseline else set() for arm in done["arm"]]
    names = sorted(set().union(*sets))
    return names, np.array([[float(name in on) for name in names] for on in sets])


def _blocks(done: pd.DataFrame) -> tuple[Array, int]:
    """Return a column for each seed but one, and how many runs are alone at theirs.

    Where most runs are, seeds make no blocks.
    """
    none = np.zeros((len(done), 0))
    if "init_seed" not in done:
        return none, 0
    seeds = done["init_seed"].astype(str)
    alone = int((seeds.map(seeds.value_counts()) == 1).sum())
    if 2 * alone > len(done):
        return none, 0
    others = seeds.value_counts().index[1:]
    return np.column_stack([none, *((seeds == seed).astype(float) for seed in others)]), alone


def _no_design(names: list[str], on: Array) -> str:
    """Return a warning where the runs are not those of a screening design."""
    matrix = np.unique(on, axis=0)
    if matrix.sum(axis=1).max() < 2:
        return (
            "\n\n**Warning:** no screening design: no run turns on two interventions. Compare each "
            "with the baseline: python -m analysis RUNS."
        )
    found = aliases(matrix)
    if not found:
        return ""
    effect, first, second = (names[i] for i in found[0])
    return (
        "\n\n**Warning:** no complete screening design: main effects hold parts of interactions "
        f"(e.g. {effect} of {first} x {second}; {len(found)} in all). Run every arm that "
        "python -m analysis design prints."
    )


def _effects(names: list[str], effect: Array, se: Array, df: int, alpha: float) -> pd.DataFrame:
    p = two_sided_p(effect / se, df)
    adjusted = holm(p)
    half = float(special.stdtrit(df, 1 - alpha / 2)) * se
    decided = (adjusted < alpha) & (df >= FEWEST_DF)
    words = np.where(decided, np.where(effect < 0, "better", "worse"), "undecided")
    table = pd.DataFrame(
        {
            "intervention": names,
            "effect": effect,
            "se": se,
            "df": float(df),
            "ci_low": effect - half,
            "ci_high": effect + half,
            "p_raw": p,
            "p_adj": adjusted,
            "verdict": words,
        }
    )
    return table.sort_values("effect").reset_index(drop=True)
