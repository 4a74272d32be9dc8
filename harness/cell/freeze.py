"""Freeze a cell: from then on its folder holds everything that it needs, whatever is edited."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from harness.cell.lock import living_owner
from harness.cell.sources import identity, keep_sources, source_hashes
from harness.config import Config, ConfigError, all_changes, scientific, stack_of
from harness.config.frozen import read_config, to_yaml
from harness.data.corpus import Corpus, ensure_corpora
from harness.records import (
    CONFIG_FILE,
    FINISHED,
    METRICS_FILE,
    RECORD_FILE,
    SAMPLES_FILE,
    TEST_DOCUMENTS_FILE,
    TEST_LOSSES_FILE,
    RecordError,
    Seeds,
    Status,
    test_losses_file,
)
from harness.records.cell import Cell
from harness.records.files import canonical_hash, write_atomic
from harness.records.reading import is_there, read_bytes


def locate(config: Config) -> Path:
    """Hold a cell against its data and return its folder, ``runs/STUDY/ARM/CELL``; write nothing.

    The cell's identity includes the hash of its corpus (which is prepared, if it is the built-in
    one) and of the files that define its own ``_target_``s. `ConfigError` where the corpus is too
    small, or a cell to overwrite is being run; `DataError` where the corpus is missing or damaged.
    """
    sources = source_hashes(config)
    note_parent(config)
    note_budget(config, sources)
    corpus = ensure_corpora(config)
    check_fits(config, corpus)
    folder = _arm_folder(config) / _name(config, corpus, sources)
    if config.overwrite and (owner := living_owner(folder)):
        raise ConfigError(f"overwrite: {folder} is being run by {owner}: stop that first")
    return folder


def note_parent(config: Config) -> None:
    """Note which weights the cell begins with: their file by its hash, their place for good."""
    if config.train.init_from is None:
        return
    from harness.hub.weights import find_weights  # imports torch

    found = find_weights(config.train.init_from, Seeds(**asdict(config.seeds)))
    config.train.init_sha256 = found.sha256
    config.train.init_from = found.place


def note_budget(config: Config, sources: dict[str, str]) -> None:
    """Note how many tokens cost the arm what the baseline's cost that."""
    train, changes = config.train, all_changes(config)
    if train.relative_seconds is not None and not train.equal_seconds:
        raise ConfigError(
            f"train.relative_seconds={train.relative_seconds:g} is read with "
            "train.equal_seconds=true alone: set both, or none"
        )
    if train.equal_flops and train.equal_seconds:
        raise ConfigError("train.equal_flops and train.equal_seconds: leave out one of them")
    if not (train.equal_flops or train.equal_seconds) or not (changes or config.interventions):
        return
    baseline, stated = stack_of(replace(config, changes=changes), ()), changes.get("train.tokens")
    if train.equal_flops:
        tokens = round(baseline.train.tokens / _relative_flops(config, baseline))
    else:
        train.relative_seconds = _relative_seconds(config, baseline, sources)
        tokens = round(baseline.train.tokens / train.relative_seconds)
    if stated is not None and stated[1] != tokens:
        key = "equal_flops" if train.equal_flops else "equal_seconds"
        raise ConfigError(
            f"{config.arm} sets train.tokens={stated[1]}, and so does train.{key}=true "
            f"({tokens}): leave out one of them"
        )
    config.changes["train.tokens"] = [baseline.train.tokens, tokens]
    train.tokens = tokens


def _relative_flops(config: Config, baseline: Config) -> float:
    """Return a token's operations over the baseline's."""
    from harness.cell.speed.flops import step_flops  # imports torch

    try:
        ours, theirs = (step_flops(c).per_token(c) for c in (config, baseline))
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(
            f"train.equal_flops: the operations of {config.arm} cannot be counted "
            f"({' '.join(str(error).split()):.200}): leave it out"
        ) from error
    return ours / theirs


_TIMED: dict[str, float] = {}
"""A token's seconds over the baseline's, of the arms that this process has timed."""


def _relative_seconds(config: Config, baseline: Config, sources: dict[str, str]) -> float:
    """Return what was given, or noted in a cell of the same arm; else measure it."""
    if config.train.relative_seconds is not None:
        return config.train.relative_seconds
    wanted = _but_tokens(config, sources)
    if wanted not in _TIMED:
        for file in _arm_folder(config).glob(f"*/{CONFIG_FILE}"):
            with suppress(ConfigError):  # a damaged one is written anew
                noted, of_cell = read_config(file), file.parent
                found = noted.train.relative_seconds
                if found and _but_tokens(noted, source_hashes(noted, of_cell)) == wanted:
                    return found
        from harness.cell.speed.step_timing import relative_seconds  # imports torch

        _TIMED[wanted] = relative_seconds(config, baseline)
    return _TIMED[wanted]


