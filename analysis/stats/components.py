"""Where the noise comes from: variance components of whatever the seeds vary.

Sequential analysis of variance (Henderson's method 1): each source's sum of squares after those
before it, with expected mean squares computed from the design, so that crossed, nested and
unbalanced repeats all work. On balanced data with positive estimates this is REML.

Intervals: chi-square for the residual, modified large-sample for sums of mean squares (Graybill
and Wang 1980, J. Am. Stat. Assoc. 75:869) and differences (Ting et al. 1990, J. Stat. Comput.
Simul. 35:135).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analysis.errors import AnalysisError
from analysis.stats.linear import Array, Index
from analysis.stats.seed_correlation import CONFIDENCE

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


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    name: str
    labels: Index
    """(N,) integers."""
    levels: int


def variance_components(runs: pd.DataFrame) -> Components:
    """Split the noise of one arm's runs, or of several arms around their means.

    `runs` are complete, with columns ``arm``, ``loss`` (nats per token) and any of ``init_seed``,
    ``data_seed``, ``loop_seed``; ``data_shuffled`` False says that the data seed does nothing. Only
    the sources that the seeds can separate have a row, each with its 95% interval; what varies
    together is one.

    Examples
    --------
    >>> runs = pd.DataFrame({"arm": "baseline", "init_seed": [0, 0, 1, 1, 2, 2, 3, 3],
    ...     "loop_seed": [0, 1] * 4, "loss": [3.6915, 3.6938, 3.7042, 3.7011, 3.6811, 3.6842,
    ...     3.6975, 3.6969]})
    >>> variance_components(runs).table[["source", "sd"]].round(6).values.tolist()
    [['init', 0.008384], ['loop', 0.001763], ['total', 0.008567]]
    """
    arm = pd.factorize(runs["arm"])[0]
    if len(runs) - len(set(arm)) < 1:
        raise AnalysisError(
            f"{len(runs)} complete run(s): repeats of one arm with other seeds are needed to see "
            "noise"
        )
    *sources, residual = _sources(_varying(runs, arm), len(arm))
    anova = _anova(runs["loss"].to_numpy(dtype=float), arm, sources)
    rows = _rows(anova, [*sources, residual])
    return Components(pd.DataFrame(rows), len(runs), _describe(sources, residual))


def _varying(runs: pd.DataFrame, arm: Index) -> dict[str, Index]:
    """Return the seeds that vary within an arm; those that always change together are one."""
    merged: dict[str, Index] = {}
    for seed, name in NAMES.items():
        idle = seed == "data_seed" and "data_shuffled" in runs and _never(runs["data_shuffled"])
        if seed not in runs or idle:
            continue
        labels = pd.factorize(runs[seed].astype(str))[0]
        if max(len(set(labels[arm == a])) for a in set(arm)) == 1:
            continue
        same = [other for other, theirs in merged.items() if _alike(labels, theirs)]
        theirs = merged.pop(same[0]) if same else labels
        merged[f"{same[0]} + {name}" if same else name] = theirs
    return merged


def _sources(varying: dict[str, Index], n: int) -> list[_Source]:
    """Return the separable sources of n runs, and the residual last.

    A seed that is a function of another one, as data order = init // 2, goes before it: what is
    left of the other is within it.
    """
    kept, unrepeated = [], []
    for name, labels in varying.items():
        levels = len(set(labels))
        if name in ("loop", "data order + loop") or levels == n:
            unrepeated.append(name)
        else:
            kept.append(_Source(name, labels, levels))
    lowest = " + ".join(unrepeated) or ("not explained by seeds" if kept else "run to run")
    outer_first = sorted(kept, key=lambda source: sum(_follows(other, source) for other in kept))
    return [*outer_first, _Source(lowest, np.arange(n), n)]


def _follows(one: _Source, other: _Source) -> bool:
    """Return whether the first one's seed is known once the other's is."""
    pairs = set(zip(one.labels, other.labels, strict=True))
    return len(pairs) == other.levels > one.levels


def _alike(one: Index, other: Index) -> bool:
    """Return whether two seeds always change together: nothing can tell them apart."""
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


@dataclass(frozen=True, slots=True)
class _Anova:
    usable: NDArray[np.bool_]
    """Which of the sources, the residual last, have degrees of freedom; only they follow."""
    ms: Array
    """(K,) mean squares."""
    df: Array
    inverse: Array
    """(K, K): rows give the components as combinations of `ms`."""


def _anova(loss: Array, arm: Index, sources: list[_Source]) -> _Anova:
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


def _rows(anova: _Anova, every: list[_Source]) -> list[dict[str, object]]:
    """Return a row a source, the residual last, and the total."""
    sources = [source for source, usable in zip(every, anova.usable, strict=True) if usable]
    lost = [source.name for source in every[:-1] if source not in sources]
    if every[-1] not in sources:
        # Nothing is repeated below the last source: it and the residual are one.
        sources[-1] = replace(sources[-1], levels=every[-1].levels)
    estimates = anova.inverse @ anova.ms
    positive = np.maximum(estimates, 0.0)
    rows: list[dict[str, object]] = []
    for k, source in enumerate(sources):
        few = f"only {source.levels} levels" if source.levels < FEW_LEVELS else ""
        below = "estimate below 0" if estimates[k] < 0 else ""
        rows.append(
            {
                "source": source.name,
                **_sds(positive[k], mls_interval(anova.inverse[k], anova.ms, anova.df)),
                "levels": source.levels,
                "df": float(anova.df[k]),
                "share": float(positive[k] / max(positive.sum(), 1e-300)),
                "note": "; ".join(filter(None, [few, below])),
            }
        )
    note = f"these seeds cannot separate {' and '.join(lost)}" if lost else ""
    return [*rows, {**_total(anova), "levels": every[-1].levels, "note": note}]


def _total(anova: _Anova) -> dict[str, object]:
    weights = anova.inverse.sum(axis=0)
    variance = float(weights @ anova.ms)
    interval = mls_interval(weights, anova.ms, anova.df)
    spread = float(((weights * anova.ms) ** 2 / anova.df).sum())
    df = variance**2 / spread if spread > 0 else float(anova.df.sum())
    return {"source": TOTAL, **_sds(variance, interval), "df": df, "share": 1.0}


def _sds(variance: float, interval: tuple[float, float]) -> dict[str, float]:
    roots = (float(np.sqrt(max(value, 0.0))) for value in (variance, *interval))
    return dict(zip(("sd", "ci_low", "ci_high"), roots, strict=True))


def mls_interval(weights: Array, ms: Array, df: Array) -> tuple[float, float]:
    """Return the modified large-sample interval of a combination of independent mean squares."""
    alpha = 1 - CONFIDENCE
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
    return np.asarray(left[:, size > 1e-9 * size[0]])


def _never(flags: pd.Series) -> bool:
    known = flags.dropna()
    return len(known) > 0 and not known.astype(bool).any()


def _describe(sources: list[_Source], residual: _Source) -> str:
    if not sources:
        return f"the seeds separate nothing: only {residual.name} as a whole"
    parts = ", ".join(f"{source.name} ({source.levels} levels)" for source in sources)
    return f"{parts}, then {residual.name}"
