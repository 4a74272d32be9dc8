"""How low critical values can hold the family error under a baseline noisier than its arms.

An oracle judges every difference by |difference| / pooled standard error. It knows how many arms
truly differ, and may choose any critical value for each observed ratio of the baseline's variance
to the arms'. What it gives up in power with equal variances buys family error at a noisy baseline.
No critical value that depends on that ratio has more of both. One that also asks how near the arms
stay to the baseline has, but not where all arms truly differ.
"""

from __future__ import annotations

import numpy as np

from analysis.stats.linear import Array
from benchmarks.simulate import ALPHA, DELTA, SD

N_BINS, POWER_LOST = 40, (0.0, 0.02, 0.04, 0.06, 0.08)
CRITICAL = np.linspace(1.5, 9.0, 300)
PRICES = np.geomspace(0.01, 100, 60)


def limits(n_arms: int, n: int, ratio: float, seed: int) -> list[dict[str, float]]:
    """Return the lowest family error with `ratio`, for each allowed loss of power without it.

    Parameters
    ----------
    n_arms
        Half of them truly differ by 0.05 nats/token.
    n
        Unpaired runs of each arm and of the baseline.
    ratio
        Variance of the baseline's runs over the arms'.
    seed
        Of 100,000 simulated studies.
    """
    rng = np.random.default_rng([seed, n_arms, n])
    equal, noisy = _studies(n_arms, n, 1.0, rng), _studies(n_arms, n, ratio, rng)
    edges = np.quantile(np.append(equal[0], noisy[0]), np.linspace(0, 1, N_BINS + 1)[1:-1])
    power, family = _beyond(equal[0], equal[2], edges), _beyond(equal[0], equal[1], edges)
    error = _beyond(noisy[0], noisy[1], edges)
    rows = np.arange(N_BINS)
    tried = []
    for price in np.append(0.0, PRICES):
        for toll in np.append(0.0, PRICES):
            at = (power - price * error - toll * family).argmax(axis=1)
            if family[rows, at].sum() <= ALPHA:
                tried.append((power[rows, at].sum(), error[rows, at].sum()))
    found = np.array(tried)
    best = float(found[:, 0].max())
    return [
        {"T": n_arms, "n": n, "ratio": ratio, "power at ratio 1": best - lost}
        | {"lowest fwer": float(found[found[:, 0] >= best - lost, 1].min())}
        for lost in POWER_LOST
    ]


def _studies(
    n_arms: int, n: int, ratio: float, rng: np.random.Generator, count: int = 100_000
) -> tuple[Array, Array, Array]:
    """Return the ratio of variances, the largest |t| without an effect, and |t| with one."""
    runs = rng.normal(0, SD, (count, n_arms + 1, n))
    runs[:, 0] *= np.sqrt(ratio)
    variances, means = runs.var(axis=2, ddof=1), runs.mean(axis=2)
    t = np.abs(means[:, 1:] - means[:, :1] - np.where(np.arange(n_arms) < n_arms // 2, DELTA, 0))
    t /= np.sqrt(2 * variances.mean(axis=1, keepdims=True) / n)
    return variances[:, 0] / variances[:, 1:].mean(axis=1), t[:, n_arms // 2 :].max(axis=1), t[:, 0]


def _beyond(ratio: Array, t: Array, edges: Array) -> Array:
    """Return the share of all studies in each bin of the ratio beyond each critical value."""
    bins = np.searchsorted(edges, ratio)
    sorted_t = [np.sort(t[bins == i]) for i in range(N_BINS)]
    return np.array([len(x) - np.searchsorted(x, CRITICAL) for x in sorted_t]) / len(t)
