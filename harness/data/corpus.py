"""Open a prepared corpus, or prepare it: all that the rest of the harness needs of its data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.config import Config, Cut, DataConfig, Source
from harness.config.validate import SAFE_NAME
from harness.data import text
from harness.data.manifest import (
    MANIFEST_FILE,
    SPLITS,
    USED,
    DataError,
    Manifest,
    SplitFile,
    corpus_folder,
    read_manifest,
    request,
    verify_files,
)
from harness.records.files import CONF_DIR, canonical_hash, flocked, plain

if TYPE_CHECKING:
    import numpy as np

    from harness.data.build import Progress

OF_TRAINING = ("shuffle", "pipeline")
"""The fields of `DataConfig` that say how a corpus is read, whatever it is."""
UNQUOTED = re.compile(r"[\w/.+%@|-]+")
"""What Hydra reads without quotes, and a little less."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared corpus on disk, and those that are tested on beside it."""

    manifest: Manifest
    folder: Path
    tests: dict[str, Corpus] = field(default_factory=dict)
    test_set: str | None = None
    """Of `tests`, whose validation and test splits stand in the place of its own."""

    def tokens(self, split: str) -> np.ndarray:
        """Return the tokens of ``train``, ``val`` or ``test``: uint16 memmap [n_tokens]."""
        import numpy as np

        owner = self._owner(split)
        entry = owner._entry(split)
        path = owner.folder / entry.file  # an absolute `entry.file` stands for itself
        return np.memmap(path, "<u2", "r", entry.offset_bytes, shape=(entry.n_tokens,))

    def document_starts(self, split: str) -> np.ndarray:
        """Return where each document of the split begins: int64 memmap [n_documents]."""
        import numpy as np

        owner = self._owner(split)
        entry = owner._entry(split)
        return np.memmap(
            owner.folder / entry.documents_file, "<i8", "r", shape=(entry.n_documents,)
        )

    @property
    def dataset_sha256(self) -> str:
        """Hash of all tokens and document boundaries, and of what the ids mean."""
        return self.manifest.dataset_sha256

    @property
    def text_hash(self) -> str:
        """Hash of what the corpus was asked to hold, whatever its tokenizer."""
        wanted = {k: v for k, v in self.manifest.request.items() if k != "tokenizer"}
        return canonical_hash(wanted)

    def n_tokens(self, split: str) -> int:
        """Return the size of a split."""
        return self._owner(split)._entry(split).n_tokens

    @property
    def main(self) -> Corpus:
        """The corpus that validation and the main test are of."""
        return self if self.test_set is None else self.tests[self.test_set]

    def _owner(self, split: str) -> Corpus:
        return self if split == "train" else self.main

    def _entry(self, split: str) -> SplitFile:
        if split not in self.manifest.splits:
            raise DataError(f"no split {split!r}; available: {', '.join(SPLITS)}")
        return self.manifest.splits[split]


def open_corpus(config: DataConfig, data_dir: Path) -> Corpus:
    """Open a prepared corpus; its files are hashed once, and again when they have changed."""
    folder = _prepared_folder(config, data_dir)
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return Corpus(manifest, folder)


def open_corpora(config: Config) -> Corpus:
    """Open the corpus of a config's training, and those of its tests."""
    return _with_tests(config, open_corpus)


def ensure_corpora(config: Config) -> Corpus:
    """Open them as `ensure_prepared` does."""
    return _with_tests(config, ensure_prepared)


def _with_tests(config: Config, opened: Callable[[DataConfig, Path], Corpus]) -> Corpus:
    data_dir = Path(config.data_dir)
    tests = {name: opened(data, data_dir) for name, data in config.test_data.items()}
    corpus = opened(config.data, data_dir)
    return replace(corpus, tests=tests, test_set=config.eval.test_set)


def ensure_prepared(config: DataConfig, data_dir: Path) -> Corpus:
    """Open a corpus; ``stdlib_docs``, which takes seconds, is prepared where it is missing."""
    if config.source is Source.stdlib_docs:
        return prepare(config, data_dir)
    if config.source is Source.text and text.is_here(config):
        _refuse_changed_text(config, _prepared_folder(config, data_dir))
    return open_corpus(config, data_dir)


def prepare(config: DataConfig, data_dir: Path, progress: Progress | None = None) -> Corpus:
    """Tokenise a corpus, unless that is done already.

    The folder appears under its name only when it is complete. A second process that prepares
    the same corpus waits for the first. ``hub`` corpora go on where a killed preparation was.
    """
    _validate(config)
    folder = corpus_folder(config, data_dir)
    if (folder / MANIFEST_FILE).exists():
        _refuse_changed_text(config, folder)
        return open_corpus(config, data_dir)
    from harness.data.create import create  # imports numpy

    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with flocked(data_dir / f".{folder.name}.lock"):
            if not (folder / MANIFEST_FILE).exists():
                create(config, folder, progress or (lambda n_tokens, frac_done: None))
    except OSError as error:
        kept = "; what is done is kept" if config.source is Source.hub else ""
        raise DataError(
            f"cannot write {folder}: {error.strerror or error}{kept}: free space or set "
            f"data_dir, then run {prepare_command(config, data_dir)}"
        ) from error
    return open_corpus(config, data_dir)


