"""Mirror finished studies later, from their local files: each cell and each report exactly once.

    python -m harness.sync runs/demo                       wandb, offline: then `wandb sync`
    python -m harness.sync runs/demo --online              wandb, after `wandb login`
    python -m harness.sync runs/demo --backend trackio     then `trackio show`

Write the report first (python -m analysis report runs/demo --figures): it is shown in a run of
its own, with the table of verdicts, the figures and links to the cells.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.frozen import read_plain
from harness.extras import installation
from harness.records import CONFIG_FILE, FINISHED, METRICS_FILE, RecordError, RunRecord
from harness.records.files import flocked, printable
from harness.records.reading import metrics_row, read_json_lines
from harness.records.study import Study, meant
from harness.records.terminal import Parser, complain, printing
from harness.tracking.backends import settled
from harness.tracking.base import (
    Ending,
    Identity,
    MirrorError,
    Target,
    default_project,
    one_line,
    upload_command,
)
from harness.tracking.cell_run import cell_ending, cell_identity
from harness.tracking.receipts import send, was_sent
from harness.tracking.study_run import study_ending, study_identity

PATIENCE_SECONDS = 600.0
"""How long one run may take to send what is left."""

LOCK_FILE = ".sync.lock"


class SyncError(ValueError):
    """What cannot be mirrored; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one call did."""

    sent: int
    already: int
    unfinished: int
    report: bool
    """The study's own run was sent now."""
    unreadable: tuple[RecordError, ...] = ()
    """What was left out."""

    def sentence(self) -> str:
        """Return the result for a person."""
        text = f"{self.sent} cells sent, {self.already} were there already"
        if self.unfinished:
            text += f", {self.unfinished} are not finished"
        if self.unreadable:
            text += f", {len(self.unreadable)} are unreadable"
        return f"{text}; the study's report was {'sent' if self.report else 'there already'}."


def sync(folder: Path, target: Target) -> Result:
    """Mirror every finished cell of a study, and what the analysis wrote beside it.

    Raises `SyncError` where there are no records, another sync is at work or something does not
    arrive, and `RecordError` where a file cannot be read.
    """
    study = Study(folder)
    if not folder.is_dir():
        raise SyncError(f"{study} is no folder: {meant(folder) or 'give a study, e.g. runs/demo'}")
    found = study.found()
    records, unreadable = found.records, found.unreadable
    if not records and not unreadable:
        raise SyncError(f"no record.json below {study}: give a study's folder, e.g. runs/demo")
    counts: Counter[str] = Counter()
    busy = SyncError(f"another sync of {study} is at work: wait until it is done")
    with flocked(study.folder / LOCK_FILE, busy=busy):
        for item in records.items():
            try:
                counts[_cell(*item, target)] += 1
            except RecordError as error:
                unreadable.append(error)
        if not records:
            raise unreadable[0]
        ending = study_ending(study, records, target)
        name = next(iter(records.values())).study
        identity = study_identity(study, name, target, ending)
        new = not was_sent(target, identity)
        if new:
            _send(target, identity, [], ending)
    counted = (counts["sent"], counts["already"], counts["unfinished"])
    return Result(*counted, new, tuple(unreadable))


def _cell(folder: Path, record: RunRecord, target: Target) -> str:
    """Send a cell that is finished and was not sent; say which of these it was."""
    if record.status not in FINISHED:
        return "unfinished"
    config = read_plain(folder / CONFIG_FILE)
    identity = cell_identity(target, config, record, folder)
    if was_sent(target, identity):
        return "already"
    metrics = read_json_lines(folder / METRICS_FILE, metrics_row)
    _send(target, identity, metrics, cell_ending(record, folder))
    return "sent"


def _send(
    target: Target, identity: Identity, metrics: list[dict[str, Any]], ending: Ending
) -> None:
    try:
        send(target, identity, metrics, lambda: ending)
    except ImportError:
        raise
    except Exception as error:  # the clients raise kinds of their own
        raise SyncError(
            f"{identity.name} did not arrive ({type(error).__name__}: {one_line(error)}); "
            "the same command, run again, deletes what did and goes on from there"
        ) from error


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Mirror the studies that the command line names; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        target = settled(
            Target(
                backend=options.backend,
                project=options.project or default_project(options.backend, ""),
                entity=options.entity,
                online=options.online,
                patience_seconds=PATIENCE_SECONDS,
            )
        )
        if options.online and not target.online:
            raise SyncError("nobody is logged in: run `wandb login`, or leave out --online")
        for study in options.studies:
            name = default_project(options.backend, study.resolve().name)
            done = sync(study, replace(target, project=options.project or name))
            print(f"{printable(str(study))}: {done.sentence()}")
            for unread in done.unreadable:
                print(f"unreadable: {printable(str(unread))}", file=sys.stderr)
        if options.workspace:
            from harness.tracking.wandb_run import save_workspace

            print(f"Workspace: {save_workspace(target)}")
    except ImportError as error:
        print(f"error: {error}: {installation(error.name or options.backend)}", file=sys.stderr)
        return 2
    except (ValueError, OSError, MirrorError) as error:
        complain(" ".join(str(error).split()))
        return 2
    if target.backend == "wandb" and not target.online:
        for study in options.studies:
            if command := upload_command(study):
                print(f"Upload with: {command}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m harness.sync",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="e.g. runs/demo")
    parser.add_argument("--backend", choices=("wandb", "trackio"), default="wandb")
    parser.add_argument(
        "--project", help="(default: llm-interventions; on trackio the study's name)"
    )
    parser.add_argument("--entity", help="team on W&B (default: your own)")
    parser.add_argument("--online", action="store_true", help="send to W&B now (wandb login)")
    parser.add_argument(
        "--workspace", action="store_true", help="save a W&B workspace with the standard panels"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
