"""Screen many interventions at once: fractional designs, the sweep to run, and its analysis.

Every run turns on a balanced half of the interventions, so each run informs every effect. Two
kinds of design, both of resolution IV (a main effect is not mixed with two-way interactions):

- 8 runs for up to 4 factors, 16 for up to 8, 32 for up to 16: a regular fraction, the saturated
  two-level design of half the runs folded over (Box, Hunter and Hunter 1978);
- 24 runs for up to 12 factors: the Plackett-Burman design of 12 runs (1946, Biometrika 33:305),
  folded over.

Interventions that exclude each other share one factor with a level for each: at most three levels
(none, A, B) by collapsing two two-level columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from analysis.classic import holm
from analysis.comparison import Source, check_rules, read_frame
from analysis.dunnett import two_sided_p
from analysis.errors import AnalysisError
from analysis.fit import FEWEST_DF, NO_NOISE, Array
from analysis.render import markdown_table, number, p_value
from analysis.runs import arm_name, complete

PB12 = (1, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1)
"""First row of the Plackett-Burman design of 12 runs; the others are its cyclic shifts."""
MOST_FACTORS = 16


@dataclass(frozen=True, slots=True)
class Screen:
    """A design: one arm a row."""

    arms: tuple[str, ...]
    """What each run turns on."""
    factors: tuple[str, ...]
    """Interventions, each one column."""
    matrix: Array
    """(runs, factors) of 0 and 1."""
    kind: str
    seeds: int

    def commands(self) -> str:
        """Return the shell command that runs the design; each seed is a block of all its runs."""
        distinct = dict.fromkeys(self.arms)
        choices = ",".join(
            arm if "+" not in arm else f"[{arm.replace('+', ',')}]" for arm in distinct
        )
        seeds = ",".join(str(seed) for seed in range(self.seeds))
        return f"python -m harness -m study_name=screen '+intervention={choices}' 'seed={seeds}'"

    def to_markdown(self) -> str:
        """Return the design with the command that runs it."""
        rows = [
            [str(i + 1), *("x" if on else "" for on in row)] for i, row in enumerate(self.matrix)
        ]
        table = markdown_table(["run", *self.factors, " "], [[*row, ""] for row in rows])
        return (
            f"## {self.kind}: {len(self.arms)} runs for {len(self.factors)} interventions\n\n"
            f"{table}\n\nRun it, then analyse it:\n\n    {self.commands()}\n"
            "    python -m analysis design --analyse runs/screen\n\n"
            "Confirm what comes out at 2 seeds or more against the baseline.\n"
        )


def design(
    interventions: Sequence[str], exclusive: Sequence[Sequence[str]] = (), seeds: int = 1
) -> Screen:
    """Return a screening design over chosen interventions.

    Parameters
    ----------
    interventions
        2 to 16 names.
    exclusive
        Pairs of names that cannot be on together, e.g. two learning rates.
    seeds
        Repeats of the whole design.

    Raises
    ------
    AnalysisError
        Too few or too many interventions, a name twice, or exclusive groups that overlap or are
        larger than two.

    Examples
    --------
    >>> design(["a", "b", "c", "d"]).arms
    ('baseline', 'a+d', 'b+d', 'a+b', 'c+d', 'a+c', 'b+c', 'a+b+c+d')
    """
    names = list(dict.fromkeys(interventions))
    _check(names, interventions, exclusive)
    pairs = [tuple(group) for group in exclusive]
    lone = [name for name in names if not any(name in pair for pair in pairs)]
    signs, kind = _two_level(len(names))
    columns: dict[str, Array] = {}
    order = [*(name for pair in pairs for name in pair), *lone]
    for column, name in enumerate(order):
        columns[name] = (signs[:, column] > 0).astype(float)
    for first, second in pairs:
        # Both columns on cannot be run: that quarter of the runs goes to neither.
        both = columns[first] * columns[second]
        columns[first], columns[second] = columns[first] - both, columns[second] - both
    matrix = np.stack([columns[name] for name in names], axis=1)
    arms = tuple(arm_name([n for n, on in zip(names, row, strict=True) if on]) for row in matrix)
    return Screen(arms, tuple(names), matrix, kind, seeds)


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
        return "\n".join(["## Main effects\n", markdown_table(header, rows), "", self.note]) + "\n"


def analyse(
    runs: Source,
    *,
    metric: str = "test_loss",
    alpha: float = 0.05,
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
    higher_is_better
        The metric is an accuracy, not a loss.

    Raises
    ------
    AnalysisError
        Too few runs, or interventions that were always on together.
    """
    rules = check_rules(None, {"metric": metric, "alpha": alpha, "allow_reruns": True})
    done = complete(read_frame(runs, rules)[0])
    names, X = _columns(done)
    df = len(done) - X.shape[1]
    if df < 1 or not names:
        raise AnalysisError(
            f"{len(done)} complete runs cannot tell {len(names)} interventions apart from noise: "
            f"at least {X.shape[1] + 1} are needed"
        )
    if np.linalg.matrix_rank(X) < X.shape[1]:
        raise AnalysisError(
            "some interventions were always on together: their effects cannot be told apart; run "
            "the design as printed by python -m analysis design"
        )
    inverse = np.linalg.inv(X.T @ X)
    y = done["loss"].to_numpy(dtype=float)
    c = inverse @ X.T @ (y - y.mean())
    sd = float(np.sqrt(((y - y.mean() - X @ c) ** 2).sum() / df))
    if sd <= NO_NOISE * abs(float(y.mean())):
        raise AnalysisError("the residual is zero: there is no noise to judge the effects by")
    se = sd * np.sqrt(np.diag(inverse))
    own = slice(1, 1 + len(names))
    effects = _effects(names, c[own], se[own], df, alpha)
    if higher_is_better:
        effects["verdict"] = effects["verdict"].replace({"better": "worse", "worse": "better"})
    note = (
        f"{len(done)} runs, residual sd {sd:.4g} on {df} df (noise and interactions). Holm's p, "
        "pointwise intervals. Effects are averages over the other interventions on and off: "
        "confirm at 2 seeds or more against the baseline."
    )
    return ScreenResult(effects, sd, len(done), note, alpha)


