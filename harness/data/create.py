"""Make a corpus: run its source, write its splits and its manifest, and give it its name."""

from __future__ import annotations

import functools
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import VOCAB_SIZE, DataConfig, Source
from harness.data import stdlib_docs, text
from harness.data.build import STATE_FILE, EmptySplitError, Progress, build
from harness.data.json_lines import is_json_lines
from harness.data.manifest import (
    MANIFEST_FILE,
    SPLITS,
    Manifest,
    SplitFile,
    request,
    write_manifest,
)
from harness.data.tokens import batched, split_of


def create(config: DataConfig, folder: Path, progress: Progress) -> None:
    """Fill a folder beside `folder`, then rename it; a killed ``hub`` corpus goes on from there."""
    resumable = config.source is Source.hub
    partial = folder.with_name(f".{folder.name}.partial")
    if not resumable:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(exist_ok=True)
    try:
        if not (partial / MANIFEST_FILE).exists():
            splits, made = _run_source(config, partial, progress)
            manifest = _manifest(config, splits, made)
            write_manifest(partial, manifest)
        (partial / STATE_FILE).unlink(missing_ok=True)
        partial.rename(folder)
    except BaseException as error:
        if not resumable or isinstance(error, EmptySplitError):
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _run_source(
    config: DataConfig, partial: Path, progress: Progress
) -> tuple[dict[str, SplitFile], dict[str, Any]]:
    """Return the entry of every split, and where the text came from."""
    if config.source is Source.hub_tokens:
        from harness.data import hub_tokens

        return hub_tokens.build(partial, config, progress), {"numpy": np.__version__}
    made: dict[str, Any] = {"tiktoken": version("tiktoken")}
    if config.source is Source.hub:
        from harness.data import hub_text as hub

        splits, bookmark = build(partial, config, functools.partial(hub.batches, config), progress)
        return splits, made | {"revision": bookmark["revision"], "datasets": version("datasets")}
    if config.source is Source.text:
        found = text.find_files(config)
        files, separator = found.files, config.document_separator
        made |= {"n_files": len(files), "text_sha256": text.fingerprint(files)}
        made |= {"linked_folders": found.links, "left_out": found.ours}
        made |= {"piece_bytes": text.piece_bytes(files, config)}
        made |= {"n_without_separator": text.files_without(files, separator)} if separator else {}
        made |= {"n_json_lines": sum(map(is_json_lines, files)), "text_column": config.text_column}
        documents = text.documents(files, config)
    else:
        documents = stdlib_docs.documents()
    splits, _ = build(partial, config, lambda _: batched(documents), progress)
    if made.get("piece_bytes"):
        made |= {"n_files_in_train_and_test": _on_both_sides(files, config, splits)}
    return splits, made


def _on_both_sides(files: list[Path], config: DataConfig, splits: dict[str, SplitFile]) -> int:
    n_documents = sum(split.n_documents for split in splits.values())
    return text.files_on_both_sides(
        files, config, lambda words: SPLITS[split_of(words, config)], n_documents
    )


def _manifest(config: DataConfig, splits: dict[str, SplitFile], made: dict[str, Any]) -> Manifest:
    vocab_size = VOCAB_SIZE[config.tokenizer.name]
    return Manifest(
        name=config.name,
        source=config.source.name,
        tokenizer=config.tokenizer.name,
        vocab_size=vocab_size,
        eot_token=vocab_size - 1,
        splits=splits,
        request=request(config),
        made=made,
    )
