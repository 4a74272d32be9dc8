"""Text datasets of the Hugging Face hub, streamed: nothing but the tokens touches the disk.

`datasets` finds the files of a config and reads every format. Parquet, which nearly all large
text has, is read here: its reader runs a gigabyte ahead and starts a file again to go on in its
middle, while row groups read one at a time need little memory and no byte twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.config import DataConfig
from harness.data.manifest import DataError
from harness.data.tokens import Batch, batched

if TYPE_CHECKING:
    import datasets

_BLOCK_BYTES = 1 << 23
"""One request to the hub."""
_ROWS = 256
"""Documents decoded at a time."""


def batches(config: DataConfig, bookmark: dict[str, Any] | None) -> Iterator[Batch]:
    """Yield the dataset's documents in order, from behind `bookmark`.

    The first call pins the revision, so that a preparation that goes on days later reads the
    same dataset.
    """
    try:
        yield from _batches(config, bookmark or {})
    except (DataError, GeneratorExit):
        raise
    except Exception as error:  # datasets, huggingface_hub, fsspec, httpx, aiohttp, pyarrow …
        raise DataError(_explain(config, error)) from error


def _batches(config: DataConfig, bookmark: dict[str, Any]) -> Iterator[Batch]:
    from huggingface_hub import HfApi

    if config.repo is None:
        raise DataError("data.repo is not set: name a dataset, e.g. HuggingFaceFW/fineweb")
    revision = bookmark.get("revision")
    revision = revision or HfApi().dataset_info(config.repo, revision=config.revision).sha
    builder = _builder(config, revision)
    n_total = _n_documents(builder, config.split)
    n_documents = bookmark.get("n_documents", 0)
    source = _reader(builder, config, bookmark.get("position"))

    def counted() -> Iterator[tuple[str, float | None]]:
        nonlocal n_documents
        for text in source:
            n_documents += 1
            yield text, n_documents / n_total if n_total else None

    def here() -> dict[str, Any]:
        return {"revision": revision, "n_documents": n_documents, "position": source.position()}

    return batched(counted(), here)


class ParquetTexts:
    """The texts of parquet files in order."""

    def __init__(self, files: list[str], column: str, position: list[int] | None) -> None:
        self.files = files
        self.column = column
        self._file, self._group, self._row = position or (0, 0, 0)

    def position(self) -> list[int]:
        """Return file, row group and row of the next text."""
        return [self._file, self._group, self._row]

    def __iter__(self) -> Iterator[str]:
        """Yield the texts from `position` on; a missing one is empty."""
        import pyarrow.parquet as pq
        from huggingface_hub import HfFileSystem

        hub = HfFileSystem()
        while self._file < len(self.files):
            with (
                hub.open(self.files[self._file], block_size=_BLOCK_BYTES) as raw,
                pq.ParquetFile(raw, buffer_size=_BLOCK_BYTES, pre_buffer=False) as parquet,
            ):
                _check_column(self.column, parquet.schema_arrow.names)
                while self._group < parquet.num_row_groups:
                    yield from self._in_group(parquet)
                    self._group, self._row = self._group + 1, 0
            self._file, self._group = self._file + 1, 0

    def _in_group(self, parquet: Any) -> Iterator[str]:
        skip = self._row
        for rows in parquet.iter_batches(_ROWS, [self._group], [self.column], use_threads=False):
            if skip >= len(rows):
                skip -= len(rows)
                continue
            for text in rows.column(0).slice(skip).to_pylist():
                self._row += 1
                yield text or ""
            skip = 0


class StreamedTexts:
    """The texts of any other format, through the iteration of `datasets`."""

    def __init__(self, dataset: Any, column: str, position: dict[str, Any] | None) -> None:
        self.dataset = dataset
        self.column = column
        if position is not None:
            dataset.load_state_dict(position)

    def position(self) -> dict[str, Any]:
        """Return the state of the dataset behind the latest text."""
        state: dict[str, Any] = self.dataset.state_dict()
        return state

    def __iter__(self) -> Iterator[str]:
        """Yield the texts from the position on; a missing one is empty."""
        for row in self.dataset:
            _check_column(self.column, list(row))
            yield row[self.column] or ""


def _builder(config: DataConfig, revision: str | None) -> datasets.DatasetBuilder:
    import datasets

    datasets.disable_progress_bars()
    builder = datasets.load_dataset_builder(config.repo, config.config, revision=revision)
    available = list(builder.config.data_files or ())
    if config.split not in available:
        raise DataError(
            f"{config.repo} has no split data.split={config.split} in "
            f"data.config={config.config}; available: {', '.join(available)}"
        )
    return builder


def _reader(
    builder: datasets.DatasetBuilder, config: DataConfig, position: Any
) -> ParquetTexts | StreamedTexts:
    files = list(builder.config.data_files[config.split])
    if all(file.endswith(".parquet") for file in files):
        return ParquetTexts(files, config.text_column, position)
    dataset = builder.as_streaming_dataset(config.split)
    return StreamedTexts(dataset, config.text_column, position)


def _n_documents(builder: datasets.DatasetBuilder, split: str) -> int | None:
    """Return how many documents the repository says the split has, if it says so."""
    splits = builder.info.splits or {}
    return splits[split].num_examples if split in splits else None


def _check_column(column: str, columns: list[str]) -> None:
    if column not in columns:
        raise DataError(
            f"the dataset has no column data.text_column={column}; available: {', '.join(columns)}"
        )


def _explain(config: DataConfig, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:3])[:400] or "no message"
    where = f"{config.repo}, data.config={config.config}, data.split={config.split}"
    return (
        f"cannot read {where} from the hub: {type(error).__name__}: {said}; what is tokenised so "
        "far is kept, the same command goes on from there"
    )
