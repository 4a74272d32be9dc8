"""Open a prepared corpus, or prepare it: all that the rest of the harness needs of its data.

python -m harness.prepare data=NAME
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import DataConfig, Source
from harness.data.build import Batch, Progress, build
from harness.data.manifest import (
    MANIFEST_FILE,
    SPLITS,
    DataError,
    Manifest,
    SplitFile,
    corpus_folder,
    read_manifest,
    request,
    write_manifest,
)
from harness.data.tokenizer import get_tokenizer
from harness.data.verify import verify_files

__all__ = [
    "SPLITS",
    "Corpus",
    "DataError",
    "Manifest",
    "SplitFile",
    "dataset_sha256",
    "ensure_prepared",
    "open_corpus",
    "prepare",
]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared corpus on disk."""

    manifest: Manifest
    folder: Path

    def tokens(self, split: str) -> np.ndarray:
        """Return the tokens of ``train``, ``val`` or ``test``: uint16 memmap [n_tokens]."""
        entry = self._entry(split)
        path = self.folder / entry.file
        return np.memmap(path, "<u2", "r", entry.offset_bytes, shape=(entry.n_tokens,))

    def document_starts(self, split: str) -> np.ndarray:
        """Return where each document of the split begins: int64 memmap [n_documents]."""
        entry = self._entry(split)
        return np.memmap(self.folder / entry.documents_file, "<i8", "r", shape=(entry.n_documents,))

    @property
    def dataset_sha256(self) -> str:
        """Hash of all tokens and document boundaries, and of what the ids mean."""
        return self.manifest.dataset_sha256

    def _entry(self, split: str) -> SplitFile:
        if split not in self.manifest.splits:
            raise DataError(f"no split {split!r}; available: {', '.join(SPLITS)}")
        return self.manifest.splits[split]


def open_corpus(config: DataConfig, data_dir: Path, *, verify: bool = True) -> Corpus:
    """Open a prepared corpus; with `verify`, its files are hashed once and then remembered.

    Raises
    ------
    DataError
        It is not prepared, or a file's size or hash is not the manifest's.
    """
    folder = _prepared_folder(config, data_dir)
    manifest = read_manifest(folder)
    if verify:
        verify_files(folder, manifest)
    return Corpus(manifest, folder)


def dataset_sha256(config: DataConfig, data_dir: Path) -> str:
    """Return the hash of a prepared corpus, read from its manifest alone.

    Raises
    ------
    DataError
        It is not prepared.
    """
    return read_manifest(_prepared_folder(config, data_dir)).dataset_sha256


def ensure_prepared(config: DataConfig, data_dir: Path) -> Corpus:
    """Open a corpus; ``stdlib_docs``, which takes seconds, is prepared where it is missing.

    Raises
    ------
    DataError
        Any other corpus is missing, or a file was damaged.
    """
    if config.source is Source.stdlib_docs:
        return prepare(config, data_dir)
    return open_corpus(config, data_dir)


def prepare(config: DataConfig, data_dir: Path, progress: Progress | None = None) -> Corpus:
    """Tokenise a corpus, unless that is done already.

    The folder appears under its name only when it is complete. A second process that prepares
    the same corpus waits for the first. ``hub`` corpora go on where a killed preparation was.

    Raises
    ------
    DataError
        The source cannot be read, the disk is full, or a split would be empty.
    """
    _validate(config)
    folder = corpus_folder(config, data_dir)
    if not (folder / MANIFEST_FILE).exists():
        try:
            with _alone(data_dir, folder.name):
                if not (folder / MANIFEST_FILE).exists():
                    _prepare(config, folder, progress or _silent)
        except OSError as error:
            raise DataError(
                f"cannot prepare {folder}: {error.strerror or error} "
                f"({error.filename or data_dir}): free space or set data_dir, then run "
                f"{prepare_command(config)}"
            ) from error
    return open_corpus(config, data_dir)


def prepare_command(config: DataConfig) -> str:
    """Return the command that prepares `config`, for messages."""
    options = {"data.path": config.path, "data.max_tokens": config.max_tokens}
    given = [f" {key}={value}" for key, value in options.items() if value is not None]
    return f"python -m harness.prepare data={config.name}{''.join(given)}"


def _prepared_folder(config: DataConfig, data_dir: Path) -> Path:
    folder = corpus_folder(config, data_dir)
    if (folder / MANIFEST_FILE).exists():
        return folder
    others = [_difference(config, path) for path in sorted(data_dir.glob(f"{config.name}-*"))]
    prepared = "; prepared there with other values: " + ", ".join(others) if others else ""
    raise DataError(
        f"corpus {config.name} is not prepared in {folder}{prepared}; "
        f"run: {prepare_command(config)}"
    )


def _difference(config: DataConfig, folder: Path) -> str:
    found, wanted = read_manifest(folder).request, request(config)
    differing = [f"data.{key}={found.get(key)}" for key in wanted if found.get(key) != wanted[key]]
    return f"{folder.name} ({' '.join(differing)})"


def _validate(config: DataConfig) -> None:
    val, test = config.val_frac, config.test_frac
    if not (val > 0 and test > 0 and val + test < 1):
        raise DataError(
            f"data.val_frac={val} and data.test_frac={test}: both must be above 0, together below 1"
        )
    if config.max_tokens is not None and config.max_tokens < 1:
        raise DataError(f"data.max_tokens={config.max_tokens}: at least 1, or null for all")


@contextmanager
def _alone(data_dir: Path, name: str) -> Iterator[None]:
    """Hold the corpus' lock; the kernel releases it however the process ends."""
    import fcntl

    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(config: DataConfig, folder: Path, progress: Progress) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    if config.source is not Source.hub:  # only these go on where they were
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(exist_ok=True)
    try:
        splits, made = _run_source(config, partial, progress)
    except BaseException:
        if config.source is not Source.hub:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    write_manifest(partial, _manifest(config, splits, made))
    partial.rename(folder)


def _run_source(
    config: DataConfig, partial: Path, progress: Progress
) -> tuple[dict[str, SplitFile], dict[str, Any]]:
    if config.source is Source.stdlib_docs:
        from harness.data import stdlib_docs

        batches = (Batch(texts=[text]) for text in stdlib_docs.documents())
        return build(partial, config, lambda _: batches, progress), {}
    raise DataError(f"data.source={config.source.name} is not implemented")


def _manifest(config: DataConfig, splits: dict[str, SplitFile], made: dict[str, Any]) -> Manifest:
    encoding = get_tokenizer(config.tokenizer)
    return Manifest(
        name=config.name,
        source=config.source.name,
        tokenizer=config.tokenizer.name,
        vocab_size=encoding.n_vocab,
        eot_token=encoding.eot_token,
        splits=splits,
        request=request(config),
        made=made,
    )


def _silent(_tokens: int, _frac: float | None) -> None:
    pass
