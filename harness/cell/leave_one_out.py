"""Holds a stack against itself without each of its interventions.

Two that replace the same method erase each other: the stack ends with the weights of one alone.
"""

from __future__ import annotations

from harness.cell.build import Setup, build_training, corpus_batches
from harness.config import Config, ConfigError, stack_of
from harness.engine.randomness import weights_hash
from harness.loop import Nobody, train

N_STEPS = 2


def refuse_erased(setup: Setup) -> None:
    """Refuse an intervention that does something alone, and nothing in its stack.

    Looked at after two steps of one sequence. Nothing is said of one that has no effect alone so
    early, such as a schedule that begins later.
    """
    names = sorted(setup.config.interventions)
    if len(names) < 2:
        return
    whole = _weights(setup, names)
    for name in names:
        rest = [other for other in names if other != name]
        if _of_a_part(setup, rest) == whole and _works_alone(setup, name):
            raise ConfigError(
                f"{name!r} has no effect in the stack {setup.config.arm}: the weights are those of "
                f"{'+'.join(rest)}, as if the same method or setting were replaced twice; merge "
                f"them into one class, or leave {name!r} out"
            )


def _works_alone(setup: Setup, name: str) -> bool:
    alone = _of_a_part(setup, [name])
    return alone is not None and alone != _of_a_part(setup, [])


def _of_a_part(setup: Setup, names: list[str]) -> str | None:
    """Return the weights' hash; None where this part cannot be trained without the rest."""
    try:
        return _weights(setup, names)
    except Exception:
        return None  # nobody asked for this part: its errors are no one's


def _weights(setup: Setup, names: list[str]) -> str:
    """Return the hash of the weights that would be evaluated, after these interventions alone."""
    config = _shortened(stack_of(setup.config, names))
    batches = corpus_batches(config, setup.corpus)
    training = build_training(config, batches, setup.device, setup.world)
    train(training, Nobody())
    training.events.before_eval(training.model)
    return weights_hash(training.model)


def _shortened(config: Config) -> Config:
    """Shorten a config to two steps of one sequence, and lift the clip of the gradients.

    Whether a gradient is long enough to be clipped says little so early, in a batch so small.
    """
    config.train.batch_size = 1
    config.train.tokens = N_STEPS * config.model.block_size
    config.optim.grad_clip = None
    return config
