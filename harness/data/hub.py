"""Text datasets of the Hugging Face hub, streamed: nothing but the tokens touches the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.config import DataConfig
from harness.data.manifest import DataError
from harness.data.tokens import BATCH_CHARACTERS, Batch


def batches(config: DataConfig, bookmark: dict[str, Any] | None) -> Iterator[Batch]:
    """Yield the dataset's documents in order, from behind `bookmark`.

    The first call pins the revision, so that a preparation that goes on days later reads the
    same dataset.

    Raises
    ------
    DataError
        The hub does not answer, or has no such dataset, config, split or column.
    """
    try:
        yield from _batches(config, bookmark)
    except (DataError, GeneratorExit):
        raise
    except Exception as error:  # datasets, huggingface_hub, fsspec, httpx, aiohttp, pyarrow …
        raise DataError(_explain(config, error)) from error


def _batches(config: DataConfig, bookmark: dict[str, Any] | None) -> Iterator[Batch]:
    import datasets
    from huggingface_hub import HfApi

    if config.repo is None:
        raise DataError(
            "data.repo is not set: name a dataset of the hub, e.g. HuggingFaceFW/fineweb"
        )
    datasets.disable_progress_bars()
    revision = bookmark["revision"] if bookmark else None
    revision = revision or HfApi().dataset_info(config.repo, revision=config.revision).sha
    dataset = datasets.load_dataset(
        config.repo, config.config, split=config.split, revision=revision, streaming=True
    )
    _check_column(config, dataset.column_names)
    dataset = dataset.select_columns([config.text_column])
    n_documents = 0
    if bookmark:
        dataset.load_state_dict(bookmark["dataset"])
        n_documents = bookmark["n_documents"]
    splits = dataset.info.splits or {}
    n_total = splits[config.split].num_examples if config.split in splits else None
    texts: list[str] = []
    size = 0

    def batch() -> Batch:
        state = {"revision": revision, "dataset": dataset.state_dict(), "n_documents": n_documents}
        return Batch(
            texts=texts, bookmark=state, frac_done=n_documents / n_total if n_total else None
        )

    for row in dataset:
        text = row[config.text_column] or ""
        texts.append(text)
        size += len(text)
        n_documents += 1
        if size >= BATCH_CHARACTERS:
            yield batch()
            texts, size = [], 0
    yield batch()


def _check_column(config: DataConfig, columns: list[str] | None) -> None:
    if columns is not None and config.text_column not in columns:
        raise DataError(
            f"{config.repo} has no column data.text_column={config.text_column}; "
            f"available: {', '.join(columns)}"
        )


def _explain(config: DataConfig, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:3])[:400] or "no message"
    where = f"{config.repo}, data.config={config.config}, data.split={config.split}"
    return (
        f"cannot read {where} from the hub: {type(error).__name__}: {said}; what is tokenised so "
        "far is kept, the same command goes on from there"
    )
