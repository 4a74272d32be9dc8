"""One cell from its frozen config to its record: train, test, and whatever happens on the way."""

from __future__ import annotations

import gc
import logging
import math
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from harness.cell.build import Setup, config_sha256, new_record, start_training
from harness.cell.console import EXIT_BUSY, EXIT_REFUSED, logging_to, say, wants_bar
from harness.cell.errors import enter_failure
from harness.cell.freeze import check_identity, load_frozen, write_config
from harness.cell.lock import NO_LOCK, CellBusy, LockLost, locked
from harness.cell.recorder import Recorder, finite
from harness.cell.sources import use_kept_sources
from harness.cell.stopping import Stopped, graceful_stop
from harness.config import Backend, ConfigError
from harness.data.corpus import open_corpora
from harness.data.evaluated import Sequences, test_sequences
from harness.data.tokens import token_bytes
from harness.engine import checkpoint
from harness.engine.compiler import renew_cache, use_cache
from harness.engine.devices import choose_device, settle_process
from harness.engine.distributed import World
from harness.engine.memory import out_of_memory
from harness.engine.randomness import weights_hash
from harness.evaluation import save_array
from harness.loop import Diverged, Training, evaluate, evaluated_weights, largest_micro_batch, train
from harness.records import (
    FINISHED,
    TEST_DOCUMENTS_FILE,
    TEST_LOSSES_FILE,
    RunRecord,
    Status,
    test_losses_file,
    write_record,
)
from harness.records.cell import Cell, describe
from harness.records.files import now

log = logging.getLogger("harness.cell")  # also as __main__, on several devices


def train_cell(folder: Path, *, checked: bool = True, tracked: bool = True) -> int:
    """Train and test the frozen cell in this process, say how it ended, return the exit code."""
    try:
        record = run(folder, checked=checked, tracked=tracked)
    except ValueError as error:  # ConfigError and DataError
        say(f"error: {error}")
        return EXIT_REFUSED
    except OSError as error:  # nothing could be written, the record least of all
        say(f"error: {folder}: {error.strerror or error}")
        return 1
    except (CellBusy, LockLost) as error:
        say(f"skipped: {error}")
        return EXIT_BUSY
    if wants_bar():
        say(describe(record, folder))
    return 0 if record.status in FINISHED else 1


def run(folder: Path, *, checked: bool = True, tracked: bool = True) -> RunRecord:
    """Train the frozen cell in `folder`, going on from its newest checkpoint; return its record.

    Under torchrun every process calls this, and the first one writes. With `checked`, a cell that
    would train something else than its name stands for is refused. Unless `tracked`, nothing is
    sent to the tracker that its config names.

    The record says how the cell ended. Raised are only errors of a person (a damaged corpus, a
    device that is not there), and `CellBusy` and `LockLost` where another process has the cell.
    """
    world = World()
    with locked(folder) if world.is_main else nullcontext(NO_LOCK) as lock:
        done = Cell(folder).result()
        if done is not None:
            return done
        config = load_frozen(folder)
        if not tracked:
            config.tracking.backend = Backend.none
        device = choose_device(config.hardware.device, world.local_rank)
        settle_process(config.hardware)
        if config.hardware.compile:
            use_cache(Cell(folder).study.folder)
        corpus = open_corpora(config)
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
    for module in use_kept_sources(setup.config, setup.folder):
        log.warning("%s was edited since this cell was frozen: training with what it keeps", module)
    try:
        run_until_it_fits(setup)
        record.status = Status.COMPLETE
    except Diverged as error:
        record.status, record.error = Status.DIVERGED, str(error)
    except Stopped as error:
        record.status, record.error = Status.STOPPED, str(error)
    except ConfigError as error:  # says all that there is to say
        record.status, record.error = Status.FAILED, str(error)
    except LockLost:
        raise
    except Exception as error:
        enter_failure(record, error, setup.folder)
        log.exception("%s failed", setup.folder)
    record.finished = now()
    if record.status is not Status.FAILED:  # else the others may wait in the middle of something
        setup.world.stop()


