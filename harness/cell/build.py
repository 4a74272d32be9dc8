"""Set a cell up: its device, its record, its model, optimiser and batches."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, replace
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness.cell import provenance
from harness.cell.lock import Lock, NoLock
from harness.cell.sources import kept_sources, source_hashes, version
from harness.config import Config, ConfigError, Slot, all_changes, recipe, stack_of
from harness.data.corpus import Corpus
from harness.data.evaluated import test_sequences
from harness.engine.batches import Batches, Pipeline
from harness.engine.compiler import compiled
from harness.engine.distributed import World
from harness.engine.precision import Precision
from harness.engine.randomness import initialise, parameter_hashes
from harness.events import Events
from harness.hub.warm_start import load_parent
from harness.loop import Training, largest_micro_batch
from harness.model import build, count_parameters, slot_factory
from harness.optim import Schedules, build_optimizer
from harness.records import CONFIG_FILE, RunRecord, Seeds
from harness.records.files import canonical_hash, now

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a cell is run with."""

    folder: Path
    config: Config
    corpus: Corpus
    record: RunRecord
    device: torch.device
    world: World
    lock: Lock | NoLock


def corpus_batches(config: Config, corpus: Corpus) -> Batches:
    """Return the training batches that the cell's data seed draws from its corpus."""
    return build_batches(config, corpus.tokens("train"), corpus.document_starts("train"))


def build_batches(config: Config, tokens: np.ndarray, document_starts: np.ndarray) -> Batches:
    """Return the training batches of a token stream, uint16, and its documents, int64."""
    seed = config.seeds.data if config.data.shuffle else None
    pipeline = build_pipeline(config, tokens, document_starts) if config.data.pipeline else None
    return Batches(tokens, config.model.block_size, config.steps, seed, pipeline)


def build_pipeline(config: Config, tokens: np.ndarray, document_starts: np.ndarray) -> Pipeline:
    """Return what cuts the token stream into sequences, as ``data.pipeline`` says."""
    slot = config.data.pipeline
    known = {
        "tokens": tokens,
        "document_starts": document_starts,
        "block_size": config.model.block_size,
        "seed": config.seeds.data,
    }
    factory = slot_factory(slot)
    wanted = signature(factory).parameters
    pipeline: Pipeline = factory(**{name: known[name] for name in known if name in wanted})
    if pipeline.n_sequences < 1:
        raise ConfigError(
            f"data.pipeline={slot['_target_']} makes no sequence of model.block_size="
            f"{config.model.block_size} of {config.data.name}: take a larger corpus"
        )
    return pipeline


def build_training(
    config: Config, batches: Batches, device: torch.device, world: World
) -> Training:
    """Build the model with its initial weights, its optimiser and all else that the loop needs."""
    model, hardware = build(config.model), config.hardware
    initialise(model, config.seeds.init)
    load_parent(model, config)
    events = Events(config.interventions)
    events.model_built(model, config.seeds.init)
    model.keeps_ctx = events.reads_ctx
    model.head_rows = hardware.head_rows
    model.to(device)
    convert(model, config.precision.convert)
    optimizer = build_optimizer(config.optim.optimizer, model, config.optim)
    share = config.train.batch_size // world.size
    return Training(
        config=config,
        model=model,
        forward=compiled(model, hardware.compile_mode) if hardware.compile else model,
        optimizer=optimizer,
        schedule=slot_factory(config.schedule),
        schedules=Schedules(config.optim.schedules, optimizer),
        precision=Precision(config.precision, device),
        events=events,
        batches=batches,
        device=device,
        world=world,
        micro_batch=largest_micro_batch(share, hardware.micro_batch),
    )


def synthetic_training(config: Config, device: torch.device, batch_size: int) -> Training:
    """Return the config's training with `batch_size` random sequences a step, of full length."""
    train = replace(config.train, batch_size=batch_size, batch_stages=[], length_stages=[])
    config = replace(config, train=train)
    block_size = config.model.block_size
    n_tokens = batch_size * block_size + 1
    tokens = np.random.default_rng(0).integers(config.model.vocab_size, size=n_tokens)
    batches = Batches(tokens.astype(np.uint16), block_size, batch_size, None)
    training = build_training(config, batches, device, World())
    training.model.train()
    return training


def convert(model: nn.Module, slot: Slot) -> None:
    """Change the model's number formats as ``precision.convert`` says."""
    if not slot:
        return
    try:
        slot_factory(slot)(model)
    except NotImplementedError as error:
        raise ConfigError(f"precision.convert={slot['_target_']}: {error}") from error


def start_training(setup: Setup) -> Training:
    """Build the cell's training, and enter into its record what it starts from."""
    config, record = setup.config, setup.record
    batches = corpus_batches(config, setup.corpus)
    training = build_training(config, batches, setup.device, setup.world)
    record.n_params = count_parameters(training.model)
    record.provenance.micro_batch = training.micro_batch
    prints = record.fingerprints
    prints.init = parameter_hashes(training.model)
    prints.data_shuffled = config.data.shuffle
    prints.data_order = batches.fingerprint(config.n_steps)
    log.info(_pairing(config, prints.init))
    return training


def _pairing(config: Config, ours: dict[str, str]) -> str:
    """Say how many tensors start out as the baseline's with the same init seed."""
    if not config.interventions:
        return f"init: {len(ours)} tensors from seed {config.seeds.init}"
    baseline = build(stack_of(config, ()).model)
    initialise(baseline, config.seeds.init)
    theirs = parameter_hashes(baseline)
    shared = sum(theirs.get(name) == value for name, value in ours.items())
    return f"paired: {shared}/{len(theirs)} of the baseline's tensors start out the same"


def new_record(folder: Path, config: Config, corpus: Corpus, device: torch.device) -> RunRecord:
    """Start the record of a cell: who it is, and all that is known before training."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    record = RunRecord(
        study=config.study_name,
        arm=config.arm,
        interventions=sorted(config.interventions),
        cards={name: _card(config, name) for name in sorted(config.interventions)},
        changes=all_changes(config),
        cell=folder.name,
        seeds=Seeds(**asdict(config.seeds)),
        tuning=config.study.tuning,
        equal_budget=config.train.equal_budget,
        n_steps=config.n_steps,
        n_tokens=config.tokens_after(config.n_steps),
        started=now(),
        provenance=provenance.collect(folder, device=name, config_sha256=config_sha256(folder)),
    )
    if on_gpu:
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        record.provenance.packages |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn)}
    sources = record.provenance.sources = source_hashes(config, folder)
    record.provenance.kept_sources = sorted(kept_sources(config, folder))
    record.version = version(config, corpus, sources)
    record.recipe = canonical_hash(recipe(config, corpus.dataset_sha256))
    record.provenance.dataset_sha256 = corpus.dataset_sha256
    record.provenance.test_set_sha256 = test_sequences(config, corpus.main).sha256()
    record.provenance.test_text = corpus.main.text_hash
    record.provenance.n_devices = config.hardware.n_devices
    record.provenance.compile = config.hardware.compile
    record.provenance.init_from = config.train.init_from
    record.provenance.init_sha256 = config.train.init_sha256
    record.provenance.tokenizer = config.data.tokenizer.name
    return record


def config_sha256(folder: Path) -> str:
    """Return the hash of a cell's frozen config."""
    return hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()


def _card(config: Config, name: str) -> dict[str, object]:
    card = asdict(config.interventions[name])
    kept = ("summary", "source", "published_delta", "published_where", "control")
    return {key: card[key] for key in kept}
