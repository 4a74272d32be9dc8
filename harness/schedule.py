"""Learning-rate schedules: the factor on ``optim.lr`` as a function of (step, n_steps)."""

from __future__ import annotations

import math


def constant(step: int, n_steps: int) -> float:
    """Return 1."""
    return 1.0


def warmup_cosine(
    step: int, n_steps: int, *, warmup_frac: float = 0.05, final_frac: float = 0.1
) -> float:
    """Rise linearly over the first steps, then follow a half cosine down.

    Parameters
    ----------
    step
        From 0 to n_steps - 1.
    warmup_frac
        Fraction of all steps that rise; the last of them has factor 1.
    final_frac
        Factor at the last step.
    """
    warmup_steps = round(warmup_frac * n_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, n_steps - 1 - warmup_steps)
    return final_frac + (1 - final_frac) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int, n_steps: int, *, warmup_frac: float = 0.05, decay_frac: float = 0.2
) -> float:
    """Rise linearly, stay at 1, fall linearly: the step after the last would have 0.

    Parameters
    ----------
    step
        From 0 to n_steps - 1.
    warmup_frac
        Fraction of all steps that rise; the last of them has factor 1.
    decay_frac
        Fraction of all steps that fall; 1 - warmup_frac leaves none at 1.
    """
    warmup_steps, decay_steps = round(warmup_frac * n_steps), round(decay_frac * n_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return min(1.0, (n_steps - step) / max(1, decay_steps))