def _columns(done: pd.DataFrame) -> tuple[list[str], Array]:
    """Return the interventions and the model's columns: mean, interventions, blocks of seeds."""
    sets = [set(arm.split("+")) - {"baseline"} for arm in done["arm"]]
    names = sorted(set().union(*sets)) if sets else []
    columns = [np.ones(len(sets)), *(np.array([float(n in on) for on in sets]) for n in names)]
    if "init_seed" in done:
        seeds = done["init_seed"].astype(str)
        sizes = seeds.value_counts()
        if sizes.min() > 1:
            columns += [(seeds == seed).to_numpy(dtype=float) for seed in sorted(sizes.index)[1:]]
    return names, np.stack(columns, axis=1)


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


def _check(names: list[str], given: Sequence[str], exclusive: Sequence[Sequence[str]]) -> None:
    if len(names) != len(given):
        raise AnalysisError("an intervention is named twice")
    if not 2 <= len(names) <= MOST_FACTORS:
        raise AnalysisError(f"{len(names)} intervention(s): a screen takes 2 to {MOST_FACTORS}")
    flat = [name for group in exclusive for name in group]
    if any(len(group) != 2 for group in exclusive) or len(flat) != len(set(flat)):
        raise AnalysisError(
            "exclusive interventions come in pairs that do not overlap (a factor of three levels: "
            "none, A, B), e.g. --exclusive higher_lr,scheduled_lr"
        )
    unknown = sorted(set(flat) - set(names))
    if unknown:
        raise AnalysisError(f"{unknown[0]!r} is exclusive but not among {', '.join(names)}")


def _two_level(n_factors: int) -> tuple[Array, str]:
    if 8 < n_factors <= 12:
        rows = [np.roll(PB12, shift) for shift in range(11)]
        half = np.column_stack([np.ones(12), np.vstack([*rows, -np.ones(11)])])
        return np.vstack([half, -half])[:, :n_factors], "folded-over Plackett-Burman design"
    n_runs = next(n for n in (8, 16, 32) if n_factors <= n // 2)
    basic = int(np.log2(n_runs))
    bits = np.array([[(run >> bit) & 1 for bit in range(basic)] for run in range(n_runs)])
    # Products of an odd number of basic factors: no word of length three, so resolution IV.
    odd = [m for m in range(1, n_runs) if bin(m).count("1") % 2 == 1]
    odd.sort(key=lambda m: (bin(m).count("1"), m))
    signs = []
    for m in odd[:n_factors]:
        chosen = [bit for bit in range(basic) if (m >> bit) & 1]
        signs.append(np.prod(2 * bits[:, chosen] - 1, axis=1))
    kind = f"2^({n_factors}-{n_factors - basic})" if n_factors > basic else f"2^{basic}"
    return np.stack(signs, axis=1).astype(float), f"{kind} design, resolution IV or higher"
