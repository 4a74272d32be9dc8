"""Where the noise comes from: variance components of whatever the seeds vary.

Sequential analysis of variance (Henderson's method 1): each source's sum of squares after those
before it, with expected mean squares computed from the design, so that crossed, nested and
unbalanced repeats all work. On balanced data with positive estimates this is REML.

Intervals: chi-square for the residual, modified large-sample for sums of mean squares (Graybill
and Wang 1980, J. Am. Stat. Assoc. 75:869) and differences (Ting et al. 1990, J. Stat. Comput.
Simul. 35:135).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analysis.errors import AnalysisError
from analysis.stats.linear import Array, Index

NAMES = {"init_seed": "init", "data_seed": "data order", "loop_seed": "loop"}
FEW_LEVELS = 4
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Components:
    """Sources of noise.

    ``table`` has the columns source, sd, ci_low, ci_high (nats per token), levels, df, share (of
    the total variance) and note; the last row is the total, its levels are the runs.
    """

    table: pd.DataFrame
    n: int
    """Runs used."""
    design: str
    """What the seeds allow, in words."""


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    labels: Index
    """(N,) integers."""
    levels: int


def variance_components(runs: pd.DataFrame, confidence: float = 0.95) -> Components:
    """Split the noise of one arm's runs, or of several arms around their means.

    Parameters
    ----------
    runs
        Complete runs with columns ``arm``, ``loss`` (nats per token) and any of ``init_seed``,
        ``data_seed``, ``loop_seed``; ``data_shuffled`` False says that the data seed does nothing.
    confidence
        Of the intervals.

    Returns
    -------
    Components
        Only the sources that the seeds can separate; what varies together is one row.

    Raises
    ------
    AnalysisError
        No arm has two runs.

    Examples
    --------
    >>> runs = pd.DataFrame({"arm": "baseline", "init_seed": [0, 0, 1, 1, 2, 2, 3, 3],
    ...     "loop_seed": [0, 1] * 4, "loss": [3.6915, 3.6938, 3.7042, 3.7011, 3.6811, 3.6842,
    ...     3.6975, 3.6969]})
    >>> variance_components(runs).table[["source", "sd"]].round(6).values.tolist()
    [['init', 0.008384], ['loop', 0.001763], ['total', 0.008567]]
    """
    runs = runs.reset_index(drop=True)
    arm = pd.factorize(runs["arm"])[0]
    if len(runs) - len(set(arm)) < 1:
        raise AnalysisError(
            f"{len(runs)} complete run(s): repeats of one arm are needed to see noise, e.g. "
            "python -m harness -m '+intervention=baseline' 'seed=range(4)'"
        )
    sources, residual = _sources(runs, arm)
    anova = _anova(runs["loss"].to_numpy(dtype=float), arm, sources)
    rows = _rows(anova, sources, residual, 1 - confidence)
    return Components(pd.DataFrame(rows), len(runs), _describe(sources, residual))


def _sources(runs: pd.DataFrame, arm: np.ndarray) -> tuple[list[_Source], tuple[str, int]]:
    """Return the separable sources, and the residual's name and levels.

    A seed that is a function of another one, as data order = init // 2, goes before it: what is
    left of the other is within it.
    """
    varying: dict[str, np.ndarray] = {}
    for seed in NAMES:
        idle = seed == "data_seed" and "data_shuffled" in runs and _never(runs["data_shuffled"])
        if seed not in runs or idle:
            continue
        labels = pd.factorize(runs[seed].astype(str))[0]
        if max(len(set(labels[arm == a])) for a in set(arm)) > 1:
            varying[NAMES[seed]] = labels
    merged = _merge(varying)
    kept, residual = [], []
    for name, labels in merged.items():
        cells = set(zip(arm, labels, strict=True))
        unrepeated = len(cells) == len(runs)
        lone = len(set(labels)) == len(runs) or (len(merged) == 1 and len(set(arm)) == 1)
        if name in ("loop", "data order + loop") or (unrepeated and lone):
            residual.append((name, len(runs)))
        else:
            kept.append(_Source(name, labels, len(set(labels))))
    if residual:
        name, levels = " + ".join(name for name, _ in residual), max(n for _, n in residual)
    else:
        name, levels = "not explained by seeds" if kept else "run to run", len(runs)
    outer_first = sorted(kept, key=lambda source: sum(_follows(other, source) for other in kept))
    return outer_first, (name, levels)


def _follows(one: _Source, other: _Source) -> bool:
    """Return whether the first one's seed is known once the other's is."""
    pairs = set(zip(one.labels, other.labels, strict=True))
    return len(pairs) == other.levels > one.levels


def _merge(varying: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Join sources that always change together: nothing can tell them apart."""
    merged: dict[str, np.ndarray] = {}
    for name, labels in varying.items():
        for other, theirs in list(merged.items()):
            pairs = set(zip(labels, theirs, strict=True))
            if len(pairs) == len(set(labels)) == len(set(theirs)):
                merged[f"{other} + {name}"] = merged.pop(other)
                break
        else:
            merged[name] = labels
    return merged


@dataclass(frozen=True, slots=True)
class _Anova:
    usable: NDArray[np.bool_]
    """Which of the sources, the residual last, have degrees of freedom; only they follow."""
    ms: Array
    """(K,) mean squares."""
    df: Array
    inverse: Array
    """(K, K): rows give the components as combinations of `ms`."""


