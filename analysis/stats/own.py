"""How much a difference's own runs say of its noise, beside what the model says for all.

The model has one residual variance. An arm that is wilder than the others would borrow their
quietness, and a quiet one pay for their noise. So the variance of each difference is squeezed: a
weighted mean of its own estimate, the family's mean and the model's (Smyth 2004, Stat. Appl. Genet.
Mol. Biol. 3:3, with the weight of the prior fixed beforehand). The own estimate is the
cluster-robust one over initialisation seeds, freed of bias under the model, with Bell and
McCaffrey's df (Pustejovsky and Tipton 2018, J. Bus. Econ. Stat. 36:672): with shared seeds it is
the variance of the paired differences, without them Welch's.

Shapes: A arms, S seeds, M differences.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from analysis.stats.linear import FEWEST_DF, Array, Contrasts, Fit

PRIOR_DF = 5.75
"""Df that the model's variance is worth against the own one where no noise is shared."""
UNHEARD_DF = 0.95
"""Of the own variance's df: what of its word is chance. Chosen, as the others, by simulation."""
GUESS_POWER = 3.0
"""Of the share of noise that pairing removes: how soon the model's word becomes a guess."""
MOST_WEIGHT = 0.75
"""Of the own variance: differences that trust themselves alone break Dunnett's common sd."""


@dataclass(frozen=True, slots=True)
class OwnNoise:
    """The runs by arm and seed, as far as a difference's own variance needs them."""

    n: Array
    """(A,) runs."""
    share: Array
    """(A, S) share of the arm's runs that have the seed; rows sum to 1."""
    deviation: Array
    """(A, S) what the seed's runs add to the arm's mean beyond their share of it, nats/token."""

    def adjust(self, found: Contrasts, weights: Array, fit: Fit) -> Contrasts:
        """Return contrasts with squeezed standard errors.

        Parameters
        ----------
        found
            M contrasts as the model judges them.
        weights
            (M, A) their coefficients.
        fit
            The model.
        """
        own = np.array([self._own(row, fit) for row in weights])
        ratio, df_own = own[:, 0], own[:, 1]
        common = float(df_own.mean())
        if fit.var_resid == 0 or common == 0:
            return found
        apart = fit.var_resid / (fit.var_init + fit.var_resid)
        h = _weight(df_own, found.df, apart)
        u = (1 - h) * _weight(np.full_like(h, common), found.df, apart)
        mean = float(df_own @ ratio / df_own.sum())
        # Noise beyond the model's in all differences at once is the baseline's, which they share.
        correlation = 1 - (1 - found.correlation) / max(mean, 1.0)
        df_mean = common / float(np.mean(correlation**2))
        variance = h * ratio + u * mean + (1 - h - u)
        df = _df((h, u), df_own, df_mean, found.df, apart)
        return dataclasses.replace(found, se=found.se * np.sqrt(variance), df=df)

    def _own(self, weights: Array, fit: Fit) -> tuple[float, float]:
        """Return a contrast's own variance over what the model expects it to be, and its df."""
        rows = np.flatnonzero(weights)
        columns = np.flatnonzero(self.share[rows].any(axis=0))
        share, n = self.share[np.ix_(rows, columns)], self.n[rows]
        c = weights[rows] * np.sqrt(n / np.maximum(n - 1, 1))
        found = c @ self.deviation[np.ix_(rows, columns)]
        per_run = (c**2 / n)[:, None] * share
        moved = np.diag(c @ share) - share.T @ (c[:, None] * share)
        expected = fit.var_resid * (np.diag(per_run.sum(axis=0)) - share.T @ per_run)
        expected += fit.var_init * moved @ moved.T
        trace, square = float(np.trace(expected)), float((expected**2).sum())
        if not square > 0:
            return 1.0, 0.0
        return float(found @ found) / trace, trace**2 / square


def _weight(df: Array, model: Array, apart: float) -> Array:
    """Return the weight of an estimate on `df`; `apart` is the share of noise that pairing leaves.

    Arms' variances differ by a share of the whole noise. Where pairing removes most of that, the
    same unlikeness is larger beside what is left, and the model's word is worth less. One df says
    little, and no weight may leave fewer df than a verdict needs.
    """
    heard = np.maximum(df - UNHEARD_DF, 0.0)
    weight = np.divide(
        heard, heard + PRIOR_DF * apart**1.5, out=np.zeros_like(heard), where=heard > 0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        spare = (1 / FEWEST_DF - 1 / model) / (1 / df - 1 / model)
    most = np.where(df < np.minimum(model, FEWEST_DF), np.sqrt(np.maximum(spare, 0.0)), 1.0)
    return np.asarray(np.minimum(weight, np.minimum(most, MOST_WEIGHT)))


def _df(
    weights: tuple[Array, Array | float], own: Array, mean: float, model: Array, apart: float
) -> Array:
    """Return the df of variances that weigh the own, the family's mean and the model's.

    Where pairing leaves hardly any noise and neither own nor mean is heard, the model's word for
    one difference is a guess: in the limit of one df.
    """
    h, u = weights
    unsure = h**2 / np.maximum(own, 1) + (2 * h * u + u**2) / mean
    guess = ((1 - apart) ** GUESS_POWER * (1 - h - u)) ** 2
    with np.errstate(divide="ignore"):
        df = 1 / (unsure + (1 - (h + u) ** 2) / model + guess)
    return np.asarray(np.maximum(np.minimum(df, model), np.minimum(model, FEWEST_DF)))


def expected_df(own: float, model: float, apart: float, correlation_square: float) -> float:
    """Return the df that guarded differences of equal variances may expect, for planning.

    Parameters
    ----------
    own, model
        Df of a difference's own variance and of the model's.
    apart
        Share of a run's noise that the seed does not explain.
    correlation_square
        Mean square of the differences' correlations, each with itself included.

    Examples
    --------
    >>> round(expected_df(3, 24, 0.2, 0.34375), 1)
    4.4
    """
    df, df_model = np.array([own]), np.array([model])
    h = _weight(df, df_model, apart)
    return float(_df((h, (1 - h) * h), df, own / correlation_square, df_model, apart)[0])