def prepare_command(config: DataConfig, data_dir: Path) -> str:
    """Return the command that prepares `config`, quoted for Hydra and for the shell."""
    files = [(path.stem, _settings(path)) for path in sorted((CONF_DIR / "data").glob("*.yaml"))]
    able = {name: stated for name, stated in files if stated["source"] == config.source.name}
    group = config.name if config.name in able else next(iter(able))
    options = [f"data={group}"]
    for item in fields(config):
        value = plain(getattr(config, item.name))
        default = able[group].get(item.name, plain(getattr(DataConfig(), item.name)))
        if item.name not in OF_TRAINING and value != default:
            options.append(f"data.{item.name}={_quoted(value)}")
    if data_dir != Path("data"):
        options.append(f"data_dir={_quoted(data_dir)}")
    return shlex.join(["python", "-m", "harness.prepare", *options])


def _settings(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def _quoted(value: Any) -> str:
    text = "null" if value is None else str(value)
    if UNQUOTED.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _prepared_folder(config: DataConfig, data_dir: Path) -> Path:
    folder = corpus_folder(config, data_dir)
    if (folder / MANIFEST_FILE).exists():
        return folder
    if config.source is Source.text:
        text.text_files(config)  # refuses a path where nothing is
    others = [_difference(config, path) for path in sorted(data_dir.glob(f"{config.name}-*"))]
    prepared = "; prepared there with other values: " + ", ".join(others) if others else ""
    raise DataError(
        f"corpus {config.name} is not prepared in {folder}{prepared}; "
        f"run: {prepare_command(config, data_dir)}"
    )


def _that_reads(name: str) -> str:
    """Say with which corpora a setting belongs, one's own text first; empty: with none."""
    files = sorted((CONF_DIR / "data").glob("*.yaml"), key=lambda file: file.stem != "text")
    found = [file.stem for file in files if name in USED[_source(file)]]
    return f"data={' or data='.join(found)} reads it: add that, or " if found else ""


def _difference(config: DataConfig, folder: Path) -> str:
    found, wanted = read_manifest(folder).request, request(config)
    differing = [f"data.{key}={found.get(key)}" for key in wanted if found.get(key) != wanted[key]]
    return f"{folder.name} ({' '.join(differing)})"


def _refuse_changed_text(config: DataConfig, folder: Path) -> None:
    if config.source is not Source.text:
        return
    found = text.fingerprint(text.text_files(config))
    if found != read_manifest(folder).made.get("text_sha256"):
        raise DataError(
            f"the text below data.path={config.path} has changed since {folder} was prepared: "
            f"delete that folder, or choose another data.name"
        )


def _refuse_another_s_name(config: DataConfig) -> None:
    """Refuse a source that was set alone: results would name the corpus that is the default."""
    file = CONF_DIR / "data" / f"{config.name}.yaml"
    theirs = _source(file) if file.exists() else config.source
    if theirs is not config.source:
        ours = [f.stem for f in sorted(file.parent.glob("*.yaml")) if _source(f) is config.source]
        raise DataError(
            f"data.source={config.source.name} would be called {config.name}, as a corpus of "
            f"data.source={theirs.name} is: choose data={' or data='.join(ours)}, which names it"
        )


def _source(file: Path) -> Source:
    return Source(_settings(file)["source"])


def _validate(config: DataConfig) -> None:
    if not SAFE_NAME.fullmatch(config.name):
        raise DataError(f"data.name={config.name!r}: letters, digits, '.', '_' and '-' only")
    _refuse_another_s_name(config)
    used = (*USED[config.source], "name", "source", "tokenizer", *OF_TRAINING)
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name not in used and value != getattr(DataConfig(), item.name):
            raise DataError(
                f"data.{item.name}={value} has no effect with data.source={config.source.name}: "
                f"{_that_reads(item.name)}leave it out; {config.source.name} "
                f"reads {', '.join(USED[config.source])}"
            )
    if config.cut is Cut.never and config.document_separator:
        raise DataError(
            f"data.cut=never keeps files whole, and data.document_separator="
            f"{config.document_separator!r} cuts them: leave one of them out"
        )
    val, test = config.val_frac, config.test_frac
    if not (val > 0 and test > 0 and val + test < 1):
        raise DataError(
            f"data.val_frac={val} and data.test_frac={test}: both must be above 0, together below 1"
        )
    if config.max_tokens is not None and config.max_tokens < 1:
        raise DataError(f"data.max_tokens={config.max_tokens}: at least 1, or null for all")