def _anova(loss: Array, arm: np.ndarray, sources: list[_Source]) -> _Anova:
    indicators = [_indicators(arm), *[_indicators(source.labels) for source in sources]]
    y = loss - loss.mean()
    spaces, ranks = [], []
    basis = np.zeros((len(y), 0))
    for block in indicators:
        basis = _orthonormal(np.hstack([basis, block]))
        spaces.append(basis)
        ranks.append(basis.shape[1])
    explained = np.array([float(((space.T @ y) ** 2).sum()) for space in spaces])
    ss = np.append(np.diff(explained), max(float(y @ y) - explained[-1], 0.0))
    df = np.append(np.diff(ranks), len(y) - ranks[-1]).astype(float)
    expected = np.zeros((len(df), len(df)))
    for k in range(len(sources)):
        for j in range(k, len(sources)):
            after, before = spaces[k + 1].T @ indicators[j + 1], spaces[k].T @ indicators[j + 1]
            expected[k, j] = (after**2).sum() - (before**2).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected /= df[:, None]
        ms = ss / df
    expected[:, -1] = 1.0
    usable = df > 0
    keep = np.ix_(usable, usable)
    return _Anova(
        usable, ms[usable], df[usable], np.asarray(np.linalg.inv(expected[keep]), dtype=np.float64)
    )


def _rows(
    anova: _Anova, sources: list[_Source], residual: tuple[str, int], alpha: float
) -> list[dict[str, object]]:
    every = [(source.name, source.levels) for source in sources] + [residual]
    names = [name for name, usable in zip(every, anova.usable, strict=True) if usable]
    lost = [
        source.name for source, usable in zip(sources, anova.usable, strict=False) if not usable
    ]
    if not anova.usable[-1]:
        # Nothing is repeated below the last source: it and the residual are one.
        names[-1] = (names[-1][0], residual[1])
    positive = np.maximum(anova.inverse @ anova.ms, 0.0)
    rows: list[dict[str, object]] = []
    for k, (name, levels) in enumerate(names):
        low, high = mls_interval(anova.inverse[k], anova.ms, anova.df, alpha)
        few = f"only {levels} levels" if levels < FEW_LEVELS else ""
        zero = "estimate below 0" if float(anova.inverse[k] @ anova.ms) < 0 else ""
        rows.append(
            {
                "source": name,
                **_sds(positive[k], (low, high)),
                "levels": levels,
                "df": float(anova.df[k]),
                "share": float(positive[k] / max(positive.sum(), 1e-300)),
                "note": "; ".join(filter(None, [few, zero])),
            }
        )
    note = f"these seeds cannot separate {' and '.join(lost)}" if lost else ""
    return [*rows, {**_total(anova, alpha), "levels": residual[1], "note": note}]


def _total(anova: _Anova, alpha: float) -> dict[str, object]:
    weights = anova.inverse.sum(axis=0)
    variance = float(weights @ anova.ms)
    interval = mls_interval(weights, anova.ms, anova.df, alpha)
    spread = float(((weights * anova.ms) ** 2 / anova.df).sum())
    df = variance**2 / spread if spread > 0 else float(anova.df.sum())
    return {"source": TOTAL, **_sds(variance, interval), "df": df, "share": 1.0}


def _sds(variance: float, interval: tuple[float, float]) -> dict[str, float]:
    roots = (float(np.sqrt(max(value, 0.0))) for value in (variance, *interval))
    return dict(zip(("sd", "ci_low", "ci_high"), roots, strict=True))


def mls_interval(weights: Array, ms: Array, df: Array, alpha: float = 0.05) -> tuple[float, float]:
    """Return the modified large-sample interval of a combination of mean squares.

    Parameters
    ----------
    weights
        (K,) coefficients, of either sign.
    ms, df
        (K,) independent mean squares and their degrees of freedom.
    alpha
        1 - the interval's probability.
    """
    c, up, down = np.abs(weights) * ms, weights > 0, weights < 0
    G = 1 - df / special.chdtri(df, alpha / 2)
    H = df / special.chdtri(df, 1 - alpha / 2) - 1
    centre = float(weights @ ms)
    below = float(((G * c)[up] ** 2).sum() + ((H * c)[down] ** 2).sum())
    above = float(((H * c)[up] ** 2).sum() + ((G * c)[down] ** 2).sum())
    for q in np.flatnonzero(up):
        for r in np.flatnonzero(down):
            F = float(special.fdtri(df[q], df[r], 1 - alpha / 2))
            below += ((F - 1) ** 2 - (G[q] * F) ** 2 - H[r] ** 2) / F * c[q] * c[r]
            F = float(special.fdtri(df[q], df[r], alpha / 2))
            above += ((1 - F) ** 2 - (H[q] * F) ** 2 - G[r] ** 2) / F * c[q] * c[r]
    return centre - max(below, 0.0) ** 0.5, centre + max(above, 0.0) ** 0.5


def _indicators(labels: np.ndarray) -> Array:
    return np.asarray(labels[:, None] == np.unique(labels)[None, :], dtype=float)


def _orthonormal(columns: Array) -> Array:
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, size > 1e-9 * max(float(size[0]), 1.0)])


def _never(flags: pd.Series) -> bool:
    known = flags.dropna()
    return len(known) > 0 and not known.astype(bool).any()


def _describe(sources: list[_Source], residual: tuple[str, int]) -> str:
    if not sources:
        return f"the seeds separate nothing: only {residual[0]} as a whole"
    parts = ", ".join(f"{source.name} ({source.levels} levels)" for source in sources)
    return f"{parts}, then {residual[0]}"
