"""Tokenise a corpus: ``python -m harness.prepare data=NAME [data.max_tokens=N ...]``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import ConfigError
from harness.data.corpus import Corpus, prepare
from harness.data.manifest import SPLITS, DataError
from harness.data.text import ENOUGH_FILES
from harness.records.terminal import complain, printing

USAGE = """usage: python -m harness.prepare data=NAME [data.KEY=VALUE ...] [data_dir=FOLDER]

  python -m harness.prepare data=stdlib_docs                (done by itself when needed)
  python -m harness.prepare data=text data.name=books data.path=my_books/
  python -m harness.prepare data=fineweb data.max_tokens=100_000_000
  python -m harness.prepare data=fineweb_tokens

Run the same command again after an interruption: a streamed corpus goes on where it was."""

_REFRESH_SECONDS = 0.5


class ProgressLine:
    """Tokens done, tokens per second and time left, on one line of stderr."""

    def __init__(self) -> None:
        self._first: Moment | None = None
        self._shown = 0.0

    def __call__(self, tokens: int, frac_done: float | None) -> None:
        """Show how far the work is, at most twice a second."""
        now = time.monotonic()
        if self._first is None:  # what an interrupted run did counts neither as speed nor time
            self._first = Moment(now, tokens, frac_done or 0.0)
            return
        if now - self._shown >= _REFRESH_SECONDS:
            self._shown = now
            self._print(progress_text(self._first, Moment(now, tokens, frac_done)))

    def _print(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line that is rewritten in place."""
        if self._shown and sys.stderr.isatty():
            print(file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the work was at some time."""

    seconds: float
    tokens: int
    frac: float | None
    """Of the whole; None: its size is not known."""


def progress_text(first: Moment, now: Moment) -> str:
    """Describe progress between two moments."""
    seconds = max(now.seconds - first.seconds, 1e-9)
    text = f"{now.tokens:,} tokens, {(now.tokens - first.tokens) / seconds / 1e6:.2f} Mtok/s"
    if now.frac is None:
        return text
    gained = now.frac - (first.frac or 0.0)
    left = f", {_clock(seconds * (1 - now.frac) / gained)} left" if gained > 0 else ""
    return f"{text}, {now.frac:.1%}{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(corpus: Corpus) -> str:
    """Return the last lines of a preparation: how it was cut; split sizes and folder."""
    splits, made = corpus.manifest.splits, corpus.manifest.made
    sizes = [
        f"{name} {splits[name].n_tokens:,} tokens in {splits[name].n_documents:,} documents"
        for name in SPLITS
    ]
    cut = ""
    if least := made.get("piece_bytes"):
        cut = (
            f"cut at blank lines where there are any, into documents of {least:,} to "
            f"{2 * least:,} bytes: fewer than {ENOUGH_FILES} files could leave a split empty. "
            f"{_both_sides(made)}data.document_separator cuts elsewhere, data.cut=never nowhere\n"
        )
    return f"{_sources(made)}{cut}{corpus.manifest.name}: {'; '.join(sizes)}: {corpus.folder}"


def _both_sides(made: Mapping[str, Any]) -> str:
    """Say how many files have pieces both in the training set and in the test set."""
    if "n_files_in_train_and_test" not in made:  # prepared by an earlier version
        return ""
    n = made["n_files_in_train_and_test"]
    return f"Pieces of {n:,} of the {made['n_files']:,} files are both in train and in test. "


def _sources(made: Mapping[str, Any]) -> str:
    """Return the line on the files that a corpus of text was made of, with what is odd in them."""
    if "linked_folders" not in made:  # no text, or prepared by an earlier version
        return ""
    n_files, links, ours = made["n_files"], made["linked_folders"], made["left_out"]
    parts = [f"{n_files:,} file{'s' * (n_files != 1)}"]
    if not (made.get("piece_bytes") or made["n_json_lines"] or "n_without_separator" in made):
        parts.append("each whole in one split")
    if links:
        parts.append(f"{len(links)} linked folder{'s' * (len(links) != 1)} followed")
    if ours:
        parts.append(f"left out, as written by this program: {', '.join(ours)}")
    if count := made.get("n_without_separator"):
        parts.append(f"data.document_separator does not occur in {count:,} of them")
    if count := made["n_json_lines"]:
        field = made["text_column"]
        parts.append(f"{count:,} read as JSON lines: the field {field!r} of each line")
    return f"{', '.join(parts)}\n" if parts != ["1 file"] else ""


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Prepare the corpus that the command line describes; return the exit code."""
    overrides = sys.argv[1:] if arguments is None else arguments
    if not overrides or {"-h", "--help"} & set(overrides):
        print(USAGE)
        return 0 if overrides else 2
    from harness.config.compose import load

    progress = ProgressLine()
    try:
        config = load(overrides)
        corpus = prepare(config.data, Path(config.data_dir), progress)
    except (ConfigError, DataError) as error:
        progress.close()
        complain(error)
        return 2
    except KeyboardInterrupt:
        progress.close()
        print("interrupted: run the same command to go on", file=sys.stderr)
        return 130
    progress.close()
    print(summary(corpus))
    return 0


if __name__ == "__main__":
    sys.exit(main())
