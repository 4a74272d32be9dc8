"""The noise band: where one more baseline run would fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.estimate import Estimate
from analysis.stats.dunnett import critical_value
from analysis.stats.mixed import fit_mixed, seed_index


@dataclass(frozen=True, slots=True)
class NoiseBand:
    """Baseline mean with the range of one more run; nats per token."""

    mean: float
    sd: float
    """Of one run with a new initialisation seed."""
    K: int
    """Baseline runs."""
    df: float
    half_width: float
    """One more baseline run falls within ``mean ± half_width`` with probability 1 - alpha."""
    half_width_arms: float
    """All of `n_arms` single runs of arms that change nothing would fall within this."""
    n_arms: int
    alpha: float


def noise_band(runs: pd.DataFrame, fitted: Estimate, alpha: float = 0.05) -> NoiseBand | None:
    """Return where one more baseline run would fall: ``mean ± t * s * sqrt(1 + 1/K)``.

    With reruns of one initialisation seed among the baselines, s is that of a run with a new seed
    and the df are Satterthwaite's.

    Parameters
    ----------
    runs
        Complete runs, columns ``arm``, ``loss`` and, where known, ``init_seed``.
    fitted
        Their estimate (the baseline's name and the number of arms are taken from it).
    alpha
        1 - the band's probability.

    Returns
    -------
    None with fewer than two baseline runs, or where all of them share one initialisation seed.
    """
    base = runs[runs["arm"] == fitted.arms[0]]
    n_arms = max(len(fitted.arms) - 1, 1)
    labels = _labels(base)
    K, n_seeds = len(base), len(set(labels))
    if n_seeds < 2:
        return None
    loss = base["loss"].to_numpy(dtype=float)
    if n_seeds == K:
        mean, sd, df = float(loss.mean()), float(loss.std(ddof=1)), float(K - 1)
        spread = sd * np.sqrt(1 + 1 / K)
    else:
        mean, sd, df, spread = _nested(loss, labels)
    t = float(special.stdtrit(df, 1 - alpha / 2))
    several = critical_value([(1 / (K + 1)) ** 0.5] * n_arms, df, alpha)
    return NoiseBand(mean, sd, K, df, t * spread, several * spread, n_arms, alpha)


def _nested(loss: np.ndarray, labels: list[object]) -> tuple[float, float, float, float]:
    fit = fit_mixed(loss, np.zeros(len(loss), dtype=int), seed_index(labels))
    if fit.var_resid == 0:  # reruns of a seed are equal: each seed is worth one run
        n_seeds = len(set(labels))
        sd = (
            float(pd.Series(loss).groupby(seed_index(labels)).mean().std()) if fit.sd_total else 0.0
        )
        return float(fit.means[0]), sd, float(n_seeds - 1), sd * float(np.sqrt(1 + 1 / n_seeds))
    variance = float(fit.cov[0, 0]) + fit.var_init + fit.var_resid
    slopes = np.array([gradient[0, 0] + 1 for gradient in fit.gradients])
    df = float(2 * variance**2 / (slopes @ fit.W @ slopes))
    return float(fit.means[0]), fit.sd_total, df, float(np.sqrt(variance))


def _labels(base: pd.DataFrame) -> list[object]:
    if "init_seed" not in base:
        return list(range(len(base)))
    seeds = base["init_seed"]
    return [("run", i) if pd.isna(seed) else str(seed) for i, seed in enumerate(seeds)]