def run_until_it_fits(setup: Setup) -> None:
    """Train and test, each time that memory runs out with micro-batches of half the size.

    A compiler that failed is tried once more with an empty cache.

    Where other processes wait for this one, the error is raised: `harness.cell.start` starts all of
    them again, and they find the half in the frozen config.
    """
    may_renew = setup.config.hardware.compile
    while True:
        try:
            return _train_and_test(setup)
        except checkpoint.UnusableError as error:
            log.warning("%s", error)
        except (MemoryError, RuntimeError, ImportError, OSError) as error:
            if may_renew and renew_cache(error):
                may_renew = False
            elif not out_of_memory(error) or not _halve_micro_batch(setup) or setup.world.size > 1:
                raise
        _free_memory(setup)  # not sooner: the error holds what the failed try held


def _halve_micro_batch(setup: Setup) -> bool:
    """Halve the micro-batch, in the frozen config, too; False: it is one sequence already."""
    hardware, batch_size = setup.config.hardware, setup.config.train.batch_size
    share = batch_size // setup.world.size
    micro_batch = largest_micro_batch(share, hardware.micro_batch)
    if micro_batch == 1:
        return False
    hardware.micro_batch = largest_micro_batch(share, micro_batch // 2)
    log.warning(
        f"out of memory with micro-batches of {micro_batch} sequences: "
        f"going on with {hardware.micro_batch}, the global batch stays {batch_size}"
    )
    write_config(setup.folder, setup.config)
    setup.record.provenance.config_sha256 = config_sha256(setup.folder)
    return True


def _free_memory(setup: Setup) -> None:
    gc.collect()
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setup.device)
    if setup.config.hardware.compile:
        torch.compiler.reset()  # else one graph for every size of micro-batch


def _train_and_test(setup: Setup) -> None:
    training = start_training(setup)
    if setup.world.is_main:
        checkpoint.check_room(setup.folder, training.model, setup.config.checkpoint, 1)
    with closing(Recorder(setup, training)) as recorder:
        try:
            with graceful_stop(recorder.stop):
                train(training, recorder)
        finally:
            recorder.update_record()
        _test(training, setup)


def _test(training: Training, setup: Setup) -> None:
    """Measure the test loss of every sequence, with the document it begins in, and the weights."""
    record, corpus, config = setup.record, setup.corpus, training.config
    sequences = test_sequences(config, corpus.main)
    main = _test_on(sequences, TEST_LOSSES_FILE, training, setup)
    record.losses.test, record.losses.bits_per_byte = main["loss"], main["bits_per_byte"]
    for name, test in corpus.tests.items():
        same = test is corpus.main
        others = sequences if same else test_sequences(config, test)
        found = main if same else _test_on(others, test_losses_file(name), training, setup)
        record.losses.tests[name] = {
            **found,
            "test_set_sha256": others.sha256(),
            "text": test.text_hash,
        }
    if setup.world.is_main:
        save_array(setup.folder / TEST_DOCUMENTS_FILE, sequences.documents)
    with evaluated_weights(training) as model:
        record.fingerprints.final_weights = weights_hash(model)
    if record.losses.test is None:
        raise Diverged("the test loss is not finite")


class _Mean(TypedDict):
    loss: float | None
    bits_per_byte: float | None


def _test_on(sequences: Sequences, file: str, training: Training, setup: Setup) -> _Mean:
    """Write the loss of each test sequence; return their mean, also by bytes of text.

    The token that ends a document is no byte of it.
    """
    config = training.config
    losses = evaluate(training, sequences.tokens)
    if setup.world.is_main:
        setup.lock.check()
        save_array(setup.folder / file, losses)
    mean, n_tokens = float(losses.mean(dtype=np.float64)), len(losses) * config.eval_block_size
    n_bytes = int(token_bytes(config.data.tokenizer)[sequences.tokens[:, 1:]].sum())
    bits = mean * n_tokens / n_bytes / math.log(2)
    return {"loss": finite(mean), "bits_per_byte": finite(bits)}
