"""One cell from its frozen config to its record: train, test, and whatever happens on the way."""

from __future__ import annotations

import gc
import io
import logging
import sys
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import torch

from harness.cell.build import Setup, build_training, config_sha256, new_record
from harness.cell.console import logging_to, wants_bar
from harness.cell.errors import failure
from harness.cell.exits import EXIT_BUSY
from harness.cell.freeze import (
    check_identity,
    describe,
    finished_record,
    load_frozen,
    write_config,
)
from harness.cell.lock import NO_LOCK, CellBusy, LockLost, locked
from harness.cell.recorder import Journal, Preempted, finite, graceful_stop
from harness.cell.sources import use_kept_sources
from harness.config import ConfigError
from harness.data.corpus import open_corpus
from harness.engine import checkpoint
from harness.engine.devices import choose_device, settle_process
from harness.engine.distributed import World
from harness.engine.memory import out_of_memory
from harness.engine.randomness import weights_hash
from harness.loop import Diverged, Nobody, Training, evaluate, largest_micro_batch, train
from harness.records import (
    FINISHED,
    TEST_DOCUMENTS_FILE,
    TEST_LOSSES_FILE,
    RunRecord,
    Status,
    write_record,
)
from harness.records.files import now, write_atomic

log = logging.getLogger("harness.cell")  # also as __main__, on several devices


def run(folder: Path, *, checked: bool = True) -> RunRecord:
    """Train the frozen cell in `folder`, going on from its newest checkpoint.

    Under torchrun every process calls this, and the first one writes. With `checked`, a cell that
    would train something else than its name stands for is refused.

    Returns
    -------
    RunRecord
        As written; its status says how it ended. Only errors of a person (a damaged corpus, a
        device that is not there) are raised: nothing was trained then.

    Raises
    ------
    CellBusy
        Another process runs this cell.
    LockLost
        Another process took it over while this one was held up; nothing more was written.
    """
    world = World()
    with locked(folder) if world.is_main else nullcontext(NO_LOCK) as lock:
        done = finished_record(folder)
        if done is not None:
            return done
        config = load_frozen(folder)
        device = choose_device(config.hardware.device, world.local_rank)
        settle_process(config.hardware)
        corpus = open_corpus(config.data, Path(config.data_dir))
        if checked:
            check_identity(config, corpus, folder)
        world.start(device)
        record = new_record(folder, config, corpus, device)
        setup = Setup(folder, config, corpus, record, device, world, lock)
        if not world.is_main:
            _to_an_end(setup)
            return record
        lock.check()
        write_record(folder, record)
        with logging_to(folder, bar=wants_bar()):
            _to_an_end(setup)
            lock.check()
            write_record(folder, record)
            if record.status in FINISHED:  # not before: a kill in between would cost the cell
                checkpoint.delete_all(folder)
            log.info(describe(record, folder))
        return record


def _to_an_end(setup: Setup) -> None:
    """Train and test; whatever happens is in the record at the end."""
    record = setup.record
    for module in use_kept_sources(setup.folder):
        log.warning("%s was edited since this cell was frozen: training with what it keeps", module)
    try:
        while not _fits_in_memory(setup):
            pass
        record.status = Status.COMPLETE
    except Diverged as error:
        record.status, record.error = Status.DIVERGED, str(error)
    except Preempted as error:
        record.status, record.error = Status.PREEMPTED, str(error)
    except ConfigError as error:  # says all that there is to say
        record.status, record.error = Status.FAILED, str(error)
    except LockLost:
        raise
    except Exception as error:
        record.status, record.error = Status.FAILED, failure(error, setup.folder)
        log.exception("%s failed", setup.folder)
    record.finished = now()
    if record.status is not Status.FAILED:  # else the others may wait in the middle of something
        setup.world.stop()