def _but_tokens(config: Config, sources: dict[str, str]) -> str:
    """Return a hash of what a step's seconds depend on, the machine aside."""
    science = scientific(config, "") | {"seeds": None, "sources": sources}
    return canonical_hash(science | {"train": {**science["train"], "tokens": None}})


def _arm_folder(config: Config) -> Path:
    return Path(config.runs_dir).absolute() / config.study_name / config.arm


def freeze(config: Config, folder: Path | None = None) -> Path:
    """Write the cell's ``config.yaml`` into its `folder`, `locate`'s, and return that.

    `ConfigError` as from `locate`, or where the folder cannot be written.
    """
    folder = folder or locate(config)
    if config.overwrite:
        _forget(folder)
        config.overwrite = False
    config.data_dir = str(Path(config.data_dir).absolute())
    config.runs_dir = str(Path(config.runs_dir).absolute())
    try:
        _write(folder, config)
    except OSError as error:
        raise ConfigError(
            f"cannot write {folder}: {error.strerror}; set runs_dir to a folder you may write"
        ) from error
    return folder


def _name(config: Config, corpus: Corpus, sources: dict[str, str]) -> str:
    return canonical_hash(identity(config, corpus, sources))


def check_identity(config: Config, corpus: Corpus, folder: Path) -> None:
    """Refuse (`ConfigError`) a frozen cell that would train something else than its name says."""
    if _name(config, corpus, source_hashes(config, folder)) != folder.name:
        raise ConfigError(
            f"{folder} would not train what it was frozen for: its {CONFIG_FILE}, its sources or "
            f"the corpus {config.data.name} were changed, or another version of this program "
            "froze it; undo that, or delete the folder and run the command again"
        )


def _write(folder: Path, config: Config) -> None:
    """Write the config; of a cell that has begun, only where its data and its study are now.

    The science is the same, or it would be another cell: what a cell that has not begun takes
    over from the newest command is how it is run and watched.
    """
    cell = Cell(folder)
    if is_there(cell.config_file):
        try:
            record = cell.record()
        except RecordError:  # nothing is trained in its place
            return
        if living_owner(folder) or (record and record.status in FINISHED):
            return
        if record and record.status is not Status.FAILED:
            with suppress(ConfigError):  # a damaged one is written anew
                frozen = load_frozen(folder)
                frozen.data_dir, frozen.runs_dir = config.data_dir, config.runs_dir
                frozen.tracking = config.tracking
                config = frozen
    write_config(folder, config)
    keep_sources(config, folder)


def write_config(folder: Path, config: Config) -> None:
    """Write ``config.yaml`` if it says anything else."""
    path = folder / CONFIG_FILE
    text = to_yaml(config)
    try:
        if read_bytes(path) == text.encode():
            return
    except RecordError:  # not there, or no file
        pass
    write_atomic(path, text)


def check_fits(config: Config, corpus: Corpus) -> None:
    """Refuse a context or an evaluation that is longer than the corpus."""
    n_test, block_size = config.eval.test_sequences, config.eval_block_size
    _check_fits(corpus, "train", "model.block_size", (1, config.model.block_size))
    _check_fits(corpus.main, "val", "eval.val_sequences", (config.eval.val_sequences, block_size))
    for test in {id(test): test for test in (corpus.main, *corpus.tests.values())}.values():
        _check_fits(test, "test", "eval.test_sequences", (n_test, block_size))


def _check_fits(corpus: Corpus, split: str, key: str, wanted: tuple[int, int]) -> None:
    n_sequences, block_size = wanted
    available = corpus.manifest.splits[split].n_tokens - 1
    if n_sequences * block_size > available:
        raise ConfigError(
            f"{key}: {n_sequences} x {block_size} tokens asked of the {split} split of "
            f"{corpus.manifest.name}, which has {available + 1}: at most "
            f"{available // block_size} sequences of {block_size}"
        )


def load_frozen(folder: Path) -> Config:
    """Read the config of a frozen cell."""
    return read_config(folder / CONFIG_FILE)


def _forget(folder: Path) -> None:
    """Drop what an earlier training of the cell left, its result last."""
    tested = (test_losses_file("*"), TEST_LOSSES_FILE, TEST_DOCUMENTS_FILE)
    names = ("checkpoints/*", METRICS_FILE, SAMPLES_FILE, *tested, RECORD_FILE)
    for path in [path for name in (CONFIG_FILE, *names) for path in folder.glob(name)]:
        path.unlink()
