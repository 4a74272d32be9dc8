"""Schedules: the factor on ``optim.lr``, or on a setting of ``optim.schedules``, at a step.

usage: python -m harness.schedule [+intervention=NAME] [KEY=VALUE ...]

Draws what a config would train with, before it trains.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from harness.records.terminal import complain, printing


def constant(step: int, n_steps: int) -> float:
    """Return 1."""
    return 1.0


def warmup_cosine(
    step: int,
    n_steps: int,
    *,
    warmup_frac: float = 0.05,
    final_frac: float = 0.1,
    start_frac: float | None = None,
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
    start_frac
        Factor at the first step. With it the form is that of PyTorch's `LinearLR` and
        `CosineAnnealingLR`, as published: the step after the rise has factor 1, the step after the
        last would have `final_frac`, and the steps that rise are rounded down.
    """
    if start_frac is not None:
        return _pytorch_cosine(
            step, n_steps, math.floor(warmup_frac * n_steps), final_frac, start_frac
        )
    warmup_steps = round(warmup_frac * n_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, n_steps - 1 - warmup_steps)
    return final_frac + (1 - final_frac) * 0.5 * (1 + math.cos(math.pi * progress))


def _pytorch_cosine(
    step: int, n_steps: int, warmup_steps: int, final_frac: float, start_frac: float
) -> float:
    if step < warmup_steps:
        return start_frac + (1 - start_frac) * step / warmup_steps
    progress = (step - warmup_steps) / (n_steps - warmup_steps)
    return final_frac + (1 - final_frac) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int,
    n_steps: int,
    *,
    warmup_frac: float = 0.05,
    decay_frac: float = 0.2,
    power: float = 1.0,
) -> float:
    """Rise linearly, stay at 1, fall: the step after the last would have 0.

    Parameters
    ----------
    step
        From 0 to n_steps - 1.
    warmup_frac
        Fraction of all steps that rise; the last of them has factor 1.
    decay_frac
        Fraction of all steps that fall; 1 - warmup_frac leaves none at 1.
    power
        1 falls linearly; above 1 faster at first, as PowerCool's 1.2.
    """
    warmup_steps, decay_steps = round(warmup_frac * n_steps), round(decay_frac * n_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return math.pow(min(1.0, (n_steps - step) / max(1, decay_steps)), power)


def interpolate(step: int, n_steps: int, *, points: Sequence[tuple[float, float]]) -> float:
    """Go in straight lines from point to point, and stay at the first and last beyond them.

    Parameters
    ----------
    points
        Pairs of the fraction of steps that were taken, ascending, and the factor there.
    """
    progress = step / n_steps
    before = max((p for p in points if p[0] <= progress), default=points[0])
    after = min((p for p in points if p[0] > progress), default=points[-1])
    if after[0] <= before[0]:
        return before[1]
    share = (progress - before[0]) / (after[0] - before[0])
    return before[1] + share * (after[1] - before[1])


WIDTH, HEIGHT = 72, 8
"""Of a chart, in characters."""
EIGHTHS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
"""Blocks, from empty to full."""


def draw(title: str, values: Sequence[float]) -> str:
    """Return a chart of one value a step, from 0 to their maximum, with its first and last step."""
    last, peak = len(values) - 1, max(values)
    columns = min(WIDTH, len(values))
    shown = [values[round(i * last / max(1, columns - 1))] for i in range(columns)]
    levels = [round(8 * HEIGHT * value / peak) if peak > 0 else 0 for value in shown]
    rows = [
        "".join(EIGHTHS[min(8, max(0, level - 8 * row))] for level in levels).rstrip()
        for row in reversed(range(HEIGHT))
    ]
    return "\n".join(
        [
            f"{title}: {values[0]:.4g} at step 0, {peak:.4g} at step {values.index(peak)}, "
            f"{values[last]:.4g} at step {last}",
            *(f"  |{row}" for row in rows),
            f"  +{'-' * columns}",
        ]
    )


@printing()
def main(arguments: Sequence[str]) -> int:
    """Draw the schedules of the config that the command line describes; return the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    from hydra.errors import InstantiationException

    from harness.config import ConfigError
    from harness.config.compose import load
    from harness.model import slot_factory

    try:
        config = load(arguments)
        rate = slot_factory(config.schedule)
        others = {name: slot_factory(slot) for name, slot in config.optim.schedules.items()}
    except (ConfigError, InstantiationException) as error:
        said = error if isinstance(error, ConfigError) else error.__cause__ or error
        complain(" ".join(str(said).split()))
        return 2
    n_steps = config.n_steps
    print(draw("optim.lr", [config.optim.lr * rate(step, n_steps) for step in range(n_steps)]))
    for name, factor in others.items():
        values = [factor(step, n_steps) for step in range(n_steps)]
        print(draw(f"\nfactor on the optimiser's {name}", values))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