def _fits_in_memory(setup: Setup) -> bool:
    """Train and test; if memory runs out, halve the micro-batch and return False.

    Where other processes wait for this one, the error is raised: `devices.torchrun` starts all of
    them again, and they find the half in the frozen config.
    """
    try:
        _train_and_test(setup)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        training_share = setup.config.train.batch_size // setup.world.size
        micro_batch = largest_micro_batch(training_share, setup.config.hardware.micro_batch)
        if not out_of_memory(error) or micro_batch == 1:
            raise
        setup.config.hardware.micro_batch = largest_micro_batch(training_share, micro_batch // 2)
        log.warning(
            "out of memory with micro-batches of %d sequences: going on with %d, "
            "the global batch stays %d",
            micro_batch,
            setup.config.hardware.micro_batch,
            setup.config.train.batch_size,
        )
        write_config(setup.folder, setup.config)  # for whoever goes on after a kill
        setup.record.provenance.config_sha256 = config_sha256(setup.folder)
        if setup.world.size > 1:
            raise
    else:
        return True
    gc.collect()  # what the failed try held, before the next one allocates
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setup.device)
    if setup.config.hardware.compile:
        torch.compiler.reset()  # else one graph for every size of micro-batch
    return False


def _train_and_test(setup: Setup) -> None:
    training = build_training(setup)
    if setup.world.is_main:
        checkpoint.check_room(setup.folder, training.model, setup.config.checkpoint, 1)
    journal = Journal(setup, training)
    try:
        try:
            with graceful_stop(journal):
                train(training, journal)
        finally:
            journal.update_record()
        _test(training, setup)
    finally:
        journal.close()


def _test(training: Training, setup: Setup) -> None:
    """Measure the test loss of every sequence, with the document it begins in, and the weights."""
    record = setup.record
    n_sequences = training.config.eval.test_sequences
    losses = evaluate(training, setup.corpus.tokens("test"), n_sequences)
    if setup.world.is_main:
        setup.lock.check()
        _save_array(setup.folder / TEST_LOSSES_FILE, losses)
        firsts = np.arange(n_sequences) * training.config.model.block_size
        starts = setup.corpus.document_starts("test")
        documents = np.searchsorted(starts, firsts, side="right") - 1
        _save_array(setup.folder / TEST_DOCUMENTS_FILE, documents)
    record.losses.test = finite(float(losses.mean(dtype=np.float64)))
    record.fingerprints.final_weights = weights_hash(training.model)
    if record.losses.test is None:
        raise Diverged("the test loss is not finite")


def _save_array(path: Path, values: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, values)
    write_atomic(path, file.getvalue())


def rehearse(folder: Path, n_cells: int) -> int:
    """Take one step of one sequence with everything the cell is made of, and keep nothing.

    `n_cells` such cells will run side by side, and their checkpoints must fit on the disk.

    Returns
    -------
    int
        0, or 1 with the error in the cell's record and the traceback in its log.
    """
    config = load_frozen(folder)
    try:
        device = choose_device(config.hardware.device)
        settle_process(config.hardware)
        corpus = open_corpus(config.data, Path(config.data_dir))
        check_identity(config, corpus, folder)
        use_kept_sources(folder)
        record = new_record(folder, config, corpus, device)
        config.train.batch_size, config.train.tokens = 1, config.model.block_size
        config.train.max_skipped_steps = 2
        config.hardware.compile = False  # for one sequence: minutes for nothing
    except ValueError as error:  # ConfigError and DataError
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        training = build_training(Setup(folder, config, corpus, record, device, World(), NO_LOCK))
        checkpoint.check_room(folder, training.model, config.checkpoint, n_cells)
        train(training, Nobody())
        evaluate(training, corpus.tokens("test"), 1)
    except Exception as error:
        record.status, record.error = Status.FAILED, failure(error, folder)
        traceback.print_exc()
        return _enter_failure(folder, record)
    return 0


def _enter_failure(folder: Path, record: RunRecord) -> int:
    """Write the record of a failed rehearsal, unless another process is at the cell, or was."""
    with suppress(CellBusy), locked(folder):
        if finished_record(folder) is None:
            write_record(folder, record)
            return 1
    return 0


def report(folder: Path, *, checked: bool = True) -> int:
    """Run a cell, say how it ended, and return the exit code."""
    try:
        record = run(folder, checked=checked)
    except ValueError as error:  # ConfigError and DataError
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # nothing could be written, the record least of all
        print(f"error: {folder}: {error.strerror or error}", file=sys.stderr)
        return 1
    except (CellBusy, LockLost) as error:
        print(f"skipped: {error}", file=sys.stderr)
        return EXIT_BUSY
    if wants_bar():
        print(describe(record, folder), file=sys.stderr)
    return 0 if record.status in (Status.COMPLETE, Status.DIVERGED) else 1
