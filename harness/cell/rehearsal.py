"""Rehearse a cell: a first cheap step with everything it is made of, before the hours are spent.

A stack is also held against itself without each of its interventions: two that replace the same
method erase each other, and the stack ends with the weights of one alone.
"""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path

from harness.cell.build import Setup, build_training, corpus_batches, new_record, start_training
from harness.cell.console import say
from harness.cell.errors import enter_failure
from harness.cell.freeze import check_identity, load_frozen
from harness.cell.lock import NO_LOCK, CellBusy, locked
from harness.cell.sources import use_kept_sources
from harness.config import Config, ConfigError, stack_of
from harness.data.corpus import open_corpora
from harness.data.evaluated import test_sequences
from harness.engine import checkpoint
from harness.engine.devices import choose_device, settle_process
from harness.engine.distributed import World
from harness.engine.randomness import weights_hash
from harness.loop import Diverged, Nobody, evaluate, evaluated_weights, train
from harness.records import RunRecord, Status, write_record
from harness.records.cell import Cell

N_STEPS = 2
"""Of each part of a stack."""
N_SURE_STEPS = 40
"""Likewise before one is refused: the first tenth, in which many schedules act, has four."""


def rehearse(folder: Path, n_cells: int) -> int:
    """Take one step of one sequence with everything the cell is made of, and keep nothing.

    `n_cells` such cells will run side by side, and their checkpoints must fit on the disk. Return
    0, or 1 with the error in the cell's record and the traceback in its log.
    """
    config = load_frozen(folder)
    try:
        device = choose_device(config.hardware.device)
        settle_process(config.hardware)
        corpus = open_corpora(config)
        check_identity(config, corpus, folder)
        use_kept_sources(config, folder)
        record = new_record(folder, config, corpus, device)
        _shorten(config, 1)
        config.train.max_skipped_steps = 2
        config.hardware.compile = False  # for one sequence: minutes for nothing
    except ValueError as error:  # ConfigError and DataError
        say(f"error: {error}")
        return 1
    try:
        setup = Setup(folder, config, corpus, record, device, World(), NO_LOCK)
        _rehearsed(setup, n_cells)
        refuse_erased(setup)
    except ConfigError as error:  # says all that there is to say
        say(f"error: {error}")
        record.status, record.error = Status.FAILED, str(error)
        return _keep_failure(folder, record)
    except Exception as error:
        enter_failure(record, error, folder)
        traceback.print_exc()
        return _keep_failure(folder, record)
    return 0


def _rehearsed(setup: Setup, n_cells: int) -> None:
    training = start_training(setup)
    checkpoint.check_room(setup.folder, training.model, setup.config.checkpoint, n_cells)
    train(training, Nobody())
    checkpoint.check_readable(training.state_dict())
    evaluate(training, test_sequences(setup.config, setup.corpus.main).tokens[:1])


def _keep_failure(folder: Path, record: RunRecord) -> int:
    """Write the record of a failed rehearsal, unless another process is at the cell, or was."""
    with suppress(CellBusy), locked(folder):
        if Cell(folder).result() is None:
            write_record(folder, record)
            return 1
    return 0


def refuse_erased(setup: Setup) -> None:
    """Refuse an intervention that does something alone, and nothing in its stack.

    Looked at after two steps of one sequence, and once more after 40. Nothing is said of one that
    has no effect alone so early, such as a schedule that begins later.
    """
    names = sorted(setup.config.interventions)
    whole = _weights(setup, names, N_STEPS) if len(names) > 1 else None
    for name in names if whole else ():
        rest = [other for other in names if other != name]
        same = _of_a_part(setup, rest, N_STEPS) == whole and _works_alone(setup, name)
        later = _weights(setup, names, N_SURE_STEPS) if same else None
        if later and _of_a_part(setup, rest, N_SURE_STEPS) == later:
            raise ConfigError(
                f"{name!r} has no effect in the stack {setup.config.arm}: the weights are those of "
                f"{'+'.join(rest)}, as if the same method or setting were replaced twice; merge "
                f"them into one class, or leave {name!r} out"
            )


def _works_alone(setup: Setup, name: str) -> bool:
    alone = _of_a_part(setup, [name], N_STEPS)
    return alone is not None and alone != _of_a_part(setup, [], N_STEPS)


def _of_a_part(setup: Setup, names: list[str], n_steps: int) -> str | None:
    """Return the weights' hash; None where this part cannot be trained without the rest."""
    try:
        return _weights(setup, names, n_steps)
    except Exception:
        return None  # nobody asked for this part: its errors are no one's


def _weights(setup: Setup, names: list[str], n_steps: int) -> str | None:
    """Return the hash of the weights that would be evaluated, after these interventions alone.

    None where a step was not taken: float16 skips some until its scale is low enough.
    """
    config = _shortened(stack_of(setup.config, names), n_steps)
    batches = corpus_batches(config, setup.corpus)
    training = build_training(config, batches, setup.device, setup.world)
    with suppress(Diverged):
        train(training, Nobody())
    with evaluated_weights(training) as model:
        return None if training.skipped_steps else weights_hash(model)


def _shortened(config: Config, n_steps: int) -> Config:
    """Shorten a config to a few steps of one sequence, and lift the clip of the gradients.

    Whether a gradient is long enough to be clipped says little so early, in a batch so small.
    """
    _shorten(config, n_steps)
    config.optim.grad_clip = None
    return config


def _shorten(config: Config, n_steps: int) -> None:
    """Leave so many steps of one sequence, which is as long as in the first stage."""
    config.train.batch_size, config.train.batch_stages = 1, []
    config.train.tokens = n_steps * config.model.block_size
