"""Run or resume one frozen cell: ``python -m harness.cell runs/STUDY/ARM/CELL``.

Whatever happens to a cell is in its record: complete, diverged, preempted, or failed with the
error. All randomness follows from the seeds and the step, so a resumed cell ends with the weights
of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import logging
import resource
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from harness import checkpoint, provenance
from harness.batches import Batches
from harness.config import Config, ConfigError, baseline_model
from harness.data.corpus import Corpus, open_corpus
from harness.data.tokenizer import get_tokenizer
from harness.evaluation import sequence_losses
from harness.events import Events
from harness.freeze import CONFIG_FILE, describe, finished_record, load_frozen
from harness.journal import Journal, Preempted, finite, graceful_stop
from harness.log import logging_to
from harness.loop import Diverged, Training, largest_micro_batch, train
from harness.model import build, build_slot, count_parameters, flops_per_token, slot_factory
from harness.precision import Precision
from harness.progress import wants_bar
from harness.randomness import initialise, parameter_hashes, weights_hash
from harness.records import RunRecord, Seeds, Status, now, write_record

log = logging.getLogger(__name__)

TEST_LOSSES_FILE = "test_losses.npy"


def run(folder: Path) -> RunRecord:
    """Train the frozen cell in `folder`, going on from its newest checkpoint.

    Returns
    -------
    RunRecord
        As written; its status says how it ended. Only errors of a person (a damaged corpus, a
        device that is not there) are raised: nothing was trained then.
    """
    config = load_frozen(folder)
    done = finished_record(folder, config)
    if done is not None:
        return done
    device = choose_device(config.hardware.device)
    torch.set_num_threads(config.hardware.threads)
    corpus = open_corpus(config.data, Path(config.data_dir))
    record = new_record(folder, config, corpus, device)
    write_record(folder, record)
    with logging_to(folder, bar=wants_bar()):
        _run_to_an_end(folder, config, corpus, record, device)
        log.info(describe(record, folder))
    return record


def _run_to_an_end(
    folder: Path, config: Config, corpus: Corpus, record: RunRecord, device: torch.device
) -> None:
    """Train and test; whatever happens is in the record at the end."""
    try:
        _train_and_test(folder, config, corpus, record, device)
        record.status = Status.COMPLETE
    except Diverged as error:
        record.status, record.error = Status.DIVERGED, str(error)
    except Preempted as error:
        record.status, record.error = Status.PREEMPTED, str(error)
    except Exception as error:
        record.status, record.error = Status.FAILED, f"{type(error).__name__}: {error}"
        log.exception("%s failed", folder)
    record.finished = now()
    write_record(folder, record)


def choose_device(name: str) -> torch.device:
    """Return the device that ``hardware.device`` names.

    Raises
    ------
    ConfigError
        There is no such device here.
    """
    n_gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    available = [
        "auto",
        "cpu",
        *(["cuda"] if n_gpus else []),
        *(f"cuda:{i}" for i in range(n_gpus)),
    ]
    if name not in available:
        raise ConfigError(f"hardware.device={name} is not here; available: {', '.join(available)}")
    return torch.device(name)


def _train_and_test(
    folder: Path, config: Config, corpus: Corpus, record: RunRecord, device: torch.device
) -> None:
    training = build_training(config, corpus, record, device)
    state, complaints = checkpoint.load_newest(folder)
    for line in complaints:
        log.warning(line)
    encoding = get_tokenizer(config.data.tokenizer)
    journal = Journal(folder, training, record, corpus.tokens("val"), encoding, state)
    try:
        with graceful_stop(journal):
            train(training, journal)
        journal.update_record()
        _test(folder, training, corpus, record)
    finally:
        journal.close()
    checkpoint.delete_all(folder)


def build_training(
    config: Config, corpus: Corpus, record: RunRecord, device: torch.device
) -> Training:
    """Build the model, its optimiser and its batches, and enter their fingerprints."""
    model = build(config.model)
    initialise(model, config.seeds.init)
    events = Events(config.interventions)
    events.model_built(model, config.seeds.init)
    record.n_params = count_parameters(model)
    record.fingerprints.init = parameter_hashes(model)
    log.info(_pairing(config, record.fingerprints.init))
    model.to(device)
    data_seed = config.seeds.data if config.data.shuffle else None
    batches = Batches(
        corpus.tokens("train"), config.model.block_size, config.train.batch_size, data_seed
    )
    record.fingerprints.data_shuffled = config.data.shuffle
    record.fingerprints.data_order = batches.fingerprint(config.n_steps)
    return Training(
        config=config,
        model=model,
        optimizer=build_slot(config.optim.optimizer, model, config.optim),
        schedule=slot_factory(config.schedule),
        precision=Precision(config.precision, device),
        events=events,
        batches=batches,
        device=device,
        micro_batch=largest_micro_batch(config.train.batch_size, config.hardware.micro_batch),
    )


def _pairing(config: Config, ours: dict[str, str]) -> str:
    """Say how many tensors start out as the baseline's with the same init seed."""
    if not config.interventions:
        return f"init: {len(ours)} tensors from seed {config.seeds.init}"
    baseline = build(baseline_model(config))
    initialise(baseline, config.seeds.init)
    theirs = parameter_hashes(baseline)
    shared = sum(theirs.get(name) == value for name, value in ours.items())
    return f"paired: {shared}/{len(theirs)} of the baseline's tensors start out the same"


