"""One row a record, with what all records together tell: twins, edits, pairing, batch sizes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import SEEDS, SUPERSEDED, TWIN
from analysis.runs.settings import difference
from harness.records import BASELINE, RunRecord

Tensors = frozenset[int]
"""A run's initial tensors, each as a hash of its name and its content."""
BATCH_KEY = "train.batch_size"


def one_row_a_record(kept: dict[Path, RunRecord], newer: list[RunRecord | None]) -> pd.DataFrame:
    """Return a row a record; `newer` are the versions that count in the place of some."""
    records = list(kept.values())
    rows = [_row(record, folder) for folder, record in kept.items()]
    tensors = [frozenset(map(hash, record.fingerprints.init.items())) for record in records]
    cards = {name: card for record in records for name, card in record.cards.items()}
    frame = pd.DataFrame(rows)
    frame["edit"] = _edits(kept, newer)
    frame.loc[frame["edit"].notna(), "status"] = SUPERSEDED
    frame.loc[_twins(frame), "status"] = TWIN
    frame["batch_size"] = _batch_sizes([row["changes"] for row in rows])
    frame["init_shared"] = _init_shared(rows, tensors)
    if frame["study"].nunique() > 1:  # where one name is used in several studies
        frame["run_id"] = frame["study"] + "/" + frame["run_id"]
    _refuse_other_settings(frame)
    # A stack has no published figure of its own: only one intervention's card speaks for it.
    frame["published_delta"] = [cards.get(a, {}).get("published_delta") for a in frame["arm"]]
    return frame


def _row(record: RunRecord, folder: Path) -> dict[str, Any]:
    hours = record.cost.train_seconds / 3600 if record.cost.train_seconds else None
    return _tests(record) | {
        "run_id": f"{record.arm}/{record.cell}",
        "study": record.study,
        "arm": record.arm,
        "cell": record.cell,
        "init_seed": record.seeds.init,
        "data_seed": record.seeds.data,
        "loop_seed": record.seeds.loop,
        "test_loss": record.losses.test,
        "bits_per_byte": record.losses.bits_per_byte,
        "val_loss": record.losses.val,
        "train_loss": record.losses.train,
        "status": record.status.value,
        "step": record.step,
        "n_steps": record.n_steps,
        "tokens": record.tokens or None,
        "hours": hours,
        "flops": record.cost.flops,
        "usd": record.cost.usd,
        "n_params": record.n_params or None,
        "test_set": record.provenance.test_set_sha256,
        "data_shuffled": record.fingerprints.data_shuffled,
        "final_weights": record.fingerprints.final_weights,
        "git_sha": record.provenance.git_sha,
        "version": record.version,
        "code": " ".join(map("=".join, sorted(record.provenance.sources.items()))),
        "recipe": record.recipe,
        "equal_budget": record.equal_budget,
        "control": _is_control(record),
        "started": record.started,
        "changes": record.changes,
        "folder": str(folder),
        "error": record.error,
    }


def _tests(record: RunRecord) -> dict[str, Any]:
    """Return the columns of the test sets by name: see `analysis.runs.frame`."""
    columns: dict[str, Any] = {"test_set.bits_per_byte": record.provenance.test_text}
    for name, found in record.losses.tests.items():
        columns |= {
            f"test_loss.{name}": found["loss"],
            f"test_set.test_loss.{name}": found["test_set_sha256"],
            f"bits_per_byte.{name}": found["bits_per_byte"],
            f"test_set.bits_per_byte.{name}": found["text"],
        }
    return columns


def _is_control(record: RunRecord) -> bool:
    """Tell whether an arm is made of A/A controls alone."""
    cards = [record.cards.get(name, {}) for name in record.interventions]
    return bool(cards) and all(card.get("control") for card in cards)


def _twins(frame: pd.DataFrame) -> pd.Series:
    """Tell which complete runs of controls have the baseline's weights at the same seeds."""
    keys, done = [*SEEDS, "final_weights"], frame["status"] == "complete"
    known = done & frame["final_weights"].notna()
    base = frame.loc[known & (frame["arm"] == BASELINE), keys].drop_duplicates()
    found = frame[keys].merge(base.assign(found=True), on=keys, how="left")["found"].notna()
    return known & frame["control"] & found.set_axis(frame.index)


def _edits(kept: dict[Path, RunRecord], newer: list[RunRecord | None]) -> list[str | None]:
    """Return what was edited since in the arm of each superseded run; None: the run counts."""
    homes = {id(record): folder for folder, record in kept.items()}
    found: dict[tuple[str | None, ...], str] = {}
    edits: list[str | None] = []
    for old, new in zip(kept.values(), newer, strict=True):
        if new is None:
            edits.append(None)
            continue
        pair = (old.arm, old.version, new.version)
        if pair not in found:
            settings = difference(homes[id(old)], homes[id(new)])
            code = "its code" * (old.provenance.sources != new.provenance.sources)
            found[pair] = ", ".join(part for part in (settings, code) if part) or "its settings"
        edits.append(found[pair])
    return edits


def _refuse_other_settings(frame: pd.DataFrame) -> None:
    """Refuse complete runs of equal arm and seeds that are no repeats: their settings differ."""
    done = frame[frame["status"] == "complete"].drop_duplicates(["arm", *SEEDS, "cell"])
    unlike = done[done.duplicated(["arm", *SEEDS], keep=False)]
    if len(unlike):
        ordered = unlike.sort_values(["arm", *SEEDS, "started"])
        first, second = ordered.iloc[:2].to_dict("records")
        how = difference(Path(first["folder"]), Path(second["folder"]))
        raise AnalysisError(
            f"{first['run_id']} and {second['run_id']} have the same arm and the same seeds, but "
            f"other settings ({how or 'or another version of the harness'}), so they are no "
            "repeats: give each setting an overlay or a study_name of its own, and move what is "
            "not meant to count out of the folder"
        )


def _init_shared(rows: list[dict[str, Any]], tensors: list[Tensors]) -> list[float | None]:
    """Return each run's share of random tensors that equal the baseline's of the same seed.

    Tensors that are equal in baselines of different seeds (ones, zeros) are not random: they say
    nothing about pairing.
    """
    by_seed: dict[Any, Tensors] = {}
    for row, mine in zip(rows, tensors, strict=True):
        if row["arm"] == BASELINE and mine:
            by_seed.setdefault(row["init_seed"], mine)
    seeds_of = Counter(tensor for known in by_seed.values() for tensor in known)
    constant = {tensor for tensor, count in seeds_of.items() if count > 1}
    shares: list[float | None] = []
    for row, mine in zip(rows, tensors, strict=True):
        theirs = by_seed.get(row["init_seed"])
        random = mine - constant
        shares.append(len(random & theirs) / len(random) if theirs and random else None)
    return shares


def _batch_sizes(changes: list[dict[str, list[Any]]]) -> list[float | None]:
    """Return the batch size of each run that differs from the baseline in nothing else.

    A record holds only what its arm changed, so the baseline's own comes from the other arms.
    """
    baseline = next((c[BATCH_KEY][0] for c in changes if BATCH_KEY in c), None)
    sizes: list[float | None] = []
    for change in changes:
        only = set(change) <= {BATCH_KEY, "hardware.micro_batch"}
        size = change[BATCH_KEY][1] if BATCH_KEY in change else baseline
        sizes.append(float(size) if only and isinstance(size, int | float) else None)
    return sizes