def _test(folder: Path, training: Training, corpus: Corpus, record: RunRecord) -> None:
    """Measure the test loss of every sequence and the final figures of the record."""
    config, model = training.config, training.model
    training.events.before_eval(model)
    losses = sequence_losses(
        model,
        corpus.tokens("test"),
        config.model.block_size,
        config.eval.test_sequences,
        training.micro_batch,
    )
    training.events.after_eval(model)
    _save_array(folder / TEST_LOSSES_FILE, losses)
    record.losses.test = finite(float(losses.mean(dtype=np.float64)))
    record.fingerprints.final_weights = weights_hash(model)
    _fill_cost(record, training)
    if record.losses.test is None:
        raise Diverged("the test loss is not finite")


def _save_array(path: Path, array: np.ndarray) -> None:
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)


def _fill_cost(record: RunRecord, training: Training) -> None:
    cost, hardware = record.cost, training.config.hardware
    per_token = flops_per_token(training.model, training.config.model)
    tokens = training.step * training.config.tokens_per_step
    cost.flops = per_token * tokens
    if cost.train_seconds > 0:
        cost.tokens_per_second = round(tokens / cost.train_seconds, 1)
        if hardware.peak_flops:
            cost.mfu = cost.flops / cost.train_seconds / hardware.peak_flops
    if hardware.usd_per_hour is not None:
        cost.usd = cost.train_seconds / 3600 * hardware.usd_per_hour
    if training.device.type == "cuda":
        cost.peak_memory_bytes = torch.cuda.max_memory_allocated(training.device)
    else:
        cost.peak_memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def new_record(folder: Path, config: Config, corpus: Corpus, device: torch.device) -> RunRecord:
    """Start the record of a cell: who it is, and all that is known before training."""
    frozen = (folder / CONFIG_FILE).read_bytes()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    record = RunRecord(
        study=config.study_name,
        arm=config.arm,
        interventions=sorted(config.interventions),
        cards={name: _card(config, name) for name in sorted(config.interventions)},
        changes=config.changes,
        cell=folder.name,
        seeds=Seeds(**asdict(config.seeds)),
        n_steps=config.n_steps,
        started=now(),
        provenance=provenance.collect(
            folder, device=name, config_sha256=hashlib.sha256(frozen).hexdigest()
        ),
    )
    n_test_tokens = config.eval.test_sequences * config.model.block_size + 1
    test_tokens = corpus.tokens("test")[:n_test_tokens]
    record.provenance.dataset_sha256 = corpus.dataset_sha256
    record.provenance.test_set_sha256 = hashlib.sha256(test_tokens.tobytes()).hexdigest()
    record.provenance.tokenizer = config.data.tokenizer.name
    return record


def _card(config: Config, name: str) -> dict[str, object]:
    card = asdict(config.interventions[name])
    return {key: card[key] for key in ("summary", "source", "published_delta", "published_where")}


def main() -> None:
    """Run the frozen cell named on the command line."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    folder = Path(sys.argv[1])
    if not (folder / CONFIG_FILE).exists():
        print(f"error: {folder} holds no {CONFIG_FILE}: name a cell's folder", file=sys.stderr)
        sys.exit(2)
    sys.exit(report(folder))


def report(folder: Path) -> int:
    """Run a cell, say how it ended, and return the exit code."""
    try:
        record = run(folder)
    except ValueError as error:  # ConfigError and DataError
        print(f"error: {error}", file=sys.stderr)
        return 2
    if wants_bar():
        print(describe(record, folder), file=sys.stderr)
    return 0 if record.status in (Status.COMPLETE, Status.DIVERGED) else 1


if __name__ == "__main__":
    main()
